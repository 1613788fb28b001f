"""Write sets of scenes for `hgc eval`: 64 held out, 16 others to choose defaults on.

python -m common.sets outlines --out outlines
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.scenes import Palette, Scene
from common.train import named

# First seed and number of scenes; all below the seeds of training.
SETS = {"heldout": (0, 64), "choice": (256, 16)}


def described(scene: Scene, palette: Palette, seed: int) -> dict[str, Any]:
    """A scene as `hgc eval` reads it; the ground is the first region."""
    regions = [
        {
            "map": list(region.place),
            "colour": palette.colour_names[region.colour],
            "texture": palette.texture_names[region.texture],
        }
        for region in scene.regions
    ]
    return {"prompt": scene.prompt, "control": [f"{seed:03}.png"], "seed": seed, "regions": regions}


def appearance(palette: Palette) -> dict[str, Any]:
    """Light and dark tone of every colour; one period of every texture, dark where "#"."""
    colours = dict(zip(palette.colours, palette.tones().tolist(), strict=True))
    return {"colours": colours, "textures": {name: list(rows) for name, rows in palette.textures.items()}}


def to_image(control: np.ndarray) -> Image.Image:
    """A control image in the smallest form that keeps every value."""
    colours, indices = np.unique(control.reshape(-1, 3), axis=0, return_inverse=True)
    if (control == control[..., :1]).all():
        return Image.fromarray(control[..., 0])
    if len(colours) > 256:
        return Image.fromarray(control)
    image = Image.fromarray(indices.reshape(control.shape[:2]).astype(np.uint8), "P")
    image.putpalette(colours.astype(np.uint8).tobytes())
    return image


def main() -> None:
    """Write all sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("pipeline", help="folder with networks.py")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    world = named(arguments.pipeline).world
    for name, (first, count) in SETS.items():
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        listed = []
        for seed in range(first, first + count):
            scene = world.scene(seed)
            to_image(scene.control).save(folder / f"{seed:03}.png", optimize=True)
            listed.append(described(scene, world.palette, seed))
        lines = ",\n".join(json.dumps(scene) for scene in listed)
        head = json.dumps(appearance(world.palette))[1:-1]
        (folder / "scenes.json").write_text(f'{{{head}, "scenes": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
