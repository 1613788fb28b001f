"""How well a picture matches its scene: mean intersection over union, and accuracy of the prompt."""

from __future__ import annotations

import numpy as np

from scenes import COLOURS, Scene, layers, texture_masks, tones

# Every tone of every colour as pictures have it, ``[colour, tone, 3]``.
_TONES = np.stack([tones(colour) for colour in range(len(COLOURS))]).astype(np.uint8)
_MASKS = texture_masks()


def nearest(picture: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The index of the nearest of ``candidates [n, 3]`` for each pixel."""
    distance = ((picture.astype(np.float32)[:, :, None, :] - candidates) ** 2).sum(-1)
    return distance.argmin(-1)


def mean_iou(picture: np.ndarray, scene: Scene) -> float:
    """Mean intersection over union of the ground and the shapes.

    Pixels are labelled by the nearest tone of the colours that the prompt names.
    """
    truth = layers(scene)
    colours = [scene.ground[0], *(thing.colour for thing in scene.things)]
    candidates = _TONES[colours].reshape(-1, 3)
    found = nearest(picture, candidates) // 2
    scores = []
    for index in range(len(colours)):
        here, there = truth == index, found == index
        scores.append((here & there).sum() / max((here | there).sum(), 1))
    return float(np.mean(scores))


def texture_of(dark: np.ndarray, region: np.ndarray) -> int:
    """The texture whose dark pixels agree most with those found in a region."""
    agreement = [(dark == mask)[region].mean() for mask in _MASKS]
    return int(np.argmax(agreement))


def matches(picture: np.ndarray, scene: Scene) -> list[bool]:
    """For each shape, whether its dominant colour and its texture are those of the prompt."""
    label = layers(scene)
    found = nearest(picture, _TONES.reshape(-1, 3))
    colour, dark = found // 2, found % 2 == 1
    results = []
    for index, thing in enumerate(scene.things):
        region = label == index + 1
        if not region.any():
            continue
        counts = np.bincount(colour[region], minlength=len(COLOURS))
        right = int(counts.argmax()) == thing.colour
        results.append(right and texture_of(dark, region) == thing.texture)
    return results
