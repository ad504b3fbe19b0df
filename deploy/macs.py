"""Multiply-accumulates of operators: what strips may cost in time.

Counted are the products of a weight with an activation, padding included, as is usual:
outputs x kernel height x kernel width x input channels of the group. Operators without weights
(pools, additions, activations, copies) count as none.
"""

from __future__ import annotations

from deploy.graph import Graph
from deploy.operators import OPERATORS, Site


def operator_macs(graph: Graph, index: int) -> int:
    """Returns the multiply-accumulates of one operator of the graph, as its row says.

    Custom operators of the user's own have none.
    """
    row = OPERATORS.get(graph.operators[index].kind)
    return 0 if row is None else row.products(Site(graph, index))


def graph_macs(graph: Graph) -> int:
    """Returns the multiply-accumulates of one inference."""
    return sum(operator_macs(graph, index) for index in range(len(graph.operators)))


def relative_macs(graph: Graph, source: Graph) -> float:
    """Returns the multiply-accumulates of a graph by those of its source; 1 where that has none."""
    source_macs = graph_macs(source)
    return graph_macs(graph) / source_macs if source_macs else 1.0
