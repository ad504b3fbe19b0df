"""Normalisation by statistics of the sample itself, in steps that the device has.

    LayerNormalization    →  Centre, UnitLength(C·ε), ChannelScale(√C·γ, β)
    RMSNormalization      →  UnitLength(C·ε), ChannelScale(√C·γ)
    UnitNormalization     →  UnitLength
    GroupNormalization    →  x - μ, its square's mean, InverseRoot, product, ChannelScale(γ, β)

With d = x - μ over C channels, d / √(Σd²/C + ε) = √C · d / √(Σd² + C·ε). Means of a group are a
global pooling and a 1×1 convolution of equal weights on what is left, one position. Scales and
offsets fold into convolutions around them, as those of batch normalisation do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.layers.centre import Centre
from keras_fmc.layers.channel_scale import channel_scale
from keras_fmc.layers.inverse_root import InverseRoot
from keras_fmc.layers.unit_length import UnitLength
from keras_fmc.model.layer_graph import LayerGraph, LayerNode

_BATCH = "Use BatchNormalization, which costs nothing on the device"


def normalisation(editor: Editor) -> LayerGraph:
    """Replaces layers that normalise over the last axis, or over groups of its channels."""
    for node in editor.graph.nodes:
        kind = type(node.operation).__name__
        write = _TWINS.get(kind) if isinstance(node.operation, keras.Layer) else None
        if write is None or not type(node.operation).__module__.startswith("keras."):
            editor.keep(node)
            continue
        reason = _obstacle(editor, node)
        if reason is not None:
            editor.refuse(node, f"{kind} {reason}", f"Normalise over the last axis. {_BATCH}")
            continue
        write(editor, node)
    return editor.done()


def _obstacle(editor: Editor, node: LayerNode) -> str | None:
    shape = editor.shape(editor.at(node.inputs[0]))
    axis = node.operation.axis
    axes = [axis] if isinstance(axis, int) else list(axis)
    if [item % len(shape) for item in axes] != [len(shape) - 1]:
        return f"over axes {axes} has no int8 form here"
    if not 2 <= len(shape) <= 4 or None in shape[1:]:
        return "of this shape has no int8 form here"
    return None


def _layer_norm(editor: Editor, node: LayerNode) -> None:
    layer, value = node.operation, editor.at(node.inputs[0])
    channels = editor.shape(value)[-1] or 1
    value = editor.part(node, "centre", lambda name: Centre(name=name), [value])
    _to_length(editor, node, value, channels * layer.epsilon, layer.gamma, layer.beta)


def _rms_norm(editor: Editor, node: LayerNode) -> None:
    layer, value = node.operation, editor.at(node.inputs[0])
    channels = editor.shape(value)[-1] or 1
    _to_length(editor, node, value, channels * layer.epsilon, layer.scale, None)


def _to_length(
    editor: Editor, node: LayerNode, value: int, epsilon: float, gamma: Any, beta: Any
) -> None:
    channels = editor.shape(value)[-1] or 1
    value = editor.part(node, "unit", lambda name: UnitLength(epsilon=epsilon, name=name), [value])
    root = math.sqrt(channels)
    if gamma is None and beta is None:
        editor.last(node, lambda name: layers.Rescaling(root, name=name), [value])
        return
    scale = None if gamma is None else _array(gamma) * root
    if gamma is None:
        value = editor.part(node, "root", lambda name: layers.Rescaling(root, name=name), [value])
    _scaled(editor, node, value, scale, None if beta is None else _array(beta))


def _unit_norm(editor: Editor, node: LayerNode) -> None:
    make = lambda name: UnitLength(epsilon=1e-12, name=name)  # noqa: E731
    editor.last(node, make, [editor.at(node.inputs[0])])


def _group_norm(editor: Editor, node: LayerNode) -> None:
    layer, value = node.operation, editor.at(node.inputs[0])
    shape = editor.shape(value)
    channels = shape[-1] or 1
    groups = channels if layer.groups == -1 else layer.groups
    rows = {2: (1, 1), 3: (shape[1], 1)}.get(len(shape))
    if rows is not None:
        value = editor.part(node, "map", _reshape(*rows, channels), [value])
    mean = _group_mean(editor, node, value, groups, "mean", 0.0)
    value = editor.part(node, "less_mean", lambda name: layers.Subtract(name=name), [value, mean])
    square = editor.part(node, "square", lambda name: layers.Multiply(name=name), [value, value])
    variance = _group_mean(editor, node, square, groups, "variance", layer.epsilon)
    root = editor.part(node, "root", lambda name: InverseRoot(name=name), [variance])
    value = editor.part(node, "unit", lambda name: layers.Multiply(name=name), [value, root])
    scale = None if layer.gamma is None else _array(layer.gamma)
    beta = None if layer.beta is None else _array(layer.beta)
    if rows is None:
        _scaled(editor, node, value, scale, beta)
        return
    value = editor.part(node, "scaled", _channel_scale(node, scale, beta, channels), [value])
    editor.last(node, _reshape(*shape[1:]), [value])


def _group_mean(
    editor: Editor, node: LayerNode, value: int, groups: int, part: str, offset: float
) -> int:
    """The mean over positions and a group's channels, plus an offset, for each channel."""
    pooled = editor.part(
        node,
        f"{part}_pool",
        lambda name: layers.GlobalAveragePooling2D(keepdims=True, name=name),
        [value],
    )
    shape = editor.shape(pooled)
    channels = shape[-1] or 1
    size = channels // groups

    def make(name: str) -> keras.Layer:
        layer = layers.Conv2D(channels, 1, use_bias=bool(offset), trainable=False, name=name)
        layer.build(shape)
        layer.kernel.assign(np.kron(np.eye(groups), np.full((size, size), 1 / size))[None, None])
        if offset:
            layer.bias.assign(np.full(channels, offset))
        return layer

    return editor.part(node, part, make, [pooled])


def _scaled(
    editor: Editor, node: LayerNode, value: int, scale: np.ndarray | None, offset: np.ndarray | None
) -> None:
    channels = editor.shape(value)[-1] or 1
    editor.last(node, _channel_scale(node, scale, offset, channels), [value])


def _channel_scale(
    node: LayerNode, scale: np.ndarray | None, offset: np.ndarray | None, channels: int
) -> Callable[[str], keras.Layer]:
    trainable = node.operation.trainable
    return lambda name: channel_scale(
        name, channels, scale=scale, offset=offset, trainable=trainable
    )


def _reshape(*shape: int | None) -> Callable[[str], keras.Layer]:
    return lambda name: layers.Reshape(shape, name=name)


def _array(weight: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(weight), np.float64).reshape(-1)


_TWINS: dict[str, Callable[[Editor, LayerNode], None]] = {
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "UnitNormalization": _unit_norm,
}

LAYERS = tuple(_TWINS)
"""Names of the layers that are taken apart."""
