"""Generate held-out scenes with the trained networks, score them, and draw a grid.

sample.py --checkpoint DIFFUSERS_DIR --count 256 --grid grid.png
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from PIL import Image, ImageDraw, ImageFont
from tokenizers import Tokenizer
from transformers import CLIPTextModel

import scenes
import score


class Networks:
    """The networks of a diffusers folder."""

    def __init__(self, folder: Path) -> None:
        self.text = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
        self.vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
        self.controlnet = ControlNetModel.from_pretrained(folder / "controlnet").eval()
        self.scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))

    @torch.inference_mode()
    def generate(
        self, prompts: list[str], maps: torch.Tensor, seed: int, steps: int = 20, guidance: float = 5.0
    ) -> np.ndarray:
        """Pictures, ``uint8 [n, y, x, 3]``, by DDIM with guidance."""
        texts = [""] * len(prompts) + prompts
        ids = torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(texts)])
        states = self.text(ids).last_hidden_state
        condition = (maps.float() / 255.0).repeat(2, 1, 1, 1)
        size = scenes.SIZE // 8
        generator = torch.Generator().manual_seed(seed)
        latents = torch.randn(len(prompts), 4, size, size, generator=generator)
        self.scheduler.set_timesteps(steps)
        for time in self.scheduler.timesteps:
            both = torch.cat([latents, latents])
            down, mid = self.controlnet(both, time, states, controlnet_cond=condition, return_dict=False)
            noise = self.unet(
                both,
                time,
                states,
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
            ).sample
            free, prompted = noise.chunk(2)
            noise = free + guidance * (prompted - free)
            latents = self.scheduler.step(noise, time, latents).prev_sample
        decoded = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        bytes_ = ((decoded + 1) * 127.5).round().clamp(0, 255).byte()
        return bytes_.permute(0, 2, 3, 1).numpy()


def grid(prompts: list[str], maps: list[np.ndarray], pictures: list[np.ndarray], path: Path) -> None:
    """Four columns: a map, the picture generated from it, and the prompt beneath."""
    side, columns, caption, gap = scenes.SIZE, 4, 46, 8
    width, height = 2 * side + gap, side + caption
    rows = -(-len(prompts) // columns)
    sheet = Image.new("RGB", (columns * width - gap, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, parts in enumerate(zip(prompts, maps, pictures, strict=True)):
        x, y = index % columns * width, index // columns * height
        sheet.paste(Image.fromarray(np.concatenate(parts[1:], 1)), (x, y))
        text = textwrap.fill(parts[0].replace(" ,", ","), 44)
        draw.multiline_text((x + 2, y + side + 1), text, "black", ImageFont.load_default(11), spacing=1)
    sheet.save(path, optimize=True)


def main() -> None:
    """Generate and score."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--first", type=int, default=0, help="seed of the first scene")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--grid", type=Path)
    arguments = parser.parse_args()
    networks = Networks(arguments.checkpoint)
    ious: list[float] = []
    hits: list[bool] = []
    prompts: list[str] = []
    pictures: list[np.ndarray] = []
    maps: list[np.ndarray] = []
    for start in range(0, arguments.count, 32):
        seeds = range(arguments.first + start, arguments.first + min(start + 32, arguments.count))
        batch = [scenes.random_scene(np.random.default_rng(seed)) for seed in seeds]
        drawn = [scenes.segmentation(scene) for scene in batch]
        control = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)
        texts = [scene.prompt for scene in batch]
        made = networks.generate(texts, control, start, arguments.steps, arguments.guidance)
        for scene, picture in zip(batch, made, strict=True):
            ious.append(score.mean_iou(picture, scene))
            hits += score.matches(picture, scene)
        prompts += texts
        pictures += list(made)
        maps += drawn
        print(len(ious), f"mIoU {np.mean(ious):.4f} prompt accuracy {np.mean(hits):.4f}", flush=True)
    if arguments.grid:
        grid(prompts[:16], maps[:16], pictures[:16], arguments.grid)


if __name__ == "__main__":
    main()
