"""The executable as functions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hgc_onnx
from hgc_onnx import HgcError

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "models" / "shapes" / "pipeline"


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executable of this tree."""
    if (ROOT / "target" / "debug" / "hgc").exists():
        monkeypatch.setenv("HGC", str(ROOT / "target" / "debug" / "hgc"))


def test_from_export_to_proof(tmp_path: Path) -> None:
    planned = hgc_onnx.plan(PIPELINE, steps=12, target="cpu")
    report = hgc_onnx.compile(PIPELINE, tmp_path / "out", steps=12, target="cpu", max_kinds=4)
    assert report.totals.reduction > 0.3
    assert planned.totals.reduction >= report.totals.reduction
    assert report.steps == 12 and {gate.model for gate in report.gates} == {"unet", "controlnet"}
    assert all(len(gate.schedule) == 12 for gate in planned.gates)
    assert len(hgc_onnx.schedules(tmp_path / "out").kinds) <= 4
    verdicts = hgc_onnx.verify(PIPELINE, tmp_path / "out")
    assert len(verdicts) == 2 and all(verdict.passed for verdict in verdicts)
    times = hgc_onnx.bench(PIPELINE, tmp_path / "out")
    assert times.speed_up > 0 and times.speed_up_macs > 1.3 and times.data["schema"] == "hgc.bench.v1"
    models = hgc_onnx.inspect(PIPELINE)
    assert [model.role for model in models] == ["unet", "controlnet"] and models[0].attention


def test_what_hgc_refuses_is_an_error_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(HgcError, match="nowhere"):
        hgc_onnx.plan(tmp_path / "nowhere", steps=12)
    with pytest.raises(HgcError, match="did you mean cuda"):
        hgc_onnx.plan(PIPELINE, steps=12, target="cudaa")


def test_the_module_is_the_executable() -> None:
    words = [sys.executable, "-m", "hgc_onnx", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT / "python")
    assert done.stdout.startswith("hgc ")


def test_a_plan_is_tuned_and_compiled(tmp_path: Path) -> None:
    scenes = PIPELINE.parent / "choice" / "scenes.json"
    options: dict[str, int] = {"scenes": 1, "steps": 5, "effort": 2}
    (found,) = hgc_onnx.tune(PIPELINE, tmp_path / "plan.toml", set=scenes, save=0.4, **options)
    assert found.fits[0].saved >= 0.4 and found.fits[0].steps == 5
    report = hgc_onnx.compile(PIPELINE, tmp_path / "out", plan=tmp_path / "plan.toml")
    assert report.totals.reduction >= 0.4
