"""How well a picture matches its scene: mean intersection over union, and accuracy of the prompt."""

from __future__ import annotations

import numpy as np

from common.scenes import Palette, Scene


def nearest(picture: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The index of the nearest of ``candidates [n, 3]`` for each pixel."""
    distance = ((picture.astype(np.float32)[:, :, None, :] - candidates) ** 2).sum(-1)
    found: np.ndarray = distance.argmin(-1)
    return found


def mean_iou(picture: np.ndarray, scene: Scene, palette: Palette) -> float:
    """Mean intersection over union of all regions.

    Pixels are labelled by the nearest tone of the colours that the prompt names.
    """
    colours = [region.colour for region in scene.regions]
    found = nearest(picture, palette.tones()[colours].reshape(-1, 3)) // 2
    scores = []
    for index in range(len(colours)):
        here, there = scene.labels == index, found == index
        scores.append((here & there).sum() / max((here | there).sum(), 1))
    return float(np.mean(scores))


def matches(picture: np.ndarray, scene: Scene, palette: Palette) -> list[bool]:
    """For each region but the ground, whether dominant colour and texture are those of the prompt."""
    found = nearest(picture, palette.tones().reshape(-1, 3))
    colour, dark = found // 2, found % 2 == 1
    masks = palette.masks(*scene.labels.shape)
    results = []
    for index, region in enumerate(scene.regions[1:], 1):
        here = scene.labels == index
        if not here.any():
            continue
        counts = np.bincount(colour[here], minlength=len(palette.colours))
        agreement = [(dark == mask)[here].mean() for mask in masks]
        right = int(counts.argmax()) == region.colour and int(np.argmax(agreement)) == region.texture
        results.append(right)
    return results
