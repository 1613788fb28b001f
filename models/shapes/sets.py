"""Write sets of scenes for `hgc eval`: 256 held out, 64 others to choose defaults on.

sets.py --out DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import scenes

# First seed and number of scenes; all below the seeds of training.
SETS = {"heldout": (0, 256), "choice": (256, 64)}


def region(place: np.ndarray, colour: int, texture: int) -> dict[str, Any]:
    """A region by its colour on the map, and what it looks like in the picture."""
    return {
        "map": place.tolist(),
        "colour": scenes.COLOUR_NAMES[colour],
        "texture": scenes.TEXTURES[texture],
    }


def described(scene: scenes.Scene, seed: int) -> dict[str, Any]:
    """A scene as `hgc eval` reads it; the ground is the first region."""
    regions = [region(scenes.MAP_COLOURS[0], *scene.ground)]
    for thing in scene.things:
        regions.append(region(scenes.MAP_COLOURS[thing.kind + 1], thing.colour, thing.texture))
    return {"prompt": scene.prompt, "control": [f"{seed:03}.png"], "seed": seed, "regions": regions}


def appearance() -> dict[str, Any]:
    """Light and dark tone of every colour; one period of every texture, dark where "#"."""
    colours = {name: scenes.tones(i).astype(int).tolist() for i, name in enumerate(scenes.COLOUR_NAMES)}
    masks = scenes.texture_masks()[:, : scenes.PERIOD, : scenes.PERIOD]
    textures = {
        name: ["".join("#" if dark else "." for dark in row) for row in mask]
        for name, mask in zip(scenes.TEXTURES, masks, strict=True)
    }
    return {"colours": colours, "textures": textures}


def main() -> None:
    """Write all sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for name, (first, count) in SETS.items():
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        listed = []
        for seed in range(first, first + count):
            scene = scenes.random_scene(np.random.default_rng(seed))
            found = Image.fromarray(scenes.segmentation(scene))
            found.quantize(8, dither=Image.Dither.NONE).save(folder / f"{seed:03}.png", optimize=True)
            listed.append(described(scene, seed))
        lines = ",\n".join(json.dumps(scene) for scene in listed)
        head = json.dumps(appearance())[1:-1]
        (folder / "scenes.json").write_text(f'{{{head}, "scenes": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
