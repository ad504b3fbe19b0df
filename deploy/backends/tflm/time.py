"""What an inference takes on a core, estimated from the products and the bytes of its operators.

Products alone do not bound time: TFLM's SLICE copies element by element, so that a byte moved by
it costs as much as ten products, although it changes nothing where it is a view. The figures are
those of the kernel library (``Kernels.times``), measured in instructions of an emulated core; they
serve to compare graphs, not to tell milliseconds.
"""

from __future__ import annotations

from deploy.graph import Graph
from deploy.macs import operator_macs
from deploy.targets.records import Kernels, Time

_OTHERS = "*"


def operator_time(graph: Graph, index: int, kernels: Kernels) -> float:
    """Returns the estimated instructions of one operator.

    time = call + product x multiply-accumulates + output_byte x bytes of all outputs
    """
    operator = graph.operators[index]
    figures = kernels.times.get(operator.opcode) or kernels.times.get(_OTHERS, Time())
    written = sum(graph.tensors[t].size_bytes for t in operator.outputs)
    products = operator_macs(graph, index) if figures.product else 0
    return figures.call + figures.product * products + figures.output_byte * written


def graph_time(graph: Graph, kernels: Kernels) -> int | None:
    """Returns the estimated instructions of one inference; None where no figures are known."""
    if not kernels.times:
        return None
    return round(sum(operator_time(graph, i, kernels) for i in range(len(graph.operators))))
