"""Draw held-out scenes with an exported pipeline, score the pictures, and show some.

    python -m common.sample outlines --pipeline PIPELINE --count 64 --grid grid.png

Runs the ONNX files, in the way of `hgc run` but with other noise. With ``--training`` the networks of
the training run beside them, and the largest difference is told.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from diffusers import DDIMScheduler
from PIL import Image, ImageDraw, ImageFont
from tokenizers import Tokenizer

from common import score, text, train
from common.kit import Kit
from common.scenes import planes
from common.vae import decoded

Arrays = dict[str, np.ndarray]


class Exported:
    """The networks of an ONNX pipeline."""

    def __init__(self, kit: Kit, folder: Path, threads: int) -> None:
        self.kit = kit
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3

        def load(name: str) -> ort.InferenceSession:
            return ort.InferenceSession(
                folder / name / "model.onnx", options, providers=["CPUExecutionProvider"]
            )

        suffixes = ["", "_2"][: len(kit.tokenizers())]
        self.texts = [load(f"text_encoder{suffix}") for suffix in suffixes]
        files = [folder / f"tokenizer{suffix}" / "tokenizer.json" for suffix in suffixes]
        self.tokenizers = [Tokenizer.from_file(str(file)) for file in files]
        self.unet, self.controlnet = load("unet"), load("controlnet")
        self.decoder = load("vae_decoder")
        self.scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")

    def encode(self, prompts: list[str]) -> Arrays:
        """What UNet and ControlNet are told of prompts."""
        ids = text.token_ids(self.tokenizers, prompts)
        results = [
            session.run(None, {"input_ids": tokens.numpy()})
            for session, tokens in zip(self.texts, ids, strict=True)
        ]
        if len(results) == 1:
            return {"encoder_hidden_states": results[0][0]}
        states = np.concatenate([result[-2] for result in results], -1)
        pooled = results[-1][0]
        empty = [index for index, prompt in enumerate(prompts) if not prompt]
        states[empty], pooled[empty] = 0.0, 0.0
        added = self.kit.added(torch.from_numpy(pooled)) or {}
        return {"encoder_hidden_states": states} | {name: part.numpy() for name, part in added.items()}

    def predict(self, latents: np.ndarray, time: int, told: Arrays, control: np.ndarray) -> np.ndarray:
        """What the UNet says with the residuals of the ControlNet."""
        common = {"sample": latents, "timestep": np.array(time, np.int64), **told}
        scale = np.array(1.0, np.float32)
        hints = {"controlnet_cond": control, "conditioning_scale": scale}
        given = {value.name for value in self.controlnet.get_inputs()}
        feeds = {name: value for name, value in (common | hints).items() if name in given}
        residuals = self.controlnet.run(None, feeds)
        names = [value.name for value in self.unet.get_inputs() if "residual" in value.name]
        result: np.ndarray = self.unet.run(None, common | dict(zip(names, residuals, strict=True)))[0]
        return result

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Pictures in ``-1..1``."""
        result: np.ndarray = self.decoder.run(None, {"latent_sample": latents})[0]
        return result


class Trained:
    """The networks of a training."""

    def __init__(self, kit: Kit, found: dict[str, Any]) -> None:
        self.kit, self.found = kit, found

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> Arrays:
        """What UNet and ControlNet are told of prompts."""
        encoders = [part for name, part in self.found.items() if name.startswith("text_encoder")]
        states, pooled = text.encode(encoders, text.token_ids(self.kit.tokenizers(), prompts))
        if pooled is None:
            return {"encoder_hidden_states": states.numpy()}
        empty = [index for index, prompt in enumerate(prompts) if not prompt]
        states[empty], pooled[empty] = 0.0, 0.0
        added = self.kit.added(pooled) or {}
        return {"encoder_hidden_states": states.numpy()} | {name: a.numpy() for name, a in added.items()}

    @torch.inference_mode()
    def predict(self, latents: np.ndarray, time: int, told: Arrays, control: np.ndarray) -> np.ndarray:
        """What the UNet says with the residuals of the ControlNet."""
        given = {name: torch.from_numpy(value) for name, value in told.items()}
        states, noisy = given.pop("encoder_hidden_states"), torch.from_numpy(latents)
        count = len(latents)
        seen = train.Examples(
            noisy,
            states,
            given or None,
            torch.from_numpy(control),
            torch.zeros(count),
            torch.ones(count),
            noisy,
            torch.full((count,), time),
        )
        return train.predicted(torch.nn.ModuleDict(self.parts()), seen, noisy).numpy()

    def parts(self) -> dict[str, Any]:
        """UNet and ControlNet."""
        return {name: self.found[name] for name in ("unet", "controlnet")}

    @torch.inference_mode()
    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Pictures in ``-1..1``."""
        return decoded(self.found["vae"], torch.from_numpy(latents)).numpy()


def generate(
    networks: Exported | Trained,
    scheduler: Any,
    prompts: list[str],
    controls: torch.Tensor,
    seed: int,
    steps: int,
    guidance: float,
) -> np.ndarray:
    """Pictures in ``-1..1``, by DDIM with guidance."""
    kit = networks.kit
    told = networks.encode([""] * len(prompts) + prompts)
    control = (controls.float() / 255.0).repeat(2, 1, 1, 1).numpy()
    shape = (len(prompts), kit.channels, kit.world.height // kit.cell, kit.world.width // kit.cell)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    scheduler.set_timesteps(steps)
    for time in scheduler.timesteps:
        both = torch.cat([latents, latents]).numpy()
        free, prompted = torch.from_numpy(networks.predict(both, int(time), told, control)).chunk(2)
        guided = free + guidance * (prompted - free)
        latents = scheduler.step(guided, int(time), latents).prev_sample
    return networks.decode(latents.numpy())


def to_bytes(pictures: np.ndarray) -> np.ndarray:
    """Pictures from ``-1..1`` to ``uint8 [n, y, x, 3]``."""
    scaled = ((pictures + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    return scaled.transpose(0, 2, 3, 1)


def grid(prompts: list[str], controls: list[np.ndarray], pictures: list[np.ndarray], path: Path) -> None:
    """Four columns: a control image, the picture generated from it, and the prompt beneath."""
    columns, caption, gap, scale = 4, 48, 8, 2
    high, wide = controls[0].shape[0] * scale, controls[0].shape[1] * scale
    width, height = max(2 * wide, 200) + gap, high + caption
    sheet = Image.new("RGB", (columns * width - gap, -(-len(prompts) // columns) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, parts in enumerate(zip(prompts, controls, pictures, strict=True)):
        x, y = index % columns * width, index // columns * height
        shown = Image.fromarray(np.concatenate(parts[1:], 1))
        sheet.paste(shown.resize((2 * wide, high), Image.Resampling.NEAREST), (x, y))
        told = textwrap.fill(parts[0].replace(" ,", ","), (width - gap) // 6)
        draw.multiline_text((x + 2, y + high + 1), told, "black", ImageFont.load_default(11), spacing=1)
    sheet.save(path, optimize=True)


def main() -> None:
    """Generate and score."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("name", help="folder with networks.py")
    parser.add_argument("--pipeline", type=Path, required=True, help="ONNX pipeline")
    parser.add_argument("--training", type=Path, help="folder that training wrote, to compare with")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--first", type=int, default=0, help="seed of the first scene")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--grid", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kit = train.named(arguments.name)
    guidance = kit.guidance if arguments.guidance is None else arguments.guidance
    exported = Exported(kit, arguments.pipeline, arguments.threads)
    if arguments.training:
        from common.pipeline import averages

        trained = Trained(kit, averages(kit, arguments.training))
    ious: list[float] = []
    hits: list[bool] = []
    shown: list[tuple[str, np.ndarray, np.ndarray]] = []
    for start in range(0, arguments.count, 16):
        seeds = range(arguments.first + start, arguments.first + min(start + 16, arguments.count))
        scenes = [kit.world.scene(seed) for seed in seeds]
        prompts = [scene.prompt for scene in scenes]
        controls = planes([scene.control for scene in scenes])
        settings = (prompts, controls, start, arguments.steps, guidance)
        made = generate(exported, exported.scheduler, *settings)
        if arguments.training:
            again = generate(trained, kit.scheduler(), *settings)
            print(f"largest difference of training and export: {np.abs(made - again).max():.2e}", flush=True)
        for scene, picture in zip(scenes, to_bytes(made), strict=True):
            ious.append(score.mean_iou(picture, scene, kit.world.palette))
            hits += score.matches(picture, scene, kit.world.palette)
            shown.append((scene.prompt, scene.control, picture))
        print(len(ious), f"mIoU {np.mean(ious):.4f} prompt accuracy {np.mean(hits):.4f}", flush=True)
    if arguments.grid:
        columns = zip(*shown[:16], strict=True)
        grid(*(list(column) for column in columns), arguments.grid)


if __name__ == "__main__":
    main()
