"""How the device turns int32 sums into int8, on tensors.

A step is the real value of one unit of an int32 sum acc, such as input scale · weight scale. With
M = step / output scale = m · 2^-s, ½ ≤ m < 1, the kernels of TensorFlow Lite Micro and CMSIS-NN
compute the level of acc in two roundings, q = round(2³¹ m):

    first = ⌊acc · q / 2³¹ + ½⌋     ties up             SaturatingRoundingDoublingHighMul
    level = round(first · 2^-s)     ties off zero       RoundingDivideByPOT

The first one rounds to multiples of 2^-s levels, so a share of about 2^-s of all sums gets to lie
exactly in the middle between two levels, and the second one pushes these away from zero. A float
model that rounds once has the lower half of these the other way. Where M ≥ 1 the sum is shifted up
first and there is no second rounding.

All of it is computed in int64 here, so levels are exact wherever acc is.

Source: `MultiplyByQuantizedMultiplier` of tensorflow/lite/kernels/internal/common.cc; Jacob et
al., arXiv 1712.05877, §2.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

_POWERS = np.ldexp(1.0, np.arange(-60, 31))
"""2^e for all exponents e that multipliers have."""


def requantize(outputs: Any, step: Any, output_scale: float, *, unit: float | None = None) -> Any:
    """Returns the real values of the levels that the device makes of sums.

    Args:
        outputs: real values of the sums, float32 of shape (…, channels); acc = round(outputs /
            step), for sums of products in float32 are a little off the integers they stand for.
        step: real value of one unit of the int32 sum, of shape (channels,) or (1,), or a number.
        output_scale: real value of one level.
        unit: 2^-s where it is another than that of step / output_scale.

    Returns:
        A float32 tensor as `outputs`, output_scale · level. No gradient flows through it.
    """
    wide = _wide(step)
    acc = ops.cast(ops.round(ops.cast(outputs, "float64") / wide), "int64")
    level = levels(acc, step, output_scale, unit=unit)
    return ops.cast(level, "float32") * output_scale


def levels(acc: Any, step: Any, output_scale: float, *, unit: float | None = None) -> Any:
    """Returns the levels, int64, of int64 sums; arguments as of `requantize`."""
    multiplier = _wide(step) / float(np.float32(output_scale))
    if unit is None:
        above = ops.searchsorted(_POWERS, multiplier, side="right")
        power = ops.take(_POWERS, ops.minimum(above, len(_POWERS) - 1))
    else:
        power = ops.full_like(multiplier, unit)
    quantized = ops.cast(ops.floor(multiplier / power * 2.0**31 + 0.5), "int64")
    # 2³¹ itself is 2³⁰ of the next power.
    over = quantized >= 1 << 31
    quantized = ops.where(over, quantized // 2, quantized)
    power = ops.where(over, power * 2, power)
    up = ops.cast(ops.maximum(power, 1.0), "int64")
    down = ops.cast(1.0 / ops.minimum(power, 1.0), "int64")
    return divide(high_mul(acc * up, quantized), down)


def _wide(step: Any) -> Any:
    """A step in float64; a number does not go by way of float32."""
    if isinstance(step, float):
        return ops.convert_to_tensor(step, "float64")
    return ops.cast(step, "float64")


def high_mul(a: Any, b: Any) -> Any:
    """⌊a · b / 2³¹ + ½⌋ of int64 tensors."""
    return ops.right_shift(a * b + (1 << 30), 31)


def divide(x: Any, power: Any) -> Any:
    """x / power, ties away from zero; power is 2^n, int64."""
    half = power // 2
    below = ops.cast(x < 0, "int64") * ops.cast(power > 1, "int64")
    return (x + half - below) // power
