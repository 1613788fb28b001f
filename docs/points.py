"""Draw `points.json` as `points.svg`: MACs saved to the right, PSNR in dB to the original's pictures up.

    python docs/points.py

The data are points of reports of `hgc eval` (docs/EVAL.md says which). No packages needed.
"""

import json
from pathlib import Path

HERE = Path(__file__).parent
PIPELINES = ["shapes", "outlines", "depths", "landscapes"]
SAMPLERS = ["ddim", "euler", "dpm++2m", "unipc"]
PANELS = [(pipeline, sampler) for pipeline in PIPELINES for sampler in SAMPLERS]
COLOURS = {
    "fitted (hgc tune)": "#009e73",
    "hgc": "#0072b2",
    "deepcache": "#d55e00",
    "easycache": "#cc79a7",
    "spectrum": "#e69f00",
    "fewer steps": "#8a8f98",
}
WIDTH, HEIGHT, SIDE, TOP = 310, 230, 40, 40
X0, X1, Y0, Y1 = 0.53, 0.70, 18.0, 56.0


def panel(rows: list[dict], title: str, left: int, top: int) -> list[str]:
    def at(x: float, y: float) -> tuple[float, float]:
        width, height = WIDTH - SIDE - 20, HEIGHT - 70
        return left + SIDE + (x - X0) / (X1 - X0) * width, top + 24 + (Y1 - y) / (Y1 - Y0) * height

    out = [f'<text x="{left + SIDE}" y="{top + 14}" class="h">{title}</text>']
    for psnr in range(20, 56, 10):
        (a, y), (b, _) = at(X0, psnr), at(X1, psnr)
        out.append(f'<line x1="{a:.0f}" x2="{b:.0f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e7eb"/>')
        out.append(f'<text x="{a - 8:.0f}" y="{y + 4:.1f}" text-anchor="end" class="s">{psnr}</text>')
    for percent in (55, 60, 65):
        (x, low), (_, high) = at(percent / 100, Y0), at(percent / 100, Y1)
        out.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{high:.1f}" y2="{low:.1f}" stroke="#e4e7eb"/>')
        out.append(f'<text x="{x:.0f}" y="{low + 16:.1f}" text-anchor="middle" class="s">{percent} %</text>')
    for family in reversed(COLOURS):
        for row in (r for r in rows if r["family"] == family):
            x, y = at(row["reduction"], row["psnr"])
            loss = f"{100 * row['miou_change']:+.1f} % mIoU"
            out.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLOURS[family]}" stroke="#fff">'
                f"<title>{family}, {row['label']}: {row['psnr']} dB, {loss}</title></circle>"
            )
            if family in ("fitted (hgc tune)", "hgc"):
                # Both lie close: one above, one below.
                shift = -1 if family != "hgc" else 11
                out.append(f'<text x="{x + 8:.1f}" y="{y + shift:.1f}">{row["psnr"]:.1f}</text>')
    return out


def main() -> None:
    rows = json.loads((HERE / "points.json").read_text())["points"]
    width, height = len(SAMPLERS) * WIDTH, TOP + len(PIPELINES) * HEIGHT + 10
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        "<style>text{font:12px system-ui,sans-serif;fill:#24292f}.s{fill:#57606a}.h{font-weight:600}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    x = SIDE
    for family, colour in COLOURS.items():
        out.append(
            f'<circle cx="{x}" cy="18" r="5" fill="{colour}"/><text x="{x + 10}" y="22">{family}</text>'
        )
        x += 50 + 7 * len(family)
    for index, (pipeline, sampler) in enumerate(PANELS):
        own = [r for r in rows if (r["pipeline"], r["sampler"]) == (pipeline, sampler)]
        left, top = WIDTH * (index % len(SAMPLERS)), TOP + HEIGHT * (index // len(SAMPLERS))
        out += panel(own, f"{pipeline}, {sampler}", left, top)
    (HERE / "points.svg").write_text("\n".join([*out, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
