"""Random scenes of textured shapes: their pictures, prompts and segmentation maps.

A scene has two to four shapes on a ground. Kinds and colours are distinct within a scene, so a
prompt says without doubt which region of the map has which colour and texture; it says nothing of
places. The map says where each kind is and nothing of colours and textures.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

SIZE = 128
KINDS = ("circle", "square", "triangle", "cross", "ring")
TEXTURES = ("plain", "striped", "dotted", "checkered")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "orange": (245, 135, 20),
    "yellow": (245, 225, 60),
    "green": (40, 165, 60),
    "cyan": (70, 215, 225),
    "blue": (40, 70, 220),
    "purple": (145, 45, 190),
    "pink": (250, 160, 205),
}
COLOUR_NAMES = tuple(COLOURS)
# The dark tone of a texture, as a share of its colour.
DARK = 0.5
# Textures repeat with this period, in pixels, from the corner of the picture.
PERIOD = 8
# The colours of the segmentation map: the ground, then the kinds in their order.
MAP_COLOURS = np.array(
    [(0, 0, 0), (230, 60, 60), (60, 180, 75), (65, 100, 225), (240, 220, 70), (200, 80, 220)], np.uint8
)


@dataclasses.dataclass(frozen=True)
class Thing:
    """A shape of a scene: what the prompt says of it, and where it is."""

    kind: int
    colour: int
    texture: int
    x: float
    y: float
    radius: float
    angle: float

    def words(self) -> str:
        """The words of the prompt."""
        return f"a {TEXTURES[self.texture]} {COLOUR_NAMES[self.colour]} {KINDS[self.kind]}"


@dataclasses.dataclass(frozen=True)
class Scene:
    """Shapes, the last ones in front, on a ground of a colour and a texture."""

    things: tuple[Thing, ...]
    mentioned: tuple[int, ...]
    ground: tuple[int, int]

    @property
    def prompt(self) -> str:
        """Such as "a striped red circle and a plain blue square on dotted green"."""
        words = [self.things[index].words() for index in self.mentioned]
        listed = " , ".join(words[:-1]) + " and " + words[-1]
        return f"{listed} on {TEXTURES[self.ground[1]]} {COLOUR_NAMES[self.ground[0]]}"


def random_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene; every shape keeps a good part of itself visible."""
    count = int(rng.integers(2, 5))
    kinds = rng.permutation(len(KINDS))[:count]
    colours = rng.permutation(len(COLOURS))[: count + 1]
    while True:
        places = []
        for _ in range(count):
            radius = rng.uniform(20, 31) if count > 2 else rng.uniform(24, 38)
            x, y = rng.uniform(radius * 0.7, SIZE - radius * 0.7, 2)
            places.append((x, y, radius))
        gaps = [math.dist(a[:2], b[:2]) / (a[2] + b[2]) for i, a in enumerate(places) for b in places[:i]]
        if min(gaps) > 0.75:
            break
    things = tuple(
        Thing(int(kind), int(colour), int(rng.integers(len(TEXTURES))), x, y, radius, rng.uniform(-0.4, 0.4))
        for kind, colour, (x, y, radius) in zip(kinds, colours, places, strict=False)
    )
    order = tuple(int(index) for index in rng.permutation(count))
    return Scene(things, order, (int(colours[count]), int(rng.integers(len(TEXTURES)))))


def texture_masks() -> np.ndarray:
    """Where each texture is dark, ``[texture, y, x]`` over a whole picture."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    half = PERIOD // 2
    centre = (PERIOD - 1) / 2
    dots = (x % PERIOD - centre) ** 2 + (y % PERIOD - centre) ** 2 < 2.6**2
    checks = ((x // half) + (y // half)) % 2 == 1
    return np.stack([np.zeros_like(dots), y % PERIOD >= half, dots, checks])


_MASKS = texture_masks()
_GRID = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5


def inside(thing: Thing) -> np.ndarray:
    """The pixels of a shape, before others cover it."""
    dy, dx = _GRID[0] - thing.y, _GRID[1] - thing.x
    cos, sin = math.cos(thing.angle), math.sin(thing.angle)
    u, v = (dx * cos + dy * sin) / thing.radius, (dy * cos - dx * sin) / thing.radius
    match KINDS[thing.kind]:
        case "circle":
            return u * u + v * v < 0.85
        case "square":
            return np.maximum(abs(u), abs(v)) < 0.78
        case "triangle":
            return (v < 0.7) & (v > 1.9 * abs(u) - 1.05)
        case "cross":
            return (np.minimum(abs(u), abs(v)) < 0.38) & (np.maximum(abs(u), abs(v)) < 0.95)
        case _:
            return (u * u + v * v < 1.0) & (u * u + v * v > 0.24)


def layers(scene: Scene) -> np.ndarray:
    """For each pixel 0 for the ground or one more than the index of the shape in front."""
    label = np.zeros((SIZE, SIZE), np.uint8)
    for index, thing in enumerate(scene.things):
        label[inside(thing)] = index + 1
    return label


def tones(colour: int) -> np.ndarray:
    """The light and the dark tone of a colour, ``[2, 3]``."""
    light = np.array(COLOURS[COLOUR_NAMES[colour]], np.float32)
    return np.stack([light, light * DARK])


def picture(scene: Scene, label: np.ndarray | None = None) -> np.ndarray:
    """The picture of a scene, ``uint8 [y, x, 3]``."""
    label = layers(scene) if label is None else label
    out = np.zeros((SIZE, SIZE, 3), np.uint8)
    surfaces = [scene.ground, *((thing.colour, thing.texture) for thing in scene.things)]
    for index, (colour, texture) in enumerate(surfaces):
        here = label == index
        out[here] = tones(colour)[_MASKS[texture][here].astype(int)]
    return out


def segmentation(scene: Scene, label: np.ndarray | None = None) -> np.ndarray:
    """The control image of a scene: the colour of the kind of each pixel, ``uint8 [y, x, 3]``."""
    label = layers(scene) if label is None else label
    kinds = np.array([0, *(thing.kind + 1 for thing in scene.things)])
    return MAP_COLOURS[kinds[label]]


def batch(seed: int, count: int) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Prompts, pictures in ``uint8 [n, 3, y, x]`` and maps likewise; the same for the same seed."""
    rng = np.random.default_rng(seed)
    prompts, pictures, maps = [], [], []
    for _ in range(count):
        scene = random_scene(rng)
        label = layers(scene)
        prompts.append(scene.prompt)
        pictures.append(picture(scene, label))
        maps.append(segmentation(scene, label))

    def stacked(images: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()

    return prompts, stacked(pictures), stacked(maps)
