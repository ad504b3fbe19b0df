"""The exact arena: the N of ``uint8_t tensor_arena[N]`` for a graph, a plan and a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.graph import Graph
from deploy.memory.online import simulate
from deploy.memory.persistent import persistent
from deploy.targets.target import Target


@dataclass(frozen=True, slots=True)
class ArenaPrediction:
    """What a model needs on a target.

    Attributes:
        arena_bytes: the smallest multiple of 16 in which the model allocates.
        head_bytes: the planned part, with scratch buffers where the runtime puts them.
        tail_bytes: the persistent part; ``head_bytes + tail_bytes`` is what the runtime reports
            as used.
        scratch_bytes: sum of the kernels' scratch buffers, which lie within the head.
        allocation_bytes: the arena that allocation needs even if the head were empty.
        breakdown: (cause, bytes) of the tail.
    """

    arena_bytes: int
    head_bytes: int
    tail_bytes: int
    scratch_bytes: int
    allocation_bytes: int
    breakdown: tuple[tuple[str, int], ...]


def predict_arena(
    graph: Graph, *, offsets: Sequence[int] | None, target: Target
) -> ArenaPrediction:
    """Returns the arena that a graph needs.

    N = max(head + tail, tail while planning + planner, tail + temporaries while preparing),
    rounded up to 16.

    Args:
        graph: as it is written to the file, dead tensors dropped.
        offsets: the offline plan, one entry for each tensor, or None for TFLM's own plan.
        target: runtime and kernels.

    Raises:
        UnsupportedModelError: the target's data do not cover an operator.
        BadInputError: ``offsets`` does not have one entry for each tensor.
    """
    tail = persistent(graph, target)
    plan = simulate(graph, tail.scratch, offsets=offsets)
    step = target.runtime.arena_alignment_bytes
    planning = (
        _up(tail.planning_bytes, step)
        + tail.planner_bytes
        + plan.buffers * target.runtime.planner_buffer_bytes
    )
    floor = max(tail.preparing_bytes, planning, tail.size_bytes)
    return ArenaPrediction(
        arena_bytes=_up(max(plan.head_bytes + tail.size_bytes, floor), step),
        head_bytes=plan.head_bytes,
        tail_bytes=tail.size_bytes,
        scratch_bytes=sum(request.size_bytes for request in tail.scratch),
        allocation_bytes=_up(floor, step),
        breakdown=tail.parts,
    )


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
