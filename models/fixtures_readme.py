"""Write tests/fixtures/README.md: what each fixture is, how it was made, what it takes.

fixtures_readme.py [--fixtures tests/fixtures]
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
from pathlib import Path

import onnx
import zstandard

from architectures import Options
from make_fixtures import FIXTURES
from restore import weights

HEAD = """# Fixtures

Reduced-width pipelines, exported from diffusers and stored without their weights. The topology is
that of the full models; channels, heads and text dimensions are narrowed, weights are random.

Each component is a folder with `model.onnx.zst`, the model compressed with zstandard, and
`recipe.json`, from which the external data of the model, `weights.bin`, is rebuilt byte for byte.
The rule is in `models/restore.py` (`restore.py tests/fixtures/NAME --out DIR`): a tensor holds
`scale * u + bias`, with u from SplitMix64 seeded by `seed + fnv1a64(name)`. Tensors lie at the
offsets the recipe gives, 64-byte aligned, bytes between them zero. Tensors of at most 1 KiB, and all
that are no weights, are stored in the model.

For an implementation of its own: with seed 1 and the name `conv_in.weight`, SplitMix64 first draws
2183766196022852824 and 3288625231248363711; with scale 0.5 and bias 1 these give 0.6183821558952332
and 0.6782767176628113 in f32, 0.6181640625 and 0.67822265625 in f16. The `weights.bin` of
`sd15-ts17/unet` has the SHA-256 `{sha256}`.

`all_fields.onnx` is no model: it holds every field of the ONNX schema (`models/all_fields.py`).
`hgc.json` is what `hgc compile sd15-unet-only --policy deepcache --steps 6` writes, a seed for fuzzing.

Made with the packages of `models/requirements.txt`:

    python models/make_fixtures.py NAME     # one fixture, or all without a name
    python models/check_fixtures.py NAME    # restores, runs and checks it
    python models/all_fields.py
    python models/fixtures_readme.py        # this file

Sizes in KiB are those stored, sizes in MiB those of `weights.bin`.
"""


def shape(value: onnx.ValueInfoProto) -> str:
    """Type and dimensions of a value."""
    tensor = value.type.tensor_type
    dimensions = [dimension.dim_param or str(dimension.dim_value) for dimension in tensor.shape.dim]
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return f"{kind}[{', '.join(dimensions)}]"


def listing(values: list[onnx.ValueInfoProto]) -> str:
    """Names with shapes; a run of numbered values is given by its first and last."""
    groups: list[list[onnx.ValueInfoProto]] = []
    for value in values:
        pattern = re.sub(r"\d+", "#", value.name)
        if groups and pattern != value.name and re.sub(r"\d+", "#", groups[-1][0].name) == pattern:
            groups[-1].append(value)
        else:
            groups.append([value])
    parts = []
    for group in groups:
        ends = group if len(group) < 2 else [group[0], group[-1]]
        parts.append(" .. ".join(f"`{value.name}` {shape(value)}" for value in ends))
    return ", ".join(parts)


def command(options: Options) -> str:
    """The command line of ``export.py`` for options."""
    words = [f"--arch {options.arch}"]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name == "arch" or value == field.default:
            continue
        flag = "--" + field.name.replace("_", "-")
        words.append(flag if value is True else f"{flag} {value}")
    return f"export.py {' '.join(words)}"


def section(name: str, folder: Path) -> str:
    """The section of one fixture."""
    fixture = FIXTURES[name]
    lines = [f"## {name}", "", f"{fixture.about[0].upper()}{fixture.about[1:]}.", ""]
    made = f"`{command(fixture.options)}`"
    if fixture.transform is not None:
        made += f", then `{fixture.transform.__name__}` of `make_fixtures.py`"
    lines += [f"Made by {made}.", ""]
    for stored in sorted(folder.glob("*/model.onnx.zst"), reverse=True):
        model = onnx.load_from_string(zstandard.ZstdDecompressor().decompress(stored.read_bytes()))
        recipe = json.loads((stored.parent / "recipe.json").read_text())
        size_of_weights = max(
            t["offset"] + t["elements"] * int(t["dtype"][1:]) // 8 for t in recipe["tensors"]
        )
        opsets = ", ".join(f"{opset.domain or 'ai.onnx'} {opset.version}" for opset in model.opset_import)
        size = sum(path.stat().st_size for path in stored.parent.iterdir()) / 1024
        lines += [
            f"- `{stored.parent.name}`: {opsets}; {len(model.graph.node)} nodes; {size:.0f} KiB, "
            f"weights {size_of_weights / 2**20:.1f} MiB.",
            f"  Inputs: {listing(list(model.graph.input))}.",
            f"  Outputs: {listing(list(model.graph.output))}.",
        ]
    return "\n".join(lines)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--fixtures", type=Path, default=Path(__file__).parent.parent / "tests" / "fixtures")
    arguments = parser.parse_args()
    sections = [section(name, arguments.fixtures / name) for name in FIXTURES]
    recipe = json.loads((arguments.fixtures / "sd15-ts17" / "unet" / "recipe.json").read_text())
    head = HEAD.format(sha256=hashlib.sha256(weights(recipe)).hexdigest())
    (arguments.fixtures / "README.md").write_text("\n\n".join([head.rstrip(), *sections]) + "\n")


if __name__ == "__main__":
    main()
