"""Scenes of coloured and textured regions, whatever draws them: how they look and what says so.

A scene has regions, the ground first. The prompt names the colour and the texture of each; the
control image says where they are. A generator of scenes gives labels, control and prompt; pictures
follow from them here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import torch


@dataclasses.dataclass(frozen=True)
class Palette:
    """Colours by their light tone, textures by the rows of one period, dark where "#"."""

    colours: Mapping[str, tuple[int, int, int]]
    textures: Mapping[str, tuple[str, ...]]
    # The dark tone of a texture, as a share of its colour.
    dark: float = 0.5

    @property
    def colour_names(self) -> tuple[str, ...]:
        """The colours in their order."""
        return tuple(self.colours)

    @property
    def texture_names(self) -> tuple[str, ...]:
        """The textures in their order."""
        return tuple(self.textures)

    def tones(self) -> np.ndarray:
        """Light and dark tone of every colour, ``uint8 [colour, 2, 3]``."""
        light = np.array(list(self.colours.values()), np.float32)
        return np.stack([light, light * self.dark], 1).astype(np.uint8)

    def masks(self, height: int, width: int) -> np.ndarray:
        """Where each texture is dark, ``[texture, y, x]``, repeated from the corner of the picture."""
        found = []
        for rows in self.textures.values():
            period = np.array([[cell == "#" for cell in row] for row in rows])
            tiles = (-(-height // period.shape[0]), -(-width // period.shape[1]))
            found.append(np.tile(period, tiles)[:height, :width])
        return np.stack(found)


@dataclasses.dataclass(frozen=True)
class Region:
    """A region of a scene."""

    colour: int
    texture: int
    # Its colour in the control image, or the nearest to it of all regions'.
    place: tuple[int, int, int]
    # First and last word of the prompt that tell of it; the last one names it.
    phrase: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Scene:
    """Words, regions, the region of each pixel, and the control image."""

    words: tuple[str, ...]
    regions: tuple[Region, ...]
    labels: np.ndarray
    control: np.ndarray

    @property
    def prompt(self) -> str:
        """The words as a text."""
        return " ".join(self.words)


@dataclasses.dataclass(frozen=True)
class World:
    """A generator of scenes of one size."""

    palette: Palette
    height: int
    width: int
    # All words of prompts.
    words: tuple[str, ...]
    # Most regions of a scene.
    regions: int
    draw: Callable[[np.random.Generator], Scene]

    def scene(self, seed: int) -> Scene:
        """The scene of a seed."""
        return self.draw(np.random.default_rng(seed))

    def picture(self, scene: Scene) -> np.ndarray:
        """The picture of a scene, ``uint8 [y, x, 3]``."""
        tones, masks = self.palette.tones(), self.palette.masks(self.height, self.width)
        out = np.zeros((self.height, self.width, 3), np.uint8)
        for index, region in enumerate(scene.regions):
            here = scene.labels == index
            out[here] = tones[region.colour][masks[region.texture][here].astype(int)]
        return out

    def scenes(self, seed: int, count: int) -> list[Scene]:
        """Scenes; the same for the same seed."""
        rng = np.random.default_rng(seed)
        return [self.draw(rng) for _ in range(count)]

    def batch(self, seed: int, count: int) -> Batch:
        """Scenes as tensors."""
        scenes = self.scenes(seed, count)
        anchors = torch.full((count, self.regions), -1)
        for row, scene in enumerate(scenes):
            # The start token comes first.
            anchors[row, : len(scene.regions)] = torch.tensor([r.phrase[1] + 1 for r in scene.regions])
        return Batch(
            [scene.prompt for scene in scenes],
            planes([self.picture(scene) for scene in scenes]),
            planes([scene.control for scene in scenes]),
            torch.from_numpy(np.stack([scene.labels for scene in scenes])),
            anchors,
        )


@dataclasses.dataclass(frozen=True)
class Batch:
    """Prompts, pictures and controls in ``uint8 [n, 3, y, x]``, labels ``uint8 [n, y, x]``.

    ``anchors [n, regions]`` is the token that names each region, -1 where there is none.
    """

    prompts: list[str]
    pictures: torch.Tensor
    controls: torch.Tensor
    labels: torch.Tensor
    anchors: torch.Tensor


def planes(images: list[np.ndarray]) -> torch.Tensor:
    """Images ``[y, x, 3]`` as one tensor, channels first."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


class Sentence:
    """A prompt that is being written, and which words tell of what."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def say(self, words: str) -> tuple[int, int]:
        """Append words; the places of the first and the last."""
        first = len(self.words)
        self.words += words.split()
        return first, len(self.words) - 1
