"""Export diffusion UNets and ControlNets to ONNX, in the folder layout of a pipeline.

    export.py --arch sd15 --out DIR [--checkpoint DIFFUSERS_DIR] [--width full|half|reduced] ...

Writes ``DIR/unet/model.onnx`` and ``DIR/controlnet/model.onnx`` (``controlnet_1`` and so on for
more), each with its weights in ``model.onnx_data`` where they are too large for one file, and
``config.json`` beside it. With
``--merged`` ControlNets and UNet become one graph, ``DIR/unet/model.onnx``, with the inputs of the
merging script of diffusers. With ``--fuse gpu`` attention, norms and convolutions become the operators
that ONNX Runtime has for GPUs: the original to compare with there, and to compile.

Nothing is downloaded. Without ``--checkpoint`` the weights are random: scaled so that activations
stay around one, and with the zero convolutions of a ControlNet filled, so that every path of the
graph carries a signal.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import nn

from architectures import ARCHS, Options, build_controlnet, build_unet, controlnet_folder
from fuse import fuse
from signatures import ControlNetGraph, MergedGraph, Port, Signature, UNetGraph

EXTERNAL_DATA_BYTES = 1 << 30

# Metadata that says where in the network a node comes from. Everything else an exporter writes
# (stack traces, node dumps) carries paths of the exporting machine and is dropped.
KEPT_METADATA = frozenset({"namespace", "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"})


def export(options: Options, out: Path) -> list[Path]:
    """Export what the options ask for; returns the model files written."""
    if options.fuse == "none":
        return list(export_graphs(options, out))
    # The optimiser knows the patterns of open axes.
    written = export_graphs(dataclasses.replace(options, static="none"), out)
    for path, inputs in written.items():
        fuse_in_place(path, options)
        if options.static == "all":
            fix_sizes(path, inputs)
    return list(written)


def fix_sizes(path: Path, inputs: list[Port]) -> None:
    """Fix the sizes of all inputs to those of the examples."""
    from onnxruntime.tools.onnx_model_utils import make_input_shape_fixed

    model = onnx.load(path, load_external_data=False)
    for port in inputs:
        make_input_shape_fixed(model.graph, port.name, list(port.example.shape))
    path.write_bytes(model.SerializeToString())


def fuse_in_place(path: Path, options: Options) -> None:
    """Fuse an exported model."""
    external = path.with_name(path.name + "_data").exists()
    with quiet(), tempfile.TemporaryDirectory(dir=path.parent, prefix=".fuse-") as scratch:
        fuse(path, Path(scratch) / path.name, options.fuse, options.dtype == "fp16", external)
        for file in Path(scratch).iterdir():
            file.replace(path.parent / file.name)


def export_graphs(options: Options, out: Path) -> dict[Path, list[Port]]:
    """Export UNet and ControlNets; returns the model files written, with their inputs."""
    if options.merged and not options.controlnets:
        raise ValueError("a merged graph needs at least one ControlNet")
    if options.merged and options.timestep_cond:
        raise ValueError("the merged layout has no timestep_cond input")
    written = {}
    unet = build_unet(options, UNet2DConditionModel if options.merged else UNetGraph)
    signature = Signature(options, unet.config, (2, *options.latent))
    if options.merged:
        ports = signature.merged()
        controlnets = [build_controlnet(options, index) for index in range(options.controlnets)]
        merged = MergedGraph(unet, controlnets, [port.name for port in ports])
        written[export_graph(merged, ports, signature.noise(), out / "unet", options)] = ports
        write_config(unet, UNet2DConditionModel, out / "unet")
        return written
    ports = signature.unet()
    unet.input_names = [port.name for port in ports]
    written[export_graph(unet, ports, signature.noise(), out / "unet", options)] = ports
    write_config(unet, UNet2DConditionModel, out / "unet")
    del unet
    for index in range(options.controlnets):
        ports = signature.controlnet()
        controlnet = build_controlnet(options, index, ControlNetGraph)
        controlnet.input_names = [port.name for port in ports]
        folder = out / controlnet_folder(index)
        written[export_graph(controlnet, ports, signature.residual_outputs(), folder, options)] = ports
        write_config(controlnet, ControlNetModel, folder)
    return written


def write_config(module: Any, kind: type, folder: Path) -> None:
    """Write ``config.json`` as diffusers does: sizes of pictures, and what pipelines ask for."""
    config = {**module.config, "_class_name": kind.__name__}
    shown = ("_class_name", "_diffusers_version")
    config = {name: value for name, value in config.items() if name in shown or not name.startswith("_")}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


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
    name_parameters(module, [port.name for port in inputs])
    program = torch.onnx.export(
        module,
        examples(inputs),
        input_names=[port.name for port in inputs],
        output_names=[port.name for port in outputs],
        dynamic_shapes=shapes,
        opset_version=opset,
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("the exporter returned no program")
    return program.model


def name_parameters(module: nn.Module, names: Sequence[str]) -> None:
    """Give ``forward`` one named parameter an input.

    ``torch.export`` writes its guards in terms of the parameters and loses those of ``*inputs``.
    """
    forward = module.forward

    def named(*inputs: torch.Tensor) -> Any:
        return forward(*inputs)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in names]
    named.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    module.forward = named


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
    parser.add_argument("--width", choices=("full", "half", "reduced"), default="full")
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
        "--latent", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="sizes for --static all (16 24)"
    )
    parser.add_argument(
        "--fuse",
        choices=("none", "cpu", "gpu"),
        default="none",
        help="with ONNX Runtime's transformers optimiser, for its CPU or CUDA provider",
    )
    parser.add_argument(
        "--residual-names",
        default=Options.residual_names,
        help="names of the residual inputs of the UNet, {i} for the number",
    )
    parser.add_argument("--threads", type=int, default=1)
    values = vars(parser.parse_args())
    out, threads = values.pop("out"), values.pop("threads")
    values["latent"] = tuple(values["latent"] or Options.latent)
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
