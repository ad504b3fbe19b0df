"""Graph and target in, memory plan out: lifetimes, packing, and the plan checked by replay."""

from __future__ import annotations

from dataclasses import replace

from deploy.graph import Graph
from deploy.memory.lifetimes import analyse, memory_plan
from deploy.memory.online import simulate
from deploy.memory.plan import MemoryPlan
from deploy.memory.planner import plan
from deploy.memory.scratch import scratch_requests
from deploy.memory.verify import ScratchUse, verify_plan
from deploy.targets import Kernels

DEFAULT_SECONDS = 30.0


def place(
    graph: Graph,
    kernels: Kernels,
    *,
    seconds: float = DEFAULT_SECONDS,
) -> MemoryPlan:
    """Returns a checked plan of the graph's tensors for a kernel library.

    The plan leaves room for the scratch buffers of the kernels, which TFLM places itself; the
    head is what remains after TFLM has placed them.

    Raises:
        VerificationError: the replay found the plan wrong (a defect, never the user's fault).
    """
    requests = scratch_requests(graph, kernels)
    layout = analyse(
        graph,
        in_place=kernels.in_place,
        scratch=[(r.operator_index, r.size_bytes) for r in requests],
        view_alignment=kernels.view_alignment_bytes,
    )
    found = memory_plan(layout, plan(layout.problem, seconds=seconds))
    online = simulate(graph, requests, offsets=found.offsets)
    verify_plan(
        graph,
        found.offsets,
        head_bytes=max(found.head_bytes, online.head_bytes),
        in_place=kernels.in_place,
        scratch=[
            ScratchUse(r.operator_index, offset, r.size_bytes)
            for r, offset in zip(requests, online.scratch_offsets, strict=True)
        ],
    )
    head = max(found.head_bytes, online.head_bytes)
    return replace(
        found, head_bytes=head, proven_optimal=found.proven_optimal and head == found.head_bytes
    )
