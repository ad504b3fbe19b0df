"""Graph and target in, memory plan out: lifetimes, packing, and the plan checked by replay."""

from __future__ import annotations

from deploy.backends.tflm.layout import analyse, memory_plan
from deploy.backends.tflm.overlap import overlap_distance
from deploy.backends.tflm.scratch import scratch_requests
from deploy.backends.tflm.settle import settled
from deploy.graph import Graph
from deploy.memory.plan import MemoryPlan
from deploy.memory.planner import plan
from deploy.targets import Kernels

DEFAULT_SECONDS = 30.0


def place(
    graph: Graph,
    kernels: Kernels,
    *,
    seconds: float = DEFAULT_SECONDS,
    overlap: bool = False,
) -> MemoryPlan:
    """Returns a checked plan of the graph's tensors for a kernel library.

    The plan leaves room for the scratch buffers of the kernels, which TFLM places itself; the
    head is what remains after TFLM has placed them. With ``overlap``, outputs grow into inputs
    where the library's kernels allow it and the head becomes smaller by it.

    Raises:
        VerificationError: the replay found the plan wrong (a defect, never the user's fault).
    """
    apart = _place(graph, kernels, seconds, {})
    distances = _overlaps(graph, kernels) if overlap else {}
    if not distances:
        return apart
    overlapping = _place(graph, kernels, seconds, distances)
    return min(apart, overlapping, key=lambda plan: plan.head_bytes)


def _overlaps(graph: Graph, kernels: Kernels) -> dict[int, int]:
    distances = {
        step: overlap_distance(operator, graph, kernels)
        for step, operator in enumerate(graph.operators)
    }
    return {step: distance for step, distance in distances.items() if distance is not None}


def _place(graph: Graph, kernels: Kernels, seconds: float, overlaps: dict[int, int]) -> MemoryPlan:
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
        memory_plan(layout, plan(layout.problem, seconds=seconds)),
        kernels,
        overlaps=overlaps,
    )
