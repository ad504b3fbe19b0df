"""Operators that TensorFlow's converter leaves in float between int8 maps, though TensorFlow Lite
Micro has them in int8.

    DEQUANTIZE → ELU → QUANTIZE             →   ELU
    DEQUANTIZE → ELU → RESHAPE → QUANTIZE   →   ELU → RESHAPE

The int8 kernel looks each code up in a table that it makes by the same steps: dequantise, apply the
function, quantise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from deploy.graph import Graph
from deploy.operators.sets import RESHAPES
from deploy.passes.dead import drop_dead

_IN_INT8 = frozenset({"ELU"})


def in_int8(graph: Graph) -> Graph:
    """Returns the graph with these operators on int8 maps."""
    makers = graph.producers()
    readers = graph.consumers()
    operators = list(graph.operators)
    tensors = list(graph.tensors)
    gone = set()
    for step, operator in enumerate(graph.operators):
        if operator.opcode not in _IN_INT8 or not operator.outputs:
            continue
        before = makers.get(operator.inputs[0])
        if before is None or graph.operators[before].opcode != "DEQUANTIZE":
            continue
        path = _to_int8(graph, readers, operator.outputs[0])
        if path is None:
            continue
        *reshapes, last = path
        (made,) = graph.operators[last].outputs
        quantization = graph.tensors[made].quantization
        # What was float in between has the grid that it is brought to.
        for index in [operator.outputs[0], *(graph.operators[at].outputs[0] for at in reshapes)]:
            tensors[index] = dataclasses.replace(
                tensors[index], dtype="int8", quantization=quantization
            )
        operators[step] = dataclasses.replace(operator, inputs=graph.operators[before].inputs)
        final = step if not reshapes else reshapes[-1]
        operators[final] = dataclasses.replace(operators[final], outputs=(made,))
        gone.add(last)
    kept = tuple(operator for step, operator in enumerate(operators) if step not in gone)
    return drop_dead(graph.replace(operators=kept, tensors=tuple(tensors)))


def _to_int8(graph: Graph, readers: Mapping[int, tuple[int, ...]], tensor: int) -> list[int] | None:
    """The steps from a float tensor over reshapes to its QUANTIZE, None if it goes elsewhere."""
    path: list[int] = []
    while True:
        steps = readers.get(tensor, ())
        if len(steps) != 1 or tensor in graph.outputs:
            return None
        path.append(steps[0])
        operator = graph.operators[steps[0]]
        if operator.opcode == "QUANTIZE":
            return path
        if operator.opcode not in RESHAPES:
            return None
        tensor = operator.outputs[0]
