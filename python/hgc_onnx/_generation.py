"""Where a generation begins, and what each evaluation of it runs.

A generation is one run of a sampler. Nothing tells a session that one begins, so its inputs do. In doubt
everything is recomputed: that is always right, only slower, and it is counted.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._adaptive import Memory
from ._binding import Binding
from ._sidecar import Evaluation, Sidecar

# Streams of one thread: prompted and unprompted pass as two calls, and a few more.
_MOST_STREAMS = 4


@dataclass
class Stats:
    """What a session has run."""

    evaluations: Counter[str] = field(default_factory=Counter)
    generations: int = 0
    # Why everything was recomputed where the schedule did not say so.
    forced: Counter[str] = field(default_factory=Counter)


@dataclass
class Stream:
    """The caches of one generation, and what they were made for."""

    shapes: dict[str, tuple[int, ...]]
    constants: dict[str, np.ndarray]
    watched: dict[str, np.ndarray]
    first_t: float | None
    last_t: float | None
    step: int = 0
    states: dict[str, Any] = field(default_factory=dict)
    holding: dict[str, str] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    # Whether a gate fired on the evaluation that runs.
    fired: bool = False


@dataclass(frozen=True)
class Call:
    """The inputs of one call, as far as they tell generations apart."""

    shapes: dict[str, tuple[int, ...]]
    constants: dict[str, np.ndarray]
    watched: dict[str, np.ndarray]
    t: float | None
    # Brought to the host where a gate looks at it.
    latent: Callable[[], np.ndarray]

    @classmethod
    def of(cls, sidecar: Sidecar, binding: Binding) -> Call:
        """Reads what is bound."""

        def those(names: tuple[str, ...]) -> dict[str, np.ndarray]:
            return {name: binding.value(name) for name in names if name in binding.inputs}

        times = [n for n, what in sidecar.inputs.items() if what == "timestep" and n in binding.inputs]
        given = binding.value(times[0]).reshape(-1) if times else np.empty(0)
        shapes = {name: binding.shape(name) for name in binding.inputs}
        t = float(given[0]) if given.size else None
        latents = [n for n, what in sidecar.inputs.items() if what == "latent" and n in binding.inputs]

        def latent() -> np.ndarray:
            return binding.value(latents[0]) if latents else np.zeros((1, 1), np.float32)

        return cls(shapes, those(sidecar.constant_inputs), those(sidecar.watched_inputs), t, latent)

    def begin(self) -> Stream:
        """A stream that this call begins; values are copied, since callers reuse their arrays."""
        return Stream(self.shapes, _copied(self.constants), _copied(self.watched), self.t, None)


def _copied(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in values.items()}


def _equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


def _no_mark() -> None:
    return None


@dataclass(frozen=True)
class Source:
    """Who knows of generations what the inputs do not say."""

    # Asked at each beginning for its evaluations.
    schedule: Callable[[], tuple[Evaluation, ...]]
    # An object that is another one in each generation.
    mark: Callable[[], Any] = _no_mark
    # Evaluations on which a model of the pipeline had to refresh: those after it are given what it made.
    forced: set[int] = field(default_factory=set)


class Generations:
    """The streams of one thread or of one explicit generation."""

    def __init__(self, sidecar: Sidecar, stats: Stats, source: Source) -> None:
        self.sidecar = sidecar
        self.stats = stats
        self.source = source
        self.mark: Any = None
        self.schedule: tuple[Evaluation, ...] = ()
        self.streams: list[Stream] = []
        self.told_past_end = False

    def reset(self) -> None:
        """Forgets everything: the next call begins a generation."""
        self.streams.clear()

    def admit(self, call: Call) -> tuple[Stream, Evaluation]:
        """The stream that a call belongs to, and what it runs."""
        mark = self.source.mark()
        if mark is not self.mark:
            self.streams.clear()
            self.mark = mark
        stream, reason = self._find(call)
        start = Evaluation(self.sidecar.kinds[0].name)
        if stream.step == 0:
            self.source.forced.clear()
            return stream, start
        if reason is None and not _equal(stream.watched, call.watched):
            reason = "a watched input changed"
            stream.watched = _copied(call.watched)
        if reason is None and stream.step in self.source.forced:
            reason = "another model of the pipeline refreshed"
        if reason is None and stream.step >= len(self.schedule):
            reason = "past the end of the schedule"
        due = start if reason else self._decided(stream, self.schedule[stream.step], call)
        if not self.sidecar.admits(due.kind, stream.holding):
            reason, due = "nothing to read yet", start
        if reason:
            self.stats.forced[reason] += 1
            self.source.forced.add(stream.step)
        return stream, due

    @staticmethod
    def _decided(stream: Stream, due: Evaluation, call: Call) -> Evaluation:
        """What runs where a gate decides."""
        if due.gate is None:
            return due
        stream.fired = stream.memory.fires(due.gate, call.latent(), call.t or 0.0)
        return Evaluation(due.gate.instead) if stream.fired else due

    def _find(self, call: Call) -> tuple[Stream, str | None]:
        alike = [s for s in self.streams if s.shapes == call.shapes]
        if not alike:
            self.streams.clear()
            return self._begin(call), None
        same = [s for s in alike if _equal(s.constants, call.constants)]
        for stream in same:
            if self._goes_on(stream, call):
                return stream, None
        if same:
            # The same prompt from the first timestep again.
            self.streams.clear()
            return self._begin(call), None
        latest = alike[-1]
        if call.t is not None and call.t == latest.last_t:
            # Another prompt at the same timestep: two passes a step.
            return self._begin(call), None
        if call.t is not None and latest.last_t is not None and call.t < latest.last_t:
            latest.constants = _copied(call.constants)
            return latest, "a constant input changed"
        self.streams.clear()
        return self._begin(call), None

    @staticmethod
    def _goes_on(stream: Stream, call: Call) -> bool:
        if call.t is None or stream.last_t is None:
            return True
        return call.t <= stream.last_t and (call.t != stream.first_t or stream.step == 0)

    def _begin(self, call: Call) -> Stream:
        self.schedule = self.source.schedule()
        stream = call.begin()
        self.told_past_end = False
        self.streams.append(stream)
        del self.streams[:-_MOST_STREAMS]
        self.stats.generations += 1
        return stream

    def done(self, stream: Stream, kind: str, call: Call, states: dict[str, Any]) -> None:
        """Counts an evaluation that succeeded."""
        anchors = next((e.gate.anchors for e in self.schedule if e.gate), None)
        if anchors is not None:
            stream.memory.advance(call.latent(), call.t or 0.0, kind in anchors, stream.fired)
            stream.fired = False
        stream.step += 1
        stream.last_t = call.t
        stream.states.update(states)
        self.sidecar.follow(kind, stream.holding)
        self.stats.evaluations[kind] += 1

    def failed(self, stream: Stream) -> None:
        """Drops the caches of a call that failed: their content is not known."""
        if stream in self.streams:
            self.streams.remove(stream)


class PerThread(threading.local):
    """Generations by thread: two threads that share a session draw two pictures."""

    def __init__(self) -> None:
        # What the inputs tell.
        self.found: Generations | None = None
        # Those of `generation()`, the innermost last.
        self.told: list[Generations] = []
