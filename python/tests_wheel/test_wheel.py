"""The wheel: one `pip install` gives the package and the executable, activated or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "models" / "shapes" / "pipeline"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scripts of an environment into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    # As quick as the tests' own build: pip would take the release profile.
    command = [sys.executable, "-m", "maturin", "build", "--profile", "dev", "-o", folder]
    subprocess.run(command, check=True, cwd=ROOT / "python")
    (wheel,) = folder.glob("*.whl")
    assert "-py3-none-" in wheel.name
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    found = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run([found / "python", "-m", "pip", "install", "-q", f"{wheel}[cpu]"], check=True)
    return found


def output(*words: str | Path) -> str:
    """What a program says that finds nothing by variables."""
    ours = ("HGC", "HGC_ENGINE", "ORT_DYLIB_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH")
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        list(map(str, words)), check=True, capture_output=True, text=True, env=clean, cwd="/"
    )
    return done.stdout


def test_the_executable_finds_the_runtime_of_its_environment(scripts: Path) -> None:
    for words in ([scripts / "hgc"], [scripts / "python", "-m", "hgc_onnx"]):
        (report,) = json.loads(output(*words, "doctor", "--format", "json"))
        assert report["engine"] == "onnxruntime", report
        assert str(scripts.parent) in json.dumps(report), report


def test_the_package_compiles_and_runs(scripts: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, hgc_onnx\n"
        "report = hgc_onnx.compile(sys.argv[1], sys.argv[2], steps=12)\n"
        "session = hgc_onnx.InferenceSession(sys.argv[2] + '/unet/model.onnx')\n"
        "print(report.totals.reduction > 0, session.is_compiled)\n"
    )
    said = output(scripts / "python", script, PIPELINE, tmp_path / "out")
    assert said.split()[-2:] == ["True", "True"], said
