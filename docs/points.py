"""Draw `points.json` as `points.svg`: other policies, and the best point of hgc that computes no more.

    python docs/points.py

The data are the comparisons of a report of `hgc eval` (docs/EVAL.md says which). No packages needed.
"""

import json
from pathlib import Path

HERE = Path(__file__).parent
WIDTH, HEIGHT = 860, 470
LEFT, RIGHT, TOP, BOTTOM = 60, 190, 20, 50
COLOURS = {"hgc": "#0072b2", "deepcache": "#d55e00", "hgc-paper": "#009e73", "tgate": "#cc79a7", "faster-diffusion": "#e69f00"}


def main() -> None:
    rows = json.loads((HERE / "points.json").read_text())["comparisons"]
    ends = [(r["reduction"], r["psnr"]) for r in rows] + [(r["hgc_reduction"], r["hgc_psnr"]) for r in rows]
    x0, x1 = min(x for x, _ in ends) - 2, max(x for x, _ in ends) + 2
    y0, y1 = min(y for _, y in ends) - 2, max(y for _, y in ends) + 2

    def at(x: float, y: float) -> tuple[float, float]:
        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + (x - x0) / (x1 - x0) * width, TOP + (y1 - y) / (y1 - y0) * height

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        "<style>text{font:12px system-ui,sans-serif;fill:#24292f}.s{fill:#57606a}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for x in range(int(x0 // 10 + 1) * 10, int(x1) + 1, 10):
        px, _ = at(x, y0)
        out.append(f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#e4e7eb"/>')
        out.append(f'<text class="s" x="{px:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x} %</text>')
    for y in range(int(y0 // 5 + 1) * 5, int(y1) + 1, 5):
        _, py = at(x0, y)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py:.1f}" y2="{py:.1f}" stroke="#e4e7eb"/>')
        out.append(f'<text class="s" x="{LEFT - 8}" y="{py + 4:.1f}" text-anchor="end">{y} dB</text>')
    out.append(f'<text class="s" x="{LEFT}" y="{HEIGHT - 12}">MACs of operators with weights saved; PSNR to the pictures of the original</text>')
    for r in rows:
        (ax, ay), (bx, by) = at(r["reduction"], r["psnr"]), at(r["hgc_reduction"], r["hgc_psnr"])
        out.append(f'<line x1="{ax:.1f}" y1="{ay:.1f}" x2="{bx:.1f}" y2="{by:.1f}" stroke="#9aa4b2" stroke-width="0.7"/>')
    for r in rows:
        colour = COLOURS[r["other"].split(":")[0]]
        x, y = at(r["reduction"], r["psnr"])
        title = f'{r["other"]}: {r["reduction"]} %, {r["psnr"]} dB; hgc mIoU {r["miou"]:+.3f}'
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"><title>{title}</title></circle>')
    ours = {(r["hgc"], r["hgc_reduction"], r["hgc_psnr"]) for r in rows}
    for label, reduction, psnr in sorted(ours, key=lambda o: o[1]):
        x, y = at(reduction, psnr)
        out.append(f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" fill="{COLOURS["hgc"]}"><title>hgc:{label}</title></rect>')
        short = label.replace("lambda-", "").replace("gate-step", "gate").replace("key-steps=0+1+4+8+12+15", "key-steps")
        if label not in ("gate-step=10,lambda-inter=0.5,lambda-intra=1", "gate-step=2,lambda-inter=0.3"):
            out.append(f'<text class="s" font-size="10" style="font-size:10px" x="{x + 7:.1f}" y="{y - 6:.1f}">{short}</text>')
    for i, (name, colour) in enumerate(COLOURS.items()):
        y = TOP + 14 + 20 * i
        mark = f'<rect x="{WIDTH - 130}" y="{y - 9}" width="9" height="9" fill="{colour}"/>' if name == "hgc" else f'<circle cx="{WIDTH - 125.5}" cy="{y - 4}" r="4" fill="{colour}"/>'
        out.append(f'{mark}<text x="{WIDTH - 114}" y="{y}">{name}</text>')
    out.append("</svg>")
    (HERE / "points.svg").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
