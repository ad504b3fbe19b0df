"""Which int8 codes an operator can write, from those that it reads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deploy.graph import Activation, Operator, Quantization

Interval = tuple[int, int]
"""Smallest and largest code, both possible."""

WHOLE: Interval = (-128, 127)

IntervalRule = Callable[[Operator, Quantization | None, list[Interval]], Interval]
"""The operator, the quantisation of its output and the codes of its int8 inputs → codes that the
output can have; what lies outside int8 is clipped."""


def activation_interval(activation: int, quantization: Quantization) -> Interval:
    """Returns the codes that a fused activation leaves, as the runtime computes them."""
    scale, zero_point = np.float32(quantization.scales[0]), quantization.zero_points[0]

    def code(value: float) -> int:
        ratio = float(np.float32(value) / scale)
        return zero_point + int(np.copysign(np.floor(abs(ratio) + 0.5), ratio))

    low, high = WHOLE
    if activation in (Activation.RELU, Activation.RELU6):
        low = max(low, code(0.0))
    if activation == Activation.RELU6:
        high = min(high, code(6.0))
    if activation == Activation.RELU_N1_TO_1:
        low, high = max(low, code(-1.0)), min(high, code(1.0))
    return low, high


def whole(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    """Any code."""
    return WHOLE


def fused(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    """What the fused activation leaves."""
    if quantization is None or len(quantization.scales) != 1:
        return WHOLE
    return activation_interval(operator.integer("fused_activation_function"), quantization)


def own_activation(activation: Activation) -> IntervalRule:
    """What an activation leaves, as an operator of its own."""

    def rule(
        operator: Operator, quantization: Quantization | None, sources: list[Interval]
    ) -> Interval:
        if quantization is None or len(quantization.scales) != 1:
            return WHOLE
        return activation_interval(activation, quantization)

    return rule


def hull(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    """Codes of any input: operators that copy."""
    if not sources:
        return WHOLE
    return min(low for low, _ in sources), max(high for _, high in sources)


def pool(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    """Codes of the input, within the fused activation."""
    low, high = fused(operator, quantization, sources)
    return max(low, min(high, sources[0][0])), min(high, max(low, sources[0][1]))


def pad(operator: Operator, quantization: Quantization | None, sources: list[Interval]) -> Interval:
    """Codes of the input, and the one that stands for 0."""
    if quantization is None or operator.opcode == "PADV2":
        return hull(operator, quantization, sources)
    zero = quantization.zero_points[0]
    return min(sources[0][0], zero), max(sources[0][1], zero)


def minimum(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    """The smaller of two."""
    return min(low for low, _ in sources), min(high for _, high in sources)


def maximum(
    operator: Operator, quantization: Quantization | None, sources: list[Interval]
) -> Interval:
    """The larger of two."""
    return max(low for low, _ in sources), max(high for _, high in sources)
