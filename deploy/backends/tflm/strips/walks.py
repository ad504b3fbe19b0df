"""Which searches an effort stands for, and what one of them finds.

A *walk* is one search with its own seed, work and limit of multiply-accumulates; what it finds
depends on nothing else. An effort is a set of walks, so more effort, more multiply-accumulates
allowed, or the head instead of the arena never give less: each is a larger set, out of which the
best is taken.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.standing import with_implicit_views
from deploy.backends.tflm.strips.costs import Costs
from deploy.backends.tflm.strips.estimate import Estimate, Estimator
from deploy.backends.tflm.strips.goal import Goal
from deploy.backends.tflm.strips.layout import CutGraph, cut_graph, placed
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.search import Search
from deploy.backends.tflm.strips.tuning import EFFORT, TUNING, WalksByLevel
from deploy.backends.tflm.time import graph_time, time_ratio
from deploy.effort import Effort
from deploy.graph import Graph
from deploy.memory.plan import MemoryPlan
from deploy.outcome import ArenaPrediction
from deploy.targets import Target
from keras_fmc.errors import VerificationError


@dataclass(frozen=True, slots=True)
class Walk:
    """One search; see the module.

    Attributes:
        restarts: how many walks begin at a high temperature, from the graph that is not cut.
    """

    goal: Goal
    seed: int
    work: int
    restarts: int = 1


class Point(NamedTuple):
    """A way of cutting with what its plan came to.

    ``lowest_head_bytes`` bounds all its plans; ``time`` is estimated in instructions (0 where the
    kernels have no figures), ``time_ratio`` by that of the graph as it is.
    """

    estimate: Estimate
    arena_bytes: int
    head_bytes: int
    lowest_head_bytes: int
    time: int
    time_ratio: float | None

    def over_time(self, goal: Goal) -> float:
        """By how much of the graph's own time it is too slow; 0 where nothing bounds it."""
        if goal.max_time is None or self.time_ratio is None:
            return 0.0
        return max(0.0, self.time_ratio - goal.max_time)


class Found(NamedTuple):
    """What a walk found.

    Attributes:
        points: the best ways, with quick plans of theirs.
        promising: ways that could be better than they look, if planned with more effort.
        frontier: estimates that no other beats in arena and MACs both.
        holds_whole: no way was found that the graph's ``never_whole`` allows.
        ended_early: ``stop`` ended it.
    """

    points: tuple[Point, ...]
    promising: tuple[Estimate, ...]
    frontier: tuple[Estimate, ...]
    holds_whole: bool
    ended_early: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """A way of cutting, written down and planned."""

    estimate: Estimate
    cut: CutGraph
    memory: MemoryPlan
    arena: ArenaPrediction
    time: int
    time_ratio: float | None

    def point(self) -> Point:
        return Point(
            self.estimate,
            self.arena.arena_bytes,
            self.memory.head_bytes,
            self.memory.lower_bound_bytes,
            self.time,
            self.time_ratio,
        )


def walks_of(goal: Goal, effort: Effort, network: Network) -> tuple[Walk, ...]:
    """Returns the walks that look for a goal in a graph."""
    if not network.row_operators:
        return (Walk(goal, 0, 0),)
    for_head = goal.minimise == "head" and goal.arena_bytes is None
    tables: list[tuple[str, int | None, WalksByLevel]]
    tables = [("arena", None, EFFORT.for_the_arena)]
    if goal.minimise == "head" or goal.arena_bytes is not None:
        tables.append((goal.minimise, goal.arena_bytes, EFFORT.for_the_head))
    is_short = len(network.order) < EFFORT.few
    walks = []
    for minimise, arena_bytes, table in tables:
        usual = usual_work(network, for_head=for_head and minimise == "head")
        walks += [
            Walk(
                Goal(minimise, level, arena_bytes, goal.max_time),
                # Where no limit binds, two walks of one seed would be the same.
                (round(level * 100) - 105) % 512 * EFFORT.most_walks + number,
                int(usual * EFFORT.shares.get(level, 1.0)),
                restarts=EFFORT.restarts[(number + (level > EFFORT.long_up_to)) % 2],
            )
            for level, numbers in table.items()
            if level <= _level_above(goal.max_macs, table)
            for number in range(numbers[effort.grade] + (EFFORT.more_of_few if is_short else 0))
        ]
    return tuple(walks)


def _level_above(max_macs: float, table: WalksByLevel) -> float:
    """The least level that is not below a limit, or the last one."""
    return min((level for level in table if level >= max_macs), default=max(table))


def usual_work(network: Network, *, for_head: bool = False) -> int:
    """Returns the work of one walk, in steps estimated.

    Where a handful of operators can be cut a walk knows nearly all ways after a fraction of the
    work that ten of them take; for the head, five, as there are more ways with more strips.
    """
    if len(network.order) > TUNING.few_operators:
        return EFFORT.large_work
    work = EFFORT.small_work_for_the_head if for_head else EFFORT.small_work
    few = EFFORT.few_for_the_head if for_head else EFFORT.few
    if len(network.order) >= few:
        return work
    share = (len(network.row_operators) / few) ** EFFORT.few_power
    full = work if for_head else EFFORT.few_work
    return min(work, int(full * max(share, EFFORT.least_share)))


def run_walk(
    graph: Graph,
    costs: Costs,
    target: Target,
    walk: Walk,
    *,
    never_whole: frozenset[str] = frozenset(),
    progress: Callable[[float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Found:
    """Searches, and plans the best ways found quickly.

    Ctrl-C ends the search with what it has.
    """
    ended_early = False

    def ended() -> bool:
        nonlocal ended_early
        ended_early = ended_early or (stop is not None and stop())
        return ended_early

    search = Search(
        graph,
        costs,
        walk.goal,
        work=walk.work,
        seed=walk.seed,
        restarts=walk.restarts,
        never_whole=never_whole,
        progress=progress,
        stop=ended,
    )
    collecting = gc.isenabled()
    # Nothing that a search makes refers to itself, and it makes millions of small objects.
    gc.disable()
    try:
        search.run()
    except KeyboardInterrupt:
        ended_early = True
    finally:
        if collecting:
            gc.enable()
    return _found(search, target, ended_early)


def _found(search: Search, target: Target, ended_early: bool) -> Found:
    """Plans the best candidates of a search quickly."""
    ranking, goal = search.ranking, search.goal
    holds_whole = not ranking.best
    best = [estimate for _, estimate in ranking.best] or [search.whole]
    share = 1 if best[0].steps <= EFFORT.long_program else EFFORT.long_share
    estimates = best[: EFFORT.planned // share]
    if not search.estimator.in_strips() and (
        goal.max_time is not None
        or all(v.candidate.cuts.ends or v.candidate.clones for v in estimates)
    ):
        estimates.append(search.whole)
    if goal.arena_bytes is not None or goal.max_time is not None:
        # Estimates end just below the budget; what is smaller fits if they were too low. And what
        # moves few bytes is among those that take few products.
        spare = sorted(ranking.frontier, key=lambda v: (v.arena_bytes, v.macs))
        estimates += spare[:: max(1, len(spare) // EFFORT.planned)]
    cheap = sorted(ranking.frontier, key=lambda v: v.macs)
    estimates += cheap[:: max(1, len(cheap) // EFFORT.cheap)][: EFFORT.cheap]
    points, known = [], set()
    for estimate in estimates:
        key = estimate.candidate.key()
        measured = None if key in known else measure(search.estimator, estimate, target)
        known.add(key)
        if measured is not None:
            points.append(measured.point())
    if not points:
        # The kernels can read none of them as they would stand.
        holds_whole = bool(search.estimator.in_strips())
        measured = measure(search.estimator, search.whole, target)
        if measured is None:
            raise VerificationError("the graph cannot be laid out, neither in strips nor whole")
        points.append(measured.point())
    # The quick height is an estimate; where it is far above the bound, planning may help most.
    promising = [v for _, v in ranking.promising if v.candidate.key() not in known]
    return Found(
        tuple(points),
        tuple(promising[: EFFORT.promising // share]),
        tuple(ranking.frontier),
        holds_whole,
        ended_early,
    )


def measure(
    estimator: Estimator,
    estimate: Estimate,
    target: Target,
    *,
    rounds: int = 0,
    stop: Callable[[], bool] | None = None,
) -> Measured | None:
    """Plans a way of cutting; None if the kernels cannot read views so placed.

    Args:
        rounds: of the memory planner; 0 asks for a quick plan.
    """
    network, program, found = estimator.footprint(estimate.candidate)
    if found is None:
        return None
    unit = target.runtime.arena_alignment_bytes
    cut = cut_graph(network, program, found, target.kernels, alignment=unit)
    if cut is None:
        return None
    memory = placed(cut, target.kernels, rounds=rounds, stop=stop)
    graph = cut.graph
    if estimator.costs.view_bytes is not None:
        graph = with_implicit_views(graph, memory.offsets, target.kernels, alignment=unit)
    arena = predict_arena(graph, offsets=memory.offsets, target=target)
    time = graph_time(graph, target.kernels) or 0
    ratio = time_ratio(graph, estimator.graph, target.kernels)
    return Measured(estimate, cut, memory, arena, time, ratio)
