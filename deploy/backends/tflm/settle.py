"""What the runtime makes of a plan: its kernels' buffers placed, the head, and all of it checked.

The head has one figure, the runtime's own: the largest ``offset + size rounded up to 16`` of any
buffer that it plans (or to what its data say). Only tensors and scratch buffers that stand at
multiples of 16 make it one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from deploy.backends.tflm.online import OnlinePlan, simulate
from deploy.backends.tflm.scratch import scratch_requests
from deploy.graph import Graph
from deploy.implicit import as_written
from deploy.memory.plan import MemoryPlan
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES
from deploy.proof.replay import ScratchUse, verify_plan
from deploy.targets import Kernels


def settled(
    graph: Graph,
    plan: MemoryPlan,
    kernels: Kernels,
    *,
    overlaps: Mapping[int, int],
    alignment: int = HEIGHT_ALIGNMENT_BYTES,
) -> MemoryPlan:
    """Returns the plan with the head that the runtime will have, checked by replay.

    The search counts in steps of the alignment, so its bound is cut off at the head, and what it
    proved holds to those bytes.

    Args:
        overlaps: operator -> smallest allowed (input start - output start) in bytes.
        alignment: as of ``simulate``.

    Raises:
        VerificationError: the replay found the plan wrong (a defect, never the user's fault).
    """
    online, scratch = run_time(graph, plan.offsets, kernels, alignment=alignment)
    verify_plan(
        graph,
        plan.offsets,
        head_bytes=online.reach_bytes,
        in_place=kernels.in_place,
        overlaps=overlaps,
        scratch=scratch,
    )
    return replace(
        plan,
        head_bytes=online.head_bytes,
        lower_bound_bytes=min(plan.lower_bound_bytes, online.head_bytes),
        proven_optimal=(plan.proven_optimal and online.head_bytes <= plan.head_bytes)
        or online.head_bytes <= plan.lower_bound_bytes,
    )


def run_time(
    graph: Graph,
    offsets: Sequence[int],
    kernels: Kernels,
    *,
    alignment: int = HEIGHT_ALIGNMENT_BYTES,
) -> tuple[OnlinePlan, list[ScratchUse]]:
    """Returns what the runtime makes of the file of a graph, and where the kernels' buffers stand.

    Operators of these are numbered as in the graph, tensors of that as in the file.
    """
    written = as_written(graph)
    requests = scratch_requests(written.graph, kernels)
    kept = [offsets[tensor] for tensor in written.tensors]
    online = simulate(written.graph, requests, offsets=kept, alignment=alignment)
    scratch = [
        ScratchUse(written.operators[r.operator_index], offset, r.room_bytes)
        for r, offset in zip(
            [request for request in requests if not request.subgraph],
            online.scratch_offsets,
            strict=True,
        )
    ]
    scratch += (
        ScratchUse(written.operators[step], offset, size) for step, offset, size in online.called
    )
    return online, scratch
