"""Export diffusion UNets and ControlNets to ONNX, in the folder layout of a pipeline.

    export.py --arch sd15 --out DIR [--checkpoint DIFFUSERS_DIR] [--width full|reduced] ...

Writes ``DIR/unet/model.onnx`` and ``DIR/controlnet/model.onnx`` (``controlnet_1`` and so on for
more), each with its weights in ``model.onnx_data`` where they are too large for one file. With
``--merged`` ControlNets and UNet become one graph, ``DIR/unet/model.onnx``, with the inputs of the
merging script of diffusers.

Nothing is downloaded. Without ``--checkpoint`` the weights are random: scaled so that activations
stay around one, and with the zero convolutions of a ControlNet filled, so that every path of the
graph carries a signal.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import onnx
import onnx_ir as ir
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn

Arch = Literal["sd15", "sd21", "sdxl", "inpaint", "distilled"]
Width = Literal["full", "reduced"]
Exporter = Literal["torchscript", "dynamo"]

ARCHS: tuple[Arch, ...] = ("sd15", "sd21", "sdxl", "inpaint", "distilled")

# Above this many bytes of weights the model file gets a data file beside it: protobuf ends at 2 GB.
EXTERNAL_DATA_BYTES = 1 << 30

# Metadata that says where in the network a node comes from. Everything else an exporter writes
# (stack traces, node dumps) carries paths of the exporting machine and is dropped.
KEPT_METADATA = frozenset({"namespace", "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"})


@dataclasses.dataclass(frozen=True)
class Options:
    """What to export and how; the fields are the command-line options of the same names."""

    arch: Arch = "sd15"
    width: Width = "full"
    checkpoint: Path | None = None
    seed: int = 0
    exporter: Exporter = "torchscript"
    opset: int = 17
    dtype: Literal["fp32", "fp16"] = "fp32"
    merged: bool = False
    controlnets: int = 1
    attention: Literal["sdpa", "eager"] = "sdpa"
    timestep: Literal["scalar", "vector", "batch"] = "scalar"
    timestep_cond: bool = False
    static: Literal["none", "batch", "all"] = "none"
    residual_names: str = "down_block_{i}_additional_residual"

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of weights and of floating-point inputs."""
        return torch.float16 if self.dtype == "fp16" else torch.float32


@dataclasses.dataclass(frozen=True)
class Port:
    """One graph input or output: its name, its dynamic axes and, for an input, an example."""

    name: str
    axes: dict[int, str]
    example: torch.Tensor | None = None


# --- architectures ---------------------------------------------------------------------------


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


def build_unet(options: Options, kind: type = UNet2DConditionModel) -> Any:
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


def build_controlnet(options: Options, index: int, kind: type = ControlNetModel) -> Any:
    """The ControlNet number ``index``, of class ``kind``, with the checkpoint's weights, or with random ones."""
    if options.checkpoint is not None:
        folder = controlnet_folder(index)
        controlnet = kind.from_pretrained(
            options.checkpoint, subfolder=folder, torch_dtype=options.torch_dtype, local_files_only=True
        )
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
    model.set_attn_processor(AttnProcessor() if options.attention == "eager" else AttnProcessor2_0())
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


# --- graph signatures ------------------------------------------------------------------------


class UNetGraph(UNet2DConditionModel):  # type: ignore[misc]
    """A UNet as a function of positional tensors, named by ``input_names``."""

    input_names: list[str]

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Predict the noise; residuals are the inputs not named otherwise, the mid block's last."""
        named = dict(zip(self.input_names, inputs, strict=True))
        sample, timestep = named.pop("sample"), named.pop("timestep")
        hidden = named.pop("encoder_hidden_states")
        timestep_cond = named.pop("timestep_cond", None)
        added = {name: named.pop(name) for name in ("text_embeds", "time_ids") if name in named}
        residuals = list(named.values())
        return super().forward(
            sample,
            timestep,
            hidden,
            timestep_cond=timestep_cond,
            added_cond_kwargs=added or None,
            down_block_additional_residuals=tuple(residuals[:-1]) if residuals else None,
            mid_block_additional_residual=residuals[-1] if residuals else None,
            return_dict=False,
        )[0]


class ControlNetGraph(ControlNetModel):  # type: ignore[misc]
    """A ControlNet as a function of positional tensors, named by ``input_names``."""

    input_names: list[str]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the residuals, the mid block's last."""
        named = dict(zip(self.input_names, inputs, strict=True))
        added = {name: named.pop(name) for name in ("text_embeds", "time_ids") if name in named}
        down, mid = super().forward(**named, added_cond_kwargs=added or None, return_dict=False)
        return *down, mid


class MergedGraph(nn.Module):
    """A UNet with its ControlNets; conditions and scales are stacked along a first dimension."""

    def __init__(
        self, unet: UNet2DConditionModel, controlnets: Sequence[ControlNetModel], names: Sequence[str]
    ) -> None:
        super().__init__()
        self.unet = unet
        self.controlnets = nn.ModuleList(controlnets)
        self.input_names = list(names)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Sum the residuals of the ControlNets and predict the noise."""
        named = dict(zip(self.input_names, inputs, strict=True))
        sample, timestep = named.pop("sample"), named.pop("timestep")
        hidden = named.pop("encoder_hidden_states")
        conditions, scales = named.pop("controlnet_conds"), named.pop("conditioning_scales")
        total: list[torch.Tensor] = []
        for condition, scale, controlnet in zip(conditions, scales, self.controlnets, strict=True):
            down, mid = controlnet(
                # An inpainting UNet sees the mask as well, its ControlNet only the latents.
                sample[:, : controlnet.config.in_channels] if self.unet.config.in_channels > 4 else sample,
                timestep,
                hidden,
                controlnet_cond=condition,
                conditioning_scale=scale,
                added_cond_kwargs=named or None,
                return_dict=False,
            )
            found = [*down, mid]
            total = [a + b for a, b in zip(total, found, strict=True)] if total else found
        return self.unet(
            sample,
            timestep,
            hidden,
            added_cond_kwargs=named or None,
            down_block_additional_residuals=tuple(total[:-1]),
            mid_block_additional_residual=total[-1],
            return_dict=False,
        )[0]


class Signature:
    """Inputs and outputs of the graphs of one pipeline, at one example size."""

    SEQUENCE = 77

    def __init__(self, options: Options, config: Any, size: tuple[int, int, int] = (2, 16, 24)) -> None:
        """``size`` is the batch, height and width of the latents."""
        self.options = options
        self.config = config
        self.batch, self.height, self.width = size
        self.generator = torch.Generator().manual_seed(options.seed)

    def port(self, name: str, shape: Sequence[int], axes: dict[int, str]) -> Port:
        """A floating-point input with a random example."""
        example = torch.randn(*shape, generator=self.generator).to(self.options.torch_dtype)
        return Port(name, axes, example)

    def common(self, in_channels: int) -> list[Port]:
        """The inputs that UNet and ControlNet share."""
        batch = {0: "batch"}
        latent = {0: "batch", 2: "height", 3: "width"}
        shape = (self.batch, in_channels, self.height, self.width)
        hidden = (self.batch, self.SEQUENCE, self.config["cross_attention_dim"])
        return [
            self.port("sample", shape, latent),
            self.timestep(),
            self.port("encoder_hidden_states", hidden, batch | {1: "sequence"}),
        ]

    def timestep(self) -> Port:
        """The timestep: an integer scalar, or a float for the whole batch or for each row."""
        if self.options.timestep == "scalar":
            return Port("timestep", {}, torch.tensor(500, dtype=torch.int64))
        rows = 1 if self.options.timestep == "vector" else self.batch
        axes = {} if self.options.timestep == "vector" else {0: "batch"}
        return Port("timestep", axes, torch.full((rows,), 500.0, dtype=self.options.torch_dtype))

    def added(self) -> list[Port]:
        """The size and crop conditions of SDXL."""
        if self.config.get("addition_embed_type") != "text_time":
            return []
        pooled = self.config["projection_class_embeddings_input_dim"]
        pooled -= 6 * self.config["addition_time_embed_dim"]
        sizes = torch.tensor([[128.0, 192.0, 0.0, 0.0, 128.0, 192.0]] * self.batch)
        return [
            self.port("text_embeds", (self.batch, pooled), {0: "batch"}),
            Port("time_ids", {0: "batch"}, sizes.to(self.options.torch_dtype)),
        ]

    def residuals(self, template: str, mid: str) -> list[Port]:
        """One port for each residual."""
        ports = []
        shapes = residual_shapes(self.config)
        for index, (channels, factor) in enumerate(shapes):
            name = mid if index + 1 == len(shapes) else template.format(i=index)
            suffix = "" if factor == 1 else f"_{factor}"
            axes = {0: "batch", 2: "height" + suffix, 3: "width" + suffix}
            shape = (self.batch, channels, self.height // factor, self.width // factor)
            ports.append(self.port(name, shape, axes))
        return ports

    def unet(self) -> list[Port]:
        """The inputs of a UNet."""
        ports = self.common(self.config["in_channels"])
        condition = self.config.get("time_cond_proj_dim")
        if condition is not None:
            ports.append(self.port("timestep_cond", (self.batch, condition), {0: "batch"}))
        ports += self.added()
        if self.options.controlnets:
            ports += self.residuals(self.options.residual_names, "mid_block_additional_residual")
        return ports

    def controlnet(self) -> list[Port]:
        """The inputs of a ControlNet."""
        shape = (self.batch, 3, 8 * self.height, 8 * self.width)
        axes = {0: "batch", 2: "image_height", 3: "image_width"}
        scale = torch.tensor(1.0, dtype=self.options.torch_dtype)
        return [
            *self.common(4),
            self.port("controlnet_cond", shape, axes),
            Port("conditioning_scale", {}, scale),
            *self.added(),
        ]

    def merged(self) -> list[Port]:
        """The inputs of a merged graph."""
        count = self.options.controlnets
        shape = (count, self.batch, 3, 8 * self.height, 8 * self.width)
        axes = {1: "batch", 3: "image_height", 4: "image_width"}
        scales = torch.ones(count, 1, dtype=self.options.torch_dtype)
        return [
            *self.common(self.config["in_channels"]),
            self.port("controlnet_conds", shape, axes),
            Port("conditioning_scales", {}, scales),
            *self.added(),
        ]

    def noise(self) -> list[Port]:
        """The output of a UNet."""
        return [Port("out_sample", {0: "batch", 2: "height", 3: "width"})]

    def residual_outputs(self) -> list[Port]:
        """The outputs of a ControlNet."""
        return self.residuals("down_block_res_samples_{i}", "mid_block_res_sample")


# --- exporting -------------------------------------------------------------------------------


def export(options: Options, out: Path) -> list[Path]:
    """Export what the options ask for; returns the model files written."""
    if options.merged and not options.controlnets:
        raise ValueError("a merged graph needs at least one ControlNet")
    if options.merged and options.timestep_cond:
        raise ValueError("the merged layout has no timestep_cond input")
    written = []
    unet = build_unet(options, UNet2DConditionModel if options.merged else UNetGraph)
    signature = Signature(options, unet.config)
    if options.merged:
        ports = signature.merged()
        controlnets = [build_controlnet(options, index) for index in range(options.controlnets)]
        merged = MergedGraph(unet, controlnets, [port.name for port in ports])
        return [export_graph(merged, ports, signature.noise(), out / "unet", options)]
    ports = signature.unet()
    unet.input_names = [port.name for port in ports]
    written.append(export_graph(unet, ports, signature.noise(), out / "unet", options))
    del unet
    for index in range(options.controlnets):
        ports = signature.controlnet()
        controlnet = build_controlnet(options, index, ControlNetGraph)
        controlnet.input_names = [port.name for port in ports]
        folder = out / controlnet_folder(index)
        written.append(export_graph(controlnet, ports, signature.residual_outputs(), folder, options))
    return written


def export_graph(
    module: nn.Module, inputs: list[Port], outputs: list[Port], folder: Path, options: Options
) -> Path:
    """Export one graph to ``folder/model.onnx``."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "model.onnx"
    inputs = [dataclasses.replace(port, axes=kept_axes(port.axes, options)) for port in inputs]
    outputs = [dataclasses.replace(port, axes=kept_axes(port.axes, options)) for port in outputs]
    # The exporter writes one file a weight; they go to a folder of their own first.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as scratch, quiet():
        raw = Path(scratch) / "model.onnx"
        if options.exporter == "torchscript":
            export_torchscript(module, inputs, outputs, raw, options.opset)
            model = ir.load(raw)
        else:
            model = export_dynamo(module, inputs, outputs, options.opset)
        strip_provenance(model)
        save(model, target)
    if options.exporter == "torchscript":
        drop_initializer_infos(target)
    return target


def kept_axes(axes: dict[int, str], options: Options) -> dict[int, str]:
    """The axes that stay dynamic."""
    if options.static == "all":
        return {}
    if options.static == "batch":
        return {axis: name for axis, name in axes.items() if name != "batch"}
    return axes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the tracer, which warns of every Python branch on a shape."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def examples(ports: list[Port]) -> tuple[torch.Tensor, ...]:
    """The example tensors of the inputs."""
    return tuple(port.example for port in ports if port.example is not None)


def export_torchscript(
    module: nn.Module, inputs: list[Port], outputs: list[Port], path: Path, opset: int
) -> None:
    """Trace a module and write the graph, weights beside it where they are large."""
    with torch.inference_mode():
        torch.onnx.export(
            module,
            examples(inputs),
            str(path),
            input_names=[port.name for port in inputs],
            output_names=[port.name for port in outputs],
            dynamic_axes={port.name: port.axes for port in [*inputs, *outputs] if port.axes},
            opset_version=opset,
            do_constant_folding=True,
            dynamo=False,
        )


def export_dynamo(module: nn.Module, inputs: list[Port], outputs: list[Port], opset: int) -> ir.Model:
    """Export a module through ``torch.export``.

    Heights and widths are declared as multiples of the down-sampling factor: the exporter proves
    that the two sides of every skip connection agree.
    """
    batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence")
    # A size of one would broadcast, which the exporter has to exclude.
    height, width = torch.export.Dim("height", min=2), torch.export.Dim("width", min=2)

    def dimension(axis: str) -> Any:
        if axis in ("batch", "sequence"):
            return batch if axis == "batch" else sequence
        base = height if "height" in axis else width
        if axis.startswith("image_"):
            return 64 * base
        factor = int(axis.partition("_")[2] or 1)
        return base if factor == 8 else (8 // factor) * base

    shapes = tuple({axis: dimension(name) for axis, name in port.axes.items()} or None for port in inputs)
    program = torch.onnx.export(
        module,
        examples(inputs),
        input_names=[port.name for port in inputs],
        output_names=[port.name for port in outputs],
        dynamic_shapes=(shapes,),
        opset_version=opset,
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("the exporter returned no program")
    return program.model


def strip_provenance(model: ir.Model) -> None:
    """Drop what exporters write about the machine they ran on; the module paths stay."""

    def strip(holder: Any) -> None:
        if hasattr(holder, "doc_string"):
            holder.doc_string = None
        for key in [key for key in holder.metadata_props if key not in KEPT_METADATA]:
            del holder.metadata_props[key]

    strip(model)
    for graph in [model.graph, *model.graph.subgraphs(), *(f.graph for f in model.functions.values())]:
        strip(graph)
        for value in [*graph.inputs, *graph.initializers.values()]:
            strip(value)
        for node in graph:
            strip(node)
            for value in node.outputs:
                strip(value)


def drop_initializer_infos(path: Path) -> None:
    """Drop the value infos of initializers, which the tracer does not write but saving does."""
    model = onnx.load(path, load_external_data=False)
    names = {tensor.name for tensor in model.graph.initializer}
    kept = [info for info in model.graph.value_info if info.name not in names]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    path.write_bytes(model.SerializeToString())


def save(model: ir.Model, path: Path) -> None:
    """Write a model, its weights in one file beside it where they are large."""
    weights = [value.const_value for value in model.graph.initializers.values() if value.const_value]
    if sum(weight.nbytes for weight in weights) > EXTERNAL_DATA_BYTES:
        ir.save(model, path, external_data=path.name + "_data")
    else:
        ir.save(model, path)


# --- command line ----------------------------------------------------------------------------


def parse_arguments() -> tuple[Options, Path, int]:
    """The options, the output folder and the number of threads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--arch", choices=ARCHS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pipeline")
    parser.add_argument("--checkpoint", type=Path, help="diffusers folder with the weights")
    parser.add_argument("--width", choices=("full", "reduced"), default="full")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    parser.add_argument("--exporter", choices=("torchscript", "dynamo"), default="torchscript")
    parser.add_argument("--opset", type=int, help="17 for TorchScript and 18 for dynamo unless given")
    parser.add_argument("--dtype", choices=("fp32", "fp16"), default="fp32")
    parser.add_argument("--merged", action="store_true", help="one graph of UNet and ControlNets")
    parser.add_argument("--controlnets", type=int, default=1, help="0: a UNet without residual inputs")
    parser.add_argument(
        "--attention", choices=("sdpa", "eager"), default="sdpa", help="the attention module that is exported"
    )
    parser.add_argument(
        "--timestep",
        choices=("scalar", "vector", "batch"),
        default="scalar",
        help="an int64 scalar, a float of shape [1], or a float for each row",
    )
    parser.add_argument("--timestep-cond", action="store_true", help="guidance embedding input (LCM)")
    parser.add_argument("--static", choices=("none", "batch", "all"), default="none", help="axes baked in")
    parser.add_argument(
        "--residual-names",
        default=Options.residual_names,
        help="names of the residual inputs of the UNet, {i} for the number",
    )
    parser.add_argument("--threads", type=int, default=1)
    values = vars(parser.parse_args())
    out, threads = values.pop("out"), values.pop("threads")
    if values["opset"] is None:
        values["opset"] = 18 if values["exporter"] == "dynamo" else 17
    return Options(**values), out, threads


def main() -> None:
    """Export, and name the files written."""
    options, out, threads = parse_arguments()
    torch.set_num_threads(threads)
    for path in export(options, out):
        print(path)


if __name__ == "__main__":
    main()
