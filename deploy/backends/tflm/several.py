"""Arenas that are not one for one interpreter: shared by models, or in two memories.

Both are what a MicroAllocator of one's own does. Interpreters that are given the same allocator
keep their tails one below the other, and the same head: it is as large as the largest, so only one
of them may run at a time. An allocator made of two buffers puts the tail into one and everything
else, the head among it, into the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.backends.tflm.online import OnlinePlan, simulate
from deploy.backends.tflm.persistent import Tail, persistent
from deploy.backends.tflm.scratch import largest_scratch
from deploy.graph import Graph
from deploy.implicit import as_written
from deploy.memory.problem import round_up
from deploy.outcome import ArenaPrediction
from deploy.targets.target import Target
from keras_fmc.errors import UnsupportedModelError


@dataclass(frozen=True, slots=True)
class SharedArena:
    """What models need that share an allocator and are made ready in this order.

    Attributes:
        arena_bytes: the N of the arena that they share, a multiple of the alignment.
        head_bytes: the largest of their heads.
        tails: what each adds to the tail; the first brings the allocator.
        used: what ``arena_used_bytes()`` says once each is ready.
    """

    arena_bytes: int
    head_bytes: int
    tails: tuple[int, ...]
    used: tuple[int, ...]

    @property
    def tail_bytes(self) -> int:
        return sum(self.tails)


def predict_shared(
    models: Sequence[tuple[Graph, Sequence[int] | None]], *, target: Target
) -> SharedArena:
    """Returns the arena of several models that share an allocator.

    Every model needs what `predict_arena` says of it, with the tails of those before it below its
    own and without an allocator; at the end all tails stand beside the largest head.

    Args:
        models: graph and offline plan of each, in the order in which they are made ready.

    Raises:
        UnsupportedModelError: the target's data do not cover an operator.
    """
    step = target.runtime.arena_alignment_bytes
    tail = head = reach = floor = 0
    tails: list[int] = []
    used: list[int] = []
    for number, (graph, offsets) in enumerate(models):
        offsets = _written(graph, offsets)
        graph = as_written(graph).graph
        own = persistent(graph, target, allocator=() if number else None, below_bytes=tail)
        plan = simulate(graph, own.scratch, offsets=offsets, alignment=step)
        planning = round_up(own.planning_bytes, step) + _planner_bytes(own, plan, target)
        floor = max(floor, own.preparing_bytes, planning)
        head, reach = max(head, plan.head_bytes), max(reach, plan.reach_bytes)
        tails.append(own.size_bytes - tail)
        tail = own.size_bytes
        used.append(head + tail)
    return SharedArena(round_up(max(reach + tail, floor), step), head, tuple(tails), tuple(used))


def predict_two(graph: Graph, *, offsets: Sequence[int] | None, target: Target) -> ArenaPrediction:
    """Returns what a model needs whose head and tail stand in two buffers.

    The tail's buffer holds the tail and nothing else. The other one holds, one after the other,
    the scratch requests with the temporaries of the operator that prepares, what the planner
    needs, and the head.

    Raises:
        UnsupportedModelError: the target's data do not cover an operator, or do not say what an
            allocator of two buffers takes.
    """
    allocator = target.runtime.fixed_of_two
    if not allocator:
        raise UnsupportedModelError(
            f"what an allocator of two buffers takes is not known for {target.runtime.name}",
            remedy="Plan one arena, or name a runtime whose data have fixed_of_two",
        )
    step = target.runtime.arena_alignment_bytes
    offsets = _written(graph, offsets)
    graph = as_written(graph).graph
    tail = persistent(graph, target, allocator=allocator)
    plan = simulate(graph, tail.scratch, offsets=offsets, alignment=step)
    floor = max(tail.start_bytes, _planner_bytes(tail, plan, target))
    head_arena = round_up(max(plan.reach_bytes, floor), step)
    tail_arena = round_up(tail.size_bytes, step)
    return ArenaPrediction(
        arena_bytes=head_arena + tail_arena,
        head_bytes=plan.head_bytes,
        tail_bytes=tail.size_bytes,
        scratch_bytes=largest_scratch(tail.scratch),
        allocation_bytes=round_up(floor, step) + tail_arena,
        breakdown=tail.parts,
        head_arena_bytes=head_arena,
        tail_arena_bytes=tail_arena,
    )


def _planner_bytes(tail: Tail, plan: OnlinePlan, target: Target) -> int:
    return tail.planner_bytes + plan.buffers * target.runtime.planner_buffer_bytes


def _written(graph: Graph, offsets: Sequence[int] | None) -> Sequence[int] | None:
    """The offsets of those tensors that the file holds."""
    if offsets is not None and len(offsets) == len(graph.tensors):
        return [offsets[tensor] for tensor in as_written(graph).tensors]
    return offsets
