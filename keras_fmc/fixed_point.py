"""The fixed-point arithmetic of int8 kernels, in NumPy: tables of what they make of each code.

A table has 256 entries, one for each input code from -128 on, and holds output codes. Numbers are
int32 in Q formats: `raw` of b integer bits stands for raw · 2^(b - 31).

Source: gemmlowp's fixedpoint.h; tensorflow/lite/kernels/internal/reference: integer_ops/logistic.h,
integer_ops/tanh.h, hard_swish.h, leaky_relu.h; common.cc of the same folder.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CODES = np.arange(-128, 128, dtype=np.int64)
ONE = (1 << 31) - 1
"""1.0 in Q0, saturated."""

_EXPONENTS = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)
"""(k, e^(-2^k) in Q0)."""

_INPUT_BITS = 4
"""Integer bits of what sigmoid and tanh read."""


def high_mul(a: Any, b: Any) -> Any:
    """⌊a · b / 2³¹ + ½⌋: SaturatingRoundingDoublingHighMul of int32, but for its one overflow."""
    return (np.asarray(a, np.int64) * b + (1 << 30)) >> 31


def divide_by_power(x: Any, exponent: int) -> Any:
    """x · 2^-exponent, ties away from zero: RoundingDivideByPOT."""
    if exponent <= 0:
        return x
    return (x + (1 << (exponent - 1)) - (x < 0)) >> exponent


def saturated(x: Any, bits: int = 32) -> Any:
    return np.clip(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def quantized_multiplier(real: float) -> tuple[int, int]:
    """(q, shift) with real ≈ q · 2^(shift - 31), 2³⁰ ≤ q < 2³¹: QuantizeMultiplier.

    Below 2^-32 it is 0, as there.
    """
    fraction, shift = math.frexp(real)
    if real == 0 or shift < -31:
        return 0, 0
    quantized = math.floor(fraction * 2**31 + 0.5)
    return (quantized // 2, shift + 1) if quantized == 1 << 31 else (quantized, shift)


def multiply(x: Any, real: float) -> Any:
    """x · real, rounded twice: MultiplyByQuantizedMultiplier."""
    quantized, shift = quantized_multiplier(real)
    return divide_by_power(high_mul(x << max(shift, 0), quantized), max(-shift, 0))


def requantize_table(scale: float, zero_point: int, output_scale: float, output_zero: int) -> Any:
    """Codes that QUANTIZE from int8 to int8 makes of the codes from -128 on.

    Source: tensorflow/lite/kernels/internal/reference/requantize.h.
    """
    real = float(np.float32(scale)) / float(np.float32(output_scale))
    return np.clip(multiply(CODES - zero_point, real) + output_zero, -128, 127)


def exp_on_negative(raw: Any, bits: int) -> Any:
    """e^x in Q0 of x ≤ 0 in Q`bits`."""
    raw = np.asarray(raw, np.int64)
    fraction = 31 - bits
    quarter = 1 << (fraction - 2)
    modulo = (raw & (quarter - 1)) - quarter
    result = _exp_of_quarter(modulo << bits)
    rest = modulo - raw
    for exponent, multiplier in _EXPONENTS:
        if exponent < bits:
            taken = (rest & (1 << (fraction + exponent))) != 0
            result = np.where(taken, high_mul(result, multiplier), result)
    if bits > 5:
        result = np.where(raw < -(1 << (fraction + 5)), 0, result)
    return np.where(raw == 0, ONE, result)


def _exp_of_quarter(raw: Any) -> Any:
    """e^x of x in [-¼, 0), by a Taylor polynomial around -⅛; Q0."""
    x = raw + (1 << 28)
    x2 = high_mul(x, x)
    x3, x4 = high_mul(x2, x), high_mul(x2, x2)
    third = 715827883
    inner = divide_by_power(high_mul(divide_by_power(x4, 2) + x3, third) + x2, 1)
    constant = 1895147668
    return constant + high_mul(constant, x + inner)


def _newton(raw: Any) -> Any:
    """2 / (1 + a) · ½ of a in [0, 1] in Q0; Q2."""
    half = (raw + ONE + np.where(raw + ONE >= 0, 1, -1)) // 2
    x = 1515870810 + high_mul(half, -1010580540)
    for _ in range(3):
        rest = (1 << 29) - high_mul(half, x)
        x = x + saturated(high_mul(x, rest) << 2)
    return x


def one_over_one_plus(raw: Any) -> Any:
    """1 / (1 + a) of a in [0, 1]; Q0."""
    return saturated(_newton(np.asarray(raw, np.int64)) << 1)


def sigmoid(raw: Any, bits: int) -> Any:
    """Q0."""
    raw = np.asarray(raw, np.int64)
    positive = one_over_one_plus(exp_on_negative(-np.abs(raw), bits))
    result = np.where(raw > 0, positive, ONE - positive)
    return np.where(raw == 0, 1 << 30, result)


def tanh(raw: Any, bits: int) -> Any:
    """Q0."""
    raw = np.asarray(raw, np.int64)
    exponential = exp_on_negative(-np.abs(raw), bits + 1)
    size = saturated((_newton(exponential) - (1 << 29)) << 2)
    return np.where(raw == 0, 0, np.where(raw < 0, -size, size))


def sigmoid_table(scale: float, zero_point: int) -> np.ndarray:
    """Output codes of LOGISTIC; its output scale is 1/256 and its zero point -128."""
    rescaled, inside, above = _wide_input(scale, zero_point)
    codes = divide_by_power(sigmoid(rescaled, _INPUT_BITS), 31 - 8) - 128
    return np.where(inside, saturated(codes, 8), np.where(above, 127, -128))


def tanh_table(scale: float, zero_point: int) -> np.ndarray:
    """Output codes of TANH; its output scale is 1/128 and its zero point 0."""
    rescaled, inside, above = _wide_input(scale, zero_point)
    codes = divide_by_power(tanh(rescaled, _INPUT_BITS), 31 - 7)
    return np.where(inside, saturated(codes, 8), np.where(above, 127, -128))


def _wide_input(scale: float, zero_point: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs in Q4; where they are within the range that it holds; where they are above it."""
    real = scale * (1 << (31 - _INPUT_BITS))
    _, shift = quantized_multiplier(real)
    radius = math.floor(((1 << _INPUT_BITS) - 1) * 2.0 ** (31 - _INPUT_BITS) / 2.0**shift)
    x = CODES - zero_point
    inside = np.abs(x) < radius
    return multiply(np.where(inside, x, 0), real), inside, x > 0


def hard_swish_table(
    scale: float, zero_point: int, output_scale: float, output_zero: int
) -> np.ndarray:
    """Output codes of HARD_SWISH, which computes in int16."""
    fine = np.float64(np.float32(1 / 128) * np.float32(scale))
    reluish, reluish_shift = _multiplier16(float(np.float32(fine) / np.float32(3 / 32768)))
    factor, shift = _multiplier16(float(np.float32(fine) / np.float32(output_scale)))
    x = (CODES - zero_point) << 7
    scaled = _high_mul16(x, factor)
    gate = x
    if reluish_shift > 0:
        gate = saturated(gate << (reluish_shift - 1), 16)
    gate = _high_mul16(gate, reluish)
    if reluish_shift > 0:
        gate = saturated(gate << 1, 16)
    gate = divide_by_power(gate, max(-reluish_shift, 0))
    gate = (gate + (1 << 15)) >> 1
    product = gate * scaled
    preshift = np.where(product >= 0, product >> 15, -(-product >> 15))
    return saturated(divide_by_power(preshift, max(-shift, 0)) + output_zero, 8)


def _multiplier16(real: float) -> tuple[int, int]:
    quantized, shift = quantized_multiplier(real)
    return min((quantized + (1 << 15)) >> 16, (1 << 15) - 1), shift


def _high_mul16(a: Any, b: int) -> Any:
    return saturated((a * b + (1 << 14)) >> 15, 16)


def leaky_table(
    scale: float, zero_point: int, output_scale: float, output_zero: int, slope: float
) -> np.ndarray:
    """Output codes of LEAKY_RELU, whose multipliers are computed in float32."""
    x = CODES - zero_point
    one, other, alpha = np.float32(scale), np.float32(output_scale), np.float32(slope)
    plain, steep = multiply(x, float(one / other)), multiply(x, float(abs(one * alpha / other)))
    steep = -steep if slope < 0 else steep
    return saturated(np.where(x >= 0, plain, steep) + output_zero, 8)


def elu_table(scale: float, zero_point: int, output_scale: float, output_zero: int) -> np.ndarray:
    """Output codes of ELU, which the kernel looks up in a table that it makes in float32."""
    x = np.float32(scale) * (CODES - zero_point).astype(np.float32)
    y = np.where(x < 0, np.exp(np.minimum(x, 0), dtype=np.float32) - np.float32(1), x)
    levels = y * (np.float32(1) / np.float32(output_scale))
    return saturated(np.trunc(levels + np.copysign(0.5, levels)).astype(np.int64) + output_zero, 8)


def relu_table(
    scale: float, zero_point: int, output_scale: float, output_zero: int, ceiling: float | None
) -> np.ndarray:
    """Output codes of RELU and RELU6 as operators of their own."""
    real = float(np.float32(scale) / np.float32(output_scale))
    codes = multiply(CODES - zero_point, real) + output_zero
    high = 127 if ceiling is None else min(127, output_zero + round(ceiling / output_scale))
    return np.clip(codes, max(-128, output_zero), high)
