"""Train the shapes pipeline: text encoder, VAE, UNet, then a ControlNet on the frozen UNet.

    train.py --out DIR

Every stage writes a checkpoint each minute and goes on from it after an interruption; a stage that
is finished is not run again. Seeds are fixed: data of a step depend on the step alone. ``log.csv``
keeps the loss of every stage over steps and seconds of processor time, divided by the threads.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import nn

import binding
import networks
import scenes

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.stage import Stage
from common.vae import KL_WEIGHT, overshot, to_unit
from common.vae import normalise as normalise_by

# Steps of every stage: an hour and a half in all on two cores.
STEPS = {"text": 1600, "vae": 4200, "unet": 5900, "controlnet": 4200}
# Scenes of training have seeds from here on; those of measuring lie below.
TRAINING_SEED = 1_000_000
# Share of prompts that are dropped: guidance multiplies the errors of what is learnt without.
DROPPED = 0.2
BATCH = 16
# The VAE learns on crops of this side: it is convolutional, and a step costs a quarter.
CROP = 64
# The mean of the weights of the error over timesteps.
WEIGHTS = 3.36
# Weight of the error of the cross-attentions.
BINDING = 0.01
# Encoded scenes kept in memory.
POOL = 16_384


@dataclasses.dataclass(frozen=True)
class Examples:
    """What a training step of UNet or ControlNet sees."""

    latents: torch.Tensor
    states: torch.Tensor
    maps: torch.Tensor
    # Where each token is drawn, and in which rows the prompt was kept.
    words: torch.Tensor
    prompted: torch.Tensor


def mixed() -> torch.autocast:
    """bfloat16 where the processor multiplies matrices of it: for wide convolutions only."""
    fast = torch.cpu._is_amx_tile_supported()
    return torch.autocast("cpu", torch.bfloat16, enabled=fast)


def token_ids(prompts: list[str]) -> torch.Tensor:
    """The tokens of prompts, ``int64 [n, TOKENS]``."""
    return torch.tensor([encoding.ids for encoding in networks.tokenizer().encode_batch(prompts)])


# --- text encoder ----------------------------------------------------------------------------


class Reader(nn.Module):
    """The text encoder with heads that say what each noun is.

    So the token of a noun carries its own colour and texture before any picture is drawn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = networks.text_encoder()
        self.heads = nn.Linear(networks.TEXT_WIDTH, len(networks.WORDS))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """A multi-label score of every word for every token."""
        result: torch.Tensor = self.heads(self.encoder(ids).last_hidden_state)
        return result


def phrases(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The words of the phrase that ends at each noun, and where the nouns are.

    The last word of a prompt, the colour of the ground, counts as a noun.
    """
    nouns = {networks.WORDS.index(kind) for kind in scenes.KINDS}
    targets = torch.zeros(*ids.shape, len(networks.WORDS))
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for row, tokens in enumerate(ids.tolist()):
        last = tokens.index(networks.WORDS.index(networks.END)) - 1
        for column, token in enumerate(tokens):
            if token in nouns or column == last:
                mask[row, column] = True
                for word in tokens[column - (2 if token in nouns else 1) : column + 1]:
                    targets[row, column, word] = 1.0
    return targets, mask


def train_text(out: Path, steps: int) -> nn.Module:
    """Teach the text encoder which adjectives belong to which noun."""
    stage = Stage("text", out, Reader(), 1e-3, steps)

    def loss(step: int) -> torch.Tensor:
        rng = np.random.default_rng(TRAINING_SEED + step)
        ids = token_ids([scenes.random_scene(rng).prompt for _ in range(64)])
        targets, mask = phrases(ids)
        scores = stage.model(ids)
        return functional.binary_cross_entropy_with_logits(scores[mask], targets[mask])

    return stage.run(loss).encoder


# --- VAE -------------------------------------------------------------------------------------


def crops(step: int) -> torch.Tensor:
    """Two crops a scene, where they do not shift a texture against the grid of the latent."""
    _, pictures, _ = scenes.batch(TRAINING_SEED + step, BATCH // 2)
    rng = np.random.default_rng(TRAINING_SEED + step)
    corners = rng.integers(0, (scenes.SIZE - CROP) // 8 + 1, (BATCH, 2)) * 8
    return torch.stack([pictures[i // 2, :, y : y + CROP, x : x + CROP] for i, (y, x) in enumerate(corners)])


def train_vae(out: Path, steps: int) -> nn.Module:
    """Teach the VAE to reproduce pictures, its latents lightly pulled to a normal distribution."""
    stage = Stage("vae", out, networks.vae(), 2e-3, steps)
    model = stage.model

    def loss(step: int) -> torch.Tensor:
        pictures = to_unit(crops(step))
        with mixed():
            posterior = model.encode(pictures).latent_dist
            generator = torch.Generator().manual_seed(step)
            latents = posterior.sample(generator).float()
            drawn = model.decode(overshot(latents, generator)).sample
        error = drawn.float() - pictures
        return error.abs().mean() + error.square().mean() + KL_WEIGHT * posterior.kl().float().mean()

    return stage.run(loss)


# --- UNet and ControlNet ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Pool:
    """Encoded scenes: latents of unit variance, the states of their prompts, maps."""

    latents: torch.Tensor
    tokens: torch.Tensor
    maps: torch.Tensor
    text: nn.Module
    empty: torch.Tensor

    def draw(self, step: int, count: int) -> Examples:
        """Latents, encoded prompts (some dropped) and maps of a training step."""
        generator = torch.Generator().manual_seed(TRAINING_SEED + step)
        rows = torch.randint(len(self.latents), (count,), generator=generator)
        prompted = torch.rand(count, generator=generator) >= DROPPED
        tokens, maps = self.tokens[rows], self.maps[rows]
        with torch.no_grad():
            states = self.text(torch.where(prompted[:, None], tokens, self.empty)).last_hidden_state
            words = binding.words(tokens, maps)
        return Examples(self.latents[rows].float(), states, to_map(maps), words, prompted)


def to_map(maps: torch.Tensor) -> torch.Tensor:
    """Maps from bytes to ``0..1``, as pipelines give them to a ControlNet."""
    return maps.float() / 255.0


def normalise(vae: Any) -> None:
    """Give every channel of the latents mean 0 and variance 1."""
    _, pictures, _ = scenes.batch(TRAINING_SEED - 256, 256)
    normalise_by(vae, pictures)


def encode(out: Path, vae: Any, text: nn.Module) -> Pool:
    """Encode the scenes of training once."""
    path = out / "pool.pt"
    if not path.exists():
        latents, tokens, maps = [], [], []
        for start in range(0, POOL, 64):
            prompts, pictures, drawn = scenes.batch(TRAINING_SEED + 500_000 + start, 64)
            with torch.no_grad(), mixed():
                means = vae.encode(to_unit(pictures)).latent_dist.mode()
            latents.append(means.half())
            tokens.append(token_ids(prompts))
            maps.append(drawn)
        parts = {"latents": torch.cat(latents), "tokens": torch.cat(tokens), "maps": torch.cat(maps)}
        torch.save(parts, path)
    saved = torch.load(path, weights_only=True, mmap=True)
    return Pool(**saved, text=text, empty=token_ids([""])[0])


def noisy(latents: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents with noise of random strength, the noise, and the timesteps."""
    generator = torch.Generator().manual_seed(2 * TRAINING_SEED + step)
    noise = torch.randn(latents.shape, generator=generator)
    times = torch.randint(1000, (len(latents),), generator=generator)
    return networks.scheduler().add_noise(latents, noise, times), noise, times


def weighted(predicted: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """The error of the noise, more of it where there is more noise.

    That is where colours are decided, and where a wrong picture hardly changes the noise.
    """
    kept = networks.scheduler().alphas_cumprod[times].sqrt()
    error = (predicted - noise).square().mean((1, 2, 3))
    return (error / kept).mean() / WEIGHTS


def train_unet(out: Path, steps: int, pool: Pool) -> nn.Module:
    """Teach the UNet to denoise with the prompt alone, and which words belong where."""
    stage = Stage("unet", out, networks.unet(), 1e-3, steps)
    watched = binding.watch(stage.model)

    def loss(step: int) -> torch.Tensor:
        seen = pool.draw(step, BATCH)
        inputs, noise, times = noisy(seen.latents, step)
        predicted = stage.model(inputs, times, seen.states).sample
        bound = binding.loss(watched, seen.words, seen.prompted)
        return weighted(predicted, noise, times) + BINDING * bound

    return stage.run(loss)


def train_controlnet(out: Path, steps: int, pool: Pool, unet: Any) -> nn.Module:
    """Teach the ControlNet, on top of the frozen UNet, to put shapes where the map says."""
    unet = unet.requires_grad_(False)
    stage = Stage("controlnet", out, networks.controlnet(unet), 1e-3, steps)
    watched = binding.watch(stage.model, unet.up_blocks)

    def loss(step: int) -> torch.Tensor:
        seen = pool.draw(step, BATCH)
        inputs, noise, times = noisy(seen.latents, step)
        down, mid = stage.model(inputs, times, seen.states, controlnet_cond=seen.maps, return_dict=False)
        predicted = unet(
            inputs,
            times,
            seen.states,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
        bound = binding.loss(watched, seen.words, seen.prompted)
        return weighted(predicted, noise, times) + BINDING * bound

    return stage.run(loss)


def finished(out: Path, scale: float) -> Iterator[tuple[str, nn.Module]]:
    """Train what is not trained yet; yields every network in its order."""
    steps = {name: round(count * scale) for name, count in STEPS.items()}
    text = train_text(out, steps["text"])
    yield "text", text
    vae = train_vae(out, steps["vae"])
    normalise(vae)
    yield "vae", vae
    pool = encode(out, vae, text)
    unet = train_unet(out, steps["unet"], pool)
    yield "unet", unet
    yield "controlnet", train_controlnet(out, steps["controlnet"], pool, unet)


def main() -> None:
    """Train to the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--scale", type=float, default=1.0, help="of the steps of every stage, to try out")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for name, model in finished(arguments.out, arguments.scale):
        print(name, f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.2f} M weights", flush=True)


if __name__ == "__main__":
    main()
