"""A tiny Stable Diffusion pipeline with random weights, exported with optimum-cli."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from tests_support.tiny import text_config, tokenizer


def tiny(folder: Path) -> None:
    """Saves the pipeline."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(32, 64),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        sample_size=64,
    )
    folder.mkdir(parents=True)
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text_config(32)),
        tokenizer=tokenizer(folder),
        unet=unet,
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder / "torch")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that optimum-cli wrote."""
    folder = tmp_path_factory.mktemp("export") / "tiny"
    tiny(folder)
    program = Path(sys.executable).with_name("optimum-cli")
    words = ["export", "onnx", "-m", folder / "torch", "--task", "text-to-image", "--library", "diffusers"]
    subprocess.run([program, *words, folder / "onnx"], check=True, capture_output=True)
    return folder / "onnx"
