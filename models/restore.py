"""Restore the fixtures: rebuild the weights of a stored model from its recipe.

    restore.py tests/fixtures/sd15-ts17 --out DIR

A fixture stores a model without its weights, ``model.onnx.zst``, and a ``recipe.json`` from which
``weights.bin``, the external data of the model, follows byte for byte:

- The file is as long as its last tensor ends; bytes between tensors are zero.
- A tensor is little-endian, of type ``f32`` or ``f16``, at ``offset``, ``elements`` long.
- Its values come from SplitMix64 with the state ``seed + fnv1a64(name)``, modulo 2**64. Each number
  drawn gives ``u = (number >> 40) / 2**23 - 1`` in [-1, 1) and the value ``scale * u + bias``.
- The arithmetic is that of float32, product and sum rounded separately (no fused multiply-add);
  ``f16`` rounds the result once more, to nearest even. Scales and biases are exact in float32.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype("<f4"), "f16": np.dtype("<f2")}


def fnv1a64(text: str) -> int:
    """The 64-bit FNV-1a hash of the UTF-8 bytes of a text."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def splitmix64(state: int, count: int) -> np.ndarray:
    """The first numbers that SplitMix64 draws from a state."""
    steps = np.arange(1, count + 1, dtype=np.uint64)
    z = np.uint64(state) + steps * np.uint64(GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def tensor_values(seed: int, tensor: dict[str, Any]) -> np.ndarray:
    """The values of one tensor of a recipe."""
    state = (seed + fnv1a64(tensor["name"])) & MASK
    drawn = splitmix64(state, tensor["elements"]) >> np.uint64(40)
    u = drawn.astype(np.float32) / np.float32(1 << 23) - np.float32(1)
    values: np.ndarray = np.float32(tensor["scale"]) * u + np.float32(tensor["bias"])
    return values.astype(DTYPES[tensor["dtype"]])


def weights(recipe: dict[str, Any]) -> bytes:
    """The bytes of ``weights.bin``."""
    data = bytearray()
    for tensor in recipe["tensors"]:
        data.extend(bytes(tensor["offset"] - len(data)))
        data.extend(tensor_values(recipe["seed"], tensor).tobytes())
    return bytes(data)


def restore_component(stored: Path, out: Path) -> Path:
    """Restore one model; returns its path."""
    out.mkdir(parents=True, exist_ok=True)
    model = out / "model.onnx"
    model.write_bytes(zstandard.ZstdDecompressor().decompress((stored / "model.onnx.zst").read_bytes()))
    recipe = json.loads((stored / "recipe.json").read_text())
    (out / "weights.bin").write_bytes(weights(recipe))
    return model


def restore(fixture: Path, out: Path) -> dict[str, Path]:
    """Restore every component of a fixture; returns the models by folder name."""
    components = sorted(path.parent for path in fixture.glob("*/model.onnx.zst"))
    return {stored.name: restore_component(stored, out / stored.name) for stored in components}


def main() -> None:
    """Restore the fixtures named, each into a folder of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("fixtures", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for fixture in arguments.fixtures:
        for model in restore(fixture, arguments.out / fixture.name).values():
            print(model)


if __name__ == "__main__":
    main()
