"""How well the planner packs the hard MiniMalloc instances; `make bench-allocation`.

Every instance is planned at its capacity through `deploy.memory.planner.plan`, and the placement
is checked here. Where omnimalloc is installed, its strongest general allocator packs the same
instance right after, so the two heights come from one machine in one state.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))

from deploy.memory.compiled import IS_COMPILED  # noqa: E402
from deploy.memory.minimalloc import read_problem  # noqa: E402
from deploy.memory.planner import plan  # noqa: E402
from deploy.memory.problem import Placement, Problem  # noqa: E402
from keras_fmc.errors import BadInputError, FmcError, VerificationError  # noqa: E402

_DEFAULT_DATA = _ROOT.parent / "shared" / "data" / "minimalloc"

Peer = Callable[[Problem], int]


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; exit status 0 if every instance fits, 1 if some do not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=_DEFAULT_DATA, help="folder of NAME.BYTES.csv")
    parser.add_argument("--seconds", type=float, default=60.0, help="limit for each instance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peer-seconds", type=float, default=10.0, help="0 leaves omnimalloc out")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except FmcError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _run(options: argparse.Namespace) -> int:
    files = sorted(options.data.glob("*.csv"))
    if not files:
        raise BadInputError(
            f"no instances in {options.data}", "files NAME.CAPACITY.csv", remedy="Name --data"
        )
    peer = _omnimalloc(options.peer_seconds)
    print(_machine())
    print(
        f"limit {options.seconds:g} s, {options.workers} threads, seed {options.seed}; "
        + (f"omnimalloc limit {options.peer_seconds:g} s" if peer else "omnimalloc left out")
    )
    header = f"{'instance':8} {'blocks':>6} {'bound':>9} {'height':>9} {'fits':>4} {'gap':>7}"
    header += f" {'seconds':>7}  {'engine':12}"
    print(header + (f" {'omnimalloc':>10} {'its s':>6} {'its / ours':>10}" if peer else ""))
    fitting, total = 0, 0.0
    for file in files:
        capacity = int(file.stem.split(".")[-1])
        problem = read_problem(file, capacity_bytes=capacity)
        begin = time.perf_counter()
        end = begin + options.seconds
        result = plan(
            problem,
            rounds=None,
            seed=options.seed,
            workers=options.workers,
            stop=lambda end=end: time.perf_counter() >= end,
        )
        seconds = time.perf_counter() - begin
        _check(file.name, problem, result)
        fits = result.height_bytes <= capacity
        fitting += fits
        total += seconds
        row = f"{file.stem.split('.')[0]:8} {len(problem.blocks):6} {result.lower_bound_bytes:9}"
        row += f" {result.height_bytes:9} {'yes' if fits else 'no':>4}"
        row += f" {max(0, result.height_bytes - max(capacity, result.lower_bound_bytes)):7}"
        row += f" {seconds:7.2f}  {result.engine:12}"
        if peer:
            begin = time.perf_counter()
            height = peer(problem)
            seconds = time.perf_counter() - begin
            row += f" {height:10} {seconds:6.2f} {height / result.height_bytes:10.3f}"
        print(row, flush=True)
    print(f"{fitting} of {len(files)} fit, {total:.1f} s in all")
    print("gap: bytes above the capacity (or above the bound, where that is higher)")
    return 0 if fitting == len(files) else 1


def _machine() -> str:
    versions = [f"Python {platform.python_version()}"]
    for name in ("numpy", "numba", "omnimalloc"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    code = "compiled search" if IS_COMPILED else "search in plain Python"
    load = f"load {os.getloadavg()[0]:.1f}, " if hasattr(os, "getloadavg") else ""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, {load}"
        f"{', '.join(versions)}; {code}"
    )


def _check(name: str, problem: Problem, result: Placement) -> None:
    """Sweeps the blocks by address; each file has one piece for each block."""
    placed = sorted(
        (offset, offset + block.pieces[0].size_bytes, block.pieces[0].start, block.pieces[0].stop)
        for block, offset in zip(problem.blocks, result.offsets, strict=True)
    )
    for index, (_, end, start, stop) in enumerate(placed):
        for other in placed[index + 1 :]:
            if other[0] >= end:
                break
            if other[2] < stop and start < other[3]:
                raise VerificationError(f"{name}: blocks at {placed[index]} and {other} overlap")
    if max(end for _, end, _, _ in placed) > result.height_bytes:
        raise VerificationError(f"{name}: a block ends above the height", result.height_bytes)


def _omnimalloc(seconds: float) -> Peer | None:
    """Its allocator for general problems, or None if it is not installed or not wanted."""
    if seconds <= 0:
        return None
    try:
        from omnimalloc import Allocation
        from omnimalloc.allocators import SupermallocAllocator
    except ImportError:
        return None

    def pack(problem: Problem) -> int:
        allocations = tuple(
            Allocation(block.name, piece.size_bytes, piece.start, piece.stop)
            for block in problem.blocks
            for piece in block.pieces
        )
        packed = SupermallocAllocator(timeout=seconds).allocate(allocations)
        return max(allocation.offset + allocation.size for allocation in packed)

    return pack


if __name__ == "__main__":
    sys.exit(main())
