"""Run ONNX diffusion models that `hgc` compiled as if they were the originals.

`InferenceSession` takes the place of onnxruntime's: it hides the step number and the caches of a compiled
model, finds out where a generation begins, and keeps the caches where the provider has them. `compile`,
`plan`, `verify` and others call the executable `hgc`.
"""

from ._accelerate import accelerate, install, uninstall
from ._errors import HgcError
from ._reports import Benchmark, Compiled, Fit, Gate, Model, Planned, Schedules, Totals, Tuned, Verdict
from ._session import InferenceSession, wrap
from ._sidecar import Sidecar
from ._tool import bench, call, compile, inspect, plan, schedules, tune, verify

__all__ = [
    "Benchmark",
    "Compiled",
    "Fit",
    "Gate",
    "HgcError",
    "InferenceSession",
    "Model",
    "Planned",
    "Schedules",
    "Sidecar",
    "Totals",
    "Tuned",
    "Verdict",
    "accelerate",
    "bench",
    "call",
    "compile",
    "inspect",
    "install",
    "plan",
    "schedules",
    "tune",
    "uninstall",
    "verify",
    "wrap",
]
