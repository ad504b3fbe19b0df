"""Which int8 values a tensor can have, from the operators alone.

A map whose values span at most 2^bits consecutive codes can be packed. That is proved here, not
observed: a clip is a fused activation, an operator such as MINIMUM, or the end of int8 itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deploy.graph import Activation, Graph, Operator, Quantization

Interval = tuple[int, int]
"""Smallest and largest code, both possible."""

_WHOLE: Interval = (-128, 127)
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
            intervals[index] = _WHOLE if values is None else (int(values.min()), int(values.max()))
    for operator in graph.operators:
        rule = _RULES.get(operator.opcode, _unknown)
        for output in operator.outputs:
            if graph.tensors[output].dtype == "int8":
                quantization = graph.tensors[output].quantization
                sources = [intervals[i] for i in operator.present_inputs if i in intervals]
                low, high = rule(operator, quantization, sources)
                intervals[output] = max(low, -128), min(high, 127)
    return intervals


def activation_interval(activation: int, quantization: Quantization) -> Interval:
    """Returns the codes that a fused activation leaves, as the runtime computes them."""
    scale, zero_point = np.float32(quantization.scales[0]), quantization.zero_points[0]

    def code(value: float) -> int:
        ratio = float(np.float32(value) / scale)
        return zero_point + int(np.copysign(np.floor(abs(ratio) + 0.5), ratio))

    low, high = _WHOLE
    if activation in (Activation.RELU, Activation.RELU6):
        low = max(low, code(0.0))
    if activation == Activation.RELU6:
        high = min(high, code(6.0))
    if activation == Activation.RELU_N1_TO_1:
        low, high = max(low, code(-1.0)), min(high, code(1.0))
    return low, high


_Rule = Callable[[Operator, Quantization | None, list[Interval]], Interval]


def _unknown(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    return _WHOLE


def _fused(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    if quantization is None or len(quantization.scales) != 1:
        return _WHOLE
    return activation_interval(operator.integer("fused_activation_function"), quantization)


def _own_activation(activation: Activation) -> _Rule:
    def rule(
        operator: Operator, quantization: Quantization | None, sources: list[Interval]
    ) -> Interval:
        if quantization is None or len(quantization.scales) != 1:
            return _WHOLE
        return activation_interval(activation, quantization)

    return rule


def _hull(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    if not sources:
        return _WHOLE
    return min(low for low, _ in sources), max(high for _, high in sources)


def _pool(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    low, high = _fused(operator, quantization, sources)
    return max(low, min(high, sources[0][0])), min(high, max(low, sources[0][1]))


def _pad(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    if quantization is None or operator.opcode == "PADV2":
        return _hull(operator, quantization, sources)
    zero = quantization.zero_points[0]
    return min(sources[0][0], zero), max(sources[0][1], zero)


def _minimum(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    return min(low for low, _ in sources), min(high for _, high in sources)


def _maximum(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    return max(low for low, _ in sources), max(high for _, high in sources)


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(
        ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL"), _fused
    ),
    "RELU": _own_activation(Activation.RELU),
    "RELU6": _own_activation(Activation.RELU6),
    "RELU_N1_TO_1": _own_activation(Activation.RELU_N1_TO_1),
    "MINIMUM": _minimum,
    "MAXIMUM": _maximum,
    "MAX_POOL_2D": _pool,
    "AVERAGE_POOL_2D": _pool,
    "PAD": _pad,
    "PADV2": _pad,
    **dict.fromkeys(
        (
            *("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "STRIDED_SLICE", "SPLIT", "TRANSPOSE"),
            *("CONCATENATION", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "RESIZE_NEAREST_NEIGHBOR"),
            *("GATHER", "PACK", "UNPACK"),
        ),
        _hull,
    ),
}
"""Operators not named here can write any code."""
