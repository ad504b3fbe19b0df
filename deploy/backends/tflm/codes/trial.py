"""Which of the code maps of a graph to pack, and how to unpack them: by short searches.

Packing costs operators, so it pays only for maps that stand in the way. Each way counts as
the plan that a fraction of the usual effort finds:

1. all maps packed, unpacked once for all readers, or once for each where readers are apart;
2. of the better way, without one map after the other, as long as that makes the plan better.

The result is planned in earnest by the caller, beside the graph without packing. Trials are made
at fixed levels of multiply-accumulates, and take no part of the effort: more of either never gives
a larger plan.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.codes.lower import LoweredCodes, lower_codes, stored_code_maps
from deploy.backends.tflm.codes.momentary import momentary_maps
from deploy.backends.tflm.codes.pack import stored_bytes
from deploy.backends.tflm.place import place
from deploy.backends.tflm.strips.tuning import TUNING
from deploy.graph import Graph
from deploy.passes import Context, run_passes
from deploy.targets import Target

if TYPE_CHECKING:
    from deploy.settings import PlanSettings

TRIAL_LEVELS = (1.10, 2.0)
"""Limits of multiply-accumulates at which ways are tried, whatever the limit of the plan."""
_SMALL_WORK, _LARGE_WORK = 60_000, 150_000
_MOST_LEFT_OUT = 8
_ROUNDS = 2
"""Of the memory planner."""


def best_lowering(
    graph: Graph,
    maps: Mapping[str, int],
    goal: Target,
    settings: PlanSettings,
    stop: Callable[[], bool],
) -> LoweredCodes:
    """Returns the graph with the code maps packed for which that looks best, at least one.

    Args:
        graph: after `use_tables`, as a look-up may take the place of a map.
        maps: those to choose from, name → bits, one or more.
        stop: asked often; True ends the searches with what they have.
    """
    found = [m for m in stored_code_maps(graph) if graph.tensors[m.tensor].name in maps]
    ways = [True, False] if any(_are_apart(graph, m.tensor) for m in found) else [True]
    if len(ways) == len(maps) == 1:
        return lower_codes(graph, maps=maps)
    tried = [(_judged(graph, maps, shared, goal, settings, stop), not shared) for shared in ways]
    best, each = min(tried)
    saving = {
        graph.tensors[m.tensor].name: graph.tensors[m.tensor].size_bytes
        - stored_bytes(graph, m.tensor, m.bits)
        for m in found
    }
    for name in sorted(maps, key=lambda n: (saving[n], n))[:_MOST_LEFT_OUT]:
        fewer = {n: bits for n, bits in maps.items() if n != name}
        if fewer and (value := _judged(graph, fewer, not each, goal, settings, stop)) < best:
            best, maps = value, fewer
    return lower_codes(graph, maps=maps, shared=not each)


def _are_apart(graph: Graph, tensor: int) -> bool:
    """Whether other operators run between those that read a map."""
    readers = graph.consumers().get(tensor, ())
    return len(readers) > 1 and readers[-1] - readers[0] >= len(readers)


def _judged(
    graph: Graph,
    maps: Mapping[str, int],
    shared: bool,
    goal: Target,
    settings: PlanSettings,
    stop: Callable[[], bool],
) -> tuple[int, ...]:
    """What a short search makes of it; less is better."""
    from deploy.backends.tflm.strips import choose_strips

    lowered = lower_codes(graph, maps=maps, shared=shared)
    packed = run_passes(lowered.graph, Context(goal.kernels), passes=settings.pass_list)
    if settings.strips:
        choice = choose_strips(
            packed,
            target=goal,
            max_macs=settings.max_macs,
            minimise=settings.minimise,
            arena_bytes=settings.arena_bytes,
            overlap=settings.overlap is not False,
            view_operators=settings.view_operators,
            never_whole=momentary_maps(packed, lowered.stored),
            work=_SMALL_WORK if len(graph.operators) <= TUNING.few_operators else _LARGE_WORK,
            plan_rounds=0,
            stop=stop,
        )
        arena, head = choice.arena.arena_bytes, choice.memory.head_bytes
        if choice.holds_whole:
            arena, head = sys.maxsize, sys.maxsize
    else:
        unit = goal.runtime.arena_alignment_bytes
        memory = place(packed, goal.kernels, rounds=_ROUNDS, alignment=unit, stop=stop)
        arena = predict_arena(packed, offsets=memory.offsets, target=goal).arena_bytes
        head = memory.head_bytes
    return (head, arena) if settings.minimise == "head" else (arena, head)
