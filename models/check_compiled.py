"""Check with the ONNX checker that compiling makes no graph invalid.

check_compiled.py target/debug/hgc target/debug/examples/restore [FIXTURE...]

Every fixture is compiled with every policy; the full check of ``onnx.checker`` must find nothing in
the result that it does not find in the original.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from check_roundtrip import checker_problems

ROOT = Path(__file__).resolve().parent.parent
POLICIES = ("lossless", "deepcache", "faster-diffusion", "tgate", "hgc-paper", "hgc")
SIZES = ("--steps", "6", "--height", "16", "--width", "16")


def check(hgc: Path, original: Path, scratch: Path) -> tuple[int, list[str]]:
    """Compile one restored fixture with every policy; returns files checked and problems."""
    checked, found = 0, []
    before = {path.relative_to(original): checker_problems(path) for path in original.rglob("*.onnx")}
    for policy in POLICIES:
        out = scratch / policy
        command = [hgc, "compile", original, "--policy", policy, *SIZES, "-o", out]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 1:
            continue  # the policy has nothing to cache here
        if done.returncode != 0:
            found.append(f"{policy}: {done.stderr.strip()}")
            continue
        for path, known in before.items():
            if (out / path).exists():
                checked += 1
                new = checker_problems(out / path) - known
                found += [f"{policy} {path}: {problem}" for problem in sorted(new)]
    return checked, found


def main() -> int:
    """Check, and print every problem."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("hgc", type=Path)
    parser.add_argument("restore", type=Path, help="the example that restores fixtures")
    parser.add_argument("fixtures", nargs="*", help="folders of tests/fixtures [default: all]")
    arguments = parser.parse_args()
    folder = ROOT / "tests" / "fixtures"
    names = arguments.fixtures or sorted(path.name for path in folder.iterdir() if path.is_dir())
    total, failed = 0, False
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            original = Path(scratch) / "original"
            subprocess.run([arguments.restore, folder / name, original], check=True, capture_output=True)
            checked, found = check(arguments.hgc, original, Path(scratch))
        total, failed = total + checked, failed or bool(found)
        print(name, f"{checked} files,", "nothing new" if not found else f"{len(found)} problems", flush=True)
        print(*(f"  {line}" for line in found), sep="\n", end="\n" if found else "")
    print(f"{total} compiled files checked")
    return 1 if failed or total == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
