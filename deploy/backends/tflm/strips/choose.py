"""Chooses how a graph is cut into strips, and gives back the graph with its memory plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.backends.tflm.strips.costs import costs_of
from deploy.backends.tflm.strips.cuts import Cuts
from deploy.backends.tflm.strips.estimate import Candidate, Estimate, Estimator
from deploy.backends.tflm.strips.floor import floor_bytes
from deploy.backends.tflm.strips.goal import Goal
from deploy.backends.tflm.strips.regions import regions_of
from deploy.backends.tflm.strips.walks import Found, Measured, Point, Walk, measure, walks_of
from deploy.backends.tflm.strips.workers import run_walks
from deploy.effort import Effort
from deploy.graph import Graph
from deploy.macs import graph_macs
from deploy.memory.plan import MemoryPlan
from deploy.outcome import ArenaPrediction, Decision, FrontierPoint, Region
from deploy.passes.dead import drop_dead
from deploy.targets import Target
from keras_fmc.errors import BadInputError

PLAN_ROUNDS = 3
"""Rounds of the memory planner for the best ways found."""


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
        floor_bytes: no way of cutting has a smaller head, see ``floor``.
        smallest_arena_bytes: of all ways that were planned, whatever was to be made small.
        interrupted: Ctrl-C or ``stop`` ended the search early.
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
    floor_bytes: int
    smallest_arena_bytes: int
    interrupted: bool
    holds_whole: bool = False

    @property
    def macs_ratio(self) -> float:
        return self.macs / self.source_macs if self.source_macs else 1.0


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
    view_operators: bool = True,
    effort: Effort = Effort.NORMAL,
    work: int | None = None,
    plan_rounds: int = PLAN_ROUNDS,
    workers: int | None = None,
    progress: Callable[[float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> StripChoice:
    """Returns the graph cut so that it needs the smallest arena, head, or fewest MACs.

    The result depends on the arguments alone, however many processes look for it, unless
    ``stop`` or Ctrl-C ends the search early.

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
        view_operators: whether views keep an operator in the file; if not, ``arena`` is that of
            the graph without (``standing.without_view_operators``).
        effort: which walks are searched; see ``walks``.
        work: one walk of this effort, in steps estimated, instead of the usual ones.
        plan_rounds: effort of the memory planner for the best ways; 0 asks for quick plans.
        workers: processes; None: as many as there are cores.
        progress: called with the part of the work that is done, 0 to 1.
        stop: asked often; True ends the search with the best so far.
    """
    graph = drop_dead(graph)
    if max_time is not None and not target.kernels.times:
        raise BadInputError(
            f"the time of the {target.kernels.name} kernels is not known",
            expected="kernels with figures, such as cmsis-nn-dsp",
            remedy="Leave --max-time out; --max-macs bounds multiply-accumulates",
        )
    costs = costs_of(graph, target, overlap=overlap, view_operators=view_operators)
    goal = Goal(minimise, max_macs, arena_bytes, max_time)
    estimator = Estimator(graph, costs, never_whole=never_whole)
    network = estimator.network()
    walks = walks_of(goal, effort, network) if work is None else (Walk(goal, 0, work),)
    found = run_walks(
        graph,
        costs,
        target,
        walks,
        never_whole=never_whole,
        workers=workers,
        progress=progress,
        stop=stop,
    )
    ended_early = any(f.ended_early for f in found)
    # A walk above the limit counts with what it found below; always there is one at 1.0.
    limit = max(max_macs, 1.0) * max(network.total_macs, 1)
    within, above = list[Found](), list[Found]()
    for walk, one in zip(walks, found, strict=True):
        if walk.goal.max_macs <= max(max_macs, 1.0):
            within.append(one)
        elif (lower := _below(one, limit)).points:
            above.append(lower)
    holds_whole = all(f.holds_whole for f in (*within, *above))
    if not holds_whole:
        within = [f for f in within if not f.holds_whole]
        above = [f for f in above if not f.holds_whole]
    usable = [*within, *above]
    best, candidate = _best(estimator, within, above, goal, target, plan_rounds, stop)
    network, cuts, program = estimator.program(candidate)
    return StripChoice(
        graph=best.cut.graph,
        memory=best.memory,
        arena=best.arena,
        macs=graph_macs(best.cut.graph),
        source_macs=graph_macs(graph),
        candidate=Candidate(candidate.clones, cuts),
        regions=regions_of(network, cuts, program),
        frontier=_frontier(usable, best, max(estimator.network().total_macs, 1)),
        reasons=tuple(
            Decision(graph.label(operator), f"left whole: {reason.value}")
            for operator, reason in estimator.network().reasons.items()
        ),
        fits=arena_bytes is None or best.arena.arena_bytes <= arena_bytes,
        floor_bytes=floor_bytes(estimator.network(), costs),
        smallest_arena_bytes=min(
            best.arena.arena_bytes,
            *(
                point.arena_bytes
                for walk in usable
                for point in walk.points
                if point.estimate.macs <= max_macs * graph_macs(graph)
            ),
        ),
        interrupted=ended_early or (stop is not None and stop()),
        holds_whole=holds_whole,
    )


def _below(found: Found, most_macs: float) -> Found:
    """What a walk found with no more multiply-accumulates than that."""
    return found._replace(
        points=tuple(p for p in found.points if p.estimate.macs <= most_macs),
        frontier=tuple(v for v in found.frontier if v.macs <= most_macs),
    )


def _best(
    estimator: Estimator,
    found: Sequence[Found],
    above: Sequence[Found],
    goal: Goal,
    target: Target,
    rounds: int,
    stop: Callable[[], bool] | None,
) -> tuple[Measured, Candidate]:
    """Plans the best of each walk in earnest and takes the one that is best then.

    What each walk contributes depends on that walk alone, so more walks never give less. Of
    walks ``above`` the limit quick plans count only: which ways of theirs would be planned in
    earnest depends on the limit.
    """
    points = [point for walk in (*found, *above) for point in walk.points]
    chosen = min(points, key=lambda point: _rank(goal, point))
    measured: list[Measured] = []
    quick = measure(estimator, chosen.estimate, target)
    assert quick is not None, "it was planned before"
    measured.append(quick)
    for walk in found:
        if rounds <= 0 or (stop is not None and stop()):
            break
        first = sorted(walk.points, key=lambda point: _rank(goal, point))[:2]
        for estimate in (*(p.estimate for p in first), *walk.promising):
            known = {m.estimate.candidate.key(): m for m in measured}
            lowest = next((p.lowest_head_bytes for p in first if p.estimate is estimate), None)
            lowest = estimate.bound_bytes if lowest is None else lowest
            arena = lowest + estimate.tail_bytes - _TAIL_ERROR
            least = Point(estimate, arena, lowest, lowest, time=0, time_ratio=None)
            best = min(_rank(goal, m.point()) for m in measured)
            if _rank(goal, least) >= best:
                continue
            if estimate.candidate.key() in known and known[estimate.candidate.key()] is not quick:
                continue
            again = measure(estimator, estimate, target, rounds=rounds, stop=stop)
            if again is not None:
                measured.append(again)
    best_of_all = min(measured, key=lambda m: _rank(goal, m.point()))
    return best_of_all, best_of_all.estimate.candidate


_TAIL_ERROR = 256
"""The tail of a estimate is an estimate; it is not off by more bytes than that."""


def _rank(goal: Goal, point: Point) -> tuple[float, ...]:
    """Less is better; of plans of one size, that which moves fewer bytes and products."""
    arena, macs = point.arena_bytes, point.estimate.macs
    slow, time = point.over_time(goal), point.time
    if goal.arena_bytes is not None:
        return max(0, arena - goal.arena_bytes), slow, time, macs, arena
    if goal.minimise == "head":
        return slow, point.head_bytes, arena, time, macs
    return slow, arena, time, macs


def _frontier(found: Sequence[Found], best: Measured, total_macs: int) -> tuple[FrontierPoint, ...]:
    chosen = best.estimate.candidate.key()
    estimates: list[Estimate] = []
    for estimate in (v for walk in found for v in walk.frontier):
        if any(
            v.arena_bytes <= estimate.arena_bytes and v.macs <= estimate.macs for v in estimates
        ):
            continue
        estimates = [
            v for v in estimates if v.arena_bytes < estimate.arena_bytes or v.macs < estimate.macs
        ]
        estimates.append(estimate)
    made = FrontierPoint(
        arena_bytes=best.arena.arena_bytes,
        head_bytes=best.memory.head_bytes,
        macs_ratio=best.estimate.macs / total_macs,
        operators=len(best.cut.graph.operators),
        chosen=True,
    )
    points = [
        FrontierPoint(
            arena_bytes=v.arena_bytes,
            head_bytes=v.head_bytes,
            macs_ratio=v.macs / total_macs,
            operators=v.steps,
            chosen=False,
        )
        for v in estimates
        # What was planned may be smaller than it was estimated to be.
        if v.candidate.key() != chosen
        and (v.arena_bytes <= made.arena_bytes or v.macs <= best.estimate.macs)
    ]
    return tuple(sorted([*points, made], key=lambda p: (p.arena_bytes, p.macs_ratio, p.operators)))


def cut(graph: Graph, cuts: Cuts) -> Graph:
    """Returns the graph cut in the given way; its outputs are the same, byte for byte."""
    from deploy.backends.tflm.strips.cuts import normalised
    from deploy.backends.tflm.strips.emit import emit
    from deploy.backends.tflm.strips.network import Network
    from deploy.backends.tflm.strips.schedule import schedule

    network = Network(drop_dead(graph))
    return drop_dead(emit(network, schedule(network, normalised(network, cuts)))[0])
