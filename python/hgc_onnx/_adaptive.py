"""Gates that decide while a generation runs: how far latent and timestep have moved since the last refresh."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Gate:
    """What decides on one evaluation between the kind of the schedule and one that refreshes."""

    # The kind that runs where the gate fires.
    instead: str
    # What a change by 1 of the latent (root mean square, of the row that moved most) and of the timestep
    # counts; above a sum of 1 the gate fires.
    latent: float
    time: float
    # Evaluations in a row without a refresh, and refreshes of a generation, at most.
    most: int
    budget: int
    # Kinds that count as a refresh.
    anchors: frozenset[str]


@dataclass
class Memory:
    """What decisions of a generation depend on."""

    latent: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    time: float = 0.0
    since: int = 0
    fired: int = 0

    def measure(self, gate: Gate, latent: np.ndarray, time: float) -> float:
        """What has moved, as a share of what is allowed."""
        moved = 0.0
        if latent.shape == self.latent.shape:
            change = latent.astype(np.float32) - self.latent
            rows = change.reshape(len(change), -1).astype(np.float64)
            moved = float(np.sqrt((rows * rows).mean(axis=1)).max())
        return gate.latent * moved + gate.time * abs(time - self.time)

    def fires(self, gate: Gate, latent: np.ndarray, time: float) -> bool:
        """Whether the gate fires on this evaluation."""
        if self.fired >= gate.budget:
            return False
        return self.since >= gate.most or self.measure(gate, latent, time) > 1.0

    def advance(self, latent: np.ndarray, time: float, anchors: bool, fired: bool) -> None:
        """After an evaluation: whether it was a refresh, and whether the gate fired."""
        self.fired += fired
        self.since += 1
        if anchors:
            # Callers reuse their arrays.
            self.latent, self.time, self.since = np.array(latent, np.float32), time, 0
