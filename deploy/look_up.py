"""Look-ups by code, which TensorFlow's converter leaves by value.

    DEQUANTIZE → CAST → GATHER of an int8 table     →     CAST → ADD 128 → GATHER

The table has the 256 results of the codes from -128 on (`keras_fmc.qat.exported`). That of a change
of scale has its last one twice, and becomes a QUANTIZE. Others stay tables even where QUANTIZE does
the same at these scales: the operators of a model do not depend on its calibration.
"""

from __future__ import annotations

import numpy as np

from deploy.backends.tflm.codes.emit import Emitter
from deploy.graph import Graph, GraphBuilder, Operator, Quantization
from deploy.passes.dead import drop_dead
from keras_fmc.fixed_point import requantize_table

_ENTRIES = 256
_SHAPES = ((_ENTRIES,), (_ENTRIES + 1,))


def by_code(graph: Graph) -> Graph:
    """Returns the graph with these look-ups on int8 codes."""
    makers = graph.producers()
    builder = GraphBuilder(graph)
    builder.operators = []
    found = False
    for operator in graph.operators:
        source = _source(graph, makers, operator)
        if source is None:
            builder.operators.append(operator)
            continue
        found = True
        (output,) = operator.outputs
        table = graph.tensors[operator.inputs[0]]
        assert table.quantization is not None
        emitter = Emitter(builder, graph.tensors[output].name)
        before = graph.tensors[source].quantization
        codes = table.array()[:_ENTRIES]
        scaled = table.shape != (_ENTRIES,)
        if scaled and _is_requantized(codes, before, table.quantization):
            emitter.requantize(source, output)
        else:
            emitter.look_up(source, codes, table.quantization, output=output)
        builder.operators += emitter.operators
    return drop_dead(builder.build(like=graph)) if found else graph


def _is_requantized(table: np.ndarray, before: Quantization | None, behind: Quantization) -> bool:
    if before is None:
        return False
    grids = [(q.scales[0], q.zero_points[0]) for q in (before, behind)]
    return bool(np.array_equal(table, requantize_table(*grids[0], *grids[1])))


def _source(graph: Graph, makers: dict[int, int], operator: Operator) -> int | None:
    """The int8 tensor whose values, cast in float, are the places of a look-up."""
    if operator.opcode != "GATHER":
        return None
    table, places = (graph.tensors[index] for index in operator.inputs)
    if not table.is_constant or table.dtype != "int8" or table.shape not in _SHAPES:
        return None
    index, wanted = operator.inputs[1], ("CAST", "DEQUANTIZE")
    if places.is_constant:
        return None
    for opcode in wanted:
        if index not in makers or graph.operators[makers[index]].opcode != opcode:
            return None
        index = graph.operators[makers[index]].inputs[0]
    return index
