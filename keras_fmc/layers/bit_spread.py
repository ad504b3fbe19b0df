"""The transposed convolution of bits, as the device runs it best: one convolution a block."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_fmc.layers.bit_planes import ONE, threshold_sums
from keras_fmc.layers.transposed import by_phase, from_blocks


def spread(x: Any, kernel: Any, bias: Any, strides: int, size: tuple[int, int]) -> Any:
    """Returns [transposed convolution + bias ≥ ½], shape (batch, *size, C).

    The geometry is that of `keras_fmc.layers.transposed.transposed_convolution`.

    Args:
        kernel: (window, window, channels in, C), rounded to int8 here.
        size: height and width of the output.
    """
    window = kernel.shape[0]
    if strides > 1:
        kernel = by_phase(kernel, strides)
        taps = kernel.shape[0]
        bias = ops.tile(bias, strides * strides)
        if taps > 1:
            x = ops.pad(x, ((0, 0), (taps - 1, 0), (taps - 1, 0), (0, 0)))

    def convolve(bits: Any, weights: Any) -> Any:
        return ops.conv(bits, weights, 1, padding="valid", data_format="channels_last")

    x = threshold_sums(x, kernel, bias, convolve, one=ONE)
    return x if strides == 1 else from_blocks(x, window, strides, size)
