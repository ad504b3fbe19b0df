"""What operators from bytes to bytes do to each of the 256 values, in the kernels' arithmetic.

Each function returns the output for the input codes -128 … 127 (for uint8: for the codes with
those bytes), as signed bytes. Source: the reference kernels of TensorFlow Lite Micro (August
2026) and the fixed-point functions of gemmlowp that they call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from deploy.backends.c.fixed_point import (
    divide_by_power,
    float32_ratio,
    high_multiply,
    limits,
    multiply,
    quantize_multiplier,
    round_half_away,
    scale,
    zero_point,
)
from deploy.graph import Operator, Tensor

_MAX = (1 << 31) - 1
_EXP_FACTORS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
Table = Callable[[Operator, Tensor, Tensor], list[int]]


def _codes(x: Tensor) -> list[int]:
    return [code % 256 if x.dtype == "uint8" else code for code in range(-128, 128)]


def _bytes(values: list[int], y: Tensor) -> list[int]:
    low, high = limits(y)
    clamped = [min(max(value, low), high) for value in values]
    return [(value + 128) % 256 - 128 for value in clamped]


def relu(operator: Operator, x: Tensor, y: Tensor) -> list[int]:
    m, shift = quantize_multiplier(float32_ratio(scale(x), scale(y)))
    values = [multiply(c - zero_point(x), m, shift) + zero_point(y) for c in _codes(x)]
    return _bytes([max(value, zero_point(y)) for value in values], y)


def relu6(operator: Operator, x: Tensor, y: Tensor) -> list[int]:
    zero = zero_point(x)
    six = zero + round_half_away(float32_ratio(6.0, scale(x)))
    return _bytes([min(max(code, zero), six) for code in _codes(x)], y)


def leaky_relu(operator: Operator, x: Tensor, y: Tensor) -> list[int]:
    alpha = operator.option("alpha", 0.0)
    assert isinstance(alpha, float)
    slope = float32_ratio(float(np.float32(scale(x)) * np.float32(alpha)), scale(y))
    m, shift = quantize_multiplier(float32_ratio(scale(x), scale(y)))
    slope_m, slope_shift = quantize_multiplier(abs(slope))
    sign = -1 if slope < 0 else 1
    values = []
    for code in _codes(x):
        value = code - zero_point(x)
        scaled = (
            multiply(value, m, shift)
            if value >= 0
            else sign * multiply(value, slope_m, slope_shift)
        )
        values.append(scaled + zero_point(y))
    return _bytes(values, y)


def quantize(operator: Operator, x: Tensor, y: Tensor) -> list[int]:
    m, shift = quantize_multiplier(scale(x) / scale(y))
    values = [multiply(c - zero_point(x), m, shift) + zero_point(y) for c in _codes(x)]
    return _bytes(values, y)


def logistic(operator: Operator, x: Tensor, y: Tensor) -> list[int]:
    return [
        -128 if value is None else 127 if value == "top" else _rounded(_logistic(int(value)), 23)
        for value in _rescaled(x)
    ]


def tanh(operator: Operator, x: Tensor, y: Tensor) -> list[int]:
    values = []
    for value in _rescaled(x):
        if value is None or value == "top":
            values.append(-128 if value is None else 127)
        else:
            values.append(min(max(divide_by_power(_tanh(int(value)), 24), -128), 127))
    return values


def hard_swish(operator: Operator, x: Tensor, y: Tensor) -> list[int]:
    fine = np.float32(1 / 128) * np.float32(scale(x))
    out_m, out_shift = quantize_multiplier(float32_ratio(float(fine), scale(y)))
    relu_m, relu_shift = quantize_multiplier(
        float32_ratio(float(fine), float32_ratio(3.0, 32768.0))
    )
    out_m, relu_m = _halved(out_m), _halved(relu_m)
    values = []
    for code in _codes(x):
        value = (code - zero_point(x)) * 128
        preshift = _high_multiply16(value, out_m)
        gate = value
        if relu_shift > 0:
            gate = _saturated16(gate << (relu_shift - 1))
        gate = _high_multiply16(gate, relu_m)
        if relu_shift > 0:
            gate = _saturated16(gate << 1)
        if relu_shift < 0:
            gate = divide_by_power(gate, -relu_shift)
        gate = (gate + (1 << 15)) >> 1
        product = gate * preshift
        towards_zero = abs(product) // (1 << 15) * (1 if product >= 0 else -1)
        values.append(divide_by_power(towards_zero, -out_shift) + zero_point(y))
    return _bytes(values, y)


TABLES: Mapping[str, Table] = {
    "RELU": relu,
    "RELU6": relu6,
    "LEAKY_RELU": leaky_relu,
    "QUANTIZE": quantize,
    "LOGISTIC": logistic,
    "TANH": tanh,
    "HARD_SWISH": hard_swish,
}


def _rescaled(x: Tensor) -> list[int | str | None]:
    """Codes in Q4.27; None and "top": beyond what four integer bits hold."""
    fraction, shift = math.frexp(scale(x) * (1 << 27))
    m = round_half_away(fraction * (1 << 31))
    radius = math.floor(15 * (1 << 27) / 2.0**shift)
    values: list[int | str | None] = []
    for code in _codes(x):
        value = code - zero_point(x)
        if value <= -radius:
            values.append(None)
        elif value >= radius:
            values.append("top")
        else:
            values.append(multiply(value, m, shift))
    return values


def _rounded(value: int, exponent: int) -> int:
    return min(max(divide_by_power(value, exponent) - 128, -128), 127)


def _logistic(a: int) -> int:
    if a == 0:
        return 1 << 30
    positive = _saturated(_newton(_exp(-abs(a), 4)) << 1)
    return positive if a > 0 else _MAX - positive


def _tanh(a: int) -> int:
    if a == 0:
        return 0
    # Twice the argument is the same bits with one more integer bit.
    value = _saturated((_newton(_exp(-abs(a), 5)) - (1 << 29)) << 2)
    return value if a > 0 else -value


def _newton(a: int) -> int:
    """2 / (1 + a) in Q2.29, a in Q0.31."""
    twice = a + _MAX
    half = (twice + 1) // 2 if twice >= 0 else -((-twice + 1) // 2)
    x = 1515870810 + high_multiply(half, -1010580540)
    for _ in range(3):
        x += _saturated(high_multiply(x, (1 << 29) - high_multiply(half, x)) << 2)
    return x


def _exp(a: int, integer_bits: int) -> int:
    """exp(a) in Q0.31 of a <= 0 with that many integer bits."""
    if a == 0:
        return _MAX
    quarter_bit = 29 - integer_bits
    quarter = 1 << quarter_bit
    rest = (a & (quarter - 1)) - quarter
    x = _saturated(rest << integer_bits) + (1 << 28)
    x2 = high_multiply(x, x)
    x3, x4 = high_multiply(x2, x), high_multiply(x2, x2)
    tail = divide_by_power(high_multiply(divide_by_power(x4, 2) + x3, 715827883) + x2, 1)
    value = 1895147668 + high_multiply(1895147668, x + tail)
    for k, factor in enumerate(_EXP_FACTORS[: integer_bits + 2]):
        if (rest - a) & (1 << (quarter_bit + k)):
            value = high_multiply(value, factor)
    return value


def _saturated(value: int) -> int:
    return min(max(value, -_MAX - 1), _MAX)


def _saturated16(value: int) -> int:
    return min(max(value, -(1 << 15)), (1 << 15) - 1)


def _halved(m: int) -> int:
    """The 16-bit form of a multiplier."""
    return (1 << 15) - 1 if m >= _MAX - (1 << 15) else (m + (1 << 15)) >> 16


def _high_multiply16(a: int, b: int) -> int:
    return min((a * b + (1 << 14)) >> 15, (1 << 15) - 1)
