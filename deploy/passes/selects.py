"""SELECT and SELECT_V2 of int32, for which TensorFlow Lite Micro has no kernels, by others.

SELECT is SELECT_V2 where its condition has the shape of what it selects from. SELECT_V2 of int32,
by which Keras' Embedding wraps negative indices, is arithmetic that never overflows:

    c ? x : y  =  c · x + (1 − c) · y        CAST, MUL, SUB, MUL, ADD of int32
"""

from __future__ import annotations

import dataclasses

import numpy as np

from deploy.graph import Activation, Graph, GraphBuilder, Operator, Options, Tensor


def without_selects(graph: Graph) -> Graph:
    """Returns the graph with SELECT_V2 for each SELECT whose condition has the shape of what it
    selects from, or one value: they differ where it has one for each first index."""
    operators = list(graph.operators)
    for index, operator in enumerate(operators):
        if operator.opcode != "SELECT" or len(operator.present_inputs) != 3:
            continue
        condition, *values = (graph.tensors[i] for i in operator.inputs)
        if all(condition.shape == v.shape or not condition.shape for v in values):
            operators[index] = dataclasses.replace(
                operator, opcode="SELECT_V2", options=Options("SelectV2Options"), version=1
            )
    return (
        graph if operators == list(graph.operators) else graph.replace(operators=tuple(operators))
    )


def without_int32_selects(graph: Graph) -> Graph:
    """Returns the graph with arithmetic for each SELECT_V2 of int32; the graph itself where it
    has none."""
    chosen = {i for i, operator in enumerate(graph.operators) if _is_int32(graph, operator)}
    if not chosen:
        return graph
    builder = GraphBuilder(graph)
    builder.operators = []
    for index, operator in enumerate(graph.operators):
        if index in chosen:
            _rewrite(builder, graph, operator)
        else:
            builder.operator(operator)
    return builder.build(like=graph)


def _is_int32(graph: Graph, operator: Operator) -> bool:
    if operator.opcode != "SELECT_V2" or len(operator.inputs) != 3 or len(operator.outputs) != 1:
        return False
    ends = [graph.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
    if [tensor.dtype for tensor in ends] != ["bool", "int32", "int32", "int32"]:
        return False
    try:
        return np.broadcast_shapes(*(t.shape for t in ends[:3])) == ends[3].shape
    except ValueError:
        # Shapes that do not go together are refused where SELECT_V2 is checked.
        return False


def _rewrite(builder: GraphBuilder, graph: Graph, operator: Operator) -> None:
    condition, x, y = operator.inputs
    shape = graph.tensors[condition].shape
    name = graph.result_of(operator)

    def tensor(what: str, shape: tuple[int, ...]) -> int:
        label = f"{name}/{what} {len(builder.tensors)}"
        return builder.tensor(Tensor(label, shape, "int32"))

    def arithmetic(opcode: str, kind: str, left: int, right: int, output: int) -> int:
        options = Options(kind, (("fused_activation_function", int(Activation.NONE)),))
        builder.operator(Operator(opcode, (left, right), (output,), options))
        return output

    def joined(left: int) -> tuple[int, ...]:
        return tuple(np.broadcast_shapes(shape, graph.tensors[left].shape))

    one = builder.constant(f"{name}/one {len(builder.tensors)}", np.array([1], np.int32))
    chosen = tensor("chosen", shape)
    builder.operator(Operator("CAST", (condition,), (chosen,), Options("CastOptions")))
    first = arithmetic("MUL", "MulOptions", chosen, x, tensor("first", joined(x)))
    other = arithmetic("SUB", "SubOptions", one, chosen, tensor("other", shape or (1,)))
    second = arithmetic("MUL", "MulOptions", other, y, tensor("second", joined(y)))
    arithmetic("ADD", "AddOptions", first, second, operator.outputs[0])
