"""Write the fixtures: reduced-width pipelines as exporters and optimisers leave them.

    make_fixtures.py [NAME ...] [--out tests/fixtures]

Large weights are not stored. They are replaced by numbers that follow from a seed (see
``restore.py``), scaled by what consumes them, so that a restored model computes something sensible.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
import zstandard
from onnx import numpy_helper

from architectures import Options
from export import export
from fuse import fuse

Transform = Callable[[Path, Path], None]

# Initializers up to this many bytes stay in the model.
INLINE_BYTES = 1024
ALIGNMENT = 64
ELEMENT = {onnx.TensorProto.FLOAT: ("f32", 4), onnx.TensorProto.FLOAT16: ("f16", 2)}

# Operators that hand a weight on to the operator that uses it.
VIEWS = frozenset({"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze"})
# Inputs that hold the scale and the shift of a normalisation.
NORMS = {
    "LayerNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "GroupNorm": (1, 2),
    "SkipLayerNormalization": (2, 3),
    "SkipGroupNorm": (1, 2),
}
# Inputs that hold a bias.
BIASES = {
    "Conv": 2,
    "FusedConv": 2,
    "NhwcConv": 2,
    "NhwcFusedConv": 2,
    "Gemm": 2,
    "BiasGelu": 1,
    "BiasAdd": 1,
    "BiasSplitGelu": 1,
    "SkipLayerNormalization": 4,
    "MultiHeadAttention": 3,
    "Attention": 2,
}


# --- variants --------------------------------------------------------------------------------


def slim(source: Path, target: Path) -> None:
    """Simplify with onnxslim."""
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(source)), target)


def ort_extended(source: Path, target: Path) -> None:
    """Save what the CPU provider of ONNX Runtime runs, extended optimisations applied."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def ort_mha(source: Path, target: Path) -> None:
    """Attention and layer norms as contrib operators that the CPU provider has."""
    fuse(source, target, "cpu")


def ort_gpu(source: Path, target: Path) -> None:
    """Contrib operators everywhere, group norms and NHWC convolutions too: GPU providers only."""
    fuse(source, target, "gpu")


def renamed(source: Path, target: Path) -> None:
    """Replace every name in a graph by random letters and drop everything meant for people."""
    model = onnx.load(source)
    generator = random.Random(7)
    names: dict[str, str] = {"": ""}

    def rename(name: str) -> str:
        while name not in names:
            letters = "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=6))
            if letters not in names.values():
                names[name] = letters
        return names[name]

    graph = model.graph
    for part in (model, graph):
        part.doc_string = ""
        del part.metadata_props[:]
    model.producer_name = model.producer_version = ""
    graph.name = rename("graph name")
    for node in graph.node:
        node.name = rename("node " + node.name)
        node.doc_string = ""
        del node.metadata_props[:]
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = rename(tensor.name)
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    del graph.value_info[:]
    for value in [*graph.input, *graph.output]:
        value.name = rename(value.name)
        value.doc_string = ""
        del value.metadata_props[:]
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = rename("dimension " + dimension.dim_param)
    onnx.save(model, target)


@dataclasses.dataclass(frozen=True)
class Fixture:
    """One fixture: an export, and what is done to each of its models afterwards."""

    options: Options
    about: str
    transform: Transform | None = None
    runs_on_cpu: bool = True


def reduced(**changes: Any) -> Options:
    """Options for a reduced-width export."""
    return Options(width="reduced", **changes)


FIXTURES: dict[str, Fixture] = {
    "sd15-ts17": Fixture(reduced(), "the usual export"),
    "sd15-ts14": Fixture(
        reduced(opset=14, attention="eager", timestep="batch"),
        "layer norms decomposed, attention of older diffusers, a timestep for each row",
    ),
    "sd15-fp16": Fixture(reduced(dtype="fp16"), "weights and activations in half precision"),
    "sd15-dynamo18": Fixture(reduced(exporter="dynamo", opset=18), "the exporter of torch.export"),
    "sd15-dynamo23": Fixture(
        reduced(exporter="dynamo", opset=23), "the same at the opset that has Attention"
    ),
    "sd15-unet-only": Fixture(reduced(controlnets=0), "a UNet without residual inputs"),
    "sd15-merged": Fixture(
        reduced(merged=True, timestep="vector", opset=16), "UNet and ControlNet in one graph"
    ),
    "sd15-two-controlnets": Fixture(reduced(controlnets=2), "two ControlNets, residuals summed outside"),
    "sd15-lcm": Fixture(reduced(timestep_cond=True), "with the guidance embedding of LCM"),
    "sd15-static-batch": Fixture(reduced(static="batch"), "batch 2 baked in"),
    "sd15-static": Fixture(reduced(static="all"), "every axis baked in"),
    "sd15-onnxslim": Fixture(reduced(), "sd15-ts17 simplified by onnxslim", slim),
    "sd15-ort-extended": Fixture(reduced(), "sd15-ts17 optimised by ONNX Runtime", ort_extended),
    "sd15-ort-mha": Fixture(reduced(), "sd15-ts17 with contrib attention", ort_mha),
    "sd15-ort-gpu": Fixture(
        reduced(), "sd15-ts17 with contrib operators everywhere", ort_gpu, runs_on_cpu=False
    ),
    "sd15-renamed": Fixture(reduced(), "sd15-ts17 with every name random", renamed),
    "sd21-ts17": Fixture(
        reduced(arch="sd21", residual_names="down_block_additional_residuals_{i}"), "linear projections"
    ),
    "sdxl-ts17": Fixture(reduced(arch="sdxl"), "several transformer layers a block, added conditions"),
    "inpaint-ts17": Fixture(reduced(arch="inpaint", timestep="vector"), "nine input channels"),
    "distilled-ts17": Fixture(reduced(arch="distilled"), "no mid block, one layer a block"),
}


# --- weights ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the values of a weight are drawn: ``scale * u + bias`` for u in [-1, 1)."""

    scale: float
    bias: float = 0.0


GAMMA, BETA = Rule(0.125, 1.0), Rule(0.0625)


def linear_rule(fan_in: int) -> Rule:
    """Weights that keep the variance of their input; the scale is exact in float32."""
    return Rule(round(math.sqrt(3.0 / fan_in) * 4096) / 4096)


def use_rule(node: onnx.NodeProto, index: int, shape: tuple[int, ...]) -> Rule | None:
    """The rule for a weight of this shape at this input, none where it is no weight."""
    op = node.op_type
    if op in NORMS and index in NORMS[op]:
        return GAMMA if index == NORMS[op][0] else BETA
    if BIASES.get(op) == index:
        return BETA
    if op in ("Conv", "FusedConv") and index == 1:
        return linear_rule(math.prod(shape[1:]))
    if op in ("NhwcConv", "NhwcFusedConv") and index == 1:
        return linear_rule(math.prod(shape[1:]))
    if op in ("MatMul", "FusedMatMul", "Gemm", "Attention") and index == 1 and len(shape) == 2:
        flags = {attribute.name: attribute.i for attribute in node.attribute}
        return linear_rule(shape[1] if flags.get("transB") else shape[0])
    if op == "Add" and sum(size > 1 for size in shape) == 1:
        return BETA
    return None


class Weights:
    """The rules for the weights of a graph, by the operators that consume them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.uses: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
        for node in graph.node:
            for index, name in enumerate(node.input):
                self.uses[name].append((node, index))

    def rule(self, name: str, shape: tuple[int, ...]) -> Rule | None:
        """The rule all uses of a value agree on."""
        found: set[Rule | None] = set()
        for node, index in self.uses[name]:
            if node.op_type not in VIEWS or index != 0:
                found.add(use_rule(node, index, shape))
                continue
            seen = shape
            if node.op_type == "Transpose":
                permutation = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
                seen = tuple(shape[axis] for axis in permutation or reversed(range(len(shape))))
            found.add(self.rule(node.output[0], seen))
        return found.pop() if len(found) == 1 else None


def detach_weights(model: onnx.ModelProto, seed: int) -> dict[str, Any]:
    """Replace the large weights of a model by references to data that the returned recipe gives."""
    rules = Weights(model.graph)
    tensors: list[dict[str, Any]] = []
    end = 0
    for tensor in model.graph.initializer:
        if tensor.data_type not in ELEMENT:
            continue
        dtype, width = ELEMENT[tensor.data_type]
        elements = math.prod(tensor.dims)
        rule = rules.rule(tensor.name, tuple(tensor.dims))
        if elements * width <= INLINE_BYTES or rule is None:
            # One encoding for all that stays, whichever tool wrote it.
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
            if elements * width > INLINE_BYTES:
                uses = sorted({node.op_type for node, _ in rules.uses[tensor.name]})
                print(f"  kept {tensor.name} {list(tensor.dims)}, used by {uses}")
            continue
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        end = offset + elements * width
        tensors.append(
            {
                "name": tensor.name,
                "dtype": dtype,
                "elements": elements,
                "offset": offset,
                "scale": rule.scale,
                "bias": rule.bias,
            }
        )
        refer(tensor, offset, elements * width)
    return {"seed": seed, "tensors": tensors}


def refer(tensor: onnx.TensorProto, offset: int, length: int) -> None:
    """Turn a tensor into a reference to ``weights.bin``."""
    for field in ("raw_data", "float_data", "int32_data"):
        tensor.ClearField(field)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", "weights.bin"), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


# --- writing ---------------------------------------------------------------------------------


def store(model: onnx.ModelProto, recipe: dict[str, Any], folder: Path) -> None:
    """Write a component: the compressed model and its recipe, one line a tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    data = zstandard.ZstdCompressor(level=19).compress(model.SerializeToString(deterministic=True))
    (folder / "model.onnx.zst").write_bytes(data)
    lines = ",\n".join(json.dumps(tensor, separators=(",", ":")) for tensor in recipe["tensors"])
    (folder / "recipe.json").write_text(f'{{"seed":{recipe["seed"]},"tensors":[\n{lines}\n]}}\n')


def make(name: str, out: Path) -> None:
    """Make one fixture."""
    fixture = FIXTURES[name]
    with tempfile.TemporaryDirectory() as scratch:
        for seed, path in enumerate(export(fixture.options, Path(scratch)), start=1):
            if fixture.transform is not None:
                target = path.with_name("transformed.onnx")
                fixture.transform(path, target)
                path = target
            model = onnx.load(path)
            recipe = detach_weights(model, seed)
            store(model, recipe, out / name / path.parent.name)
            describe(name, path.parent.name, model, recipe)


def describe(name: str, component: str, model: onnx.ModelProto, recipe: dict[str, Any]) -> None:
    """Print a line about a component."""
    ops = Counter(f"{node.domain}:{node.op_type}".lstrip(":") for node in model.graph.node)
    size = sum(tensor["elements"] for tensor in recipe["tensors"])
    print(f"{name}/{component}: {len(model.graph.node)} nodes, {size} weights, {dict(ops.most_common())}")


def main() -> None:
    """Make the fixtures named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIXTURES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "tests" / "fixtures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names or FIXTURES:
        make(name, arguments.out)


if __name__ == "__main__":
    main()
