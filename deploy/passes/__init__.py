"""Passes: frozen dataclasses that make a graph of a graph and change no output byte.

``PASSES`` is the order in which they run on every graph, with the reasons. Cutting into strips
comes after them: ``deploy.backends.tflm.strips.choose_strips``.
"""

from __future__ import annotations

from collections.abc import Sequence

from deploy.graph import Graph
from deploy.passes.context import Context, Pass
from deploy.passes.dead import DropDead
from deploy.passes.order import OrderForMemory
from deploy.passes.slices import PlainSlices
from deploy.passes.text import parse_passes, passes_text

PASSES: tuple[tuple[Pass, str], ...] = (
    (PlainSlices(), "before drop_dead, which removes the parameters that it leaves behind"),
    (DropDead(), "early, so that nothing after it spends memory or time on what nobody reads"),
    (OrderForMemory(), "before strips, because regions are runs of operators in this order"),
)
"""(pass, why it stands where it stands)."""

_USUAL = tuple(p for p, _ in PASSES)
_ANYWHERE = Context()

USUAL_PASSES = passes_text(_USUAL)
"""``PASSES`` as text."""


def passes_of(text: str) -> tuple[Pass, ...]:
    """Returns the passes that a text such as ``USUAL_PASSES`` names.

    Raises:
        BadInputError: as ``parse_passes``.
    """
    return parse_passes(text, {p.name: type(p) for p, _ in PASSES})


def run_passes(
    graph: Graph, context: Context = _ANYWHERE, *, passes: Sequence[Pass] = _USUAL
) -> Graph:
    """Returns the graph after all passes, in order."""
    for each in passes:
        graph = each.apply(graph, context)
    return graph


__all__ = ["PASSES", "USUAL_PASSES", "Context", "Pass", "passes_of", "run_passes"]
