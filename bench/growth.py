r"""Measure how the gain of a compiled model follows size, batch and number of steps, and plot it.

    growth.py UNET [CONTROLNET ...] --hgc hgc --data growth.jsonl --plot growth.svg

Each point compiles the models for its number of steps (`--target cpu`) and runs `hgc bench` at its size:
original and compiled model turn and turn about, step by step. What is measured is kept line by line in the
data file; points that are in it are not measured again. The plot shows how much faster the generation is,
beside what the MACs predict.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple


class Point(NamedTuple):
    """What one measurement is made at: the picture's side in pixels, rows of the latent, steps."""

    pixels: int
    batch: int
    steps: int


SWEEPS: dict[str, list[Point]] = {
    "pixels": [Point(pixels, 2, 20) for pixels in (256, 512, 768, 1024)],
    "batch": [Point(256, batch, 20) for batch in (2, 4, 8)],
    "steps": [Point(256, 2, steps) for steps in (10, 20, 30, 50)],
}
FIXED = {"pixels": "batch 2, 20 steps", "batch": "256 pixels, 20 steps", "steps": "256 pixels, batch 2"}
# What belongs to one sweep is drawn beside each other, a pair of bars a point.
BAR, GAP, LEFT, TOP, TALL = 32, 28, 24, 46, 170
COLOURS = {"measured": "#0072b2", "MACs predict": "#b8c4ce"}


def measure(models: list[str], hgc: str, point: Point, rounds: int) -> dict[str, Any]:
    """Compiles and times; of several rounds the times are added up."""
    controlnets = [word for path in models[1:] for word in ("--controlnet", path)]
    size = ["--height", str(point.pixels // 8), "--batch", str(point.batch)]
    told = ["--steps", str(point.steps), "--target", "cpu", *size]
    with tempfile.TemporaryDirectory(dir=Path(models[0]).parent) as folder:
        words = [hgc, "compile", models[0], *controlnets, *told, "-o", folder, "--force", "-q"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        original, compiled = 0.0, 0.0
        for _ in range(rounds):
            words = [hgc, "bench", *models, folder, *size, "--memory", "16", "--format", "json"]
            report = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)[0]
            original += report["seconds_original"]
            compiled += report["seconds_rewritten"]
    return {
        **point._asdict(),
        "rounds": rounds,
        "seconds_original": original,
        "seconds_compiled": compiled,
        "measured": original / compiled,
        "predicted": report["speed_up_macs"],
    }


def plot(rows: dict[Point, dict[str, Any]]) -> str:
    """Bars by sweep: how much faster, measured and as the MACs predict."""
    most = max(max(row["measured"], row["predicted"]) for row in rows.values()) * 1.1
    out: list[str] = []
    x = LEFT
    for axis, points in SWEEPS.items():
        start = x
        for point in (p for p in points if p in rows):
            row = rows[point]
            bars = zip(COLOURS.values(), (row["measured"], row["predicted"]), strict=True)
            for number, (colour, value) in enumerate(bars):
                tall = TALL * value / most
                left, top = x + number * BAR, TOP + TALL - tall
                box = f'x="{left}" y="{top:.1f}" width="{BAR - 2}" height="{tall:.1f}"'
                out.append(f'<rect {box} fill="{colour}"/>')
                out.append(f'<text x="{left + BAR / 2 - 1}" y="{top - 4:.1f}" class="n">{value:.2f}</text>')
            share = 100 * row["measured"] / row["predicted"]
            middle, low = x + BAR - 1, TOP + TALL
            out.append(f'<text x="{middle}" y="{low + 16}" class="n">{getattr(point, axis)}</text>')
            out.append(f'<text x="{middle}" y="{low + 32}" class="n s">{share:.0f} %</text>')
            x += 2 * BAR + GAP
        out.append(f'<text x="{start}" y="{TOP - 22}" class="h">{axis}</text>')
        out.append(f'<text x="{start + 48}" y="{TOP - 22}" class="s">{FIXED[axis]}</text>')
        x += GAP
    width, height = x - GAP, TOP + TALL + 70
    for number, (name, colour) in enumerate(COLOURS.items()):
        left, top = LEFT + number * 130, height - 14
        out.append(f'<rect x="{left}" y="{top - 10}" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="{left + 18}" y="{top}">{name}</text>')
    note = "times faster; below: measured of predicted"
    out.append(f'<text x="{LEFT + 280}" y="{height - 14}" class="s">{note}</text>')
    style = "text{font:12px system-ui,sans-serif;fill:#24292f}.s{fill:#57606a}.h{font-weight:600}"
    style += ".n{text-anchor:middle}"
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    back = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([head, f"<style>{style}</style>", back, *out, "</svg>"]) + "\n"


def main() -> None:
    """Measure what is not known yet, then plot all."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("models", nargs="+", help="UNet, then ControlNets")
    parser.add_argument("--hgc", default="hgc")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--plot", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each point of 256 pixels")
    args = parser.parse_args()
    lines = args.data.read_text().splitlines() if args.data.exists() else []
    known = (json.loads(line) for line in lines)
    rows = {Point(row["pixels"], row["batch"], row["steps"]): row for row in known}
    wanted = dict.fromkeys(point for points in SWEEPS.values() for point in points)
    for point in sorted(wanted, key=lambda p: p.pixels**2 * p.batch * p.steps):
        if point in rows:
            continue
        try:
            found = measure(args.models, args.hgc, point, args.rounds if point.pixels == 256 else 1)
        except subprocess.CalledProcessError as error:
            # Attention over the pixels of a large picture may take more memory than there is.
            print(f"{point} is left out: {error}", flush=True)
            continue
        rows[point] = found
        with args.data.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(found, flush=True)
    args.plot.write_text(plot(rows))


if __name__ == "__main__":
    main()
