"""Check that two ONNX files say the same.

    check_roundtrip.py A.onnx B.onnx [--full-check]

The files are decoded with the official ``onnx`` package and compared field by field: the order in
which fields were written does not matter, everything else does, fields the schema does not know
included. External tensors are compared by reference. With ``--full-check`` the ONNX checker runs on
both, and what it finds in B but not in A is an error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet


def differences(left: Message, right: Message, path: str = "model") -> Iterator[str]:
    """Where two messages of one type differ, as paths with both values."""
    for field in left.DESCRIPTOR.fields:
        name = f"{path}.{field.name}"
        if field.is_repeated:
            yield from repeated_differences(getattr(left, field.name), getattr(right, field.name), name)
            continue
        present = left.HasField(field.name), right.HasField(field.name)
        if present[0] != present[1]:
            yield f"{name}: present {present[0]} against {present[1]}"
        elif present[0]:
            yield from value_differences(getattr(left, field.name), getattr(right, field.name), name)
    unknown = [sorted(unknown_fields(message)) for message in (left, right)]
    if unknown[0] != unknown[1]:
        yield f"{path}: unknown fields {unknown[0]} against {unknown[1]}"


def repeated_differences(left: Any, right: Any, path: str) -> Iterator[str]:
    """Where two repeated fields differ."""
    if len(left) != len(right):
        yield f"{path}: {len(left)} elements against {len(right)}"
        return
    if left and not isinstance(left[0], Message):
        if list(map(exact, left)) != list(map(exact, right)):
            yield f"{path}: {short(list(left))} against {short(list(right))}"
        return
    for index, (a, b) in enumerate(zip(left, right, strict=True)):
        yield from differences(a, b, f"{path}[{index}]")


def value_differences(left: Any, right: Any, path: str) -> Iterator[str]:
    """Where two single values differ."""
    if isinstance(left, Message):
        yield from differences(left, right, path)
    elif exact(left) != exact(right):
        yield f"{path}: {short(left)} against {short(right)}"


def exact(value: Any) -> Any:
    """A value that compares by its bits: NaN equals itself, zero does not equal minus zero."""
    return value.hex() if isinstance(value, float) else value


def unknown_fields(message: Message) -> Iterator[tuple[int, int, str]]:
    """Number, wire type and data of the fields outside the schema."""
    for field in UnknownFieldSet(message):
        yield field.field_number, field.wire_type, repr(field.data)


def short(value: Any) -> str:
    """A value, shortened to one line."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def checker_problems(path: Path) -> set[str]:
    """What the ONNX checker says about a file."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # the checker raises types of its own and of shape inference
        return {str(error).replace(str(path), "MODEL")}
    return set()


def main() -> int:
    """Compare, and print every difference."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("left", type=Path, metavar="A.onnx")
    parser.add_argument("right", type=Path, metavar="B.onnx")
    parser.add_argument("--full-check", action="store_true", help="run the ONNX checker on both")
    arguments = parser.parse_args()
    left, right = (onnx.load(path, load_external_data=False) for path in (arguments.left, arguments.right))
    found = list(differences(left, right))
    if arguments.full_check:
        new = checker_problems(arguments.right) - checker_problems(arguments.left)
        found += [f"checker: {problem}" for problem in sorted(new)]
    for line in found:
        print(line)
    print("equal" if not found else f"{len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
