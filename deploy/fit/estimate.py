"""The arena of a graph with codes, and the maps that stand in the way of a smaller one.

A probe is a fraction of the usual search for strips; in earnest the graph is planned as `fmc plan`
does. What a probe finds is there, so what a probe fits, fits. Generated C is searched exactly at
once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.backends.c.bits import added_name
from deploy.backends.c.build import laid_out
from deploy.backends.c.library import KernelLibrary
from deploy.backends.c.names import state
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.codes.lower import lower_codes, stored_code_maps
from deploy.backends.tflm.codes.momentary import momentary_maps
from deploy.backends.tflm.codes.pack import packed_name
from deploy.backends.tflm.codes.tables import use_tables
from deploy.backends.tflm.prepare import prepare, with_views_as_set
from deploy.backends.tflm.strips import choose_strips
from deploy.codes.parts import strip_family
from deploy.graph import Graph
from deploy.macs import graph_macs
from deploy.memory.plan import MemoryPlan
from deploy.outcome import Prepared
from deploy.passes import Context, run_passes
from deploy.passes.short_names import shorten_names
from deploy.progress import Progress
from deploy.report.occupancy import Box, boxes, live_bytes
from deploy.report.report import report_pieces, report_tensors
from deploy.settings import PlanSettings
from deploy.targets import Target
from keras_fmc.errors import UnsupportedModelError

_WALKS = ((1.05, 20_000), (2.0, 50_000))
"""Of a probe: most multiply-accumulates, if settings allow as many, and work."""


@dataclass(frozen=True, slots=True)
class GraphNeeds:
    """What a graph needs.

    Attributes:
        arena_bytes: of TFLM the arena, of generated C all static memory.
        macs: of one inference, rows that are computed again included.
        held: (tensor of the graph, bytes) that is live where more is than the limit.
    """

    arena_bytes: int
    macs: int
    held: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """One graph to be estimated; plain data, so that any process can take it.

    Attributes:
        limit_bytes: above which live bytes count as in the way.
        in_earnest: plan it as `fmc plan` does.
        asker: the process that asks; others leave Ctrl-C to it.
    """

    graph: Graph
    settings: PlanSettings
    limit_bytes: int
    in_earnest: bool
    asker: int


def estimate(question: Question) -> GraphNeeds:
    """Returns what a graph needs; a function of the question alone."""
    if os.getpid() != question.asker:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings, goal = question.settings, question.settings.target()
    named = shorten_names(question.graph)
    context = Context(None if settings.generates_c else goal.kernels)
    graph = run_passes(named, context, passes=settings.pass_list)
    if settings.generates_c:
        return _of_c(named, graph, question)
    if question.in_earnest or not settings.strips:
        prepared = prepare(question.graph, goal, settings, Progress(enabled=False))
        return _of_plan(named, prepared.graph, prepared.memory, goal, question.limit_bytes)
    found = [(graph, frozenset[str]())]
    tabled = use_tables(graph)
    maps = {tabled.tensors[m.tensor].name: m.bits for m in stored_code_maps(tabled)}
    if maps:
        for shared in (True, False):
            lowered = lower_codes(tabled, maps=maps, shared=shared)
            packed = run_passes(lowered.graph, context, passes=settings.pass_list)
            if graph_macs(packed) <= settings.max_macs * graph_macs(graph):
                found.append((packed, momentary_maps(packed, lowered.stored)))
    best: GraphNeeds | None = None
    for candidate, never_whole in found:
        for level, work in _WALKS:
            try:
                choice = choose_strips(
                    candidate,
                    target=goal,
                    max_macs=min(level, settings.max_macs),
                    max_time=settings.max_time,
                    minimise=settings.minimise,
                    overlap=settings.overlap is not False,
                    view_operators=settings.view_operators,
                    never_whole=never_whole,
                    work=work,
                    plan_rounds=0,
                    workers=1,
                )
            except UnsupportedModelError:
                continue
            if choice.holds_whole:
                continue
            made = with_views_as_set(Prepared(choice.graph, choice.memory), goal, settings)
            one = _of_plan(named, made.graph, made.memory, goal, question.limit_bytes)
            if best is None or one.arena_bytes < best.arena_bytes:
                best = one
    if best is None:
        return GraphNeeds(sys.maxsize, graph_macs(graph), ())
    return best


def _of_plan(
    named: Graph, graph: Graph, memory: MemoryPlan, goal: Target, limit_bytes: int
) -> GraphNeeds:
    arena = predict_arena(graph, offsets=memory.offsets, target=goal)
    occupied = boxes(report_tensors(memory), report_pieces(memory.pieces))
    room = max(0, limit_bytes - arena.tail_bytes)
    held = _in_the_way(occupied, len(graph.operators), room)
    return GraphNeeds(arena.arena_bytes, graph_macs(graph), _by_tensor(named, held))


def _in_the_way(occupied: Sequence[Box], operators: int, room: int) -> dict[str, int]:
    """Map → most bytes of it at a step where more than the room is live, or at the peak."""
    live = live_bytes(occupied, operators)
    least = min(room, max(live, default=0) - 1)
    held: dict[str, int] = {}
    for step in range(operators):
        if live[step] <= least:
            continue
        here: dict[str, int] = {}
        for box in occupied:
            if box.start <= step < box.stop:
                name = strip_family(box.name)
                here[name] = here.get(name, 0) + box.high - box.low
        for name, size in here.items():
            held[name] = max(held.get(name, 0), size)
    return held


def _by_tensor(named: Graph, held: dict[str, int]) -> tuple[tuple[int, int], ...]:
    indices = {}
    for index, tensor in enumerate(named.tensors):
        if not tensor.is_constant:
            indices[packed_name(tensor.name)] = index
            indices[added_name(tensor.name, "packed")] = index
            indices[tensor.name] = index
    found = [(indices[name], size) for name, size in held.items() if name in indices]
    return tuple(sorted(found, key=lambda item: (-item[1], item[0])))


def _of_c(named: Graph, graph: Graph, question: Question) -> GraphNeeds:
    library = question.settings.c_library()
    found = laid_out(
        graph,
        fed=question.settings.input == "rows",
        library=None if library is None else KernelLibrary(library),
        max_macs=question.settings.max_macs,
        quick=not question.in_earnest,
    )
    layout, program = found.layout, found.layout.program
    room = question.limit_bytes - state(layout).size_bytes
    top = max(region.placed.height_bytes for region in layout.regions)
    held: dict[str, int] = {}
    for region in layout.regions:
        if region.placed.height_bytes <= min(room, top - 1):
            continue
        for index in region.offsets:
            entry = program.maps[index]
            rows = region.placed.schedule.lines.get(index)
            size = entry.size_bytes if rows is None else rows * entry.row_bytes
            held[entry.name] = max(held.get(entry.name, 0), size)
    return GraphNeeds(found.static_bytes, graph_macs(found.graph), _by_tensor(named, held))
