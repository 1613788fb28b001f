"""Draw the loss of every stage of a training.

curve.py --log log.csv --out loss.svg
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from matplotlib import pyplot


def main() -> None:
    """Draw one panel a stage: loss over minutes of processor time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    stages: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with arguments.log.open(newline="") as file:
        for row in csv.DictReader(file):
            stages[row["stage"]].append((float(row["seconds"]) / 60, float(row["loss"])))
    pyplot.rcParams.update({"svg.hashsalt": "hgc", "svg.fonttype": "none"})
    figure, panels = pyplot.subplots(1, len(stages), figsize=(3 * len(stages), 2.6), layout="constrained")
    for panel, (stage, points) in zip(panels, stages.items(), strict=True):
        panel.semilogy(*zip(*points, strict=True), linewidth=1)
        panel.set(title=stage, xlabel="minutes")
    panels[0].set_ylabel("loss")
    figure.savefig(arguments.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
