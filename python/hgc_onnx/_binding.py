"""IO bindings of a compiled model: what is bound is remembered, and bound again for the kind that runs."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

from ._errors import HgcError


class Binding(ort.IOBinding):
    """A binding of a caller. Its calls are kept; the session adds the caches, or takes the session of
    another kind."""

    def __init__(self, session: ort.InferenceSession) -> None:
        super().__init__(session)
        self.inputs: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self.outputs: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self.results: list[Any] = []

    def bind_cpu_input(self, name: str, arr_on_cpu: np.ndarray) -> None:
        self.inputs[name] = ("bind_cpu_input", (arr_on_cpu,))

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Any,
        buffer_ptr: int,
    ) -> None:
        self.inputs[name] = ("bind_input", (device_type, device_id, element_type, shape, buffer_ptr))

    def bind_ortvalue_input(self, name: str, ortvalue: ort.OrtValue) -> None:
        self.inputs[name] = ("bind_ortvalue_input", (ortvalue,))

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Any = None,
        buffer_ptr: int | None = None,
    ) -> None:
        self.outputs[name] = ("bind_output", (device_type, device_id, element_type, shape, buffer_ptr))

    def bind_ortvalue_output(self, name: str, ortvalue: ort.OrtValue) -> None:
        self.outputs[name] = ("bind_ortvalue_output", (ortvalue,))

    def clear_binding_inputs(self) -> None:
        self.inputs.clear()

    def clear_binding_outputs(self) -> None:
        self.outputs.clear()

    def get_outputs(self) -> list[Any]:
        return list(self.results)

    def copy_outputs_to_cpu(self) -> list[np.ndarray]:
        return [value.numpy() for value in self.results]

    def replay(self, other: ort.IOBinding, inputs: set[str]) -> None:
        """Binds the same to another binding, as far as its session has these inputs."""
        for name, (how, what) in self.inputs.items():
            if name in inputs:
                getattr(other, how)(name, *what)
        for name, (how, what) in self.outputs.items():
            getattr(other, how)(name, *what)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a bound input."""
        how, what = self.inputs[name]
        if how == "bind_input":
            return tuple(what[3])
        return tuple(what[0].shape() if how == "bind_ortvalue_input" else np.shape(what[0]))

    def value(self, name: str) -> np.ndarray:
        """The value of a bound input, brought to the host."""
        how, what = self.inputs[name]
        if how == "bind_cpu_input":
            return np.asarray(what[0])
        if how == "bind_ortvalue_input":
            return np.asarray(what[0].numpy())
        device, number, element_type, shape, pointer = what
        dtype = np.dtype(element_type)
        if device != "cpu":
            return _on_device(device, number, dtype, tuple(shape), pointer)
        size = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(pointer), dtype).reshape(shape)


def _on_device(device: str, number: int, dtype: np.dtype, shape: tuple[int, ...], pointer: int) -> np.ndarray:
    """Memory on a GPU, copied. The caller who bound it by its address has torch."""
    torch = sys.modules.get("torch")
    if device != "cuda" or torch is None:
        raise HgcError(
            f"a value in memory of the device {device!r} is bound by its address; bind an OrtValue"
        )

    memory = SimpleNamespace()
    memory.__cuda_array_interface__ = {
        "shape": shape,
        "typestr": dtype.str,
        "data": (pointer, True),
        "version": 3,
    }
    copied: np.ndarray = torch.as_tensor(memory, device=f"{device}:{number}").cpu().numpy()
    return copied
