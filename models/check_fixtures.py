"""Check the fixtures: every restored model runs, sensibly, at the sizes it promises.

    check_fixtures.py [NAME ...] [--fixtures tests/fixtures]

- Outputs are finite and their standard deviation lies between 0.05 and 20.
- A UNet that takes residuals gives a noticeably other answer with its ControlNets than without.
- Where the batch is dynamic, half the batch gives half the rows; where height and width are, other
  sizes run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from architectures import Options, controlnet_folder, unet_config
from make_fixtures import FIXTURES
from restore import restore
from signatures import Port, Signature

Arrays = list[np.ndarray]


def session(model: Path) -> ort.InferenceSession:
    """A session on the CPU provider with one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model: ort.InferenceSession, inputs: Arrays) -> Arrays:
    """Run with inputs by position."""
    names = [value.name for value in model.get_inputs()]
    outputs: Arrays = model.run(None, dict(zip(names, inputs, strict=True)))
    for value, output in zip(model.get_outputs(), outputs, strict=True):
        deviation = float(np.std(output.astype(np.float32)))
        if not np.isfinite(output).all() or not 0.05 < deviation < 20:
            raise AssertionError(f"{value.name}: standard deviation {deviation}")
    return outputs


def arrays(ports: list[Port]) -> Arrays:
    """The example values of inputs."""
    return [port.example.numpy() for port in ports if port.example is not None]


def difference(left: np.ndarray, right: np.ndarray) -> float:
    """The largest difference, relative to the standard deviation of the left side."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    return float(np.abs(left - right).max() / left.std())


class Pipeline:
    """The restored models of one fixture."""

    def __init__(self, options: Options, models: dict[str, Path]) -> None:
        self.options = options
        self.config = unet_config(options.arch, options.width, options.timestep_cond)
        self.unet = session(models["unet"])
        count = 0 if options.merged else options.controlnets
        self.controlnets = [session(models[controlnet_folder(index)]) for index in range(count)]

    def signature(self, batch: int = 2, height: int = 16, width: int = 24) -> Signature:
        """Example inputs of one size."""
        return Signature(self.options, self.config, (batch, height, width))

    def noise(self, signature: Signature) -> tuple[np.ndarray, Arrays]:
        """The prediction, and the residuals that went into it."""
        if self.options.merged:
            return run(self.unet, arrays(signature.merged()))[0], []
        inputs = arrays(signature.unet())
        residuals: Arrays = []
        for controlnet in self.controlnets:
            # The condition is drawn after the inputs shared with the UNet, which stay the same.
            own = arrays(signature.controlnet())
            shared = 3
            found = run(controlnet, [inputs[0][:, :4], *inputs[1:shared], *own[shared:]])
            pairs = zip(residuals, found, strict=True)
            residuals = [a + b for a, b in pairs] if residuals else found
        if residuals:
            inputs[-len(residuals) :] = residuals
        return run(self.unet, inputs)[0], residuals


def check_residuals(pipeline: Pipeline) -> float:
    """How much the ControlNets change the prediction."""
    signature = pipeline.signature()
    if pipeline.options.merged:
        inputs = arrays(signature.merged())
        with_control = run(pipeline.unet, inputs)[0]
        inputs[4] = np.zeros_like(inputs[4])
        without = run(pipeline.unet, inputs)[0]
    else:
        inputs = arrays(signature.unet())
        with_control, residuals = pipeline.noise(pipeline.signature())
        inputs[-len(residuals) :] = [np.zeros_like(residual) for residual in residuals]
        without = run(pipeline.unet, inputs)[0]
    change = difference(with_control, without)
    if change < 0.1:
        raise AssertionError(f"the ControlNets change the prediction by {change} only")
    return change


def check_half_batch(pipeline: Pipeline) -> float:
    """How far the last half of the batch alone is from the same rows of the whole."""
    inputs = arrays(pipeline.signature().unet())
    whole = run(pipeline.unet, inputs)[0]
    half = run(pipeline.unet, [value[1:] if value.shape[:1] == (2,) else value for value in inputs])[0]
    change = difference(whole[1:], half)
    if change > (0.05 if pipeline.options.dtype == "fp16" else 1e-3):
        raise AssertionError(f"half the batch gives other rows, by {change}")
    return change


def check(name: str, models: dict[str, Path]) -> str:
    """Check one fixture; returns a line of findings."""
    fixture = FIXTURES[name]
    if not fixture.runs_on_cpu:
        for model in models.values():
            onnx.load(model)
        return "loads (no CPU kernels, not run)"
    options = fixture.options
    pipeline = Pipeline(options, models)
    noise, _ = pipeline.noise(pipeline.signature())
    findings = [f"std {float(noise.astype(np.float32).std()):.2f}"]
    if options.controlnets:
        findings.append(f"control {check_residuals(pipeline):.2f}")
    if options.static == "none":
        if not options.merged:
            findings.append(f"half batch {check_half_batch(pipeline):.1e}")
        for size in ((1, 16, 16), (4, 24, 16)):
            pipeline.noise(pipeline.signature(*size))
        findings.append("other sizes run")
    elif options.static == "batch":
        pipeline.noise(pipeline.signature(2, 24, 16))
        findings.append("other sizes run")
    return ", ".join(findings)


def main() -> None:
    """Check the fixtures named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--fixtures", type=Path, default=Path(__file__).parent.parent / "tests" / "fixtures")
    arguments = parser.parse_args()
    for name in arguments.names or FIXTURES:
        with tempfile.TemporaryDirectory() as scratch:
            print(f"{name}: {check(name, restore(arguments.fixtures / name, Path(scratch)))}", flush=True)


if __name__ == "__main__":
    main()
