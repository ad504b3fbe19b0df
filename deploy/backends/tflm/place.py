"""Graph and target in, memory plan out: lifetimes, packing, and the plan checked by replay."""

from __future__ import annotations

from collections.abc import Callable

from deploy.backends.tflm.layout import analyse, memory_plan
from deploy.backends.tflm.overlap import overlap_distance
from deploy.backends.tflm.scratch import scratch_requests
from deploy.backends.tflm.settle import settled
from deploy.effort import Effort
from deploy.graph import Graph
from deploy.memory.plan import MemoryPlan
from deploy.memory.planner import plan
from deploy.targets import Kernels

ROUNDS_OF_EFFORT = {Effort.QUICK: 3, Effort.NORMAL: 6, Effort.THOROUGH: 9}
"""Rounds of the memory planner's exact search, each with twice the effort of the one before."""


def place(
    graph: Graph,
    kernels: Kernels,
    *,
    rounds: int = ROUNDS_OF_EFFORT[Effort.NORMAL],
    overlap: bool = False,
    stop: Callable[[], bool] | None = None,
) -> MemoryPlan:
    """Returns a checked plan of the graph's tensors for a kernel library.

    The plan leaves room for the scratch buffers of the kernels, which TFLM places itself; the
    head is what remains after TFLM has placed them. With ``overlap``, outputs grow into inputs
    where the library's kernels allow it and the head becomes smaller by it. ``rounds`` and
    ``stop`` limit the planner, as they do in ``planner.plan``.

    Raises:
        VerificationError: the replay found the plan wrong (a defect, never the user's fault).
    """
    apart = _place(graph, kernels, rounds, {}, stop)
    distances = _overlaps(graph, kernels) if overlap else {}
    if not distances:
        return apart
    overlapping = _place(graph, kernels, rounds, distances, stop)
    return min(apart, overlapping, key=lambda plan: plan.head_bytes)


def _overlaps(graph: Graph, kernels: Kernels) -> dict[int, int]:
    distances = {
        step: overlap_distance(operator, graph, kernels)
        for step, operator in enumerate(graph.operators)
    }
    return {step: distance for step, distance in distances.items() if distance is not None}


def _place(
    graph: Graph,
    kernels: Kernels,
    rounds: int,
    overlaps: dict[int, int],
    stop: Callable[[], bool] | None,
) -> MemoryPlan:
    requests = scratch_requests(graph, kernels)
    layout = analyse(
        graph,
        in_place=kernels.in_place,
        scratch=[(r.operator_index, r.room_bytes) for r in requests if r.room_bytes],
        view_alignment=kernels.view_alignment_bytes,
        overlaps=overlaps,
    )
    return settled(
        graph,
        memory_plan(layout, plan(layout.problem, rounds=rounds, stop=stop)),
        kernels,
        overlaps=overlaps,
    )
