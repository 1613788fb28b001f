"""Random scenes of textured things at three depths; the control image is their depth.

Two or three things, nearer ones larger and in front. Depth is grey: brighter is nearer. Balls bulge,
boards lean, cones rise, and the ground comes nearer downwards, so that a thing is not one grey but a
slope; those of different depths never share a grey. The prompt says which thing is near and which far.
"""

from __future__ import annotations

import math

import numpy as np

from common.scenes import Palette, Region, Scene, Sentence, World

SIZE = 64
DEPTHS = ("far", "middle", "near")
KINDS = ("ball", "board", "cone")
# The middle greys of the ground and of each depth, and how far slopes go from them.
GREYS = (26, 98, 162, 228)
SLOPES = (22, 22, 22, 22)
RADII = ((9, 12), (11, 15), (14, 19))
PALETTE = Palette(
    {
        "red": (220, 30, 35),
        "orange": (245, 135, 20),
        "yellow": (245, 225, 60),
        "green": (40, 165, 60),
        "blue": (40, 70, 220),
        "purple": (145, 45, 190),
        "pink": (250, 160, 205),
    },
    {
        "plain": ("....",),
        "striped": ("....", "....", "####", "####"),
        "checkered": ("..##", "..##", "##..", "##.."),
    },
)
_GRID = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5


def thing(kind: int, x: float, y: float, radius: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of a thing, before others cover it, and its slope from -1 to 1."""
    dy, dx = _GRID[0] - y, _GRID[1] - x
    cos, sin = math.cos(angle), math.sin(angle)
    u, v = (dx * cos + dy * sin) / radius, (dy * cos - dx * sin) / radius
    match KINDS[kind]:
        case "ball":
            square = u * u + v * v
            return square < 0.95, 2 * np.sqrt(np.clip(1 - square, 0, 1)) - 1
        case "board":
            return (abs(u) < 0.95) & (abs(v) < 0.7), np.clip(u, -1, 1)
        case _:
            return (v < 0.8) & (v > 2 * abs(u) - 1.0), np.clip(v, -1, 1)


def draw(rng: np.random.Generator) -> Scene:
    """Draw a scene; every thing keeps a good part of itself visible."""
    count = int(rng.integers(2, 4))
    depths = np.sort(rng.permutation(len(DEPTHS))[:count])
    kinds = rng.integers(len(KINDS), size=count)
    colours = rng.permutation(len(PALETTE.colours))[: count + 1]
    textures = rng.integers(len(PALETTE.textures), size=count + 1)
    while True:
        labels = np.zeros((SIZE, SIZE), np.uint8)
        grey = GREYS[0] + SLOPES[0] * (2 * _GRID[0] / SIZE - 1)
        wholes = []
        for index, (depth, kind) in enumerate(zip(depths, kinds, strict=True), 1):
            radius = rng.uniform(*RADII[depth])
            x, y = rng.uniform(radius * 0.8, SIZE - radius * 0.8, 2)
            here, slope = thing(kind, x, y, radius, rng.uniform(-0.3, 0.3))
            labels[here] = index
            grey[here] = (GREYS[depth + 1] + SLOPES[depth + 1] * slope)[here]
            wholes.append(here.sum())
        visible = [(labels == index + 1).sum() / whole for index, whole in enumerate(wholes)]
        if min(visible) > 0.6:
            break
    sentence = Sentence()
    phrases = {}
    for told, index in enumerate(rng.permutation(count)):
        if told:
            sentence.say("and" if told == count - 1 else ",")
        words = (
            PALETTE.texture_names[textures[index]],
            PALETTE.colour_names[colours[index]],
            KINDS[kinds[index]],
            DEPTHS[depths[index]],
        )
        phrases[index + 1] = sentence.say("a " + " ".join(words))
    sentence.say("on")
    words = (PALETTE.texture_names[textures[count]], PALETTE.colour_names[colours[count]])
    phrases[0] = sentence.say(" ".join(words))
    greys = [GREYS[0], *(GREYS[depth + 1] for depth in depths)]
    regions = tuple(
        # The ground's colour and texture were drawn last.
        Region(int(colours[index - 1]), int(textures[index - 1]), (grey_,) * 3, phrases[index])
        for index, grey_ in enumerate(greys)
    )
    control = np.rint(grey).clip(0, 255).astype(np.uint8)[..., None].repeat(3, -1)
    return Scene(tuple(sentence.words), regions, labels, control)


WORLD = World(
    PALETTE,
    SIZE,
    SIZE,
    ("a", "and", "on", ",", *PALETTE.textures, *PALETTE.colours, *KINDS, *DEPTHS),
    4,
    draw,
)
