"""Train a pipeline: text encoders, VAE, UNet, then UNet and ControlNet together.

    python -m common.train outlines --out DIR

Every stage writes a checkpoint each minute and goes on from it after an interruption; a stage that
is finished is not run again. Seeds are fixed: data of a step depend on the step alone. ``log.csv``
keeps the loss of every stage over steps and seconds of processor time, divided by the threads.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn

from common import binding, text
from common.kit import Kit
from common.stage import Stage
from common.vae import Pixels, crops, encoded, lesson, normalise, to_unit

# Scenes of training have seeds from here on; those of measuring lie below.
TRAINING_SEED = 1_000_000
# Share of prompts that are dropped: guidance multiplies the errors of what is learnt without.
DROPPED = 0.15
# Weight of the error of the cross-attentions.
BINDING = 0.02
# The VAE learns on crops of this side: it is convolutional, and a step costs less.
CROP = 32
# The mean of the weights of the error of the noise over timesteps.
WEIGHTS = 3.36


def named(name: str) -> Kit:
    """The pipeline in a folder beside this one."""
    kit: Kit = importlib.import_module(f"{name}.networks").KIT
    return kit


# --- text encoders ---------------------------------------------------------------------------


def reader(kit: Kit) -> text.Reader:
    """The text encoders with their heads, untrained."""
    return text.Reader(kit.encoders(), len(kit.world.words))


def train_text(kit: Kit, out: Path, steps: int) -> list[Any]:
    """Teach the text encoders which adjectives belong to which noun."""
    stage = Stage("text", out, reader(kit), 1e-3, steps)
    tokenizers = kit.tokenizers()
    loss_of = functional.binary_cross_entropy_with_logits

    def loss(step: int) -> torch.Tensor:
        prompts, places, targets = text.lessons(kit.world, TRAINING_SEED + step, 48)
        scores, summary = stage.model(text.token_ids(tokenizers, prompts))
        error = loss_of(scores[places[:, 0], places[:, 1]], targets)
        if summary is not None:
            whole = torch.zeros_like(summary).index_reduce_(0, places[:, 0], targets, "amax")
            error = error + loss_of(summary, whole)
        return error

    return list(stage.run(loss).encoders)


# --- VAE -------------------------------------------------------------------------------------


def measured_pictures(kit: Kit) -> torch.Tensor:
    """The pictures by which latents are normalised."""
    return kit.world.batch(TRAINING_SEED - 256, 256).pictures


def train_vae(kit: Kit, out: Path, steps: int) -> Any:
    """Teach the VAE to reproduce pictures; pixels need no lessons."""
    vae = kit.vae()
    if isinstance(vae, Pixels):
        return vae
    stage = Stage("vae", out, vae, 2e-3, steps)
    pictures = kit.world.batch(TRAINING_SEED - 5000, 4096).pictures
    vae = stage.run(lambda step: lesson(stage.model, to_unit(crops(pictures, CROP, step, 24)), step))
    normalise(vae, measured_pictures(kit))
    return vae


# --- UNet and ControlNet ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Examples:
    """What a training step sees."""

    latents: torch.Tensor
    states: torch.Tensor
    added: dict[str, torch.Tensor] | None
    control: torch.Tensor
    # Where each token is drawn, and in which rows the prompt was kept.
    shares: torch.Tensor
    prompted: torch.Tensor
    noise: torch.Tensor
    times: torch.Tensor


class Pool:
    """Encoded scenes, drawn once."""

    def __init__(self, kit: Kit, vae: Any, encoders: list[Any]) -> None:
        self.kit, self.scheduler = kit, kit.scheduler()
        batch = kit.world.batch(TRAINING_SEED + 500_000, kit.pool)
        self.controls, self.labels, self.anchors = batch.controls, batch.labels, batch.anchors
        ids = text.token_ids(kit.tokenizers(), [*batch.prompts, ""])
        with torch.no_grad():
            self.latents = torch.cat([encoded(vae, to_unit(part)) for part in batch.pictures.split(64)])
            parts = zip(*(one.split(256) for one in ids), strict=True)
            told = [text.encode(encoders, part) for part in parts]
        self.states = torch.cat([states for states, _ in told])
        pooled = [summary for _, summary in told if summary is not None]
        self.pooled = torch.cat(pooled) if pooled else None
        if self.pooled is not None:
            # SDXL is told nothing by zeros, not by an empty prompt.
            self.states[-1], self.pooled[-1] = 0.0, 0.0

    def draw(self, step: int) -> Examples:
        """The examples of a training step; some prompts are dropped."""
        count = self.kit.batch
        generator = torch.Generator().manual_seed(TRAINING_SEED + step)
        rows = torch.randint(len(self.latents), (count,), generator=generator)
        prompted = torch.rand(count, generator=generator) >= DROPPED
        latents = self.latents[rows]
        noise = torch.randn(latents.shape, generator=generator)
        trained = self.scheduler.config.num_train_timesteps
        # One of each part of the timesteps: less chance from step to step.
        parts = torch.arange(count) + torch.rand(count, generator=generator)
        times = (parts * trained / count).long().clamp_max(trained - 1)
        told = torch.where(prompted, rows, len(self.latents))
        pooled = None if self.pooled is None else self.pooled[told]
        labels, anchors = self.labels[rows], self.anchors[rows]
        return Examples(
            latents,
            self.states[told],
            self.kit.added(pooled),
            self.kit.seen(self.controls[rows]),
            binding.shares(labels, anchors, self.kit.tokens, self.kit.cell),
            prompted,
            noise,
            times,
        )


def predicted(models: Any, seen: Examples, noisy: torch.Tensor) -> torch.Tensor:
    """What the UNet says, with the ControlNet's help where there is one."""
    given: dict[str, Any] = {"added_cond_kwargs": seen.added}
    if "controlnet" in models:
        down, mid = models["controlnet"](
            noisy, seen.times, seen.states, seen.control, return_dict=False, **given
        )
        given |= {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
    result: torch.Tensor = models["unet"](noisy, seen.times, seen.states, **given).sample
    return result


def denoising(scheduler: Any, found: torch.Tensor, seen: Examples) -> torch.Tensor:
    """The error of a prediction.

    That of the noise counts more where there is more noise: there colours are decided, and there a
    wrong picture hardly changes the noise. Velocity weighs by itself.
    """
    if scheduler.config.prediction_type == "v_prediction":
        return functional.mse_loss(found, scheduler.get_velocity(seen.latents, seen.noise, seen.times))
    kept = scheduler.alphas_cumprod[seen.times].sqrt()
    error = (found - seen.noise).square().mean((1, 2, 3))
    return (error / kept).mean() / WEIGHTS


def train_denoising(name: str, out: Path, models: nn.ModuleDict, kit: Kit, pool: Pool, steps: int) -> Any:
    """Teach networks to denoise, and which words belong where."""
    stage = Stage(name, out, models, kit.rate, steps)
    watched = binding.watch(stage.model)

    def loss(step: int) -> torch.Tensor:
        # No stage sees the examples of another.
        seen = pool.draw(step if name == "unet" else 100_000 + step)
        noisy = pool.scheduler.add_noise(seen.latents, seen.noise, seen.times)
        error = denoising(pool.scheduler, predicted(stage.model, seen, noisy), seen)
        return error + BINDING * binding.loss(watched, seen.shares, seen.prompted)

    return stage.run(loss)


def train(kit: Kit, out: Path, scale: float) -> None:
    """Train what is not trained yet."""
    steps = {name: round(count * scale) for name, count in kit.steps.items()}
    encoders = [one.requires_grad_(False) for one in train_text(kit, out, steps["text"])]
    vae = train_vae(kit, out, steps["vae"])
    pool = Pool(kit, vae, encoders)
    alone = train_denoising("unet", out, nn.ModuleDict({"unet": kit.unet()}), kit, pool, steps["unet"])
    unet = kit.unet()
    unet.load_state_dict(alone["unet"].state_dict())
    both = nn.ModuleDict({"unet": unet, "controlnet": kit.controlnet(unet)})
    for name, model in both.items():
        print(name, f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.2f} M weights", flush=True)
    train_denoising("controlnet", out, both, kit, pool, steps["controlnet"])


def main() -> None:
    """Train to the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("pipeline", help="folder with networks.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--scale", type=float, default=1.0, help="of the steps of every stage, to try out")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    train(named(arguments.pipeline), arguments.out, arguments.scale)


if __name__ == "__main__":
    main()
