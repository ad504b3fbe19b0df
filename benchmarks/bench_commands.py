"""Wall time of whole commands: fmc plan on each model, from the start of the process to its end.

    python benchmarks/bench_commands.py MODEL.tflite ... [--rounds N]

Each command runs in a process of its own, the commands in turns; the table has the smallest and the
median time. Planning includes running the model in TensorFlow Lite Micro where that is installed.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FMC = "import sys; from deploy.cli import main; sys.exit(main())"
WAYS = (("whole", ("--strips=false",)), ("in strips", ("--board", "nano33ble")))


def seconds(model: Path, options: tuple[str, ...]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", FMC, "plan", str(model.resolve()), *options]
        started = time.perf_counter()
        subprocess.run([*command, "--out", folder], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load "
        f"{load:.1f}; smallest (median) of {options.rounds} runs, wall seconds\n"
    )
    print("| model | " + " | ".join(f"fmc plan {' '.join(ways)}" for _, ways in WAYS) + " |")
    print("|---|" + "---|" * len(WAYS))
    for model in options.models:
        times: dict[str, list[float]] = {name: [] for name, _ in WAYS}
        for _ in range(options.rounds):
            for name, ways in WAYS:
                times[name].append(seconds(model, ways))
        cells = [f"{min(t):.2f} ({statistics.median(t):.2f})" for t in times.values()]
        print(f"| {model.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
