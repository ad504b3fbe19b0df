"""Operators that TensorFlow's converter leaves in float between int8 maps, though TensorFlow Lite
Micro has them in int8.

    DEQUANTIZE → ELU → QUANTIZE   →   ELU

The int8 kernel looks each code up in a table that it makes by the same steps: dequantise, apply the
function, quantise.
"""

from __future__ import annotations

import dataclasses

from deploy.graph import Graph
from deploy.passes.dead import drop_dead

_IN_INT8 = frozenset({"ELU"})


def in_int8(graph: Graph) -> Graph:
    """Returns the graph with these operators on int8 maps."""
    makers = graph.producers()
    readers = graph.consumers()
    operators = list(graph.operators)
    for step, operator in enumerate(graph.operators):
        if operator.opcode not in _IN_INT8 or not operator.outputs:
            continue
        source, target = operator.inputs[0], operator.outputs[0]
        before = makers.get(source)
        behind = readers.get(target, ())
        if before is None or len(behind) != 1 or target in graph.outputs:
            continue
        ends = (graph.operators[before], graph.operators[behind[0]])
        if [end.opcode for end in ends] != ["DEQUANTIZE", "QUANTIZE"]:
            continue
        operators[step] = dataclasses.replace(operator, inputs=(source,), outputs=(target,))
        operators[behind[0]] = dataclasses.replace(
            operator, inputs=ends[0].inputs, outputs=ends[1].outputs
        )
    return drop_dead(graph.replace(operators=tuple(operators)))
