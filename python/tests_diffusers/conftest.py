"""Fixtures of hgc as pipeline folders, with text encoders and a VAE that have random weights."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from transformers import CLIPTextModel, CLIPTextModelWithProjection

import hgc_onnx
from hgc_onnx.diffusers import load
from tests_support.tiny import text_config, tokenizer

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "models"))

from architectures import unet_config
from restore import restore

os.environ.setdefault("HGC", str(ROOT / "target" / "debug" / "hgc"))
ARCHS = {"inpaint-ts17": "inpaint", "sd21-ts17": "sd21", "sdxl-ts17": "sdxl"}
STEPS = 8


@pytest.fixture(scope="session")
def around(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What a pipeline has around its network."""
    words = tokenizer(tmp_path_factory.mktemp("tokenizer"))

    def parts(name: str) -> dict[str, Any]:
        torch.manual_seed(0)
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=8,
            sample_size=128,
        )
        scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        )
        found = {"vae": vae, "scheduler": scheduler, "tokenizer": words}
        if name.startswith("sdxl"):
            found["text_encoder"] = CLIPTextModel(text_config(32, projection_dim=64))
            found["text_encoder_2"] = CLIPTextModelWithProjection(text_config(32, projection_dim=64))
            found["tokenizer_2"] = words
        else:
            found["text_encoder"] = CLIPTextModel(text_config(64))
        return found

    return parts


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A fixture by its name, restored once."""
    made: dict[str, Path] = {"shapes": ROOT / "models" / "shapes" / "pipeline"}

    def of(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            restore(ROOT / "tests" / "fixtures" / name, made[name])
            config = unet_config(ARCHS.get(name, "sd15"), "reduced", timestep_cond=name == "sd15-lcm")
            (made[name] / "unet" / "config.json").write_text(json.dumps(config))
        return made[name]

    return of


@pytest.fixture(scope="session")
def compiled(folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A fixture compiled, once for the same options."""
    made: dict[str, Path] = {}

    def of(name: str, **options: Any) -> Path:
        key = f"{name} {sorted(options.items())}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp(name) / "out"
            hgc_onnx.compile(folder(name), made[key], **({"steps": STEPS} | options))
        return made[key]

    return of


@pytest.fixture
def opened(around: Callable[[str], dict[str, Any]]) -> Callable[..., Any]:
    """A folder as a pipeline whose sessions give the same bits each time."""

    def of(name: str, path: Path, *words: Any, **more: Any) -> Any:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        parts = {} if name == "shapes" else around(name)
        pipe = load(path, *words, session_options=options, **(parts | more))
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return of
