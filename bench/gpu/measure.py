"""Measure hgc on the GPU of this machine, in one command.

    measure.py FOLDER --out gpu.json [--seconds 480]

FOLDER is what `cargo xtask gpu prepare` made. Needs Python with numpy, a CUDA driver, and CUDA and cuDNN as
PyTorch brings them. The result is written after every run, so that one that is cut short is of use; what
does not fit into the time is left out and said.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import site
import stat
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

STEPS = "20"
CAPTURE = ("--ep-option", "enable_cuda_graph=1")
EXHAUSTIVE = ("--ep-option", "cudnn_conv_algo_search=EXHAUSTIVE")


# --- unpacking -------------------------------------------------------------------------------


def unpack_runtime(folder: Path, work: Path) -> Path:
    """Put the runtime's libraries where hgc finds those of CUDA beside them; returns the library."""
    packages = work / "site-packages"
    capi = packages / "onnxruntime" / "capi"
    capi.mkdir(parents=True, exist_ok=True)
    pieces = sorted((folder / "wheel").glob("*.whl.*"))
    wheel = b"".join(piece.read_bytes() for piece in pieces)
    with zipfile.ZipFile(BytesIO(wheel)) as archive:
        for name in archive.namelist():
            if name.startswith("onnxruntime/capi/lib"):
                (capi / Path(name).name).write_bytes(archive.read(name))
    for known in [*site.getsitepackages(), site.getusersitepackages(), *sys.path]:
        if (Path(known) / "nvidia").is_dir() and not (packages / "nvidia").exists():
            (packages / "nvidia").symlink_to(Path(known) / "nvidia")
    return next(path for path in sorted(capi.iterdir()) if path.name.startswith("libonnxruntime.so"))


def write_tensor(path: Path, seed: int, tensor: dict[str, Any]) -> None:
    """Write the values of one weight to its place in a file."""
    from restore import tensor_values

    with path.open("r+b") as file:
        file.seek(tensor["offset"])
        file.write(tensor_values(seed, tensor).tobytes())


def restore_model(stored: Path, folder: Path, pool: ProcessPoolExecutor) -> None:
    """Make a model and its weights."""
    folder.mkdir(parents=True)
    shutil.copy(stored / "config.json", folder)
    (folder / "model.onnx").write_bytes(gzip.decompress((stored / "model.onnx.gz").read_bytes()))
    recipe = json.loads(gzip.decompress((stored / "recipe.json.gz").read_bytes()))
    tensors = recipe["tensors"]
    width = {"f16": 2, "f32": 4}
    path = folder / "weights.bin"
    with path.open("wb") as file:
        file.truncate(max(t["offset"] + t["elements"] * width[t["dtype"]] for t in tensors))
    jobs = [pool.submit(write_tensor, path, recipe["seed"], tensor) for tensor in tensors]
    for job in jobs:
        job.result()


def restore_pipeline(name: str, folder: Path, work: Path) -> Path:
    """Make all models of a pipeline that are not there yet."""
    made = work / name
    if not (made / "done").exists():
        shutil.rmtree(made, ignore_errors=True)
        with ProcessPoolExecutor() as pool:
            for stored in sorted((folder / "models" / name).iterdir()):
                if stored.is_dir():
                    restore_model(stored, made / stored.name, pool)
        (made / "done").touch()
    return made


# --- measuring -------------------------------------------------------------------------------


class Gpu:
    """What nvidia-smi says of the GPU while something runs."""

    def __init__(self) -> None:
        self.peak = 0
        self.stop = threading.Event()

    @staticmethod
    def ask(what: str) -> str:
        """A property of the first GPU, empty where there is none."""
        command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", "-i", "0"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return ""

    def watch(self) -> None:
        """Keep the most memory that was in use."""
        while not self.stop.wait(0.25):
            used = self.ask("memory.used")
            self.peak = max(self.peak, int(used) if used.isdigit() else 0)

    def __enter__(self) -> Gpu:
        """Begin to watch."""
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        self.stop.set()
        self.thread.join()


def problem_of(text: str) -> str:
    """What an error says in one line: hgc tells it as JSON where results are JSON."""
    told = [line for line in text.splitlines() if '"error":' in line]
    return told[-1].split(":", 1)[1].strip(' ",') if told else text[-2000:]


class Bench:
    """Runs of hgc, each with what is left of the time, and their results in one file."""

    def __init__(self, hgc: Path, library: Path, out: Path, seconds: float, provider: str) -> None:
        self.hgc, self.out, self.provider = hgc, out, provider
        self.end = time.monotonic() + seconds
        self.environment = {**os.environ, "ORT_DYLIB_PATH": str(library), "HGC_ENGINE": "ort"}
        self.result: dict[str, Any] = {
            "schema": "hgc.gpu.v1",
            "gpu": Gpu.ask("name"),
            "driver": Gpu.ask("driver_version"),
            "cores": os.cpu_count(),
            "runtime": library.name,
            "runs": [],
        }

    def run(self, name: str, *words: str | Path, least: float = 10.0) -> bool:
        """Run hgc once; whether it ended well. Not tried with less than ``least`` seconds left."""
        left = self.end - time.monotonic()
        entry: dict[str, Any] = {"name": name, "command": " ".join(map(str, words))}
        self.result["runs"].append(entry)
        if left < least:
            entry["problem"] = "no time left"
        else:
            start = time.monotonic()
            with Gpu() as gpu:
                self.call(entry, [str(self.hgc), *map(str, words)], left)
            entry["seconds"] = round(time.monotonic() - start, 1)
            entry["memory_mib"] = gpu.peak
        print(f"{name}: {entry.get('problem', 'done')} ({entry.get('seconds', 0)} s)", flush=True)
        self.out.write_text(json.dumps(self.result, indent=1))
        return "problem" not in entry

    def call(self, entry: dict[str, Any], command: list[str], left: float) -> None:
        """Run a command and keep its result, or why there is none."""
        pipes = {"capture_output": True, "text": True, "env": self.environment}
        try:
            done = subprocess.run(command, timeout=left, check=False, **pipes)
        except subprocess.TimeoutExpired:
            entry["problem"] = f"stopped after {left:.0f} s"
            return
        if done.returncode:
            entry["problem"] = problem_of(done.stderr.strip() or done.stdout.strip())
        if "json" in command and done.stdout.startswith("["):
            entry["report"] = json.loads(done.stdout)

    def compile(self, pipeline: Path, form: str) -> Path:
        """Compile for CUDA in a form."""
        to = pipeline.with_name(f"{pipeline.name}-{form}")
        words = ["compile", pipeline, "--target", "cuda", "--form", form, "--steps", STEPS]
        self.run(f"{pipeline.name} compile {form}", *words, "-o", to, "--force")
        return to

    def on(self, *options: str) -> list[str]:
        """Options that choose the provider, and how results are printed."""
        return ["--ep", self.provider, *options, "--format", "json"]

    def pipeline(self, pipeline: Path, exhaustive: bool) -> None:
        """Prove and time a pipeline in both forms, captured and not."""
        name = pipeline.name
        gated, variants = (self.compile(pipeline, form) for form in ("gated", "variants"))
        # Of a gated file the original alone is captured.
        self.run(f"{name} bench gated", "bench", pipeline, gated, *self.on(*CAPTURE), least=20)
        captured = self.on(*CAPTURE)
        self.run(f"{name} bench variants captured", "bench", pipeline, variants, *captured, least=20)
        self.run(f"{name} bench variants", "bench", pipeline, variants, *self.on(), least=20)
        self.run(f"{name} verify captured", "verify", pipeline, variants, *captured, least=20)
        if exhaustive:
            self.run(
                f"{name} bench gated exhaustive", "bench", pipeline, gated, *self.on(*EXHAUSTIVE), least=30
            )


def main() -> None:
    """Unpack, prove small models, measure large ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file of results")
    parser.add_argument("--work", type=Path, default=Path("/tmp/hgc-gpu"), help="where models are made")
    parser.add_argument("--seconds", type=float, default=480, help="for everything")
    parser.add_argument("--ep", default="cuda", help="another provider, to try the script itself")
    parser.add_argument("--ort-lib", type=Path, help="a runtime that is there already")
    parser.add_argument("--pipelines", nargs="*", default=["sd15", "sdxl"])
    arguments = parser.parse_args()
    start = time.monotonic()
    folder, work = arguments.folder, arguments.work
    sys.path.insert(0, str(folder))
    work.mkdir(parents=True, exist_ok=True)
    hgc = work / "hgc"
    hgc.write_bytes(gzip.decompress((folder / "hgc.gz").read_bytes()))
    hgc.chmod(hgc.stat().st_mode | stat.S_IXUSR)
    library = arguments.ort_lib or unpack_runtime(folder, work)
    seconds = arguments.seconds - (time.monotonic() - start)
    bench = Bench(hgc, library, arguments.out, seconds, arguments.ep)
    small = restore_pipeline("small", folder, work)
    gated, variants = (bench.compile(small, form) for form in ("gated", "variants"))
    sizes = ("--height", "16", "--width", "16")
    bench.run("small verify gated", "verify", small, gated, *sizes, *bench.on())
    bench.run("small verify variants", "verify", small, variants, *bench.on())
    if arguments.ep != "cpu":
        bench.run("small verify captured", "verify", small, variants, *bench.on(*CAPTURE))
    for name in arguments.pipelines:
        if (folder / "models" / name / "done").exists():
            bench.pipeline(restore_pipeline(name, folder, work), exhaustive=name == "sd15")


if __name__ == "__main__":
    np.seterr(over="ignore")
    main()
