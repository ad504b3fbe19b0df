"""Chooses how a graph is cut into strips, and gives back the graph with its memory plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.strips.costs import costs_of
from deploy.backends.tflm.strips.cuts import Cuts
from deploy.backends.tflm.strips.goal import Goal
from deploy.backends.tflm.strips.judge import Candidate, Verdict
from deploy.backends.tflm.strips.layout import CutGraph, cut_graph, placed
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.regions import regions_of
from deploy.backends.tflm.strips.search import Search
from deploy.backends.tflm.time import graph_time, time_ratio
from deploy.graph import Graph
from deploy.macs import graph_macs
from deploy.memory.plan import MemoryPlan
from deploy.outcome import ArenaPrediction, Decision, FrontierPoint, Region
from deploy.passes.dead import drop_dead
from deploy.passes.order import order_for_memory
from deploy.targets import Target
from keras_fmc.errors import BadInputError

SMALL_GRAPH_OPERATORS = 40
_SMALL_WORK, _LARGE_WORK = 1_400_000, 4_000_000
_SMALL_WORK_FOR_THE_HEAD = 700_000
"""A step costs more there, as strips are many."""
_FEW_OPERATORS, _FEW_FOR_THE_HEAD, _LEAST_WORK = 10, 5, 0.02
"""Below so many operators, work falls with the square of those that can be cut, to that part."""
_SMALL_SECONDS, _LARGE_SECONDS = 60.0, 90.0
"""Only a machine that is very slow or busy gets there before the work is done."""
_MEASURED, _PLANNED_LONGER = 10, 6
_LONG_PROGRAM = 500
"""Steps above which only a third of the candidates is planned."""
_PLAN_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class StripChoice:
    """The best way found to run a graph in strips.

    Attributes:
        graph: plain TFLite operators; the graph itself, without dead tensors, where no strips
            pay off.
        memory: a checked plan for exactly this graph.
        arena: what it needs on the target.
        macs: multiply-accumulates of one inference; ``source_macs`` those without strips.
        candidate: operators that are computed twice, and the cuts.
        regions: what runs strip by strip.
        frontier: estimates that no other beats in arena and MACs both.
        reasons: operators that cannot be cut, and why.
        fits: whether the arena is at most ``arena_bytes``, where that was asked for.
        interrupted: Ctrl-C, ``stop`` or the time limit ended the search early.
        holds_whole: no way was found that ``never_whole`` allows, so the graph is left whole.
    """

    graph: Graph
    memory: MemoryPlan
    arena: ArenaPrediction
    macs: int
    source_macs: int
    candidate: Candidate
    regions: tuple[Region, ...]
    frontier: tuple[FrontierPoint, ...]
    reasons: tuple[Decision, ...]
    fits: bool
    interrupted: bool
    holds_whole: bool = False

    @property
    def macs_ratio(self) -> float:
        return self.macs / self.source_macs if self.source_macs else 1.0


@dataclass(frozen=True, slots=True)
class _Measured:
    verdict: Verdict
    cut: CutGraph
    memory: MemoryPlan
    arena: ArenaPrediction
    time: int | None
    time_ratio: float | None

    def over_time(self, goal: Goal) -> float:
        """By how much of the graph's own time it is too slow; 0 where nothing bounds it."""
        if goal.max_time is None or self.time_ratio is None:
            return 0.0
        return max(0.0, self.time_ratio - goal.max_time)


def choose_strips(
    graph: Graph,
    *,
    target: Target,
    max_macs: float = 1.10,
    max_time: float | None = None,
    minimise: str = "arena",
    arena_bytes: int | None = None,
    never_whole: frozenset[str] = frozenset(),
    overlap: bool = True,
    seconds: float | None = None,
    work: int | None = None,
    plan_seconds: float = 4.0,
    progress: Callable[[float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> StripChoice:
    """Returns the graph cut so that it needs the smallest arena, head, or fewest MACs.

    Args:
        target: runtime and kernels that the arena is for.
        max_macs: most multiply-accumulates, as a multiple of the graph's own.
        max_time: most estimated time (``deploy.backends.tflm.time``), as a multiple of the
            graph's own; None: products alone are bounded.
        minimise: "arena" or "head".
        arena_bytes: if set, the fewest MACs in an arena of this size; should none be so small,
            the smallest arena found comes back with ``fits`` False.
        never_whole: names of maps that may exist for a strip of rows only, whatever that costs;
            those of a single row are exempt.
        overlap: whether outputs may grow into their inputs where the target's kernels allow it.
        seconds: time limit of the search; None: 60 s, or 90 s above 40 operators.
        work: effort of the search in steps judged; None: ``usual_work``.
        plan_seconds: time limit of the memory planner for each of the best candidates; most
            often its effort ends it before. 0 asks for a quick plan.
        progress: called with the part of the work that is done, 0 to 1.
        stop: asked often; True ends the search with the best so far.
    """
    graph = drop_dead(graph)
    graph = order_for_memory(graph, in_place=target.kernels.in_place).graph
    small = len(graph.operators) <= SMALL_GRAPH_OPERATORS
    if work is None:
        work = usual_work(graph, for_head=minimise == "head" and arena_bytes is None)
    deadline = time.monotonic() + (seconds or (_SMALL_SECONDS if small else _LARGE_SECONDS))
    ended_early = False

    def ended() -> bool:
        nonlocal ended_early
        ended_early = ended_early or time.monotonic() > deadline or (stop is not None and stop())
        return ended_early

    if max_time is not None and not target.kernels.times:
        raise BadInputError(
            f"the time of the {target.kernels.name} kernels is not known",
            expected="kernels with figures, such as cmsis-nn-dsp",
            remedy="Leave --max-time out; --max-macs bounds multiply-accumulates",
        )
    goal = Goal(minimise, max_macs, arena_bytes, max_time)
    search = Search(
        graph,
        costs_of(graph, target, overlap=overlap),
        goal,
        work=work,
        never_whole=never_whole,
        progress=progress,
        stop=ended,
    )
    try:
        search.run()
    except KeyboardInterrupt:
        ended_early = True
    holds_whole = not search.ranking.best
    if holds_whole:
        search.ranking.best = [(0.0, search.whole)]
    best = _best(search, target, plan_seconds)
    network, cuts, program = search.judge.program(best.verdict.candidate)
    return StripChoice(
        graph=best.cut.graph,
        memory=best.memory,
        arena=best.arena,
        macs=graph_macs(best.cut.graph),
        source_macs=graph_macs(graph),
        candidate=Candidate(best.verdict.candidate.clones, cuts),
        regions=regions_of(network, cuts, program),
        frontier=_frontier(search, best),
        reasons=tuple(
            Decision(graph.label(operator), f"left whole: {reason.value}")
            for operator, reason in search.judge.network().reasons.items()
        ),
        fits=arena_bytes is None or best.arena.arena_bytes <= arena_bytes,
        interrupted=ended_early,
        holds_whole=holds_whole,
    )


def usual_work(graph: Graph, *, for_head: bool = False) -> int:
    """Returns the effort of a search in steps judged, unless the caller has another wish.

    Where a handful of operators can be cut the search knows nearly all ways after a fraction of
    the work that ten of them take; for the head, five, as there are more ways with more strips.
    """
    if len(graph.operators) > SMALL_GRAPH_OPERATORS:
        return _LARGE_WORK
    work = _SMALL_WORK_FOR_THE_HEAD if for_head else _SMALL_WORK
    few = _FEW_FOR_THE_HEAD if for_head else _FEW_OPERATORS
    if len(graph.operators) >= few:
        return work
    share = (len(Network(graph).row_operators) / few) ** 2
    return int(work * max(share, _LEAST_WORK))


def _best(search: Search, target: Target, seconds: float) -> _Measured:
    """Plans the best candidates in earnest and takes the one that is best then."""
    share = 1 if search.ranking.best[0][1].steps <= _LONG_PROGRAM else 3
    verdicts = [verdict for _, verdict in search.ranking.best[: _MEASURED // share]]
    is_bound = bool(search.judge.in_strips())
    if not is_bound and (
        search.goal.max_time is not None
        or all(v.candidate.cuts.ends or v.candidate.clones for v in verdicts)
    ):
        verdicts.append(search.whole)
    measured = [m for v in verdicts if (m := _measure(search, v, target, 0.0)) is not None]
    if search.goal.arena_bytes is not None or search.goal.max_time is not None:
        # Estimates end just below the budget; what is smaller fits if they were too low. And what
        # moves few bytes is among those that take few products.
        spare = sorted(search.ranking.frontier, key=lambda v: (v.arena_bytes, v.macs))
        spare = spare[:: max(1, len(spare) // _MEASURED)]
        measured += [m for v in spare if (m := _measure(search, v, target, 0.0)) is not None]
    measured.sort(key=lambda m: _rank(search.goal, m))
    if seconds > 0:
        # The quick height is an estimate; where it is far above the bound, planning may help most.
        known = {v.candidate.key() for v in verdicts}
        hopeful = [v for _, v in search.ranking.hopeful if v.candidate.key() not in known]
        chosen = [m.verdict for m in measured[: _PLANNED_LONGER // 2 // share]]
        chosen += hopeful[: _PLANNED_LONGER // share - len(chosen)]
        longer = [_measure(search, verdict, target, seconds) for verdict in chosen]
        measured += [m for m in longer if m is not None]
    return min(measured, key=lambda m: _rank(search.goal, m))


def _measure(search: Search, verdict: Verdict, target: Target, seconds: float) -> _Measured | None:
    network, program, found = search.judge.footprint(verdict.candidate)
    cut = None if found is None else cut_graph(network, program, found, target.kernels)
    if cut is None:
        return None
    memory = placed(cut, target.kernels, seconds=seconds, rounds=_PLAN_ROUNDS)
    arena = predict_arena(cut.graph, offsets=memory.offsets, target=target)
    time = graph_time(cut.graph, target.kernels)
    ratio = time_ratio(cut.graph, search.graph, target.kernels)
    return _Measured(verdict, cut, memory, arena, time, ratio)


def _rank(goal: Goal, measured: _Measured) -> tuple[float, ...]:
    """Less is better; of plans of one size, that which moves fewer bytes and products."""
    arena, macs = measured.arena.arena_bytes, measured.verdict.macs
    slow, time = measured.over_time(goal), measured.time or 0
    if goal.arena_bytes is not None:
        return max(0, arena - goal.arena_bytes), slow, time, macs, arena
    if goal.minimise == "head":
        return slow, measured.memory.head_bytes, arena, time, macs
    return slow, arena, time, macs


def _frontier(search: Search, best: _Measured) -> tuple[FrontierPoint, ...]:
    chosen = best.verdict.candidate.key()
    points = [
        FrontierPoint(
            arena_bytes=v.arena_bytes,
            head_bytes=v.head_bytes,
            macs_ratio=v.macs / search.total_macs,
            operators=v.steps,
            chosen=v.candidate.key() == chosen,
        )
        for v in search.ranking.frontier
        if v.candidate.key() != chosen
    ]
    points.append(
        FrontierPoint(
            arena_bytes=best.arena.arena_bytes,
            head_bytes=best.memory.head_bytes,
            macs_ratio=best.verdict.macs / search.total_macs,
            operators=len(best.cut.graph.operators),
            chosen=True,
        )
    )
    return tuple(sorted(points, key=lambda p: (p.arena_bytes, p.macs_ratio, p.operators)))


def cut(graph: Graph, cuts: Cuts) -> Graph:
    """Returns the graph cut in the given way; its outputs are the same, byte for byte."""
    from deploy.backends.tflm.strips.cuts import normalised
    from deploy.backends.tflm.strips.emit import emit
    from deploy.backends.tflm.strips.network import Network
    from deploy.backends.tflm.strips.schedule import schedule

    network = Network(drop_dead(graph))
    return drop_dead(emit(network, schedule(network, normalised(network, cuts)))[0])
