"""What no way of cutting a graph gets below: a bound of the search, not of one memory plan."""

from __future__ import annotations

from deploy.backends.tflm.strips.costs import Costs
from deploy.backends.tflm.strips.network import Network
from deploy.memory.problem import round_up
from deploy.operators import OPERATORS


def floor_bytes(network: Network, costs: Costs) -> int:
    """Returns bytes that every head has, in this operator order, however the graph is cut.

    * All inputs of the graph are there before the first operator, all outputs after the last.
    * An operator that cannot be cut has what it reads and writes whole, and its kernel's
      buffers. Its output may take the place of what it reads for the last time, so the larger
      of the two counts where the runtime, or overlap, allows that, and views count once.
    """
    graph = network.graph

    def size(tensors: set[int]) -> int:
        return sum(graph.tensors[t].size_bytes for t in tensors if not graph.tensors[t].is_constant)

    floor = max(size(set(graph.inputs)), size(set(graph.outputs)))
    kernels = costs.overlapping
    for index in network.order:
        operator = graph.operators[index]
        read = {t for t in network.reads[index] if t >= 0}
        written = set(network.writes[index])
        if index in network.row_operators:
            continue
        separate = (
            ((row := OPERATORS.get(operator.kind)) is None or row.view is None)
            and operator.opcode not in costs.in_place
            and (kernels is None or operator.opcode not in kernels.overlap)
        )
        bytes_there = size(read) + size(written) if separate else max(size(read), size(written))
        floor = max(floor, bytes_there + costs.scratch.get(index, 0))
    return round_up(floor, costs.alignment_bytes)
