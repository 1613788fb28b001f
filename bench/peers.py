r"""Time compiling a model against loading it with the Python packages for ONNX.

    peers.py unet/model.onnx [--rounds 5] [--scratch DIR] [--save] -- \
        hgc compile unet/model.onnx --policy hgc --steps 20 -o {out}

The command after ``--`` and its peers run in turn, each in a process of its own, after one round
that only warms the page cache. ``{out}`` in the command becomes an empty folder that is removed
afterwards. A markdown table goes to standard output: seconds from start to end of the process
(median and least), seconds of the call alone without interpreter and imports, and peak memory.
Memory counts resident pages, mapped file pages that were touched included.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The peers print the seconds that the call itself took. They get the model and the output folder.
TIMED = """
import sys, time
import {module} as peer
model, out = sys.argv[1:]
start = time.perf_counter()
{call}
print(time.perf_counter() - start)
"""
LOADERS = {
    "onnx_ir.load": TIMED.format(module="onnx_ir", call="peer.load(model)"),
    "onnx.load": TIMED.format(module="onnx", call="peer.load(model)"),
}
SAVERS = {
    "onnx_ir.load + save": TIMED.format(
        module="onnx_ir",
        call="peer.save(peer.load(model), out + '/model.onnx', external_data='model.onnx_data')",
    ),
}


@dataclasses.dataclass
class Contestant:
    """One command and what was measured of it."""

    name: str
    command: list[str]
    reports_call: bool
    wall: list[float] = dataclasses.field(default_factory=list)
    call: list[float] = dataclasses.field(default_factory=list)
    peak: list[int] = dataclasses.field(default_factory=list)

    def run(self, scratch: Path | None, record: bool) -> None:
        """Run once, in a process of its own and with an output folder of its own."""
        out = tempfile.mkdtemp(dir=scratch)
        try:
            command = [part.replace("{out}", out) for part in self.command]
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")
            assert process.stdout is not None
            output = process.stdout.read()
            # wait4 gives the resources of this child alone.
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                raise SystemExit(f"{self.name}: exit status {process.returncode}")
        finally:
            shutil.rmtree(out)
        if not record:
            return
        self.wall.append(wall)
        self.peak.append(usage.ru_maxrss)
        if self.reports_call:
            self.call.append(float(output.split()[-1]))

    def row(self) -> str:
        """The results as a row of a markdown table."""
        call = f"{statistics.median(self.call):.2f}" if self.call else "-"
        cells = [
            self.name,
            f"{statistics.median(self.wall):.2f}",
            f"{min(self.wall):.2f}",
            call,
            f"{max(self.peak) / 1024:.0f}",
        ]
        return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scratch", type=Path, help="folder for outputs, on the model's file system")
    parser.add_argument("--save", action="store_true", help="also load and save, as compiling does")
    parser.add_argument("--name", default="hgc compile", help="of the command in the table")
    parser.add_argument("command", nargs="+", help="the command, after --")
    arguments = parser.parse_args()
    peers = LOADERS | (SAVERS if arguments.save else {})
    contestants = [Contestant(arguments.name, arguments.command, reports_call=False)]
    for name, code in peers.items():
        command = [sys.executable, "-c", code, str(arguments.model), "{out}"]
        contestants.append(Contestant(name, command, reports_call=True))
    for turn in range(arguments.rounds + 1):
        for contestant in contestants:
            contestant.run(arguments.scratch, record=turn > 0)
    print("| command | median s | least s | call s | peak MiB |")
    print("|---|---|---|---|---|")
    for contestant in contestants:
        print(contestant.row())


if __name__ == "__main__":
    main()
