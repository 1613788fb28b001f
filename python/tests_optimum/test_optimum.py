"""Stock pipelines of optimum over compiled models: what must be equal is equal, bit by bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import onnxruntime as ort
import pytest
import torch
from optimum.onnxruntime import ORTStableDiffusionImg2ImgPipeline, ORTStableDiffusionPipeline
from transformers import CLIPTokenizer

import hgc_onnx
from hgc_onnx import HgcError

ROOT = Path(__file__).parents[2]
STEPS = 10
SCHEDULERS = ["DDIMScheduler", "EulerDiscreteScheduler", "PNDMScheduler", "HeunDiscreteScheduler"]
SCHEDULERS += ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"]


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """Sessions of compiled models can be loaded by others."""
    os.environ.setdefault("HGC", str(ROOT / "target" / "debug" / "hgc"))
    hgc_onnx.install()
    yield
    hgc_onnx.uninstall()


@pytest.fixture(scope="module", params=["gated", "variants"])
def lossless(
    request: pytest.FixtureRequest, exported: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Compiled so that pictures stay the same."""
    os.environ.setdefault("HGC", str(ROOT / "target" / "debug" / "hgc"))
    out = tmp_path_factory.mktemp(request.param) / "out"
    dynamic = request.param == "variants"
    hgc_onnx.compile(
        exported, out, steps=STEPS, policy="lossless", form=request.param, dynamic=dynamic or None
    )
    return out


def exact() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def load(folder: Path, kind: Any = ORTStableDiffusionPipeline) -> Any:
    """A pipeline whose sessions give the same bits each time."""
    pipe = kind.from_pretrained(folder, session_options=exact())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, steps: int = STEPS, **options: Any) -> np.ndarray:
    """A picture."""
    generator = torch.Generator().manual_seed(0)
    done = pipe("a red house", num_inference_steps=steps, generator=generator, output_type="np", **options)
    return np.asarray(done.images)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_sampler_draws_the_same(exported: Path, lossless: Path, scheduler: str) -> None:
    original, compiled = load(exported), hgc_onnx.accelerate(hgc_onnx.accelerate(load(lossless)))
    for pipe in (original, compiled):
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    for steps in (STEPS, 7):
        assert np.array_equal(draw(original, steps), draw(compiled, steps)), steps
    stats = compiled.unet.session.stats
    assert stats.generations == 2 and not stats.forced
    assert stats.evaluations["reuse"] >= 2 * (7 - 1)


@pytest.mark.parametrize(
    "options",
    [
        {"guidance_scale": 1.0},
        {"height": 64, "width": 96},
        {"num_images_per_prompt": 2},
        {"negative_prompt": "blue"},
    ],
)
def test_what_changes_between_pictures(exported: Path, lossless: Path, options: dict[str, Any]) -> None:
    original, compiled = load(exported), hgc_onnx.accelerate(load(lossless))
    draw(compiled)
    assert np.array_equal(draw(original, **options), draw(compiled, **options))
    assert np.array_equal(draw(original), draw(compiled))


def test_a_part_of_a_generation(exported: Path, lossless: Path) -> None:
    kind = ORTStableDiffusionImg2ImgPipeline
    original, compiled = load(exported, kind), hgc_onnx.accelerate(load(lossless, kind))
    image = np.random.default_rng(0).random((1, 64, 64, 3), np.float32)
    for strength in (0.5, 0.9):
        options = {"image": image, "strength": strength}
        assert np.array_equal(draw(original, **options), draw(compiled, **options)), strength


def test_an_interrupted_picture_leaves_nothing(exported: Path, lossless: Path) -> None:
    original, compiled = load(exported), hgc_onnx.accelerate(load(lossless))

    def stop(pipe: Any, step: int, *_: Any) -> dict[str, Any]:
        if step == 3:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        draw(compiled, callback_on_step_end=stop)
    assert np.array_equal(draw(original), draw(compiled))


class Widened(diffusers.OnnxRuntimeModel):
    """diffusers gives a text encoder 32-bit tokens, optimum exports one that takes 64-bit ones."""

    def __call__(self, input_ids: np.ndarray) -> Any:
        return super().__call__(input_ids=input_ids.astype(np.int64))


class OneTime(diffusers.OnnxRuntimeModel):
    """diffusers gives a UNet a timestep in a vector, optimum exports one that takes a scalar."""

    def __call__(self, timestep: np.ndarray, **inputs: Any) -> Any:
        return super().__call__(timestep=timestep.reshape(()), **inputs)


def test_the_onnx_classes_of_diffusers(exported: Path, lossless: Path) -> None:
    """They are no longer developed, and still used."""

    def pipe(folder: Path) -> Any:
        def part(name: str, kind: Any = diffusers.OnnxRuntimeModel) -> Any:
            return kind.from_pretrained(folder / name, sess_options=exact(), provider_options=[{}])

        made = diffusers.OnnxStableDiffusionPipeline(
            **{name: part(name) for name in ("vae_encoder", "vae_decoder")},
            unet=part("unet", OneTime),
            text_encoder=part("text_encoder", Widened),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            scheduler=diffusers.DDIMScheduler.from_pretrained(folder / "scheduler"),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        made.set_progress_bar_config(disable=True)
        return made

    def picture(pipe: Any) -> np.ndarray:
        options = {"num_inference_steps": STEPS, "output_type": "np", "height": 64, "width": 64}
        return np.asarray(pipe("a red house", generator=np.random.RandomState(0), **options).images)

    original, compiled = pipe(exported), hgc_onnx.accelerate(pipe(lossless))
    for _ in range(2):
        assert np.array_equal(picture(original), picture(compiled))
    assert compiled.unet.model.stats.evaluations["reuse"] == 2 * (STEPS - 1)


def test_a_pipeline_without_compiled_models_is_told(exported: Path) -> None:
    with pytest.raises(HgcError, match="nothing in this ORTStableDiffusionPipeline was compiled"):
        hgc_onnx.accelerate(load(exported))
