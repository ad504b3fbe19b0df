"""From the source graph to the graph that is planned: the passes, and what they decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.graph import Graph
from deploy.memory.arena import predict_arena
from deploy.memory.place import place
from deploy.memory.plan import MemoryPlan
from deploy.naming import shorten_names
from deploy.passes import run_passes
from deploy.progress import Progress
from deploy.report.report import Decision, FrontierPoint, Region
from deploy.targets import Target

if TYPE_CHECKING:
    from deploy.pipeline import PlanSettings


@dataclass(frozen=True, slots=True)
class Prepared:
    """A graph with its memory plan.

    Attributes:
        regions: operators that run strip by strip.
        frontier: the plans that the search found, by arena.
        decisions: what was left as it is, and why.
    """

    graph: Graph
    memory: MemoryPlan
    regions: tuple[Region, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()
    decisions: tuple[Decision, ...] = ()


def prepare(source: Graph, goal: Target, settings: PlanSettings, progress: Progress) -> Prepared:
    """Returns the best plan found: of the whole graph, or of one cut into strips.

    Names are shortened first, as they stand in flash; then ``deploy.passes.PASSES`` run.
    """
    graph = run_passes(shorten_names(source))
    progress.say("planning")
    whole = Prepared(graph, place(graph, goal.kernels, overlap=settings.overlap))
    if not settings.strips:
        return whole
    striped = _striped(graph, goal, settings, progress)
    candidates = [striped, whole]
    if settings.overlap:
        memory = place(striped.graph, goal.kernels, overlap=True)
        candidates.append(
            Prepared(striped.graph, memory, striped.regions, striped.frontier, striped.decisions)
        )
    if settings.arena_bytes is not None and not settings.overlap:
        return striped

    def size(prepared: Prepared) -> tuple[int, int]:
        arena = predict_arena(prepared.graph, offsets=prepared.memory.offsets, target=goal)
        head, total = prepared.memory.head_bytes, arena.arena_bytes
        return (head, total) if settings.minimise == "head" else (total, head)

    best = min(candidates, key=size)
    return Prepared(best.graph, best.memory, best.regions, striped.frontier, striped.decisions)


def _striped(graph: Graph, goal: Target, settings: PlanSettings, progress: Progress) -> Prepared:
    from deploy.passes.strips import choose_strips

    choice = choose_strips(
        graph,
        target=goal,
        max_macs=settings.max_macs,
        minimise=settings.minimise,
        arena_bytes=settings.arena_bytes,
        progress=lambda fraction: progress.say("looking for strips", fraction),
    )
    return Prepared(choice.graph, choice.memory, choice.regions, choice.frontier, choice.reasons)
