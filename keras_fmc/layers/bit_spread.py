"""The transposed convolution of bits, as the device runs it best: one convolution a block."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_fmc.layers.bit_planes import ONE, threshold_sums


def spread(x: Any, kernel: Any, bias: Any, strides: int, size: tuple[int, int]) -> Any:
    """Returns [transposed convolution + bias ≥ ½], shape (batch, *size, C).

    Output row o takes input row i with the kernel's row o - strides · i + p, where p is the row of
    padding that a SAME convolution of the same window puts before a map of this size: this undoes
    the geometry of that convolution. It is written as a convolution that makes all strides·strides
    pixels of a block at once, followed by DEPTH_TO_SPACE. The device has TRANSPOSE_CONV, but that
    needs int32 scratch for the whole output.

    Args:
        kernel: (window, window, channels in, C), rounded to int8 here.
        size: height and width of the output.
    """
    window, channels = kernel.shape[0], kernel.shape[3]
    if strides > 1:
        kernel = by_phase(kernel, strides)
        taps = kernel.shape[0]
        bias = ops.tile(bias, strides * strides)
        if taps > 1:
            x = ops.pad(x, ((0, 0), (taps - 1, 0), (taps - 1, 0), (0, 0)))

    def convolve(bits: Any, weights: Any) -> Any:
        return ops.conv(bits, weights, 1, padding="valid", data_format="channels_last")

    x = threshold_sums(x, kernel, bias, convolve, one=ONE)
    if strides == 1:
        return x
    x = _depth_to_space(x, strides, channels)
    top, left = (padding_before(length, window, strides) for length in size)
    if x.shape[1:3] == tuple(size):
        return x
    return x[:, top : top + size[0], left : left + size[1]]


def by_phase(kernel: Any, strides: int) -> Any:
    """Kernel (w, w, K, C) of a transposed convolution → (t, t, K, strides·strides·C), t = ⌈w / s⌉.

    Channel (φ·s + ψ)·C + c makes pixel (φ, ψ) of a block; its window ends at the block's own input.
    """
    window, _, inside, channels = kernel.shape
    taps = -(-window // strides)
    fill = taps * strides - window
    kernel = ops.pad(kernel, ((0, fill), (0, fill), (0, 0), (0, 0)))
    kernel = ops.reshape(kernel, (taps, strides, taps, strides, inside, channels))
    kernel = ops.transpose(ops.flip(kernel, (0, 2)), (0, 2, 4, 1, 3, 5))
    return ops.reshape(kernel, (taps, taps, inside, -1))


def padding_before(length: int, window: int, strides: int) -> int:
    """Returns the rows that a SAME convolution pads before a map of `length` rows."""
    return max((-(-length // strides) - 1) * strides + window - length, 0) // 2


def _depth_to_space(x: Any, block: int, channels: int) -> Any:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.depth_to_space(x, block)
    rows, columns = x.shape[1:3]
    x = ops.reshape(x, (-1, rows, columns, block, block, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * block, columns * block, channels))
