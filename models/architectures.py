"""The networks that are exported: their options, configurations and weights."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn

Arch: TypeAlias = Literal["sd15", "sd21", "sdxl", "inpaint", "distilled"]
Width: TypeAlias = Literal["full", "half", "reduced"]

ARCHS: tuple[Arch, ...] = ("sd15", "sd21", "sdxl", "inpaint", "distilled")


@dataclasses.dataclass(frozen=True)
class Options:
    """What to export and how; the fields are the command-line options of the same names."""

    arch: Arch = "sd15"
    width: Width = "full"
    checkpoint: Path | None = None
    seed: int = 0
    exporter: Literal["torchscript", "dynamo"] = "torchscript"
    opset: int = 17
    dtype: Literal["fp32", "fp16"] = "fp32"
    merged: bool = False
    controlnets: int = 1
    attention: Literal["sdpa", "eager"] = "sdpa"
    timestep: Literal["scalar", "vector", "batch"] = "scalar"
    timestep_cond: bool = False
    static: Literal["none", "batch", "all"] = "none"
    fuse: Literal["none", "cpu", "gpu"] = "none"
    # Height and width of the latents that are exported with.
    latent: tuple[int, int] = (16, 24)
    residual_names: str = "down_block_{i}_additional_residual"
    # Pixels of a control image for a cell of the latent.
    cell: int = 8

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of weights and of floating-point inputs when it is exported."""
        # What is fused is converted after that.
        return torch.float16 if self.dtype == "fp16" and self.fuse == "none" else torch.float32


def unet_config(arch: Arch, width: Width = "full", timestep_cond: bool = False) -> dict[str, Any]:
    """The configuration of a UNet; a reduced one keeps the topology and narrows the channels."""
    config: dict[str, Any] = {
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,  # the number of heads, despite the name
        "norm_num_groups": 32,
    }
    reduced: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (16, 32, 64, 64),
        "cross_attention_dim": 64,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    if arch == "sd21":
        config |= {
            "sample_size": 96,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        }
        reduced |= {"attention_head_dim": (2, 4, 8, 8)}
    elif arch == "sdxl":
        config |= {
            "sample_size": 128,
            "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
            "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
            "block_out_channels": (320, 640, 1280),
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "transformer_layers_per_block": (1, 2, 10),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 1280 + 6 * 256,
        }
        reduced |= {
            "block_out_channels": (16, 32, 64),
            "attention_head_dim": (2, 4, 8),
            "transformer_layers_per_block": (1, 2, 3),
            "addition_time_embed_dim": 32,
            "projection_class_embeddings_input_dim": 64 + 6 * 32,
        }
    elif arch == "inpaint":
        config |= {"in_channels": 9}
    elif arch == "distilled":
        config |= {
            "down_block_types": ("CrossAttnDownBlock2D",) * 3,
            "up_block_types": ("CrossAttnUpBlock2D",) * 3,
            "mid_block_type": None,
            "block_out_channels": (320, 640, 1280),
            "layers_per_block": 1,
        }
        reduced |= {"block_out_channels": (16, 32, 64)}
    if timestep_cond:
        config |= {"time_cond_proj_dim": 256}
        reduced |= {"time_cond_proj_dim": 64}
    if width == "half":
        # A quarter of the work at the same sizes.
        config["block_out_channels"] = tuple(channels // 2 for channels in config["block_out_channels"])
    return config | (reduced if width == "reduced" else {})


def controlnet_config(unet: dict[str, Any], width: Width = "full") -> dict[str, Any]:
    """The configuration of the ControlNet that goes with a UNet."""
    shared = (
        "down_block_types",
        "block_out_channels",
        "layers_per_block",
        "cross_attention_dim",
        "attention_head_dim",
        "norm_num_groups",
        "use_linear_projection",
        "transformer_layers_per_block",
        "addition_embed_type",
        "addition_time_embed_dim",
        "projection_class_embeddings_input_dim",
    )
    config = {name: unet[name] for name in shared if name in unet}
    # Inpainting pipelines give their ControlNet the four latent channels alone.
    config["in_channels"] = 4
    if width == "reduced":
        config["conditioning_embedding_out_channels"] = (8, 8, 16, 32)
    return config


def random_weights(model: nn.Module, seed: int) -> None:
    """Fill a model with random weights under which activations stay around one, in fp16 too.

    Layers that diffusers initialises with zeros are filled as well. Biases and norms are multiples
    of 1/64, so that small tensors compress.
    """
    generator = torch.Generator().manual_seed(seed)
    grid = 64.0

    def fill(tensor: torch.Tensor, bound: float, offset: float = 0.0) -> None:
        values = tensor.data
        values.uniform_(-bound, bound, generator=generator)
        if tensor.ndim == 1:
            values.copy_((values * grid).round() / grid + offset)

    for module in model.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            offset, bound = 1.0, 0.1
        elif isinstance(module, nn.Conv2d | nn.Linear):
            offset, bound = 0.0, math.sqrt(3.0 / module.weight[0].numel())
        else:
            continue
        if weight is not None:
            fill(weight, bound, offset)
        if bias is not None:
            fill(bias, 0.05)


def build_unet(options: Options, kind: Any = UNet2DConditionModel) -> Any:
    """A UNet of class ``kind`` with the checkpoint's weights, or with random ones."""
    if options.checkpoint is not None:
        unet = kind.from_pretrained(
            options.checkpoint, subfolder="unet", torch_dtype=options.torch_dtype, local_files_only=True
        )
    else:
        with torch.device("meta"):
            unet = kind(**unet_config(options.arch, options.width, options.timestep_cond))
        unet = nn.Module.to(unet, options.torch_dtype).to_empty(device="cpu")
        random_weights(unet, options.seed)
    return prepare(unet, options)


def build_controlnet(options: Options, index: int, kind: Any = ControlNetModel) -> Any:
    """The ControlNet number ``index``, of class ``kind``, with weights like those of the UNet."""
    if options.checkpoint is not None:
        folder = controlnet_folder(index)
        # Not by the fast way, which refuses what has no weights: a mid block that is not used.
        controlnet = kind.from_pretrained(
            options.checkpoint,
            subfolder=folder,
            torch_dtype=options.torch_dtype,
            local_files_only=True,
            low_cpu_mem_usage=False,
        )
        unet = UNet2DConditionModel.load_config(options.checkpoint, subfolder="unet", local_files_only=True)
        if unet["mid_block_type"] is None:
            controlnet.mid_block = None
    else:
        unet = unet_config(options.arch, options.width)
        with torch.device("meta"):
            controlnet = kind(**controlnet_config(unet, options.width))
            if unet["mid_block_type"] is None:
                # The constructor knows no ControlNet without a mid block, its forward does.
                controlnet.mid_block = None
        controlnet = nn.Module.to(controlnet, options.torch_dtype).to_empty(device="cpu")
        random_weights(controlnet, options.seed + 1 + index)
    return prepare(controlnet, options)


def prepare(model: Any, options: Options) -> Any:
    """Put a model in inference mode with the attention implementation asked for."""
    processors: dict[str, Any] = {"eager": AttnProcessor, "sdpa": AttnProcessor2_0}
    model.set_attn_processor(processors[options.attention]())
    return model.eval().requires_grad_(False)


def controlnet_folder(index: int) -> str:
    """The folder of the ControlNet number ``index`` in a pipeline."""
    return "controlnet" if index == 0 else f"controlnet_{index}"


def residual_shapes(config: Any) -> list[tuple[int, int]]:
    """Channels and down-sampling factor of every skip connection, then of the mid block's output."""
    channels = list(config["block_out_channels"])
    shapes = [(channels[0], 1)]
    for level, width in enumerate(channels):
        shapes += [(width, 1 << level)] * config["layers_per_block"]
        if level + 1 < len(channels):
            shapes.append((width, 2 << level))
    shapes.append((channels[-1], 1 << (len(channels) - 1)))
    return shapes
