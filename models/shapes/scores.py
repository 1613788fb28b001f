"""Write pictures with mistakes and the scores that score.py gives them: hgc must score them alike.

scores.py --out tests/fixtures/scores
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

import scenes
import score
import sets


def flawed(scene: scenes.Scene, flaw: int) -> np.ndarray:
    """The picture of a scene with one kind of mistake; without any at 0."""
    drawn = scenes.picture(scene)
    if flaw == 1:  # the first shape has the colour of the ground and the texture of no one
        drawn[scenes.layers(scene) == 1] = scenes.tones(scene.ground[0])[0]
    elif flaw == 2:  # everything a texture period to the right
        drawn = np.roll(drawn, scenes.PERIOD, 1)
    elif flaw == 3:  # tones between those of the palette
        rng = np.random.default_rng(0)
        noise = rng.integers(-7, 8, (scenes.SIZE // 4, scenes.SIZE // 4, 3)).repeat(4, 0).repeat(4, 1)
        drawn = np.clip(drawn.astype(int) + 12 * noise, 0, 255).astype(np.uint8)
    return drawn


def main() -> None:
    """Write the pictures, the maps, the set and the scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    listed, expected = [], []
    for flaw in range(4):
        seed = sets.SETS["choice"][0] + flaw
        scene = scenes.random_scene(np.random.default_rng(seed))
        drawn = flawed(scene, flaw)
        Image.fromarray(drawn).save(out / f"drawn-{seed}.png", optimize=True)
        Image.fromarray(scenes.segmentation(scene)).save(out / f"{seed:03}.png", optimize=True)
        listed.append(sets.described(scene, seed))
        right = score.matches(drawn, scene)
        counts = {"right": sum(right), "objects": len(right)}
        expected.append({"picture": f"drawn-{seed}.png", "miou": score.mean_iou(drawn, scene), **counts})
    (out / "scenes.json").write_text(json.dumps({**sets.appearance(), "scenes": listed}, indent=1) + "\n")
    (out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
