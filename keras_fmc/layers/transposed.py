"""Transposed convolutions in the form that the device runs best: one convolution a block.

TRANSPOSE_CONV of TensorFlow Lite Micro needs int32 scratch for its whole output. A convolution
that makes all strides·strides pixels of a block at once, followed by DEPTH_TO_SPACE, needs none.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_fmc.model.registered import register
from keras_fmc.padding import same_padding

WINDOWS = ((1, 1), (2, 2), (3, 2))
"""(kernel_size, strides) that a bottleneck can have."""


@register
class DepthToSpace(keras.layers.Layer):
    """Spreads channels over pixels: (batch, H, W, b·b·C) → (batch, b·H, b·W, C).

    Channel (φ·b + ψ)·C + c of position (i, j) becomes channel c of pixel (b·i + φ, b·j + ψ).

    Args:
        block: b.
    """

    def __init__(self, block: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block = int(block)

    def call(self, inputs: Any) -> Any:
        return depth_to_space(inputs, self.block)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, rows, columns, channels = input_shape
        return (
            batch,
            None if rows is None else rows * self.block,
            None if columns is None else columns * self.block,
            None if channels is None else channels // self.block**2,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "block": self.block}


def crop(size: tuple[int, int], window: int, strides: int) -> tuple[tuple[int, int], ...]:
    """Returns ((top, bottom), (left, right)): what to cut from the blocks for a map of `size`."""
    cut = []
    for length in size:
        before = same_padding(length, window, strides)[0]
        cut.append((before, -(-length // strides) * strides - before - length))
    return tuple(cut)


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


def from_blocks(x: Any, window: int, strides: int, size: tuple[int, int]) -> Any:
    """Returns the map of `size` whose blocks are the positions of x (batch, H', W', s·s·C)."""
    x = depth_to_space(x, strides)
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    (top, _), (left, _) = crop(size, window, strides)
    return x[:, top : top + size[0], left : left + size[1]]


def transposed_convolution(x: Any, kernel: Any, strides: int, size: tuple[int, int]) -> Any:
    """Returns the transposed convolution of x (batch, H', W', K), shape (batch, *size, C).

    Output row o takes input row i with the kernel's row o - strides · i + p, where p is the row of
    padding that a SAME convolution of the same window puts before a map of this size: the matrix is
    the transpose of that convolution's.

    Args:
        kernel: (window, window, K, C).
        size: height and width of the output.
    """
    window = kernel.shape[0]
    kernel = by_phase(kernel, strides)
    taps = kernel.shape[0]
    if taps > 1:
        x = ops.pad(x, ((0, 0), (taps - 1, 0), (taps - 1, 0), (0, 0)))
    x = ops.conv(x, kernel, strides=1, padding="valid", data_format="channels_last")
    return from_blocks(x, window, strides, size)


def depth_to_space(x: Any, block: int) -> Any:
    """See `DepthToSpace`."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.depth_to_space(x, block)
    rows, columns, channels = x.shape[1], x.shape[2], x.shape[3] // block**2
    x = ops.reshape(x, (-1, rows, columns, block, block, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * block, columns * block, channels))
