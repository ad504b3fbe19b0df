"""A plan that is there already, the model's own or TFLM's, explained and checked like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deploy.backends.tflm.layout import analyse, memory_plan
from deploy.backends.tflm.online import simulate
from deploy.backends.tflm.overlap import overlap_distances
from deploy.backends.tflm.scratch import scratch_requests
from deploy.backends.tflm.settle import settled
from deploy.graph import Graph
from deploy.memory.bound import lower_bound
from deploy.memory.plan import MemoryPlan
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES, Placement
from deploy.targets import Kernels


def given_plan(
    graph: Graph,
    kernels: Kernels,
    *,
    offsets: Sequence[int] | None,
    overlap: bool = True,
    alignment: int = HEIGHT_ALIGNMENT_BYTES,
) -> MemoryPlan:
    """Returns the plan that the runtime makes of a graph, with every tensor's offset.

    Tensors that share bytes are aliases where the kernels allow that they stand as they do.

    Args:
        offsets: the plan inside the model, one entry for each tensor; None where it has none.
        overlap: whether outputs may grow into their inputs where the kernels allow it.
        alignment: the runtime rounds the size of every buffer up to this.

    Raises:
        VerificationError: tensors share bytes in a way that the kernels are not known to allow.
    """
    overlaps = overlap_distances(graph, kernels) if overlap else {}
    requests = scratch_requests(graph, kernels)
    stand = simulate(graph, requests, offsets=offsets, alignment=alignment).offsets
    layout = analyse(
        graph,
        in_place=kernels.in_place,
        view_alignment=kernels.view_alignment_bytes,
        alignment=alignment,
        overlaps=overlaps,
        given=stand,
    )
    placed = [0] * len(layout.problem.blocks)
    for tensor, block in enumerate(layout.block_of):
        if block >= 0:
            placed[block] = stand[tensor] - layout.offset_in_block[tensor]
    height = layout.problem.height_of(tuple(placed))
    placement = Placement(
        offsets=tuple(placed),
        height_bytes=height,
        lower_bound_bytes=lower_bound(layout.problem),
        proven_optimal=False,
        engine="TFLM's own planner" if offsets is None else "the plan inside the model",
    )
    found = memory_plan(layout, placement)
    found = settled(graph, found, kernels, overlaps=overlaps, alignment=alignment)
    return replace(found, proven_optimal=found.head_bytes == found.lower_bound_bytes)
