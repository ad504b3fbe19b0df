"""How the device turns int32 sums into int8, in float.

A step is the real value of one unit of an int32 sum acc, such as input scale · weight scale. With
M = step / output scale = m · 2^-s, ½ ≤ m < 1, the kernels of TensorFlow Lite Micro and CMSIS-NN
compute the level of acc in two roundings:

    first = round(acc · m)          ties up             SaturatingRoundingDoublingHighMul
    level = round(first · 2^-s)     ties off zero       RoundingDivideByPOT

The first one rounds to multiples of 2^-s levels, so a share of about 2^-s of all sums gets to lie
exactly in the middle between two levels, and the second one pushes these away from zero. Sums up
to 2^-s / 2 below the middle, in magnitude, therefore go up in magnitude; a float model that rounds
once has them the other way. Where M ≥ ½ there is no second rounding; s is then 0 here, so that the
first one is to whole levels.

Source: `MultiplyByQuantizedMultiplier` of tensorflow/lite/kernels/internal/common.cc; Jacob et
al., arXiv 1712.05877, §2.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

_SMALLEST_POWER = -40
_POWERS = np.ldexp(1.0, np.arange(_SMALLEST_POWER, 1)).astype(np.float32)
"""What 2^-s can be."""

_PAST_TIE = 0.25
"""Of a multiple of 2^-s: what a tie is moved by, away from zero, to no other level."""


def requantize(outputs: Any, step: Any, output_scale: float, *, unit: float | None = None) -> Any:
    """Returns real values that one rounding to levels takes where the device gets to.

        acc = round(outputs / step),    y = output_scale · 2^-s · (first + sign(first) / 4)

    Rounded to multiples of `output_scale`, with ties up or to wherever, y gives the device's level.
    Sums of products in float32 are a little off; the integers that they stand for are not.

    Args:
        outputs: real values of the sums, float32 of shape (…, channels).
        step: real value of one unit of the int32 sum, of shape (channels,) or (1,), or a number.
        output_scale: real value of one level.
        unit: 2^-s, at most 1; None is that of step / output_scale, for a step that is a tensor.

    Returns:
        A tensor as `outputs`. No gradient flows to them: y comes from roundings.
    """
    multiplier = step / output_scale
    power: Any = unit
    if unit is None:
        above = ops.searchsorted(_POWERS, multiplier, side="right")
        power = ops.take(_POWERS, ops.minimum(above, len(_POWERS) - 1))
    acc = ops.round(outputs / step)
    first = ops.floor(acc * (multiplier / power) + 0.5)
    return output_scale * power * (first + _PAST_TIE * ops.sign(first))
