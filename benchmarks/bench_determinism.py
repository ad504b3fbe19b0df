"""Whether `fmc plan` writes the same bytes idle and busy; `make bench-determinism`.

The command runs N times with the machine to itself and N times beside processes that keep all
cores busy. Every file of every run is compared with the first run's; the times are printed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_MODEL = _ROOT.parent / "shared" / "models" / "mlperf_tiny" / "pretrainedResnet_quant.tflite"


def run(model: Path, folder: Path, arguments: list[str]) -> tuple[float, dict[str, str]]:
    """Wall seconds of one command, and file name -> digest of what it wrote.

    Raises:
        SystemExit: the command failed.
    """
    command = [sys.executable, "-m", "deploy.cli", "plan", str(model), "--out", str(folder)]
    path = os.pathsep.join(p for p in (str(_ROOT), os.environ.get("PYTHONPATH", "")) if p)
    begin = time.perf_counter()
    done = subprocess.run(
        [*command, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - begin
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
    digests = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
    }
    return seconds, digests


def differences(runs: list[dict[str, str]]) -> list[str]:
    """Names of files that are not the same in all runs."""
    names = {name for digests in runs for name in digests}
    return sorted(n for n in names if len({digests.get(n) for digests in runs}) > 1)


def _measure(options: argparse.Namespace, times: int) -> tuple[list[float], list[dict[str, str]]]:
    seconds, runs = [], []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            one, digests = run(options.model, Path(folder) / "plan", options.arguments)
        seconds.append(one)
        runs.append(digests)
    return seconds, runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=_MODEL)
    parser.add_argument("--idle", type=int, default=10, help="runs on the idle machine")
    parser.add_argument("--beside", type=int, default=10, help="runs on the busy machine")
    parser.add_argument("--busy", type=int, default=8, help="processes that keep it busy")
    parser.add_argument("arguments", nargs="*", help="of fmc plan, after --")
    options = parser.parse_args()
    options.arguments = options.arguments or ["--board", "nano33ble"]
    idle, runs = _measure(options, options.idle)
    spinning = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)
    ]
    try:
        beside, more = _measure(options, options.beside)
    finally:
        for process in spinning:
            process.kill()
            process.wait()
    runs += more
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    print(f"fmc plan {options.model.name} {' '.join(options.arguments)}\n")
    print("| machine | runs | wall seconds: smallest | median | largest |\n|---|---|---|---|---|")
    for name, times in (("idle", idle), (f"beside {options.busy} busy processes", beside)):
        if times:
            cells = (min(times), statistics.median(times), max(times))
            print(f"| {name} | {len(times)} | " + " | ".join(f"{t:.2f}" for t in cells) + " |")
    changed = differences(runs)
    print()
    if changed:
        print(f"not the same in all {len(runs)} runs: {', '.join(changed)}")
        return 1
    print(f"{len(runs[0])} files, the same bytes in all {len(runs)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
