"""Autoencoders: pixels as they are, and the lessons of one that learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import nn

# Of the divergence of a whole latent; more than this and channels fall silent.
KL_WEIGHT = 4e-9
# How far the latents of the decoder's lessons go beyond those of pictures: guidance overshoots.
OVERSHOOT = 0.3
# The noise that is left in them, of their standard deviation.
LEFTOVER = 0.1


def to_unit(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures from bytes to ``-1..1``."""
    return pictures.float() / 127.5 - 1.0


class Pixels(nn.Module):
    """Squares of pixels as channels: a latent is the picture itself."""

    def __init__(self, cell: int) -> None:
        super().__init__()
        self.cell = cell
        # As decoders name it, whose levels tell the down-sampling.
        self.config = {
            "_class_name": "PixelShuffle",
            "block_out_channels": [3 << (2 * level) for level in range(cell.bit_length())],
            "latent_channels": 3 * cell * cell,
            "scaling_factor": 1.0,
        }

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures of latents."""
        return functional.pixel_shuffle(latents, self.cell)


def encoded(vae: Any, pictures: torch.Tensor) -> torch.Tensor:
    """The latents of pictures in ``-1..1``."""
    if isinstance(vae, Pixels):
        return functional.pixel_unshuffle(pictures, vae.cell)
    latents: torch.Tensor = vae.encode(pictures).latent_dist.mode()
    return latents


def decoded(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """The pictures of latents."""
    if isinstance(vae, Pixels):
        return vae.decode(latents)
    pictures: torch.Tensor = vae.decode(latents / vae.config.scaling_factor).sample
    return pictures


def overshot(latents: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Latents as denoising with guidance leaves them: too far from the mean, and a little noisy.

    So the decoder learns to draw them as the pictures they are of.
    """
    mean, std = latents.detach().mean((0, 2, 3), True), latents.detach().std((0, 2, 3), keepdim=True)
    far = 1 + OVERSHOOT * torch.rand(len(latents), 1, 1, 1, generator=generator)
    noise = LEFTOVER * std * torch.randn(latents.shape, generator=generator)
    return mean + far * (latents - mean) + noise


def crops(pictures: torch.Tensor, side: int, step: int, count: int, grid: int = 8) -> torch.Tensor:
    """Crops of pictures, where they do not shift a texture against the grid of the latent."""
    rng = np.random.default_rng(step)
    rows = rng.integers(0, len(pictures), count)
    tops = rng.integers(0, (pictures.shape[2] - side) // grid + 1, count) * grid
    lefts = rng.integers(0, (pictures.shape[3] - side) // grid + 1, count) * grid
    found = [
        pictures[row, :, y : y + side, x : x + side] for row, y, x in zip(rows, tops, lefts, strict=True)
    ]
    return torch.stack(found)


def lesson(vae: Any, pictures: torch.Tensor, step: int) -> torch.Tensor:
    """The loss of reproducing pictures, their latents lightly pulled to a normal distribution."""
    posterior = vae.encode(pictures).latent_dist
    generator = torch.Generator().manual_seed(step)
    latents = posterior.sample(generator).float()
    error = vae.decode(overshot(latents, generator)).sample.float() - pictures
    return error.abs().mean() + error.square().mean() + KL_WEIGHT * posterior.kl().float().mean()


def normalise(vae: Any, pictures: torch.Tensor) -> None:
    """Give every channel of the latents mean 0 and variance 1.

    The 1x1 convolutions at the end of the encoder and at the start of the decoder take it in.
    """
    with torch.no_grad():
        latents = torch.cat([vae.encode(part).latent_dist.mode() for part in to_unit(pictures).split(32)])
        count = latents.shape[1]
        mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
        into, back = vae.quant_conv, vae.post_quant_conv
        into.weight[:count] /= std[:, None, None, None]
        into.bias[:count] = (into.bias[:count] - mean) / std
        into.bias[count:] -= 2 * std.log()
        back.bias += back.weight[:, :, 0, 0] @ mean
        back.weight *= std[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)


def save(vae: Any, folder: Path) -> None:
    """Write an autoencoder where it has weights."""
    if not isinstance(vae, Pixels):
        vae.save_pretrained(folder)
