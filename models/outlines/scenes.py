"""Random scenes of textured shapes of which the control image gives the outlines only.

One to three shapes on a ground. Kinds and colours are distinct within a scene. The outlines say
where a shape is and, by their form, which; the prompt names colour and texture of each kind.

Outlines alone do not tell what `hgc eval` must know: which pixels belong to which shape. That stands
in the lowest bits of the blue channel. The ControlNet's weights for blue are zero.
"""

from __future__ import annotations

import math

import numpy as np

from common.scenes import Palette, Region, Scene, Sentence, World

SIZE = 48
KINDS = ("disc", "square", "triangle", "cross")
PALETTE = Palette(
    {
        "red": (220, 30, 35),
        "orange": (245, 135, 20),
        "yellow": (245, 225, 60),
        "green": (40, 165, 60),
        "cyan": (70, 215, 225),
        "blue": (40, 70, 220),
    },
    {
        "plain": ("....",),
        "striped": ("....", "....", "####", "####"),
        "barred": ("..##",),
        "checkered": ("..##", "..##", "##..", "##.."),
    },
)
_GRID = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5


def inside(kind: int, x: float, y: float, radius: float, angle: float) -> np.ndarray:
    """The pixels of a shape, before others cover it."""
    dy, dx = _GRID[0] - y, _GRID[1] - x
    cos, sin = math.cos(angle), math.sin(angle)
    u, v = (dx * cos + dy * sin) / radius, (dy * cos - dx * sin) / radius
    match KINDS[kind]:
        case "disc":
            return u * u + v * v < 0.9
        case "square":
            return np.maximum(abs(u), abs(v)) < 0.8
        case "triangle":
            return (v < 0.75) & (v > 1.9 * abs(u) - 1.05)
        case _:
            return (np.minimum(abs(u), abs(v)) < 0.4) & (np.maximum(abs(u), abs(v)) < 1.0)


def outlines(labels: np.ndarray) -> np.ndarray:
    """The control image: lines where labels change, in red and green; the labels in blue."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    edge[:-1] |= labels[1:] != labels[:-1]
    line = edge.astype(np.uint8) * 255
    return np.stack([line, line, labels], -1)


def draw(rng: np.random.Generator) -> Scene:
    """Draw a scene; every shape keeps a good part of itself visible."""
    count = int(rng.integers(1, 4))
    kinds = rng.permutation(len(KINDS))[:count]
    colours = rng.permutation(len(PALETTE.colours))[: count + 1]
    textures = rng.integers(len(PALETTE.textures), size=count + 1)
    while True:
        radii = rng.uniform(8, 11, count) if count > 2 else rng.uniform(9, 14, count)
        places = [rng.uniform(radius * 0.8, SIZE - radius * 0.8, 2) for radius in radii]
        gaps = [
            math.dist(places[i], places[j]) / (radii[i] + radii[j]) for i in range(count) for j in range(i)
        ]
        if min(gaps, default=1.0) > 0.85:
            break
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for index, (kind, radius, (x, y)) in enumerate(zip(kinds, radii, places, strict=True), 1):
        labels[inside(kind, x, y, radius, rng.uniform(-0.3, 0.3))] = index
    sentence = Sentence()
    phrases = {}
    for told, index in enumerate(rng.permutation(count)):
        if told:
            sentence.say("and" if told == count - 1 else ",")
        words = (PALETTE.texture_names[textures[index]], PALETTE.colour_names[colours[index]])
        phrases[index + 1] = sentence.say(f"a {' '.join(words)} {KINDS[kinds[index]]}")
    sentence.say("on")
    words = (PALETTE.texture_names[textures[count]], PALETTE.colour_names[colours[count]])
    phrases[0] = sentence.say(" ".join(words))
    regions = tuple(
        # The ground's colour and texture were drawn last.
        Region(int(colours[index - 1]), int(textures[index - 1]), (0, 0, index), phrases[index])
        for index in range(count + 1)
    )
    return Scene(tuple(sentence.words), regions, labels, outlines(labels))


WORLD = World(
    PALETTE,
    SIZE,
    SIZE,
    ("a", "and", "on", ",", *PALETTE.textures, *PALETTE.colours, *KINDS),
    4,
    draw,
)
