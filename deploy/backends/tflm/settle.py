"""What the runtime makes of a plan: its kernels' buffers placed, the head, and all of it checked.

The head has one figure, the runtime's own: the largest ``offset + size rounded up to 16`` of any
buffer that it plans. Only tensors and scratch buffers that stand at multiples of 16 make it one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from deploy.backends.tflm.online import simulate
from deploy.backends.tflm.scratch import scratch_requests
from deploy.graph import Graph
from deploy.memory.plan import MemoryPlan
from deploy.proof.replay import ScratchUse, verify_plan
from deploy.targets import Kernels


def settled(
    graph: Graph, plan: MemoryPlan, kernels: Kernels, *, overlaps: Mapping[int, int]
) -> MemoryPlan:
    """Returns the plan with the head that the runtime will have, checked by replay.

    The search counts in steps of 16 bytes, so its bound is cut off at the head, and what it
    proved holds to those 16 bytes.

    Args:
        overlaps: operator -> smallest allowed (input start - output start) in bytes.

    Raises:
        VerificationError: the replay found the plan wrong (a defect, never the user's fault).
    """
    requests = scratch_requests(graph, kernels)
    own = [request for request in requests if not request.subgraph]
    online = simulate(graph, requests, offsets=plan.offsets)
    verify_plan(
        graph,
        plan.offsets,
        head_bytes=online.reach_bytes,
        in_place=kernels.in_place,
        overlaps=overlaps,
        scratch=[
            *(
                ScratchUse(r.operator_index, offset, r.room_bytes)
                for r, offset in zip(own, online.scratch_offsets, strict=True)
            ),
            *(ScratchUse(*use) for use in online.called),
        ],
    )
    return replace(
        plan,
        head_bytes=online.head_bytes,
        lower_bound_bytes=min(plan.lower_bound_bytes, online.head_bytes),
        proven_optimal=(plan.proven_optimal and online.head_bytes <= plan.head_bytes)
        or online.head_bytes <= plan.lower_bound_bytes,
    )
