"""Random graphs through all of fmc plan, files and all, for a board of every kernel library.

    python -m tests.random_plans --count 500 --first 0

Prints each plan that ends in exit 3 or a traceback, and what was left out of a plan as a defect;
exits with 1 if there was any. Graphs that TensorFlow Lite Micro refuses as they are do not count.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from unittest import mock

from deploy import flatbuffer, pipeline
from deploy.backends.tflm.defects import defective_operators
from deploy.backends.tflm.strips import walks
from deploy.graph import Graph
from deploy.runtime import tflm
from deploy.targets import kernels
from keras_fmc.errors import FmcError
from tests.random_graphs import random_graph
from tests.strip_graphs import banded_graph
from tests.table_graphs import table_graph
from tests.wild_graphs import wild_graph

BOARDS = ("host", "nano33ble", "corstone300", "esp32s3")
"""Reference kernels, CMSIS-NN with DSP and with MVE, ESP-NN."""
KINDS = {"wild": wild_graph, "banded": banded_graph, "random": random_graph, "table": table_graph}
_WORK = 3000
"""Effort of the search, in steps estimated: few, for the plan matters here and not its size."""


def runs(graph: Graph) -> bool:
    """Whether TensorFlow Lite Micro runs the graph as it is, always with the same outputs."""
    if defective_operators(graph, kernels("reference")):
        return False
    content = flatbuffer.write(graph)
    try:
        samples = tflm.random_inputs(content, samples=1)
        tflm.run(content, samples, arena_bytes=2**22, isolated=True)
    except FmcError:
        return False
    return True


def outcome(graph: Graph, board: str) -> str:
    """Returns "0" or "1" as fmc plan exits, or what is wrong."""
    content = flatbuffer.write(graph)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(walks, "usual_work", return_value=_WORK),
    ):
        try:
            result = pipeline.plan(content, out=folder, board=board)
        except FmcError as error:
            return f"{error.exit_code} {error}"
        except Exception:
            return f"70 {traceback.format_exc()}"
    defects = [d for d in result.report.decisions if "defect" in d.reason]
    if defects:
        return "; ".join(f"{d.subject}: {d.reason}" for d in defects)
    return str(result.exit_code)


def search(seeds: Iterable[int], boards: Sequence[str], kinds: Sequence[str]) -> int:
    """Prints what is wrong; returns how often."""
    counts: Counter[str] = Counter()
    try:
        for seed in seeds:
            for kind in kinds:
                _count(counts, kind, seed, boards)
    finally:
        # What was seen is said of a search that is interrupted, too.
        print(dict(counts), flush=True)
    return counts["wrong"]


def _count(counts: Counter[str], kind: str, seed: int, boards: Sequence[str]) -> None:
    graph = KINDS[kind](seed)
    if not runs(graph):
        counts["refused by TFLM itself"] += 1
        return
    for board in boards:
        found = outcome(graph, board)
        counts[found if found in "01" else "wrong"] += 1
        if found not in "01":
            print(f"{kind} {seed} {board}: {found}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="graphs of each kind")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--boards", default=",".join(BOARDS))
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.count)
    return min(search(seeds, options.boards.split(","), options.kinds.split(",")), 1)


if __name__ == "__main__":
    sys.exit(main())
