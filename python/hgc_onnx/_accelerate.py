"""Pipelines of others: their sessions are wrapped, and told how many evaluations a picture takes."""

from __future__ import annotations

from typing import Any, TypeVar

import onnxruntime as ort

from . import _session
from ._errors import HgcError
from ._generation import Source
from ._session import InferenceSession
from ._sidecar import Evaluation, Sidecar, schedule_for

_SAMPLERS = {
    "DDIMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler-ancestral",
    "DPMSolverMultistepScheduler": "dpm++2m",
    "UniPCMultistepScheduler": "unipc",
    "PNDMScheduler": "pndm",
    "HeunDiscreteScheduler": "heun",
    "LCMScheduler": "lcm",
}

Pipeline = TypeVar("Pipeline")


def accelerate(pipe: Pipeline) -> Pipeline:
    """Lets a pipeline (optimum, or any whose parts have an onnxruntime `session`) run compiled models.

    Every picture takes the schedule for its number of evaluations and its kind of scheduler. Calling it twice
    is no harm. Raises HgcError where nothing in the pipeline was compiled.
    """
    sessions: list[InferenceSession] = []
    for part, name in _holders(pipe):
        held = getattr(part, name)
        wrapped = InferenceSession.wrap(held)
        if not wrapped.is_compiled:
            continue
        if wrapped is not held:
            _give(part, name, wrapped)
        sessions.append(wrapped)
    if not sessions:
        raise HgcError(
            f"nothing in this {type(pipe).__name__} was compiled by hgc: load the folder that `hgc compile` wrote"
        )
    sidecars = [session.sidecar for session in sessions if session.sidecar is not None]

    def schedule() -> tuple[Evaluation, ...]:
        _check_guidance(pipe, sidecars)
        scheduler = type(_scheduler(pipe)).__name__
        return schedule_for(sidecars, _evaluations(pipe), _SAMPLERS.get(scheduler, scheduler))

    # Each picture sets the timesteps anew, also after one that was broken off.
    source = Source(schedule, lambda: getattr(_scheduler(pipe), "timesteps", None))
    for session in sessions:
        session.follow_as(source)
    return pipe


def _check_guidance(pipe: Any, sidecars: list[Sidecar]) -> None:
    """Without guidance all rows carry the prompt; a model with halves would take the first for unprompted."""
    try:
        guided = pipe.do_classifier_free_guidance
    except (AttributeError, TypeError):
        return
    halved = next((sidecar.name for sidecar in sidecars if sidecar.halves), None)
    if not guided and halved is not None:
        raise HgcError(
            f"{halved}: this picture is drawn without guidance, and the model runs the prompted half of a guided "
            "batch alone on some evaluations; compile it with --prompted none, or with --target any for both uses"
        )


def _parts(pipe: Any) -> list[Any]:
    named = getattr(pipe, "components", None)
    parts = list(named.values()) if isinstance(named, dict) else list(vars(pipe).values())
    nets = [net for part in parts for net in (getattr(part, "nets", None) or [])]
    return parts + nets


def _holders(pipe: Any) -> list[tuple[Any, str]]:
    """Parts with a session, and what they call it: optimum `session`, diffusers' ONNX classes `model`."""
    names = ("session", "model")
    found = [(part, name) for part in _parts(pipe) for name in names]
    return [(part, name) for part, name in found if isinstance(getattr(part, name, None), _session._Base)]


def _give(part: Any, name: str, session: InferenceSession) -> None:
    """Puts a session into a part, with all that the part knows of it."""
    if hasattr(part, "initialize_ort_attributes"):
        part.initialize_ort_attributes(session, use_io_binding=getattr(part, "use_io_binding", None))
    else:
        setattr(part, name, session)
    # diffusers calls this after each picture, and after an interruption.
    part._reset_stateful_cache = lambda *_, **__: session.reset()


def _scheduler(pipe: Any) -> Any:
    return getattr(pipe, "scheduler", None)


def _evaluations(pipe: Any) -> int | None:
    """Evaluations of the picture that begins; None where the pipeline does not say."""
    count = getattr(pipe, "_num_timesteps", None)
    if count is None:
        timesteps = getattr(_scheduler(pipe), "timesteps", None)
        count = None if timesteps is None else len(timesteps)
    return count or None


def install() -> None:
    """Puts the session into onnxruntime itself, for programs that one cannot edit. `uninstall` undoes it."""
    ort.InferenceSession = InferenceSession


def uninstall() -> None:
    """Takes `install` back."""
    ort.InferenceSession = _session._Base
