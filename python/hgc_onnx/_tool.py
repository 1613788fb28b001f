"""The executable `hgc`, as functions: its JSON comes back as data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._errors import HgcError
from ._reports import (
    Benchmark,
    Compiled,
    Fit,
    Gate,
    Model,
    Planned,
    Schedules,
    Totals,
    Tuned,
    Verdict,
    read,
)

Argument = str | int | float | bool | os.PathLike[str] | None


def program() -> str:
    """The executable: of the variable HGC, of this environment (activated or not), or on the path."""
    told = os.environ.get("HGC")
    name = "hgc.exe" if os.name == "nt" else "hgc"
    here = [Path(sysconfig.get_path("scripts")) / name, Path(sys.executable).with_name(name)]
    found = told or next((str(path) for path in here if path.is_file()), None) or shutil.which("hgc")
    if found is None:
        raise HgcError("the executable hgc is not installed beside this package; name it in the variable HGC")
    return found


def environment() -> dict[str, str]:
    """Variables for the executable: it runs models on the ONNX Runtime of this environment."""
    variables = dict(os.environ)
    if "ORT_DYLIB_PATH" not in variables:
        folders = [Path(p) / "onnxruntime" / "capi" for p in sys.path]
        libraries = [lib for f in folders if f.is_dir() for lib in f.glob("libonnxruntime.*")]
        libraries += [lib for f in folders if f.is_dir() for lib in f.glob("onnxruntime.dll")]
        if libraries:
            variables["ORT_DYLIB_PATH"] = str(libraries[0])
    return variables


def call(command: str, *paths: str | os.PathLike[str], **options: Argument) -> list[dict[str, Any]]:
    """Runs `hgc COMMAND PATHS --options --format json`; `max_kinds=4` is `--max-kinds 4`.

    Raises HgcError with what hgc says where it refuses. An answer that is no (a proof that fails, nothing
    to cache) is no error.
    """
    words: list[str] = [program(), command, *(os.fspath(path) for path in paths)]
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words += [flag, os.fspath(value) if isinstance(value, os.PathLike) else str(value)]
    words += ["--format", "json"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    try:
        answer: list[dict[str, Any]] = json.loads(done.stdout) if done.stdout.strip() else []
    except json.JSONDecodeError as error:
        raise HgcError(f"hgc {command} printed no JSON: {done.stdout[:200]!r}") from error
    errors = [part for part in answer if part.get("schema") == "hgc.error.v1"]
    if errors or done.returncode not in (0, 1):
        texts = [": ".join([part["error"], *part.get("causes", [])]) for part in errors]
        raise HgcError(
            "; ".join(texts) or done.stderr.strip() or f"hgc {command} ended with {done.returncode}"
        )
    return answer


def compile(
    pipeline: str | os.PathLike[str], output: str | os.PathLike[str], **options: Argument
) -> Compiled:
    """Compiles a pipeline folder or a UNet: `compile("sd15", "sd15-cached", steps=20, target="cuda")`."""
    data = call("compile", pipeline, output=output, **options)[0]
    return read(Compiled, data | _shared(data))


def plan(pipeline: str | os.PathLike[str], **options: Argument) -> Planned:
    """What would be cached, and what it saves."""
    data = call("plan", pipeline, **options)[0]
    return read(Planned, data | _shared(data))


def _shared(data: dict[str, Any]) -> dict[str, Any]:
    gates = [read(Gate, gate) for gate in data["gates"]]
    return {"totals": read(Totals, data["totals"]), "gates": gates}


def inspect(model: str | os.PathLike[str], **options: Argument) -> list[Model]:
    """What models are made of."""
    return [read(Model, data) for data in call("inspect", model, **options)]


def verify(
    original: str | os.PathLike[str], compiled: str | os.PathLike[str], **options: Argument
) -> list[Verdict]:
    """The proofs, one verdict a model."""
    return [read(Verdict, data) for data in call("verify", original, compiled, **options)]


def bench(
    original: str | os.PathLike[str], compiled: str | os.PathLike[str], **options: Argument
) -> Benchmark:
    """Times of original and compiled models."""
    return read(Benchmark, call("bench", original, compiled, **options)[0])


def tune(
    pipeline: str | os.PathLike[str], output: str | os.PathLike[str], **options: Argument
) -> list[Tuned]:
    """Finds the plan that suits a pipeline by drawing with it: `tune("sd15", "plan.toml", set="scenes.json",
    steps=20, save=0.65)`; then `compile("sd15", "sd15-cached", plan="plan.toml")`. One entry a plan.
    """
    answers = call("tune", pipeline, output=output, **options)
    return [read(Tuned, data | {"fits": [read(Fit, fit) for fit in data["fits"]]}) for data in answers]


def schedules(folder: str | os.PathLike[str]) -> Schedules:
    """Kinds and schedules of a compiled folder."""
    words: Sequence[str] = ("list", os.fspath(folder))
    return read(Schedules, call("schedule", *words)[0])
