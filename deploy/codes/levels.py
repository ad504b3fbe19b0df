"""Which int8 values a tensor can have, from the operators alone.

A map whose values span at most 2^bits consecutive codes can be packed. That is proved here, not
observed: a clip is a fused activation, an operator such as MINIMUM, or the end of int8 itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploy.graph import Graph
from deploy.operators import OPERATORS
from deploy.operators.intervals import WHOLE, Interval, whole

PACKED_BITS = (1, 2, 4, 6)
"""Widths of codes that share bytes."""


@dataclass(frozen=True, slots=True)
class CodeMap:
    """A map whose values span few codes.

    Attributes:
        tensor: its index.
        bits: the smallest of `PACKED_BITS` that holds its codes.
        interval: smallest and largest code.
    """

    tensor: int
    bits: int
    interval: Interval


def find_code_maps(graph: Graph) -> tuple[CodeMap, ...]:
    """Returns the int8 maps that some operator writes and whose codes fit 6 bits or fewer.

    Maps have four dimensions and batch 1. Outputs of the graph do not count: they are read as they
    are.
    """
    maps = []
    intervals = value_intervals(graph)
    produced = graph.producers()
    for index in graph.activations():
        tensor = graph.tensors[index]
        if tensor.dtype != "int8" or index not in produced or index in graph.outputs:
            continue
        bits = code_bits(intervals[index])
        if bits is not None and len(tensor.shape) == 4 and tensor.shape[0] == 1:
            maps.append(CodeMap(index, bits, intervals[index]))
    return tuple(maps)


def code_bits(interval: Interval) -> int | None:
    """Returns the smallest of `PACKED_BITS` that holds an interval, None if none does."""
    levels = interval[1] - interval[0] + 1
    return next((bits for bits in PACKED_BITS if levels <= 2**bits), None)


def value_intervals(graph: Graph) -> dict[int, Interval]:
    """Returns tensor → codes that it can have, for the int8 tensors of a graph."""
    intervals: dict[int, Interval] = {}
    for index, tensor in enumerate(graph.tensors):
        if tensor.dtype == "int8":
            values = tensor.array() if tensor.is_constant and tensor.elements else None
            intervals[index] = WHOLE if values is None else (int(values.min()), int(values.max()))
    for operator in graph.operators:
        row = OPERATORS.get(operator.kind)
        rule = whole if row is None else row.interval
        for output in operator.outputs:
            if graph.tensors[output].dtype == "int8":
                quantization = graph.tensors[output].quantization
                sources = [intervals[i] for i in operator.present_inputs if i in intervals]
                low, high = rule(operator, quantization, sources)
                intervals[output] = max(low, -128), min(high, 127)
    return intervals
