"""docs/CALLERS.md is true: its samples run, and runtime options do what its table says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from test_session import PIPELINE, ROOT, STEPS, Plain, exact, feeds, hgc

from hgc_onnx import InferenceSession

MODEL = PIPELINE / "unet" / "model.onnx"
SAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "CALLERS.md").read_text("utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pipeline in both forms."""
    made = {}
    for form in ("gated", "variants"):
        made[form] = tmp_path_factory.mktemp(form) / "out"
        options = ["--dynamic"] if form == "variants" else []
        hgc("compile", PIPELINE, "--steps", str(STEPS), "--form", form, *options, "-o", made[form])
    return made


@pytest.fixture(scope="module")
def expected(folders: dict[str, Path]) -> list[np.ndarray]:
    """What a plain loop gives."""
    plain = Plain(folders["gated"] / "unet" / "model.onnx")
    return [plain(given(step)) for step in range(STEPS)]


@lru_cache
def original() -> ort.InferenceSession:
    return ort.InferenceSession(str(MODEL), exact(), providers=["CPUExecutionProvider"])


def given(step: int, rows: int = 2) -> dict[str, np.ndarray]:
    return feeds(original(), 0, step, rows)


def sample(number: int) -> dict[str, Any]:
    """What a sample defines, without the loop at its end, which is of another model."""
    space: dict[str, Any] = {"np": np, "ort": ort, "json": json}
    exec(SAMPLES[number].split("\nunet = ")[0], space)  # noqa: S102
    return space


def near(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_variants_sample_runs(folders: dict[str, Path], expected: list[np.ndarray]) -> None:
    folder = folders["variants"] / "unet"
    unet = sample(0)["Variants"](str(folder))
    kinds = unet.info["schedules"][0]["kinds"]
    near([unet(kind, **given(step))[0] for step, kind in enumerate(kinds)], expected)


@pytest.mark.parametrize("bound", [False, True])
def test_the_gated_samples_run(folders: dict[str, Path], expected: list[np.ndarray], bound: bool) -> None:
    model = folders["gated"] / "unet" / "model.onnx"
    cached = sample(1)["Cached"]
    if bound:
        space: dict[str, Any] = {"np": np, "ort": ort}
        exec("class Bound:\n" + SAMPLES[2], space)  # noqa: S102
        cached.__call__ = space["Bound"].__call__
    unet = cached(str(model))
    for _ in range(2):
        unet.reset()
        near([unet(**given(step))[0] for step in range(STEPS)], expected)
    with pytest.raises(ValueError, match="the schedule has"):
        unet(**given(0))


def overridden(options: ort.SessionOptions) -> None:
    options.add_free_dimension_override_by_name("batch", 2)
    options.add_free_dimension_override_by_name("sequence", 24)


def parallel(options: ort.SessionOptions) -> None:
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL


@pytest.mark.parametrize("option", [overridden, parallel])
@pytest.mark.parametrize("form", ["gated", "variants"])
def test_options_of_the_runtime(
    folders: dict[str, Path],
    expected: list[np.ndarray],
    form: str,
    option: Callable[[ort.SessionOptions], None],
) -> None:
    options = exact()
    option(options)
    model = folders[form] / "unet" / "model.onnx"
    session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
    near([session.run(None, given(step))[0] for step in range(STEPS)], expected)


def test_a_saved_optimized_model_runs(
    folders: dict[str, Path], expected: list[np.ndarray], tmp_path: Path
) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    model = folders["gated"] / "unet" / "model.onnx"
    InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session = InferenceSession(tmp_path / "optimized.onnx", exact(), providers=["CPUExecutionProvider"])
    assert session.is_compiled
    near([session.run(None, given(step))[0] for step in range(STEPS)], expected)


@pytest.mark.parametrize("form", ["gated", "variants"])
@pytest.mark.parametrize("weight", ["conv_in.weight", "up_blocks.1.attentions.2.proj_in.weight"])
def test_weights_given_by_name(folders: dict[str, Path], form: str, weight: str) -> None:
    """As fused LoRA are: also a weight that lies in a branch."""
    shape = next(list(t.dims) for t in onnx.load(MODEL).graph.initializer if t.name == weight)
    random = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    value = ort.OrtValue.ortvalue_from_numpy(random)

    def open_with(path: Path, kind: Any) -> Any:
        options = exact()
        options.add_initializer(weight, value)
        return kind(str(path), options, providers=["CPUExecutionProvider"])

    changed = open_with(MODEL, ort.InferenceSession).run(None, given(0))[0]
    session = open_with(folders[form] / "unet" / "model.onnx", InferenceSession)
    assert np.array_equal(changed, session.run(None, given(0))[0])
    assert not np.array_equal(changed, original().run(None, given(0))[0])


@pytest.mark.parametrize("form", ["gated", "variants"])
def test_other_rows_and_tokens_are_refused_by_the_graph(folders: dict[str, Path], form: str) -> None:
    """In a loop that does not look at shapes."""
    folder = folders[form] / "unet"
    if form == "gated":
        plain = Plain(folder / "model.onnx")

        def call(step: int, feed: dict[str, np.ndarray]) -> Any:
            return plain(feed)
    else:
        unet = sample(0)["Variants"](str(folder))
        kinds = unet.info["schedules"][0]["kinds"]

        def call(step: int, feed: dict[str, np.ndarray]) -> Any:
            return unet(kinds[step], **feed)

    for step in range(STEPS - 1):
        call(step, given(step, rows=4))
    with pytest.raises(Exception, match="other_rows_or_tokens_than_this_call"):
        call(STEPS - 1, given(STEPS - 1, rows=2))
