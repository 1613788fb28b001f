"""What the executable answers, as data classes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What all answers have: the JSON that they are read from."""

    data: dict[str, Any] = field(repr=False)


Report = TypeVar("Report", bound=Answer)
# Words of the JSON that Python keeps for itself.
_KEYS = {"passed": "pass"}


def read(of: type[Report], data: dict[str, Any]) -> Report:
    """The data class of an answer; what it has no field for stays in `data`."""
    names = [f.name for f in fields(of) if f.name != "data"]
    known = {name: data[_KEYS.get(name, name)] for name in names}
    return of(**known | {"data": data})


@dataclass(frozen=True)
class Totals(Answer):
    """Cost of one generation: MACs of original and compiled models."""

    macs_before: int
    macs_after: int
    # Share of the MACs of layers with weights that is saved.
    reduction: float
    # Memory of the caches.
    cache_bytes: int


@dataclass(frozen=True)
class Gate(Answer):
    """What is computed and read together: `R` on evaluations that compute it, `.` on those that read."""

    model: str
    gate: str
    schedule: str
    refresh_steps: list[int]
    sites: list[str]


@dataclass(frozen=True)
class Planned(Answer):
    """Answer of `plan`."""

    totals: Totals
    gates: list[Gate]
    # As in plan.toml.
    plan: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Compiled(Answer):
    """Answer of `compile`."""

    policy: str
    steps: int
    files: list[str] = field(repr=False)
    totals: Totals
    gates: list[Gate]
    # What could not be cached, and why.
    refused: list[dict[str, str]] = field(repr=False)


@dataclass(frozen=True)
class Model(Answer):
    """Answer of `inspect` for one model."""

    file: str
    role: str
    inputs: list[dict[str, Any]] = field(repr=False)
    blocks: list[dict[str, Any]] = field(repr=False)
    attention: list[dict[str, Any]] = field(repr=False)


@dataclass(frozen=True)
class Verdict(Answer):
    """Answer of `verify` for one model."""

    file: str
    passed: bool
    max_abs_diff: float | None
    tolerance: float | None
    checks: list[dict[str, Any]] = field(repr=False)


@dataclass(frozen=True)
class Benchmark(Answer):
    """Answer of `bench`: seconds of one generation, without what is around the networks."""

    steps: int
    seconds_original: float
    seconds_rewritten: float
    speed_up: float
    # What the MACs allow.
    speed_up_macs: float


@dataclass(frozen=True)
class Fit(Answer):
    """One schedule that `tune` found; signal-to-noise ratios of the final latents in dB."""

    sampler: str
    steps: int
    saved: float
    signal: float
    # The best formula at the same budget, and the original in fewer steps.
    formula: float
    fewer_steps: int
    fewer: float


@dataclass(frozen=True)
class Tuned(Answer):
    """Answer of `tune` for one plan."""

    plan: str
    fits: list[Fit]
    seconds: float


@dataclass(frozen=True)
class Schedules(Answer):
    """Answer of `schedule list`."""

    folder: str
    kinds: list[dict[str, Any]]
    schedules: list[dict[str, Any]]
