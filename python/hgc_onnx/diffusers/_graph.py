"""A session that takes and gives torch tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch

from .._errors import HgcError
from .._session import InferenceSession

_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(bfloat16)": torch.bfloat16,
    "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(bool)": torch.bool,
}
# What the inputs of an original are, by the names that diffusers has for them. A compiled model says it itself.
_ROLES = {
    "sample": "latent",
    "timestep": "timestep",
    "encoder_hidden_states": "text",
    "text_embeds": "pooled text",
    "time_ids": "time ids",
    "timestep_cond": "guidance embedding",
    "controlnet_cond": "control image",
    "controlnet_conds": "control image",
    "conditioning_scale": "conditioning scale",
    "conditioning_scales": "conditioning scale",
}


def read_json(file: Path) -> dict[str, Any]:
    """The content of a JSON file; empty where there is none."""
    try:
        found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise HgcError(f"{file} is no JSON: {error}") from error
    return found


def config_beside(model: Path) -> dict[str, Any]:
    """The `config.json` in the folder of a model."""
    return read_json(model.with_name("config.json"))


def model_in(path: str | Path) -> Path:
    """A model file: the one that is named, or `model.onnx` of the folder that is named."""
    given = Path(path)
    model = given / "model.onnx" if given.is_dir() else given
    if not model.is_file():
        raise HgcError(f"there is no {model}")
    return model


class Graph:
    """One model, with what its inputs are."""

    def __init__(self, session: InferenceSession, model: Path) -> None:
        self.session = session
        self.model = model
        self.inputs = {info.name: info for info in session.get_inputs()}
        self.outputs = [info.name for info in session.get_outputs()]
        if session.sidecar is not None:
            self.roles = dict(session.sidecar.inputs)
        else:
            self.roles = {
                name: _ROLES.get(name, "residual" if len(info.shape) == 4 else "other")
                for name, info in self.inputs.items()
            }

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> Graph:
        """Opens a model file, or `model.onnx` of a folder; options as of `InferenceSession`."""
        model = model_in(path)
        options.setdefault("providers", ["CPUExecutionProvider"])
        return cls(InferenceSession(model, **options), model)

    def named(self, role: str) -> list[str]:
        """The inputs with a role, in their order."""
        return [name for name in self.inputs if self.roles.get(name) == role]

    def dtype(self, name: str) -> torch.dtype:
        """Element type of an input."""
        declared = self.inputs[name].type
        if declared not in _TYPES:
            raise HgcError(f"{self.model}: the input {name} is a {declared}, which is not supported")
        return _TYPES[declared]

    def rank(self, name: str) -> int:
        """How many dimensions an input has."""
        return len(self.inputs[name].shape)

    @property
    def device(self) -> torch.device:
        """Where tensors should be: on the GPU only where both runtimes are on it."""
        provider = self.session.get_providers()[0]
        if provider in ("CUDAExecutionProvider", "TensorrtExecutionProvider") and torch.cuda.is_available():
            number = self.session.get_provider_options().get(provider, {}).get("device_id", "0")
            return torch.device("cuda", int(number))
        return torch.device("cpu")

    def run(self, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs by name, on `device`."""
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            raise HgcError(
                f"{self.model}: the input {missing[0]!r} is a {self.roles.get(missing[0], 'value')} that the "
                "pipeline does not give"
            )
        device = self.device
        binding = self.session.io_binding()
        # Held until the run is over: the values share their memory.
        held = {name: value.detach().to(self.dtype(name)).contiguous() for name, value in feeds.items()}
        for name, value in held.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.from_dlpack(value))
        for name in self.outputs:
            binding.bind_output(name, device.type, device.index or 0)
        self.session.run_with_iobinding(binding)
        values: Sequence[Any] = binding.get_outputs()
        return {name: torch.from_dlpack(value) for name, value in zip(self.outputs, values, strict=True)}

    def first(self, feeds: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The first output."""
        return next(iter(self.run(feeds).values()))

    def by_row(self, values: torch.Tensor) -> torch.Tensor:
        """The first output for a single input, one row at a time as memory allows."""
        (name,) = self.inputs
        return torch.cat([self.first({name: row}) for row in values.split(1)])

    def timestep(self, name: str, value: Any, rows: int) -> torch.Tensor:
        """A timestep as an input wants it, in host memory: a scalar, `[1]`, `[B]` or `[B, 1]`."""
        t = torch.as_tensor(value).detach().to("cpu").reshape(-1)[:1]
        shape = self.inputs[name].shape
        if not shape:
            return t.reshape(())
        return t.expand(1 if shape[0] == 1 else rows).reshape(-1, *[1] * (len(shape) - 1))
