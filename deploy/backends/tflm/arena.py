"""The exact arena: the N of ``uint8_t tensor_arena[N]`` for a graph, a plan and a target."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.backends.tflm.online import simulate
from deploy.backends.tflm.persistent import persistent
from deploy.backends.tflm.scratch import largest_scratch
from deploy.graph import Graph
from deploy.implicit import as_written
from deploy.memory.problem import round_up
from deploy.outcome import ArenaPrediction
from deploy.targets.target import Target


def predict_arena(
    graph: Graph, *, offsets: Sequence[int] | None, target: Target
) -> ArenaPrediction:
    """Returns the arena that a graph needs.

    N = max(head + tail, tail while planning + planner, tail + temporaries while preparing),
    rounded up to the alignment of the arena; to the head counts what kernels write behind it,
    past their scratch.

    Args:
        graph: dead tensors dropped; what the file does not hold of it costs nothing.
        offsets: the offline plan, one entry for each tensor, or None for TFLM's own plan.
        target: runtime and kernels.

    Raises:
        UnsupportedModelError: the target's data do not cover an operator.
        BadInputError: ``offsets`` does not have one entry for each tensor.
    """
    if offsets is not None and len(offsets) == len(graph.tensors):
        offsets = [offsets[tensor] for tensor in as_written(graph).tensors]
    graph = as_written(graph).graph
    tail = persistent(graph, target)
    step = target.runtime.arena_alignment_bytes
    plan = simulate(graph, tail.scratch, offsets=offsets, alignment=step)
    planning = (
        round_up(tail.planning_bytes, step)
        + tail.planner_bytes
        + plan.buffers * target.runtime.planner_buffer_bytes
    )
    floor = max(tail.preparing_bytes, planning, tail.size_bytes)
    return ArenaPrediction(
        arena_bytes=round_up(max(plan.reach_bytes + tail.size_bytes, floor), step),
        head_bytes=plan.head_bytes,
        tail_bytes=tail.size_bytes,
        scratch_bytes=largest_scratch(tail.scratch),
        allocation_bytes=round_up(floor, step),
        breakdown=tail.parts,
    )
