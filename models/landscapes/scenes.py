"""Random landscapes, wider than high: layers from the sky to what is near, with a sun or without.

Up to three of mountains, hills and fields, each with a border line of its own kind. The control image
is a segmentation map of the layers; the prompt names colour and texture of each.
"""

from __future__ import annotations

import numpy as np

from common.scenes import Palette, Region, Scene, Sentence, World

HEIGHT, WIDTH = 64, 96
# From far to near; the sky is the ground of the scene.
LAYERS = ("sky", "sun", "mountains", "hills", "fields")
MAP_COLOURS = ((0, 0, 0), (240, 220, 70), (200, 80, 220), (60, 180, 75), (230, 110, 60))
PALETTE = Palette(
    {
        "red": (220, 30, 35),
        "orange": (245, 135, 20),
        "yellow": (245, 225, 60),
        "green": (40, 165, 60),
        "cyan": (70, 215, 225),
        "blue": (40, 70, 220),
        "purple": (145, 45, 190),
    },
    {
        "plain": ("........",),
        "striped": ("........",) * 4 + ("########",) * 4,
        "furrowed": ("....####",),
        "dotted": (
            "........",
            "..####..",
            ".######.",
            ".######.",
            ".######.",
            ".######.",
            "..####..",
            "........",
        ),
    },
)
_Y, _X = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32) + 0.5


def border(layer: str, rng: np.random.Generator) -> np.ndarray:
    """How far a layer reaches above its middle height, for each column."""
    x = np.arange(WIDTH) + 0.5
    match layer:
        case "mountains":
            peaks = np.concatenate([[0], np.sort(rng.uniform(8, WIDTH - 8, 3)), [WIDTH]])
            heights = rng.uniform(-7, 1, 5) + np.array([0, 8, 4, 8, 0])
            return np.interp(x, peaks, heights)
        case "hills":
            return 4 * np.sin(x / rng.uniform(9, 14) + rng.uniform(0, 6.28))
        case _:
            return (x - WIDTH / 2) * rng.uniform(-0.08, 0.08)


def draw(rng: np.random.Generator) -> Scene:
    """Draw a scene; every layer keeps a good part of itself visible."""
    lower = sorted(rng.permutation([2, 3, 4])[: rng.integers(1, 4)])
    chosen = [0, *([1] if rng.random() < 0.6 else []), *lower]
    colours = rng.permutation(len(PALETTE.colours))[: len(chosen)]
    textures = rng.integers(len(PALETTE.textures), size=len(chosen))
    while True:
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        top = rng.uniform(18, 30)
        gaps = rng.uniform(0.7, 1.3, len(lower))
        tops = top + np.concatenate([[0], np.cumsum(gaps)[:-1]]) * (HEIGHT - top) / gaps.sum()
        if 1 in chosen:
            x, radius = rng.uniform(12, WIDTH - 12), rng.uniform(7, 10)
            y = rng.uniform(radius, max(radius + 1, top - 4))
            labels[(_X - x) ** 2 + (_Y - y) ** 2 < radius**2] = 1
        for height, layer in zip(tops, lower, strict=True):
            line = height - border(LAYERS[layer], rng)
            labels[line < _Y] = chosen.index(layer)
        if min(np.bincount(labels.ravel(), minlength=len(chosen))) > 100:
            break
    sentence = Sentence()
    phrases = {}
    for told, index in enumerate(rng.permutation(np.arange(1, len(chosen)))):
        if told:
            sentence.say("and" if told == len(chosen) - 2 else ",")
        words = (PALETTE.texture_names[textures[index]], PALETTE.colour_names[colours[index]])
        phrases[index] = sentence.say(" ".join(words) + f" {LAYERS[chosen[index]]}")
    sentence.say("under a")
    words = (PALETTE.texture_names[textures[0]], PALETTE.colour_names[colours[0]])
    phrases[0] = sentence.say(" ".join(words) + " sky")
    regions = tuple(
        Region(int(colours[index]), int(textures[index]), MAP_COLOURS[layer], phrases[index])
        for index, layer in enumerate(chosen)
    )
    layers = np.array(chosen)[labels]
    return Scene(tuple(sentence.words), regions, labels, np.array(MAP_COLOURS, np.uint8)[layers])


WORLD = World(
    PALETTE,
    HEIGHT,
    WIDTH,
    ("a", "and", "under", ",", *PALETTE.textures, *PALETTE.colours, *LAYERS),
    5,
    draw,
)
