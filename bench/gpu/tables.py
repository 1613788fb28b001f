"""Write the tables of GPU measurements into `docs/BENCHMARKS.md`, from what `measure.py` wrote.

tables.py gpu.json [--docs docs/BENCHMARKS.md]
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- gpu -->", "<!-- end gpu -->"
HEADER = (
    "| run | original | compiled | faster | MACs predict | of it | memory |\n|---|---|---|---|---|---|---|\n"
)
KINDS = "| run | file | kind | steps | original | compiled | ratio |\n" + 7 * "|---" + "|\n"


def whole(runs: list[dict[str, Any]]) -> str:
    """A row for each generation that was timed."""
    text = HEADER
    for run in runs:
        report = run["report"][0]
        cells = [
            run["name"].replace(" bench", ""),
            f"{report['seconds_original']:.3f} s",
            f"{report['seconds_rewritten']:.3f} s",
            f"**{report['speed_up']:.2f}x**",
            f"{report['speed_up_macs']:.2f}x",
            f"{100 * report['efficiency']:.0f} %",
            f"{run['memory_mib'] / 1024:.1f} GiB",
        ]
        text += f"| {' | '.join(cells)} |\n"
    return text


def kinds(runs: list[dict[str, Any]]) -> str:
    """A row for each kind of each file: medians."""
    text = KINDS
    for run in runs:
        for file in run["report"][0]["files"]:
            steps: dict[str, list[dict[str, Any]]] = {}
            for step in file["steps"]:
                steps.setdefault(step["kind"], []).append(step)
            for kind, own in steps.items():
                original, compiled = (
                    statistics.median(step[which] for step in own) for which in ("original", "rewritten")
                )
                ratio = statistics.median(step["rewritten"] / step["original"] for step in own)
                name = run["name"].replace(" bench", "")
                cells = [name, file["name"], kind, str(len(own))]
                cells += [f"{1e3 * original:.1f} ms", f"{1e3 * compiled:.1f} ms", f"{ratio:.2f}"]
                text += f"| {' | '.join(cells)} |\n"
    return text


def proofs(runs: list[dict[str, Any]]) -> str:
    """A line for each proof, and for each run that did not end well."""
    text = ""
    for run in runs:
        verdicts = [verdict for verdict in run.get("report", []) if "checks" in verdict]
        if verdicts:
            passed = sum(verdict["pass"] for verdict in verdicts)
            text += f"- {run['name']}: {passed} of {len(verdicts)} files are proved\n"
        if "problem" in run:
            last = run["problem"].splitlines()[-1]
            text += f"- {run['name']}: {last}\n"
    return text


def main() -> None:
    """Replace what stands between the marks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("result", type=Path)
    docs = Path(__file__).resolve().parents[2] / "docs" / "BENCHMARKS.md"
    parser.add_argument("--docs", type=Path, default=docs)
    arguments = parser.parse_args()
    result = json.loads(arguments.result.read_text())
    timed = [run for run in result["runs"] if run.get("report") and "files" in run["report"][0]]
    machine = (
        f"{result['gpu']}, driver {result['driver']}, {result['cores']} CPU cores; `{result['runtime']}`.\n"
    )
    parts = [machine, whole(timed), kinds(timed), proofs(result["runs"])]
    text = arguments.docs.read_text()
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    arguments.docs.write_text(f"{before}{BEGIN}\n{'\n'.join(parts)}{END}{after}")


if __name__ == "__main__":
    main()
