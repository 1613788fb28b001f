"""A stage of a training: optimiser, moving average, log, and checkpoints to go on from."""

from __future__ import annotations

import copy
import csv
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

SAVE_SECONDS = 60


@dataclasses.dataclass
class Progress:
    """How far a stage is: steps done and seconds spent."""

    step: int = 0
    seconds: float = 0.0


def clock() -> float:
    """Seconds of processor time a thread."""
    return time.process_time() / torch.get_num_threads()


class Stage:
    """A stage of training: weights, their moving average, optimiser, and a clock to stop by."""

    def __init__(self, name: str, out: Path, model: nn.Module, rate: float, steps: int) -> None:
        self.name, self.out, self.model, self.rate = name, out, model, rate
        self.steps = steps
        self.progress = Progress()
        self.average = copy.deepcopy(model).requires_grad_(False)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01, betas=(0.9, 0.99))
        self.path = out / f"{name}.pt"
        if self.path.exists():
            saved = torch.load(self.path, weights_only=True)
            model.load_state_dict(saved["model"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.progress = Progress(**saved["progress"])

    def save(self) -> None:
        """Write the checkpoint, then put it into place."""
        parts = {"model": self.model, "average": self.average, "optimizer": self.optimizer}
        state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
        state["progress"] = dataclasses.asdict(self.progress)
        torch.save(state, self.path.with_suffix(".new"))
        self.path.with_suffix(".new").replace(self.path)

    def run(self, loss: Callable[[int], torch.Tensor]) -> nn.Module:
        """Train until the last step; the rate rises at first and falls to nothing at the end."""
        started, before = clock(), self.progress.seconds
        saved = logged = started
        sums: list[float] = []
        self.model.train()
        while self.progress.step < self.steps:
            step = self.progress.step
            spent = step / self.steps
            falling = min(1.0, 2.0 * (1.0 - spent)) if spent > 0.5 else 1.0
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * min(1.0, (step + 1) / 200) * max(falling, 0.01)
            value = loss(step)
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.follow(step)
            sums.append(value.item())
            now = clock()
            self.progress = Progress(step + 1, before + now - started)
            if now - logged > 20:
                logged = now
                self.log(float(np.mean(sums)))
                sums = []
            if now - saved > SAVE_SECONDS:
                saved = now
                self.save()
        self.save()
        return self.average.eval()

    def follow(self, step: int) -> None:
        """Move the average towards the weights."""
        keep = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)

    def log(self, loss: float) -> None:
        """Append a line to the log, and show it."""
        row = [self.name, self.progress.step, f"{self.progress.seconds:.0f}", f"{loss:.5f}"]
        path = self.out / "log.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(["stage", "step", "seconds", "loss"])
            writer.writerow(row)
        print(*row, flush=True)
