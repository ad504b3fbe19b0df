"""Operations of `keras.ops` as other operations, before those become layers (`raw`).

    norm(x)  →  sqrt(sum(x²)), or sum(|x|)
    var(x)   →  mean((x - mean(x))²);  std(x) is its root
    min(x)   →  -max(-x)
    tile(x)  →  concatenate([x, x, …]);  repeat(x) of rows or columns is an UpSampling
    roll(x)  →  concatenate([last rows, first rows])
    pad(x)   →  concatenate of mirrored rows and x;  v + pad(x - v) with a value v
    rgb_to_grayscale(x)  →  x times a matrix

Arguments that these forms do not have are left to `raw`, which refuses them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fmc.model.layer_graph import LayerGraph, LayerNode, ValueRef, trace

_MOST_COPIES = 8


def composed(graph: LayerGraph, node: LayerNode) -> LayerGraph | None:
    """Returns the graph that does what an operation does, None for one that is not in `COMPOSED`
    or has arguments that are not."""
    write = COMPOSED.get(type(node.operation).__name__)
    if write is None or isinstance(node.operation, keras.Layer):
        return None
    inputs = {id_: keras.Input(batch_shape=graph.values[id_].shape) for id_ in set(node.inputs)}

    def fill(leaf: Any) -> Any:
        return inputs[leaf.id] if isinstance(leaf, ValueRef) else leaf

    args, kwargs = keras.tree.map_structure(fill, (node.args, node.kwargs))
    if len(node.inputs) != 1 or not args:
        return None
    outputs = write(node.operation, *args, **kwargs)
    return None if outputs is None else trace(keras.Model(list(inputs.values()), outputs))


def _norm(operation: Any, x: Any) -> Any:
    options = {"axis": operation.axis, "keepdims": operation.keepdims}
    single = operation.axis is not None and len(operation.axis) == 1
    if operation.ord in (None, 2, "fro") and (single or operation.ord != 2):
        return ops.sqrt(ops.sum(ops.square(x), **options))
    if operation.ord == 1 and single:
        return ops.sum(ops.abs(x), **options)
    return None


def _variance(operation: Any, x: Any) -> Any:
    rest = x - ops.mean(x, axis=operation.axis, keepdims=True)
    return ops.mean(ops.square(rest), axis=operation.axis, keepdims=operation.keepdims)


def _deviation(operation: Any, x: Any) -> Any:
    return ops.sqrt(_variance(operation, x))


def _least(operation: Any, x: Any) -> Any:
    if operation.initial is not None:
        return None
    return -ops.max(-x, axis=operation.axis, keepdims=operation.keepdims)


def _tiled(operation: Any, x: Any) -> Any:
    repeats = operation.repeats
    repeats = [repeats] if isinstance(repeats, int) else list(repeats)
    repeats = [1] * (len(x.shape) - len(repeats)) + repeats
    many = [axis for axis, count in enumerate(repeats) if count != 1]
    if len(repeats) != len(x.shape) or 0 in many or any(repeats[a] > _MOST_COPIES for a in many):
        return None
    for axis in many:
        x = ops.concatenate([x] * repeats[axis], axis=axis)
    return x if many else None


def _repeated(operation: Any, x: Any) -> Any:
    count, rank = operation.repeats, len(x.shape)
    axis = None if operation.axis is None else operation.axis % rank
    if not isinstance(count, int) or count < 1:
        return None
    if rank == 3 and axis == 1:
        return keras.layers.UpSampling1D(count)(x)
    if rank == 4 and axis in (1, 2):
        size = (count, 1) if axis == 1 else (1, count)
        return keras.layers.UpSampling2D(size)(x)
    return None


def _part(x: Any, axis: int, start: int, stop: int) -> Any:
    return x[(*[slice(None)] * axis, slice(start, stop))]


def _rolled(operation: Any, x: Any) -> Any:
    if not isinstance(operation.shift, int) or not isinstance(operation.axis, int):
        return None
    axis = operation.axis % len(x.shape)
    length = x.shape[axis]
    if axis == 0 or length is None or operation.shift % length == 0:
        return None
    cut = length - operation.shift % length
    return ops.concatenate([_part(x, axis, cut, length), _part(x, axis, 0, cut)], axis=axis)


def _padded(operation: Any, x: Any, constant_values: Any = None) -> Any:
    """None for zeros, which `raw` writes."""
    width = np.broadcast_to(np.asarray(operation.pad_width), (len(x.shape), 2))
    if operation.mode == "constant" and isinstance(constant_values, (int, float)):
        if not constant_values:
            return None
        pads = [(int(before), int(behind)) for before, behind in width]
        return ops.pad(x - constant_values, pads) + constant_values
    if operation.mode not in _MIRRORED or width[0].any() or None in x.shape[1:]:
        return None
    skip = _MIRRORED[operation.mode]
    for axis, (before, behind) in enumerate(width.tolist()):
        length = x.shape[axis]
        if before + behind == 0:
            continue
        if max(before, behind) + skip > length or before + behind > _MOST_COPIES:
            return None
        front = [skip + index for index in reversed(range(before))]
        back = [length - 1 - skip - index for index in range(behind)]
        rows = [[_part(x, axis, at, at + 1) for at in places] for places in (front, back)]
        x = ops.concatenate([*rows[0], x, *rows[1]], axis=axis)
    return x


_MIRRORED = {"reflect": 1, "symmetric": 0}
"""Mode → whether the row at the edge is left out."""


def _grey(operation: Any, x: Any) -> Any:
    if operation.data_format == "channels_first" or x.shape[-1] != 3:
        return None
    return ops.matmul(x, np.array([[0.2989], [0.587], [0.114]], np.float32))


COMPOSED: dict[str, Callable[..., Any]] = {
    "Min": _least,
    "Norm": _norm,
    "Pad": _padded,
    "RGBToGrayscale": _grey,
    "Repeat": _repeated,
    "Roll": _rolled,
    "Std": _deviation,
    "Tile": _tiled,
    "Var": _variance,
}
"""Operation of Keras → what writes it for a tensor; it returns None for arguments it does not have.
"""
