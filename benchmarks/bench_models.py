"""What fmc plan makes of every .tflite file in folders: planned, or the reason why not.

    python benchmarks/bench_models.py FOLDER... [--board nano33ble] [--effort quick]
        [--strips=false]

Each file is planned in a process of its own. The table has the arena with TensorFlow Lite Micro's
own plan, that with ours, and whether ours ran in exactly the predicted arena with equal outputs; or
the first line of the message. A plan that does not fit the board is a plan all the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FMC = "import sys; from deploy.cli import main; sys.exit(main())"
SECONDS = 900
"""Given to one file; no plan takes that long, unless the machine does other things as well."""


def outcome(model: Path, options: list[str]) -> tuple[str, str, str]:
    """Returns TFLM's arena, ours, and whether it was verified, or the reason."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", FMC, "plan", str(model.resolve()), *options]
        try:
            run = subprocess.run(
                [*command, "--out", folder],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "", "", f"not planned in {SECONDS} seconds"
        report = Path(folder) / "report.json"
        if run.returncode not in (0, 1) or not report.exists():
            said = run.stderr.strip().replace(str(model.resolve()), model.name)
            lines = said.splitlines() or ["no message"]
            return "", "", f"exit {run.returncode}: {lines[0].removeprefix('fmc: ')}"
        found = json.loads(report.read_text())
    exact = found["verified_arena_bytes"] == found["predicted_arena_bytes_wheel"]
    verified = "yes" if found["bit_exact"] and exact else "no"
    return f"{found['baseline']['arena_bytes']:,}", f"{found['arena_bytes']:,}", verified


def files(folder: Path) -> list[tuple[Path, str]]:
    """Returns the .tflite files below a folder in the order of their names, which start there."""
    return [(found, str(found.relative_to(folder))) for found in sorted(folder.rglob("*.tflite"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--board", default="nano33ble")
    parser.add_argument("--strips", default="true")
    parser.add_argument("--effort", default="normal")
    chosen = parser.parse_args()
    models = [found for folder in chosen.folders for found in files(folder)]
    if not models:
        parser.error(f"no .tflite file in {', '.join(map(str, chosen.folders))}")
    options = ["--board", chosen.board, f"--strips={chosen.strips}", f"--effort={chosen.effort}"]
    print(f"fmc plan {' '.join(options)}; bytes\n")
    print("| model | TFLM's own plan | this plan | verified, or the reason |")
    print("|---|---:|---:|---|")
    planned = 0
    for model, name in models:
        own, ours, verdict = outcome(model, options)
        planned += bool(ours)
        print(f"| {name} | {own} | {ours} | {verdict.replace('|', ' ')} |", flush=True)
    print(f"\n{planned} of {len(models)} planned")


if __name__ == "__main__":
    main()
