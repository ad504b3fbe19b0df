"""Layers of Keras that others stand in for as they are.

EinsumDense("abc,cd->abd")      →  Dense, where it contracts the last axes
SpectralNormalization(layer)    →  the layer, with the weights as they are normalised; training
                                   goes on without
RepeatVector(n)                 →  Reshape, UpSampling1D
CenterCrop(rows, columns)       →  Cropping2D
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops


def _spectral(layer: Any, x: Any) -> Any:
    return layer.layer(x)


def _einsum(layer: Any, x: Any) -> Any:
    """Reshape, Dense and Reshape, as far as needed.

    Raises:
        ValueError: it is none.
    """
    form = dense_form(layer.equation, layer.bias_axes, len(x.shape))
    if form is None:
        raise ValueError(f"{layer.equation!r} is no dense layer on the last axes")
    kept, contracted = form
    kernel = ops.convert_to_numpy(layer.kernel)
    before = math.prod(kernel.shape[:contracted])
    dense = layers.Dense(
        kernel.size // before, activation=layer.activation, use_bias=layer.bias is not None
    )
    dense.build((*x.shape[:kept], before))
    dense.kernel.assign(kernel.reshape(before, -1))
    if layer.bias is not None:
        dense.bias.assign(ops.convert_to_numpy(layer.bias).reshape(-1))
    dense.trainable = layer.trainable
    rest = tuple(x.shape[1:kept])
    flat = x if contracted == 1 else ops.reshape(x, (-1, *rest, before))
    y = dense(flat)
    new = kernel.shape[contracted:]
    return y if len(new) == 1 else ops.reshape(y, (-1, *rest, *new))


def _repeated(layer: Any, x: Any) -> Any:
    one = layers.Reshape((1, x.shape[-1]))(x)
    return one if layer.n == 1 else layers.UpSampling1D(layer.n)(one)


def _central(layer: Any, x: Any) -> Any:
    """Raises ValueError: the map is smaller, and Keras would resize it."""
    if layer.data_format != "channels_last" or len(x.shape) != 4:
        raise ValueError("it does not crop maps of channels last")
    rest = [x.shape[1] - layer.height, x.shape[2] - layer.width]
    if min(rest) < 0:
        raise ValueError(f"it enlarges a map of {x.shape[1]}x{x.shape[2]}")
    return layers.Cropping2D(tuple((size // 2, size - size // 2) for size in rest))(x)


def dense_form(equation: str, bias_axes: str | None, rank: int) -> tuple[int, int] | None:
    """(axes that stay, axes that are summed over) of "abc,cd->abd" and the like; None for others.

    Example:
        >>> dense_form("abcd,cdef->abef", "ef", 4)
        (2, 2)
    """
    equation = equation.replace(" ", "").replace("...", "…")
    left, _, result = equation.partition("->")
    source, _, kernel = left.partition(",")
    kept = 0
    while kept < min(len(source), len(result)) and source[kept] == result[kept]:
        kept += 1
    contracted = len(source) - kept
    new = result[kept:]
    dots = source.count("…")
    fits = kept >= 1 and contracted >= 1 and new and kernel == source[kept:] + new
    if not fits or "…" in kernel or (bias_axes is not None and bias_axes != new):
        return None
    axes = rank - contracted if dots else kept
    return (axes, contracted) if dots or len(source) == rank else None


STAND_INS: dict[type[keras.Layer], Callable[..., Any]] = {
    layers.CenterCrop: _central,
    layers.EinsumDense: _einsum,
    layers.RepeatVector: _repeated,
    layers.SpectralNormalization: _spectral,
}
"""Layer → what is called as expand(layer, x); see `keras_fmc.register_layer`."""

REMEDIES: dict[type[keras.Layer], str] = {
    layers.CenterCrop: "Use Resizing, or Cropping2D",
    layers.EinsumDense: "Use Dense on the last axis, or matrix products of two maps",
}
"""Layer → what to write where there is no such form."""
