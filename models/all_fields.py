"""Write an ONNX file that uses every field of the schema.

    all_fields.py [tests/fixtures/all_fields.onnx]

The message types are walked through their descriptors, so a schema with more fields gives a file
with more fields. Every field of every message type occurs with a value of its own, and with the
default of its type where it can be present all the same; so does every choice of every ``oneof`` and
every value of every enumeration. The result is no valid model: it proves that a reader and writer
lose nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
UNSIGNED = (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)


class Filler:
    """Fills messages with distinct values.

    The first message of a type is filled completely, the later ones with scalars alone, so that the
    file stays small although the types contain each other.
    """

    def __init__(self) -> None:
        self.counter = 0
        self.visited: set[str] = set()
        self.covered: set[str] = set()
        self.enum_next: dict[str, int] = {}

    def number(self) -> int:
        """The next of a series of distinct numbers."""
        self.counter += 1
        return self.counter

    def enumerated(self, kind: EnumDescriptor) -> int:
        """The values of an enumeration, one after the other."""
        index = self.enum_next.get(kind.full_name, 0)
        self.enum_next[kind.full_name] = index + 1
        return int(kind.values[index % len(kind.values)].number)

    def scalar(self, field: FieldDescriptor) -> Any:
        """A value of the type of a field that is no message."""
        kind = field.cpp_type
        if field.enum_type is not None:
            return self.enumerated(field.enum_type)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return b"\x00\xff" + str(self.number()).encode()
        if kind == FieldDescriptor.CPPTYPE_STRING:
            return f"{field.name} \u00fc {self.number()}"
        if kind in FLOATS:
            return -self.number() / 4
        if kind in UNSIGNED:
            return (1 << 31) + self.number()
        return -self.number()

    def fields(self, message: Message) -> Iterator[FieldDescriptor]:
        """The fields of a message; of a ``oneof`` one choice, new where there is a new one."""
        descriptor = message.DESCRIPTOR
        chosen = {}
        for oneof in descriptor.oneofs:
            fresh = [field for field in oneof.fields if field.full_name not in self.covered]
            chosen[oneof.name] = (fresh or oneof.fields)[0]
        for field in descriptor.fields:
            if field.containing_oneof is None or chosen[field.containing_oneof.name] is field:
                yield field

    def wanted(self, kind: Descriptor) -> bool:
        """Whether a message type, or a choice within it, has not occurred yet."""
        choices = [field for oneof in kind.oneofs for field in oneof.fields]
        return kind.full_name not in self.visited or any(
            field.full_name not in self.covered for field in choices
        )

    def fill(self, message: Message) -> None:
        """Fill a message: all fields where its type is new, scalars alone otherwise."""
        kind = message.DESCRIPTOR
        complete = self.wanted(kind)
        self.visited.add(kind.full_name)
        for field in self.fields(message):
            if field.message_type is None:
                self.fill_scalar(message, field)
            elif complete:
                self.fill_nested(message, field)

    def fill_scalar(self, message: Message, field: FieldDescriptor) -> None:
        """Fill a field that is no message, twice where it repeats."""
        self.covered.add(field.full_name)
        if field.is_repeated:
            getattr(message, field.name).extend([self.scalar(field), self.scalar(field)])
        else:
            setattr(message, field.name, self.scalar(field))

    def fill_nested(self, message: Message, field: FieldDescriptor) -> None:
        """Fill a field of messages; where it repeats, until all choices and values occur."""
        kind = field.message_type
        self.covered.add(field.full_name)
        if not field.is_repeated:
            getattr(message, field.name).SetInParent()
            self.fill(getattr(message, field.name))
            return
        elements = getattr(message, field.name)
        first = kind.full_name not in self.visited
        self.fill(elements.add())
        if first:
            elements.add()
            set_defaults(elements.add())
            while self.wanted(kind):
                self.fill(elements.add())
            sizes = [len(part.enum_type.values) for part in kind.fields if part.enum_type is not None]
            for _ in range(max(sizes, default=0)):
                self.fill(elements.add())


def set_defaults(message: Message) -> None:
    """Set the scalars of a message to the defaults of their types: present, though zero or empty."""
    for field in message.DESCRIPTOR.fields:
        if not field.is_repeated and field.message_type is None and field.has_presence:
            setattr(message, field.name, field.default_value)


def reachable(kind: Descriptor, seen: dict[str, Descriptor]) -> dict[str, Descriptor]:
    """The message types that a type contains, itself included."""
    if kind.full_name not in seen:
        seen[kind.full_name] = kind
        for field in kind.fields:
            if field.message_type is not None:
                reachable(field.message_type, seen)
    return seen


def every_field() -> onnx.ModelProto:
    """A model in which every field of the schema occurs."""
    filler = Filler()
    model = onnx.ModelProto()
    filler.fill(model)
    fields = [field for kind in reachable(model.DESCRIPTOR, {}).values() for field in kind.fields]
    missing = [field.full_name for field in fields if field.full_name not in filler.covered]
    for kind in {field.enum_type.full_name: field.enum_type for field in fields if field.enum_type}.values():
        if filler.enum_next.get(kind.full_name, 0) < len(kind.values):
            missing.append(kind.full_name)
    if missing:
        raise AssertionError(f"not covered: {', '.join(missing)}")
    return model


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    folder = Path(__file__).parent.parent / "tests" / "fixtures"
    parser.add_argument("out", type=Path, nargs="?", default=folder / "all_fields.onnx")
    arguments = parser.parse_args()
    arguments.out.write_bytes(every_field().SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
