"""Multipliers and shifts of TensorFlow Lite Micro's kernels, worked out ahead of time.

A real factor is m · 2^(shift - 31) with 2^30 <= m < 2^31, and is applied with two roundings.
Source: ``QuantizeMultiplier`` and ``MultiplyByQuantizedMultiplier`` of tensorflow/lite/kernels/
internal, and the ``Prepare`` functions of tensorflow/lite/micro/kernels (August 2026).
"""

from __future__ import annotations

import math

import numpy as np

from deploy.graph import Activation, Operator, Tensor
from keras_fmc.errors import UnsupportedModelError
from keras_fmc.fixed_point import quantized_multiplier


def round_half_away(value: float) -> int:
    """Returns the nearest integer; halves go away from zero, as C's round()."""
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def scale(tensor: Tensor) -> float:
    """Returns the scale of a tensor that has one, exactly as float32 holds it."""
    q = tensor.quantization
    if q is None or len(q.scales) != 1 or not q.scales[0] > 0:
        raise UnsupportedModelError(
            f"tensor {tensor.name} has no single positive scale",
            received="no scale" if q is None else q.scales[:3],
            remedy="--runtime=tflm runs it",
        )
    return float(np.float32(q.scales[0]))


def zero_point(tensor: Tensor) -> int:
    """Returns the zero point of a tensor with one scale."""
    scale(tensor)
    assert tensor.quantization is not None
    return tensor.quantization.zero_points[0]


def limits(tensor: Tensor) -> tuple[int, int]:
    """Returns the least and the greatest value of a tensor's type."""
    info = np.iinfo(tensor.dtype)
    return int(info.min), int(info.max)


def activation_range(operator: Operator, out: Tensor) -> tuple[int, int]:
    """Returns what the fused activation leaves of the output's range."""
    low, high = limits(out)
    kind = operator.integer("fused_activation_function")
    if kind == Activation.NONE:
        return low, high
    step, zero = np.float32(scale(out)), zero_point(out)

    def code(real: float) -> int:
        return zero + round_half_away(float(np.float32(np.float32(real) / step)))

    if kind == Activation.RELU:
        return max(low, code(0.0)), high
    if kind == Activation.RELU6:
        return max(low, code(0.0)), min(high, code(6.0))
    if kind == Activation.RELU_N1_TO_1:
        return max(low, code(-1.0)), min(high, code(1.0))
    raise UnsupportedModelError(
        f"{operator.opcode} has the fused activation {kind}",
        expected="none, ReLU, ReLU6 or ReLU_N1_TO_1",
        remedy="--runtime=tflm runs it, if any runtime does",
    )


def channel_multipliers(x: Tensor, weights: Tensor, out: Tensor) -> list[tuple[int, int]]:
    """Returns (m, shift) for each scale of the weights: in · weight / out in double precision."""
    assert weights.quantization is not None
    ratio = [scale(x) * float(np.float32(s)) / scale(out) for s in weights.quantization.scales]
    return [quantized_multiplier(r) for r in ratio]


def dense_multiplier(x: Tensor, weights: Tensor, out: Tensor) -> tuple[int, int]:
    """Returns (m, shift) of a fully connected layer with one scale: the product is float32."""
    product = np.float32(scale(x)) * np.float32(scale(weights))
    return quantized_multiplier(float(product) / scale(out))


def float32_ratio(a: float, b: float) -> float:
    """Returns a / b in float32."""
    return float(np.float32(a) / np.float32(b))
