"""Multiply-accumulates of operators: what strips may cost in time.

Counted are the products of a weight with an activation, padding included, as is usual:
outputs x kernel height x kernel width x input channels of the group. Operators without weights
(pools, additions, activations, copies) count as none.
"""

from __future__ import annotations

from deploy.graph import Graph


def operator_macs(graph: Graph, index: int) -> int:
    """Returns the multiply-accumulates of one operator of the graph."""
    operator = graph.operators[index]
    if operator.opcode == "TRANSPOSE_CONV":
        # Every input pixel meets every weight once.
        weights, source = graph.tensors[operator.inputs[1]], graph.tensors[operator.inputs[2]]
        return source.elements // source.shape[-1] * weights.elements
    if operator.opcode in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        weights, output = graph.tensors[operator.inputs[1]], graph.tensors[operator.outputs[0]]
        outputs_per_position = output.shape[-1]
        return output.elements // outputs_per_position * weights.elements
    if operator.opcode == "BATCH_MATMUL":
        left, output = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
        depth = left.shape[-2] if operator.option("adj_x") else left.shape[-1]
        return output.elements * depth
    return 0


def graph_macs(graph: Graph) -> int:
    """Returns the multiply-accumulates of one inference."""
    return sum(operator_macs(graph, index) for index in range(len(graph.operators)))
