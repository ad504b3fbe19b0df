"""Passes: functions Graph -> Graph that leave their argument alone and change no output byte.

``PASSES`` is the order in which they run on every graph, with the reasons. Cutting into strips
comes after them and needs a target: ``deploy.backends.tflm.strips.choose_strips``.
"""

from __future__ import annotations

from collections.abc import Callable

from deploy.graph import Graph
from deploy.passes.dead import drop_dead
from deploy.passes.order import order_for_memory
from deploy.passes.slices import plain_slices


def _ordered(graph: Graph) -> Graph:
    return order_for_memory(graph).graph


PASSES: tuple[tuple[str, Callable[[Graph], Graph], str], ...] = (
    (
        "plain_slices",
        plain_slices,
        "before drop_dead, which removes the parameters that it leaves behind",
    ),
    (
        "drop_dead",
        drop_dead,
        "early, so that nothing after it spends memory or time on what nobody reads",
    ),
    (
        "order_for_memory",
        _ordered,
        "before strips, because regions are runs of operators in this order",
    ),
)
"""(name, pass, why it stands where it stands)."""


def run_passes(graph: Graph, *, reorder: bool = True) -> Graph:
    """Returns the graph after all passes, in order.

    Args:
        reorder: False leaves the operators in the order of the file, which is better where views
            decide: the pass does not know of them.
    """
    for _, apply, _ in PASSES:
        if reorder or apply is not _ordered:
            graph = apply(graph)
    return graph
