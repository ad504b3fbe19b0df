"""From the source graph to the graph that is planned: the passes, and what they decided."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.graph import Graph
from deploy.naming import shorten_names
from deploy.passes.dead import drop_dead
from deploy.report.report import Decision, FrontierPoint, Region


@dataclass(frozen=True, slots=True)
class Prepared:
    """A graph ready to be planned.

    Attributes:
        regions: operators that run strip by strip.
        frontier: the plans that the search found, by arena.
        decisions: what was left as it is, and why.
    """

    graph: Graph
    regions: tuple[Region, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()
    decisions: tuple[Decision, ...] = ()


def prepare(source: Graph) -> Prepared:
    """Returns the source without dead tensors and with short names, not cut into strips."""
    return Prepared(drop_dead(shorten_names(source)))
