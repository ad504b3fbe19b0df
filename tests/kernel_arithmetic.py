"""The integer arithmetic by which int8 kernels turn int32 sums into levels, in NumPy.

Written from tensorflow/lite/kernels/internal/common.cc and gemmlowp's fixedpoint.h.
"""

from __future__ import annotations

import math

import numpy as np


def doubling_high_mul(a: np.ndarray, b: int) -> np.ndarray:
    """SaturatingRoundingDoublingHighMul without its one saturating case; C divides towards zero."""
    product = a * np.int64(b)
    total = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    return np.where(total >= 0, total >> 31, -(-total >> 31))


def divide_by_power_of_two(x: np.ndarray, exponent: int) -> np.ndarray:
    """RoundingDivideByPOT."""
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def scaled(acc: np.ndarray, quantized: int, shift: int) -> np.ndarray:
    """MultiplyByQuantizedMultiplier: acc times quantized / 2³¹ · 2^shift."""
    shifted = acc.astype(np.int64) << max(shift, 0)
    return divide_by_power_of_two(doubling_high_mul(shifted, quantized), max(-shift, 0))


def kernel_levels(acc: np.ndarray, multiplier: float) -> np.ndarray:
    """`scaled` by a real multiplier, as QuantizeMultiplier takes it apart."""
    fraction, shift = math.frexp(multiplier)
    quantized = round(fraction * 2**31)
    if quantized == 2**31:
        quantized, shift = quantized // 2, shift + 1
    return scaled(acc, quantized, shift)
