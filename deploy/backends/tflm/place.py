"""Graph and target in, memory plan out: lifetimes, packing, and the plan checked by replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from deploy.backends.tflm.layout import analyse, memory_plan
from deploy.backends.tflm.online import momentary_bytes
from deploy.backends.tflm.overlap import overlap_distances
from deploy.backends.tflm.settle import settled
from deploy.effort import Effort
from deploy.graph import Graph
from deploy.memory.bound import lower_bound
from deploy.memory.plan import AliasReason, MemoryPlan
from deploy.memory.planner import plan
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES
from deploy.targets import Kernels

ROUNDS_OF_EFFORT = {Effort.QUICK: 3, Effort.NORMAL: 6, Effort.THOROUGH: 9}
"""Rounds of the memory planner's exact search, each with twice the effort of the one before."""
_COPIED = (
    frozenset[AliasReason](),
    frozenset({AliasReason.CONCATENATION_VIEW}),
    frozenset({AliasReason.SLICE_VIEW}),
    frozenset({AliasReason.CONCATENATION_VIEW, AliasReason.SLICE_VIEW}),
)
"""Which views are left real copies, one try after the other."""


def place(
    graph: Graph,
    kernels: Kernels,
    *,
    rounds: int = ROUNDS_OF_EFFORT[Effort.NORMAL],
    overlap: bool = False,
    alignment: int = HEIGHT_ALIGNMENT_BYTES,
    stop: Callable[[], bool] | None = None,
) -> MemoryPlan:
    """Returns a checked plan of the graph's tensors for a kernel library.

    The plan leaves room for the scratch buffers of the kernels, which TFLM places itself; the
    head is what remains after TFLM has placed them. With ``overlap``, outputs grow into inputs
    where the library's kernels allow it and the head becomes smaller by it. ``rounds`` and
    ``stop`` limit the planner, as they do in ``planner.plan``; ``alignment`` is the runtime's.

    Raises:
        VerificationError: the replay found the plan wrong (a defect, never the user's fault).
    """
    apart = _place(graph, kernels, rounds, {}, alignment, stop)
    distances = overlap_distances(graph, kernels) if overlap else {}
    if not distances:
        return apart
    overlapping = _place(graph, kernels, rounds, distances, alignment, stop)
    return min(apart, overlapping, key=lambda plan: plan.head_bytes)


def _place(
    graph: Graph,
    kernels: Kernels,
    rounds: int,
    overlaps: dict[int, int],
    alignment: int,
    stop: Callable[[], bool] | None,
) -> MemoryPlan:
    """The best plan with views, and with some of them as real copies: an alias is a constraint."""
    scratch = momentary_bytes(graph, kernels, alignment=alignment)
    best: MemoryPlan | None = None
    bounds, proven, seen = [], True, set()
    for copied in _COPIED:
        layout = analyse(
            graph,
            in_place=kernels.in_place,
            scratch=scratch,
            view_alignment=kernels.view_alignment_bytes,
            alignment=alignment,
            overlaps=overlaps,
            reasons=frozenset(AliasReason) - copied,
        )
        if layout.aliases in seen:
            continue
        seen.add(layout.aliases)
        bounds.append(lower_bound(layout.problem))
        if best is None or bounds[-1] < best.head_bytes:
            found = memory_plan(layout, plan(layout.problem, rounds=rounds, stop=stop))
            found = settled(graph, found, kernels, overlaps=overlaps, alignment=alignment)
            proven = proven and found.proven_optimal
            if best is None or found.head_bytes < best.head_bytes:
                best = found
    assert best is not None
    bound = min(*bounds, best.head_bytes)
    return replace(
        best,
        lower_bound_bytes=bound,
        proven_optimal=proven or best.head_bytes == bound,
    )
