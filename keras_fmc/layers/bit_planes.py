"""The functions of the GF(2) representation, with their gradients and in a form that converts.

A code c of B bits becomes B zeros and ones and back again. The device has no operator for either,
so both are written with sums that int8 operators do exactly:

    ⌊c / 2^i⌋  =  round(c / 2^i - (2^i - 1) / 2^(i+1))        a 1×1 depthwise convolution
    bit i      =  ⌊c / 2^i⌋ - 2 ⌊c / 2^(i+1)⌋                 a SUB of two of them       eq. 3
    c          =  Σ 2^i · bit i                               a 1×1 convolution          eq. 4

`deploy.codes` replaces the first two by a table where that is cheaper. The gradients are those of
the paper and not those of the sums. Planes of channel c are the channels c·B … c·B + B - 1, least
significant first.

Source: Gudovskiy, Hodgkinson & Rigazio, "DNN Feature Map Compression using Learned Representation
over GF(2)", ECCV workshops 2018, §3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fmc.layers.fake_quant import LEVELS, fake_quant_weights

_fake_quant = keras.quantizers.fake_quant_with_min_max_vars


ONE = 2.0**-8
"""The real value of a 1 that a threshold makes (a 0 is 0).

The device rounds a sum once if one step of it is at least half a step of the result, and twice,
with another outcome near the threshold, if not. `threshold_sums` scales sums such that their steps
are between one and two times this value.
"""

SMALLEST_WEIGHT = 2.0**-11
"""Channels whose weights are all smaller are rounded as if this were the largest, so that their
biases fit int32."""


def threshold_sums(
    x: Any, kernel: Any, bias: Any, convolve: Callable[[Any, Any], Any], *, one: float
) -> Any:
    """Returns [kernel ⋆ bits + bias ≥ ½], `ONE` for 1, as device and NumPy decide it alike.

    With s = max |kernel| / 127 for each output channel, which is the scale of its int8 weights q,

        Σ kernel · bit + bias - ½  ≈  s · (Σ q · bit + n),    n = round((bias - ½) / s)

    and the bit is 1 where the integer in brackets is above 0. A threshold at 0 does not mind
    positive factors: every channel is scaled by a power of two such that 127 s is in (½, 1].

    Gradient of the bit by the sum: 1 where |sum| ≤ 1, else 0 (straight-through; Bengio et al.,
    arXiv 1308.3432). The window is wider than the step, so that bits that start sure can learn.
    Gradients pass the rounding of weights and biases unchanged.

    Args:
        x: bits, zeros and `one`.
        kernel: (h, w, bits in, bits out).
        convolve: (x, kernel) → sums.
    """
    largest = ops.maximum(ops.max(ops.abs(kernel), axis=(0, 1, 2)), SMALLEST_WEIGHT)
    unit = ops.stop_gradient(ops.power(2.0, ops.ceil(ops.log2(largest))))
    step = ops.stop_gradient(largest) / 127
    constant = bias - 0.5
    rounded = constant + ops.stop_gradient(ops.round(constant / step) * step - constant)
    weights = fake_quant_weights(kernel / (unit * one), axis=-1, smallest=0.5 / one)
    return _with_gradient(
        lambda value: _fake_quant(ops.relu(value), ONE - LEVELS * ONE, ONE),
        lambda gradient, value: (
            gradient * (ONE * unit) * ops.cast(ops.abs(value * unit) <= 1, gradient.dtype)
        ),
        convolve(x, weights) + rounded / unit,
    )


def bit_planes(x: Any, scale: Any, below: Any, bits: int, *, gradient_scale: float) -> Any:
    """Splits codes into bit planes, eq. 3: (…, C) values to (…, C·bits) zeros and ones.

    Gradient, eq. 6: the sum of the gradients of a channel's planes, times `gradient_scale`, which
    stands for 1 / E‖bits‖₀ up to a constant.

    Args:
        x: (c - below) · scale with codes c = 0 … 2^bits - 1, shape (batch, H, W, C).
        scale, below: of the codes, numbers or scalar tensors.
    """
    channels = x.shape[-1]

    def forward(value: Any) -> Any:
        floors = _halved(value, scale, below, range(bits), gain=1)
        doubled = _halved(value, scale, below, range(1, bits + 1), gain=2)
        return _fake_quant(floors - doubled, 0.0, LEVELS)

    def backward(gradient: Any, value: Any) -> Any:
        shape = (-1, *gradient.shape[1:-1], channels, bits)
        return gradient_scale * ops.sum(ops.reshape(gradient, shape), axis=-1)

    return _with_gradient(forward, backward, x)


def planes_to_weigh(bits: int) -> tuple[int, ...]:
    """Returns which planes `weigh_planes` wants of a channel: all, the top one of eight twice.

    2^7 is no int8 weight, 2^6 twice is.
    """
    return (*range(bits), 7) if bits == 8 else tuple(range(bits))


def weigh_planes(planes: Any, scale: Any, below: Any, bits: int) -> Any:
    """Weighs bit planes together, eq. 4: bits to values (Σ 2^i · bit i - below) · scale.

    Gradient, eq. 5: a bit gets the gradient of its channel where it is 1, else 0.

    Args:
        planes: of `threshold_sums`, (batch, H, W, C·p), of each channel the p of `planes_to_weigh`.
        scale, below: of the codes.
    """
    wanted = planes_to_weigh(bits)
    channels = planes.shape[-1] // len(wanted)
    powers = np.array([2.0 ** min(i, 6) if bits == 8 else 2.0**i for i in wanted])
    kernel = np.einsum("cd,p->cpd", np.eye(channels), powers).reshape(1, 1, -1, channels)
    # The second copy of a plane has no gradient of its own.
    first = np.tile([i == wanted.index(p) for i, p in enumerate(wanted)], channels)

    def forward(value: Any) -> Any:
        largest = ops.ones((channels,)) * (127 * scale / ONE)
        weights = ops.convert_to_tensor(kernel.astype(np.float32)) * (scale / ONE)
        weights = _fake_quant(weights, -largest, largest, narrow_range=True, axis=-1)
        summed = ops.conv(value, weights, strides=1, padding="valid", data_format="channels_last")
        low = -scale * below
        return _fake_quant(summed + low * ops.ones((channels,)), low, low + LEVELS * scale)

    def backward(gradient: Any, value: Any) -> Any:
        passes = ops.cast(value > 0, gradient.dtype) * (first / ONE).astype(np.float32)
        return ops.repeat(gradient, len(wanted), axis=-1) * passes

    return _with_gradient(forward, backward, planes)


def _halved(x: Any, scale: Any, below: Any, shifts: range, *, gain: int) -> Any:
    """gain · ⌊c / 2^i⌋ for every i of `shifts`, as the device makes it."""
    channels = x.shape[-1]
    powers = 2.0 ** np.array(shifts)
    factors = np.tile(gain / powers, channels).astype(np.float32)
    centring = np.tile(-gain * (powers - 1) / (2 * powers), channels).astype(np.float32)
    kernel = ops.reshape(ops.convert_to_tensor(factors) / scale, (1, 1, 1, -1))
    kernel = ops.reshape(fake_quant_weights(kernel, axis=-1), (1, 1, channels, len(shifts)))
    bias = ops.convert_to_tensor(centring) + ops.convert_to_tensor(factors) * below
    sums = ops.depthwise_conv(x, kernel, strides=1, padding="valid", data_format="channels_last")
    return _fake_quant(sums + bias, 0.0, float(gain * LEVELS))


def _with_gradient(
    forward: Callable[[Any], Any], backward: Callable[[Any, Any], Any], x: Any
) -> Any:
    """forward(x), whose gradient is backward(upstream, x)."""

    @ops.custom_gradient
    def function(value: Any) -> Any:
        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            return backward(arguments[0] if upstream is None else upstream, value)

        return forward(value), gradient

    return function(x)
