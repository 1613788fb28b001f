"""`hgc.json`: what a driver must know of a compiled model (docs/CALLERS.md of hgc)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from ._adaptive import Gate
from ._errors import HgcError

SCHEMA = "hgc.model.v1"
FILE = "hgc.json"
KEY = "hgc.model"
# A refresh of everything, from least to most: fused and held guidance run one half of the batch.
_GUIDANCE = {"fused": 0, "held": 1, "full": 2, "restart": 3}


@dataclass(frozen=True)
class Kind:
    """One setting of everything that an evaluation computes or reads."""

    name: str
    guidance: str
    refresh: frozenset[str]
    restart: frozenset[str]
    macs: int

    def does_all_of(self, other: Kind) -> bool:
        """Whether it refreshes all that `other` does."""
        return (
            other.refresh <= self.refresh | self.restart
            and other.restart <= self.restart
            and _GUIDANCE[self.guidance] >= _GUIDANCE[other.guidance]
        )


@dataclass(frozen=True)
class State:
    """One cached value. `reads` and `writes` say for each kind how many rows: "half" or "all"."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    in_place: bool
    reads: dict[str, str]
    writes: dict[str, str]


class Evaluation(NamedTuple):
    """What one evaluation of a schedule does."""

    kind: str
    # Row of the weights of forecasts; 0 holds.
    row: int = 0
    # What decides while the generation runs; None where the schedule does.
    gate: Gate | None = None


@dataclass(frozen=True)
class Sidecar:
    """A compiled model as its drivers see it."""

    form: str
    name: str
    graph: str
    halves: bool
    kinds: tuple[Kind, ...]
    files: tuple[str, ...]
    schedules: tuple[tuple[str | None, tuple[Evaluation, ...]], ...]
    # Rows of the tables of weights.
    weights: int
    states: tuple[State, ...]
    inputs: dict[str, str]
    constant_inputs: tuple[str, ...]
    watched_inputs: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, where: str) -> Sidecar:
        """Reads the text of a sidecar, which is in `where`."""
        try:
            data: dict[str, Any] = json.loads(text)
            if data["schema"] != SCHEMA:
                raise HgcError(f"{where}: its schema is {data['schema']!r}, this package reads {SCHEMA!r}")
            kinds = tuple(
                Kind(
                    kind["name"],
                    kind["guidance"],
                    frozenset(kind.get("refresh", ())),
                    frozenset(kind.get("restart", ())),
                    macs,
                )
                for kind, macs in zip(data["kinds"], data["macs"], strict=True)
            )
            states = tuple(
                State(s["name"], s["type"], tuple(s["shape"]), s["in_place"], s["reads"], s["writes"])
                for s in data["states"]
            )
            found = cls(
                form=data["form"],
                name=data["name"],
                graph=data["graph"],
                halves=data["rows"]["halves"],
                kinds=kinds,
                files=tuple(data.get("files", ())),
                schedules=tuple((s.get("sampler"), _evaluations(s, kinds)) for s in data["schedules"]),
                weights=data.get("weights", 0),
                states=states,
                inputs=dict(data.get("inputs", {})),
                constant_inputs=tuple(data["constant_inputs"]),
                watched_inputs=tuple(data["watched_inputs"]),
            )
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise HgcError(f"{where} is damaged ({error}); compile the original again") from error
        known = {kind.name for kind in kinds}

        def wrong(schedule: tuple[Evaluation, ...]) -> bool:
            return not schedule or any(e.kind not in known or e.row > found.weights for e in schedule)

        if not kinds or not found.schedules or any(wrong(schedule) for _, schedule in found.schedules):
            raise HgcError(f"{where} is damaged (its schedules); compile the original again")
        return found

    @classmethod
    def beside(cls, model: str | Path) -> Sidecar | None:
        """The sidecar beside a model file; None where there is none."""
        path = Path(model)
        file = path.with_name(FILE) if path.name == "model.onnx" else path.with_suffix("." + FILE)
        return cls.parse(file.read_text("utf-8"), str(file)) if file.is_file() else None

    def position(self, kind: str) -> int:
        """The number of a kind."""
        for number, known in enumerate(self.kinds):
            if known.name == kind:
                return number
        raise HgcError(f"there is no kind {kind!r}; there are {', '.join(k.name for k in self.kinds)}")

    def step(self, evaluation: Evaluation) -> int:
        """The value of `hgc.step` that names an evaluation."""
        return -1 - self.position(evaluation.kind) - len(self.kinds) * evaluation.row

    def admits(self, kind: str, holding: dict[str, str]) -> bool:
        """Whether all that `kind` reads is in `holding`: rows by state."""

        def enough(have: str | None, need: str) -> bool:
            return have == "all" or have == need

        return all(enough(holding.get(s.name), s.reads[kind]) for s in self.states if kind in s.reads)

    def follow(self, kind: str, holding: dict[str, str]) -> None:
        """What is there after `kind`."""
        for state in self.states:
            if kind in state.writes:
                holding[state.name] = state.writes[kind]


def _evaluations(schedule: dict[str, Any], known: Sequence[Kind]) -> tuple[Evaluation, ...]:
    kinds = schedule["kinds"]
    rows = schedule.get("rows") or [0] * len(kinds)
    gates = _gates(schedule["adaptive"], known) if schedule.get("adaptive") else [None] * len(kinds)
    return tuple(Evaluation(*e) for e in zip(kinds, rows, gates, strict=True))


def _gates(adaptive: dict[str, Any], known: Sequence[Kind]) -> list[Gate | None]:
    wanted = next(kind.refresh | kind.restart for kind in known if kind.name == adaptive["instead"])
    anchors = frozenset(kind.name for kind in known if wanted <= kind.refresh | kind.restart)

    def gate(decided: str, latent: float, time: float) -> Gate | None:
        if decided != "?":
            return None
        return Gate(adaptive["instead"], latent, time, adaptive["most"], adaptive["budget"], anchors)

    columns = zip(adaptive["decided"], adaptive["latent"], adaptive["time"], strict=True)
    return [gate(*column) for column in columns]


def schedule_for(
    models: Sequence[Sidecar], evaluations: int | None = None, sampler: str | None = None
) -> tuple[Evaluation, ...]:
    """The evaluations of a generation, for all models of a pipeline: of their schedule for so many
    evaluations, or of the first, spread over them.
    """
    first = models[0]
    if evaluations is None:
        # Of the first's length; one made for the sampler, if there is any.
        evaluations = len(first.schedules[0][1])
    fitting = [(made, kinds) for made, kinds in first.schedules if len(kinds) == evaluations]
    if fitting:
        return min(fitting, key=lambda schedule: _distance(schedule[0], sampler))[1]
    near = [kinds for made, kinds in first.schedules if _distance(made, sampler) < 2]
    near = near or [kinds for _, kinds in first.schedules]
    return _spread(models, min(near, key=lambda kinds: abs(len(kinds) - evaluations)), evaluations)


_MULTISTEP = {
    "deismultistepscheduler",
    "dpmsolvermultistepscheduler",
    "dpmsolversinglestepscheduler",
    "ipndmscheduler",
    "lmsdiscretescheduler",
    "pndmscheduler",
    "sasolverscheduler",
    "unipcmultistepscheduler",
    "dpm++2m",
    "lms",
    "pndm",
    "unipc",
}


def _distance(made: str | None, sampler: str | None) -> int:
    """How far a schedule that was made for a sampler, a kind of samplers or any (None) is from this sampler."""
    if sampler is not None and made == sampler:
        return 0
    if sampler is not None and made == ("multistep" if sampler.lower() in _MULTISTEP else "first-order"):
        return 1
    return 2 if made is None else 3


def _spread(
    models: Sequence[Sidecar], given: Sequence[Evaluation], evaluations: int
) -> tuple[Evaluation, ...]:
    """As `Flows::spread` of hgc: the same share of the way, never less than planned; weights were fitted
    to other evaluations, so all is held.
    """
    kinds = models[0].kinds
    work = {kind.name: sum(m.kinds[n].macs for m in models) for n, kind in enumerate(kinds)}
    by_name = {kind.name: kind for kind in kinds}
    wanted: list[Kind] = []
    start = 0
    for evaluation in range(evaluations):
        end = -(-(evaluation + 1) * len(given) // evaluations)
        covered = [by_name[e.kind] for e in given[start:end]]
        if covered:
            # Of equals the last, as Rust's `max_by_key` has it.
            wanted.append(max(reversed(covered), key=lambda kind: work[kind.name]))
        else:
            alike = [kind for kind in kinds if kind.guidance == wanted[-1].guidance]
            wanted.append(min(alike, key=lambda kind: work[kind.name]))
        start = max(start, end)
    holdings: list[dict[str, str]] = [{} for _ in models]
    chosen: list[Evaluation] = []
    for evaluation, kind in enumerate(wanted):
        best = kinds[0].name
        if evaluation > 0:
            fitting = [
                known
                for known in kinds
                if known.does_all_of(kind)
                and all(m.admits(known.name, h) for m, h in zip(models, holdings, strict=True))
            ]
            if fitting:
                ranked = [(work[k.name], k.guidance != kind.guidance, n) for n, k in enumerate(fitting)]
                best = fitting[min(ranked)[2]].name
        for model, holding in zip(models, holdings, strict=True):
            model.follow(best, holding)
        gate = given[min(evaluation * len(given) // evaluations, len(given) - 1)].gate
        chosen.append(Evaluation(best, 0, _scaled(gate, evaluations, len(given)) if evaluation else None))
    return tuple(chosen)


def _scaled(gate: Gate | None, evaluations: int, own: int) -> Gate | None:
    """A gate of a schedule of `own` evaluations in a spread one: its caps in proportion."""
    if gate is None:
        return None
    return replace(gate, most=-(-gate.most * evaluations // own), budget=-(-gate.budget * evaluations // own))
