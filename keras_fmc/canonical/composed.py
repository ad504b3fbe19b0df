"""Operations of `keras.ops` as other operations, before those become layers (`raw`).

    norm(x)  →  sqrt(sum(x²)), or sum(|x|)
    var(x)   →  mean((x - mean(x))²);  std(x) is its root
    min(x)   →  -max(-x)
    tile(x)  →  concatenate([x, x, …])

Arguments that these forms do not have are left to `raw`, which refuses them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
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

    args, _ = keras.tree.map_structure(fill, (node.args, node.kwargs))
    if len(node.inputs) != 1 or not args:
        return None
    outputs = write(node.operation, args[0])
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


COMPOSED: dict[str, Callable[[Any, Any], Any]] = {
    "Min": _least,
    "Norm": _norm,
    "Std": _deviation,
    "Tile": _tiled,
    "Var": _variance,
}
"""Operation of Keras → what writes it for a tensor; it returns None for arguments it does not have.
"""
