"""Prepare a folder with all that `measure.py` needs on a machine with a GPU and no network.

    prepare.py --hgc target/release/hgc --out target/gpu

Models are exported at full width, fused for GPUs, and kept without their weights: these follow from a
recipe (`models/restore.py`) and are made where they are measured. Needs the packages of
`models/requirements.txt`. Called by `cargo xtask gpu prepare`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models"))

import onnx  # noqa: E402

from architectures import Options  # noqa: E402
from export import export  # noqa: E402
from make_fixtures import detach_weights  # noqa: E402

RUNTIME = "onnxruntime-gpu==1.31.1"
# What travels in one go.
PIECE_BYTES = 56 << 20

PIPELINES = {
    # Proved there, not timed: as a user exports it.
    "small": Options(width="reduced", dtype="fp16"),
    "sd15": Options(dtype="fp16", fuse="gpu", static="all", latent=(64, 64)),
    "sdxl": Options(arch="sdxl", controlnets=0, dtype="fp16", fuse="gpu", static="all", latent=(128, 128)),
}


def keep_model(path: Path, folder: Path, seed: int) -> None:
    """Write a model without its weights, and the recipe of these."""
    folder.mkdir(parents=True)
    model = onnx.load(path)
    recipe = detach_weights(model, seed)
    data = model.SerializeToString(deterministic=True)
    (folder / "model.onnx.gz").write_bytes(gzip.compress(data, 9, mtime=0))
    (folder / "recipe.json.gz").write_bytes(gzip.compress(json.dumps(recipe).encode(), 9, mtime=0))
    shutil.copy(path.with_name("config.json"), folder)


def keep_pipeline(name: str, out: Path) -> None:
    """Export one pipeline and write its models."""
    folder = out / "models" / name
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        for seed, path in enumerate(export(PIPELINES[name], Path(scratch)), start=1):
            keep_model(path, folder / path.parent.name, seed)
    (folder / "done").touch()


def split(path: Path) -> None:
    """Cut a file into pieces beside it."""
    data = path.read_bytes()
    path.unlink()
    for number, start in enumerate(range(0, len(data), PIECE_BYTES)):
        path.with_name(f"{path.name}.{number:02}").write_bytes(data[start : start + PIECE_BYTES])


def keep_runtime(out: Path) -> None:
    """Fetch the runtime's wheel, in pieces."""
    folder = out / "wheel"
    if any(folder.glob("*.00")):
        return
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--platform", "manylinux_2_28_x86_64"]
    subprocess.run([*command, "-d", str(folder), RUNTIME], check=True)
    for wheel in list(folder.glob("*.whl")):
        split(wheel)


def main() -> None:
    """Prepare the pipelines that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="PIPELINE", help=", ".join(PIPELINES))
    parser.add_argument("--hgc", type=Path, required=True, help="the executable that is measured")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "hgc.gz").write_bytes(gzip.compress(arguments.hgc.read_bytes(), 6, mtime=0))
    for script in ("bench/gpu/measure.py", "models/restore.py"):
        shutil.copy(ROOT / script, out)
    keep_runtime(out)
    for name in arguments.names or PIPELINES:
        keep_pipeline(name, out)
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    for path in files:
        print(f"{path.stat().st_size / 2**20:8.1f} MiB  {path.relative_to(out)}")


if __name__ == "__main__":
    main()
