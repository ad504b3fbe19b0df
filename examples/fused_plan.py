"""Fusion as the GF(2) paper has it: nothing but chosen maps is ever stored whole.

The operators before each chosen map run strip by strip, rows in the halo once for each strip, and
the strips and their plan run in unmodified TensorFlow Lite Micro. `deploy.plan` would look for the
smallest arena instead, and cut where that pays; here the cuts are given, so that the stored maps
are those of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.place import place
from deploy.backends.tflm.strips.choose import cut
from deploy.backends.tflm.strips.cuts import Cuts, Halo, region_of
from deploy.codes.parts import strip_family
from deploy.graph import Graph
from deploy.memory.plan import MemoryPlan
from deploy.report.occupancy import boxes, live_bytes
from deploy.report.report import report_pieces, report_tensors
from deploy.runtime import tflm
from deploy.targets import target

_STRIPS = 16


@dataclass(frozen=True)
class FusedPlan:
    """A graph in strips with its plan, on the computer that this runs on."""

    graph: Graph
    memory: MemoryPlan
    arena_bytes: int

    def stored_bytes(self, name: str) -> int:
        """The most of a map, strips of it included, that the plan holds at once."""
        tensors, pieces = report_tensors(self.memory), report_pieces(self.memory.pieces)
        own = [box for box in boxes(tensors, pieces) if strip_family(box.name) == name]
        return max(live_bytes(own, len(self.graph.operators)), default=0)

    def run(self, inputs: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
        """Runs it in TFLM, in an arena of exactly the planned size."""
        content = flatbuffer.write(embed(self.graph, self.memory.offsets))
        return tflm.run(content, inputs, arena_bytes=self.arena_bytes, isolated=True)


def fuse(graph: Graph, stored: Sequence[str]) -> FusedPlan:
    """Cuts a graph at the maps called `stored`, which follow each other, and plans it."""
    written = {graph.tensors[t].name: step for t, step in graph.producers().items()}
    cuts, start = Cuts(), 0
    for step in sorted(written[name] for name in stored):
        rows = graph.tensors[graph.operators[step].outputs[0]].shape[1]
        height = -(-rows // _STRIPS)
        part = region_of(
            range(start, step + 1), (*range(height, rows, height), rows), Halo.RECOMPUTED
        )
        cuts = cuts.replace(
            ends={**cuts.ends, **part.ends},
            recomputed=cuts.recomputed | part.recomputed,
            # Whole before anything reads it: strips could go on through several maps, of which
            # none were ever stored whole, but that is not the paper's count.
            finished=cuts.finished | {step},
        )
        start = step + 1
    striped = cut(graph, cuts)
    goal = target(board="host")
    memory = place(striped, goal.kernels, rounds=2)
    arena = predict_arena(striped, offsets=memory.offsets, target=goal)
    return FusedPlan(striped, memory, arena.arena_bytes)
