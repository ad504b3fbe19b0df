"""From the source graph to the graph that is planned: the passes, and what they decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.codes.lower import LoweredCodes, lower_codes, stored_code_maps
from deploy.backends.tflm.codes.momentary import index_bytes, momentary_maps
from deploy.backends.tflm.codes.tables import use_tables
from deploy.backends.tflm.codes.trial import TRIAL_LEVELS, best_lowering
from deploy.backends.tflm.place import ROUNDS_OF_EFFORT, place
from deploy.backends.tflm.standing import without_view_operators
from deploy.effort import effort_named
from deploy.graph import Graph
from deploy.implicit import as_written
from deploy.macs import graph_macs, relative_macs
from deploy.outcome import DEFECT, Decision, FrontierPoint, Prepared, StoredCodes
from deploy.passes import Context, run_passes
from deploy.passes.order import OrderForMemory
from deploy.passes.short_names import shorten_names
from deploy.progress import Progress
from deploy.targets import Target
from keras_fmc.errors import VerificationError
from keras_fmc.sizes import format_size

if TYPE_CHECKING:
    from deploy.settings import PlanSettings

_NO_WAY = (
    "stored in int8: no way was found to unpack it strip by strip within {:g}x the "
    "multiply-accumulates, and whole its indices are int32"
)


def has_codes(source: Graph, settings: PlanSettings) -> bool:
    """Whether a graph has maps that could be stored packed."""
    return bool(stored_code_maps(run_passes(source, passes=settings.pass_list)))


def prepare(
    source: Graph,
    goal: Target,
    settings: PlanSettings,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
    *,
    codes: bool = True,
) -> Prepared:
    """Returns the best plan found: of the graph as it is, or, with ``codes``, with those packed.

    Names are shortened first, as they stand in flash; then the passes of the settings run. A graph
    with maps of codes is planned both ways, each in strips where settings allow them, and the
    smaller arena (or head, as settings say) wins. Where there are strips, no plan unpacks a map
    whole: its int32 indices and the planes of its bits exist for a strip of rows at most.
    ``stop`` is asked often; True ends all searches with the best so far.
    """
    named = shorten_names(source)
    graph = run_passes(named, Context(goal.kernels), passes=settings.pass_list)
    plain = _planned(graph, named, goal, settings, progress, stop, max_macs=settings.max_macs)
    if (
        not codes
        or not stored_code_maps(graph)
        or not stored_code_maps(tabled := use_tables(graph))
    ):
        return plain
    if stop():
        names = ", ".join(tabled.tensors[m.tensor].name for m in stored_code_maps(tabled))
        reason = "stored in int8: the search was interrupted before packing was tried"
        return replace(plain, decisions=(*plain.decisions, Decision(names, reason)))
    progress.say("packing codes")
    ways, left = _ways_to_pack(tabled, goal, settings, stop)
    if not ways:
        return replace(plain, decisions=(*plain.decisions, *left))
    tried = [_packed(way, graph, goal, settings, progress, stop) for way in ways]
    plans = [(p, way) for p, way in zip(tried, ways, strict=True) if isinstance(p, Prepared)]
    if not plans:
        refused = next(decision for decision in tried if isinstance(decision, Decision))
        return replace(plain, decisions=(*plain.decisions, *left, refused))
    packed, lowered = min(plans, key=lambda found: rank(found[0], goal, settings))
    if rank(packed, goal, settings) < rank(plain, goal, settings):
        return replace(
            packed,
            frontier=_joined(packed.frontier, plain.frontier),
            decisions=(*packed.decisions, *left),
        )
    decisions = tuple(_left_unpacked(item, plain, packed, goal) for item in lowered.stored)
    return replace(
        plain,
        frontier=_joined(plain.frontier, packed.frontier),
        decisions=(*plain.decisions, *left, *decisions),
    )


def _ways_to_pack(
    graph: Graph, goal: Target, settings: PlanSettings, stop: Callable[[], bool]
) -> tuple[list[LoweredCodes], tuple[Decision, ...]]:
    """The ways that look best at each level up to the limit, and the maps that are left whole.

    A trial knows no limit but its level's, so a higher limit plans all that a lower one does and
    never ends with more.
    """
    every = {graph.tensors[m.tensor].name: m.bits for m in stored_code_maps(graph)}
    ways: dict[tuple[object, ...], LoweredCodes] = {}
    left: tuple[Decision, ...] = ()
    least, *more = TRIAL_LEVELS
    for level in (least, *(level for level in more if level <= settings.max_macs)):
        trial = replace(settings, max_macs=level)
        left = _left_whole(graph, every, goal, trial) if settings.strips else ()
        maps = {n: bits for n, bits in every.items() if n not in {d.subject for d in left}}
        if maps:
            way = best_lowering(graph, maps, goal, trial, stop)
            key = (*(item.name for item in way.stored), len(way.graph.operators))
            ways.setdefault(key, way)
    return list(ways.values()), left


def _packed(
    lowered: LoweredCodes,
    source: Graph,
    goal: Target,
    settings: PlanSettings,
    progress: Progress,
    stop: Callable[[], bool],
) -> Prepared | Decision:
    """The plan of the packed graph, or why there is none."""
    graph = run_passes(lowered.graph, Context(goal.kernels), passes=settings.pass_list)
    ratio = relative_macs(graph, source)
    if ratio > settings.max_macs:
        return Decision(
            ", ".join(item.name for item in lowered.stored),
            f"stored in int8: packed, the model takes {ratio:.3f}x its multiply-accumulates, "
            f"above the limit of {settings.max_macs:g}x",
        )
    never_whole = momentary_maps(graph, lowered.stored) if settings.strips else frozenset()
    max_macs = settings.max_macs / ratio
    packed = _planned(
        graph,
        lowered.graph,
        goal,
        settings,
        progress,
        stop,
        max_macs=max_macs,
        never_whole=never_whole,
    )
    if packed.holds_whole:
        return Decision(
            ", ".join(item.name for item in lowered.stored),
            _NO_WAY.format(settings.max_macs),
        )
    frontier = tuple(replace(p, macs_ratio=p.macs_ratio * ratio) for p in packed.frontier)
    decisions = packed.decisions
    if not settings.strips:
        decisions += tuple(
            Decision(
                item.name,
                "unpacked whole, as strips are off: int32 indices of all its rows exist, "
                f"{format_size(size)}, and count in the arena",
            )
            for item in lowered.stored
            if (size := index_bytes(graph, item))
        )
    return replace(packed, frontier=frontier, codes=lowered.stored, decisions=decisions)


def _left_whole(
    graph: Graph, maps: Mapping[str, int], goal: Target, settings: PlanSettings
) -> tuple[Decision, ...]:
    """Maps of codes that strips cannot unpack, each by itself."""
    reasons = {name: _why_whole(graph, name, bits, goal, settings) for name, bits in maps.items()}
    return tuple(Decision(name, reason) for name, reason in reasons.items() if reason is not None)


def _why_whole(
    graph: Graph, name: str, bits: int, goal: Target, settings: PlanSettings
) -> str | None:
    from deploy.backends.tflm.strips import choose_strips, obstacles

    for shared in (True, False):
        lowered = lower_codes(graph, maps={name: bits}, shared=shared)
        packed = run_passes(lowered.graph, Context(goal.kernels), passes=settings.pass_list)
        never_whole = momentary_maps(packed, lowered.stored)
        found = obstacles(packed, never_whole)
        if found:
            reasons = "; ".join(f"{subject}: {why}" for subject, why in found.items())
            return f"stored in int8: it cannot be unpacked strip by strip ({reasons})"
        first_try = choose_strips(
            packed,
            target=goal,
            max_macs=settings.max_macs,
            never_whole=never_whole,
            work=1,
            plan_rounds=0,
        )
        if not first_try.holds_whole:
            return None
    return _NO_WAY.format(settings.max_macs)


def _left_unpacked(item: StoredCodes, plain: Prepared, packed: Prepared, goal: Target) -> Decision:
    arenas = [
        predict_arena(p.graph, offsets=p.memory.offsets, target=goal).arena_bytes
        for p in (packed, plain)
    ]
    return Decision(
        item.name,
        f"stored in int8: packed into {format_size(item.packed_bytes)} the best plan has an arena "
        f"of {format_size(arenas[0])} and a head of {format_size(packed.memory.head_bytes)}, "
        f"unpacked {format_size(arenas[1])} and {format_size(plain.memory.head_bytes)}",
    )


def _planned(
    graph: Graph,
    source: Graph,
    goal: Target,
    settings: PlanSettings,
    progress: Progress,
    stop: Callable[[], bool],
    *,
    max_macs: float,
    never_whole: frozenset[str] = frozenset(),
) -> Prepared:
    """The best plan of one graph: whole, or cut into strips.

    ``source`` is what the passes made it of.
    """
    progress.say("planning")
    whole = _whole(graph, source, goal, settings, stop)
    if not settings.strips:
        return whole
    striped = _striped(graph, goal, settings, progress, stop, max_macs, never_whole)
    candidates = [striped] if never_whole else [striped, whole]
    best = min(candidates, key=lambda prepared: rank(prepared, goal, settings))
    usual = striped.usual_arena_bytes
    if usual is not None and not never_whole:
        arena = predict_arena(whole.graph, offsets=whole.memory.offsets, target=goal).arena_bytes
        usual = min(usual, arena)
    return replace(
        best,
        frontier=striped.frontier,
        decisions=striped.decisions,
        floor_bytes=striped.floor_bytes,
        usual_arena_bytes=usual,
    )


def _whole(
    graph: Graph, source: Graph, goal: Target, settings: PlanSettings, stop: Callable[[], bool]
) -> Prepared:
    """The best plan without strips: in the order that the passes chose, or another.

    The order counts on what kernels may do in place, which not every plan can grant, and knows
    nothing of views: the order that does without, and that of the file, are tried as well.
    """
    unordered = [p for p in settings.pass_list if not isinstance(p, OrderForMemory)]
    orders = [graph]
    for passes in (settings.pass_list, unordered):
        other = run_passes(source, passes=passes)
        if all(other.operators != known.operators for known in orders):
            orders.append(other)
    overlap = settings.overlap is True
    rounds = ROUNDS_OF_EFFORT[effort_named(settings.effort)]
    unit = goal.runtime.arena_alignment_bytes
    plans = [
        Prepared(
            g, place(g, goal.kernels, rounds=rounds, overlap=overlap, alignment=unit, stop=stop)
        )
        for g in orders
    ]
    best = min(plans, key=lambda prepared: prepared.memory.head_bytes)
    return with_views_as_set(best, goal, settings)


def with_views_as_set(prepared: Prepared, goal: Target, settings: PlanSettings) -> Prepared:
    """Returns the plan with operators for its views, or, as is usual, without."""
    if settings.view_operators:
        return prepared
    try:
        graph, memory = without_view_operators(
            prepared.graph,
            prepared.memory,
            goal.kernels,
            alignment=goal.runtime.arena_alignment_bytes,
        )
    except VerificationError as error:
        why = str(error).split("\n", 1)[0]
        kept = Decision("views without an operator", DEFECT.format(why))
        return replace(prepared, decisions=(*prepared.decisions, kept))
    arena = predict_arena(graph, offsets=memory.offsets, target=goal).arena_bytes
    written = len(as_written(graph).operators)
    frontier = (
        replace(p, arena_bytes=arena, head_bytes=memory.head_bytes, operators=written)
        if p.chosen
        else p
        for p in prepared.frontier
    )
    return replace(prepared, graph=graph, memory=memory, frontier=tuple(frontier))


def _size(prepared: Prepared, goal: Target, settings: PlanSettings) -> tuple[int, int]:
    arena = predict_arena(prepared.graph, offsets=prepared.memory.offsets, target=goal)
    head, total = prepared.memory.head_bytes, arena.arena_bytes
    return (head, total) if settings.minimise == "head" else (total, head)


def rank(prepared: Prepared, goal: Target, settings: PlanSettings) -> tuple[int, ...]:
    """Less is better; within an arena that is given, multiply-accumulates count first."""
    size = _size(prepared, goal, settings)
    if settings.arena_bytes is None:
        return size
    total = max(size) if settings.minimise == "head" else size[0]
    return max(0, total - settings.arena_bytes), graph_macs(prepared.graph), *size


def _joined(
    chosen: tuple[FrontierPoint, ...], other: tuple[FrontierPoint, ...]
) -> tuple[FrontierPoint, ...]:
    """One frontier of two searches; the other's choice is a point like any."""
    points = [*chosen, *(replace(point, chosen=False) for point in other)]

    def is_beaten(point: FrontierPoint) -> bool:
        return any(
            p.arena_bytes <= point.arena_bytes
            and p.macs_ratio <= point.macs_ratio
            and (p.arena_bytes, p.macs_ratio) != (point.arena_bytes, point.macs_ratio)
            for p in points
        )

    kept = [p for p in points if p.chosen or not is_beaten(p)]
    return tuple(sorted(kept, key=lambda p: (p.arena_bytes, p.macs_ratio, p.operators)))


def _striped(
    graph: Graph,
    goal: Target,
    settings: PlanSettings,
    progress: Progress,
    stop: Callable[[], bool],
    max_macs: float,
    never_whole: frozenset[str],
) -> Prepared:
    from deploy.backends.tflm.strips import choose_strips

    choice = choose_strips(
        graph,
        target=goal,
        max_macs=max_macs,
        max_time=settings.max_time,
        minimise=settings.minimise,
        arena_bytes=settings.arena_bytes,
        overlap=settings.overlap is not False,
        view_operators=settings.view_operators,
        never_whole=never_whole,
        effort=effort_named(settings.effort),
        stop=stop,
        progress=lambda fraction: progress.say("looking for strips", fraction),
    )
    prepared = Prepared(
        choice.graph,
        choice.memory,
        choice.regions,
        choice.frontier,
        choice.reasons,
        holds_whole=choice.holds_whole,
        floor_bytes=choice.floor_bytes,
        usual_arena_bytes=choice.smallest_arena_bytes,
    )
    return with_views_as_set(prepared, goal, settings)
