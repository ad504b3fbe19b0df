"""What an inference takes on a core, estimated from the products and the bytes of its operators.

Products alone do not bound time. TFLM's SLICE copies element by element, and with its assertions
compiled in a byte that it moves costs as much as ten products, although it changes nothing where
it is a view. The figures are those of the kernel library (``Kernels.times``), measured in
instructions of an emulated core; they serve to compare graphs, not to tell milliseconds.
"""

from __future__ import annotations

from deploy.graph import Graph
from deploy.macs import operator_macs
from deploy.targets.records import Kernels, Time

_OTHERS = "*"


def operator_time(graph: Graph, index: int, kernels: Kernels, *, assertions: bool = False) -> float:
    """Returns the estimated instructions of one operator.

    time = call + product x multiply-accumulates + output_byte x bytes of all outputs

    Args:
        assertions: whether TFLM is built without NDEBUG, as its own Makefile does by default.
    """
    operator = graph.operators[index]
    if operator.implicit:
        return 0.0
    figures = kernels.times.get(operator.opcode) or kernels.times.get(_OTHERS, Time())
    written = sum(graph.tensors[t].size_bytes for t in operator.outputs)
    products = operator_macs(graph, index) if figures.product else 0
    each = figures.output_byte + (figures.asserted_byte if assertions else 0.0)
    return figures.call + figures.product * products + each * written


def graph_time(graph: Graph, kernels: Kernels, *, assertions: bool = False) -> int | None:
    """Returns the estimated instructions of one inference; None where no figures are known."""
    if not kernels.times:
        return None
    operators = range(len(graph.operators))
    return round(sum(operator_time(graph, i, kernels, assertions=assertions) for i in operators))


def time_ratio(
    graph: Graph, source: Graph, kernels: Kernels, *, assertions: bool = False
) -> float | None:
    """Returns the estimated time of a graph by that of the graph it was made from."""
    mine = graph_time(graph, kernels, assertions=assertions)
    theirs = graph_time(source, kernels, assertions=assertions)
    return mine / theirs if mine is not None and theirs else None
