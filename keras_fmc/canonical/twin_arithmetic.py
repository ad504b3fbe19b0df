"""Sums, products and other arithmetic of `keras.ops` and operators, as layers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.canonical.expand import constant
from keras_fmc.canonical.twins import (
    Twin,
    operands_of,
    output_of,
    sources_of,
)
from keras_fmc.layers.channel_scale import channel_scale
from keras_fmc.layers.constant_map import constant_map
from keras_fmc.layers.elementwise import Elementwise
from keras_fmc.layers.matrix_product import MatrixProduct
from keras_fmc.model.layer_graph import LayerNode, ValueRef


def merge(make: type[layers.Layer], *, number: str) -> Twin:
    """x ∘ y of two tensors is a merging layer; with a constant per channel it is `Rescaling`, with
    one that differs from position to position y is a `ConstantMap`."""

    def twin(editor: Editor, node: LayerNode) -> bool:
        left, right = operands_of(node)
        if isinstance(left, ValueRef) and isinstance(right, ValueRef):
            sources = [editor.at(left.id), editor.at(right.id)]
            if number == "divide":
                one_over = functools.partial(_by_table, "reciprocal")
                sources[1] = editor.part(node, "reciprocal", one_over, sources[1:])
            editor.last(node, lambda name: make(name=name), sources, shape=output_of(editor, node))
            return True
        reference, other = (left, right) if isinstance(left, ValueRef) else (right, left)
        value = constant(other)
        if value is None or not isinstance(reference, ValueRef):
            return False
        if isinstance(other, keras.Variable) and _trained(
            editor, node, reference.id, number, other
        ):
            return True
        if number == "divide" and reference is right and value.size == 1:
            one_over = functools.partial(_by_table, "reciprocal")
            source = editor.part(node, "reciprocal", one_over, [editor.at(reference.id)])
            editor.last(
                node, lambda name: layers.Rescaling(float(value.reshape(())), name=name), [source]
            )
            return True
        form = _affine(number, value, constant_first=reference is right)
        trained = isinstance(other, keras.Variable)
        if form is not None and not trained and _rescale(editor, node, reference.id, *form):
            return True
        return _with_map(editor, node, make, number, value, trained and other.trainable)

    return twin


def _with_map(
    editor: Editor,
    node: LayerNode,
    make: type[layers.Layer],
    number: str,
    value: np.ndarray,
    trainable: bool,
) -> bool:
    """x ∘ c with a constant that differs from position to position, or c ∘ x."""
    left, _ = operands_of(node)
    source = editor.at(node.inputs[0])
    first = not isinstance(left, ValueRef)
    values = without_batch(value, len(output_of(editor, node)))
    if values is None or (number == "divide" and not first and (trainable or not values.all())):
        return False
    if number == "divide" and first:
        one_over = functools.partial(_by_table, "reciprocal")
        source = editor.part(node, "reciprocal", one_over, [source])
    elif number == "divide":
        values = 1 / values
    other = constant_part(editor, node, "constant", values, trainable=trainable)
    sources = [other, source] if first else [source, other]
    editor.last(node, lambda name: make(name=name), sources, shape=output_of(editor, node))
    return True


def without_batch(value: np.ndarray, rank: int) -> np.ndarray | None:
    """A constant as one sample of `rank` axes, batch included, has it; None if samples differ."""
    if value.ndim < rank:
        return value.reshape((1,) * (rank - 1 - value.ndim) + value.shape)
    return value[0] if value.ndim == rank and value.shape[0] == 1 else None


def constant_part(
    editor: Editor, node: LayerNode, part: str, values: np.ndarray, *, trainable: bool = False
) -> int:
    """Calls a constant map that takes part in what a call is rewritten to."""
    make = functools.partial(constant_map, values=values, trainable=trainable)
    return editor.part(node, part, make, [editor.graph.inputs[0]])


def _affine(
    number: str, value: np.ndarray, *, constant_first: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """(scale, offset) of an operation with a constant."""
    one, zero = np.ones_like(value), np.zeros_like(value)
    if number == "add":
        return one, value
    if number == "subtract":
        return (-one, value) if constant_first else (one, -value)
    if number == "multiply":
        return value, zero
    if number == "divide" and not constant_first and np.all(value != 0):
        return one / value, zero
    return None


def _trained(
    editor: Editor, node: LayerNode, source: int, number: str, weight: keras.Variable
) -> bool:
    """A weight of a layer of the user's, one number or one a channel, that goes on training."""
    shape = output_of(editor, node)
    value = np.asarray(keras.ops.convert_to_numpy(weight), np.float64)
    channels = shape[-1] or 1
    per_channel = value.size == 1 or value.size == value.shape[-1] == channels
    if number not in ("add", "multiply") or not per_channel:
        return False
    if shape != editor.shape(editor.at(source)):
        return False
    spread = np.broadcast_to(value.reshape(-1), (channels,))
    part = {"scale" if number == "multiply" else "offset": spread}
    editor.last(
        node,
        lambda name: channel_scale(name, channels, trainable=weight.trainable, **part),
        [editor.at(source)],
    )
    return True


def _rescale(
    editor: Editor, node: LayerNode, source: int, scale: np.ndarray, offset: np.ndarray
) -> bool:
    shape = output_of(editor, node)
    if shape != editor.shape(editor.at(source)):
        return False
    spread = [_per_channel(part, shape) for part in (scale, offset)]
    if None in spread:
        return False
    editor.last(
        node,
        lambda name: layers.Rescaling(scale=spread[0], offset=spread[1], name=name),
        [editor.at(source)],
    )
    return True


def _per_channel(value: np.ndarray, shape: Sequence[int | None]) -> float | list[float] | None:
    """A constant that is one number, or one for each channel, as Keras keeps it."""
    if value.size == 1:
        return float(value.reshape(()))
    if value.size == value.shape[-1] == shape[-1] and value.ndim <= len(shape):
        return [float(part) for part in value.reshape(-1)]
    return None


def extreme(make: type[layers.Layer]) -> Twin:
    """max(x, y); max(x, 0) is a ReLU, min(max(x, 0), m) one with a ceiling (`arithmetic`)."""

    def twin(editor: Editor, node: LayerNode) -> bool:
        left, right = operands_of(node)
        if isinstance(left, ValueRef) and isinstance(right, ValueRef):
            sources = [editor.at(left.id), editor.at(right.id)]
            editor.last(node, lambda name: make(name=name), sources, shape=output_of(editor, node))
            return True
        reference, other = (left, right) if isinstance(left, ValueRef) else (right, left)
        value = constant(other)
        if value is None or value.size != 1 or not isinstance(reference, ValueRef):
            return False
        bound = float(value.reshape(()))
        source = editor.at(reference.id)
        if make is layers.Maximum and bound == 0:
            editor.last(node, lambda name: layers.ReLU(name=name), [source])
            return True
        if make is layers.Minimum and bound > 0 and _is_relu(editor, source):
            editor.last(node, lambda name: layers.ReLU(max_value=bound, name=name), [source])
            return True
        function = "maximum" if make is layers.Maximum else "minimum"
        editor.last(node, functools.partial(_by_table, function, bound), [source])
        return True

    return twin


def _is_relu(editor: Editor, value: int) -> bool:
    makers = [node for node in editor.nodes if value in node.outputs]
    operation = makers[0].operation if makers else None
    return isinstance(operation, layers.ReLU) and not operation.negative_slope


def matmul(editor: Editor, node: LayerNode) -> bool:
    """The product of two maps, or of one and a constant matrix, which is a dense layer."""
    left, right = operands_of(node)
    if isinstance(left, ValueRef) and isinstance(right, ValueRef):
        sources = [editor.at(left.id), editor.at(right.id)]
        ranks = {len(editor.shape(source)) for source in sources}
        if len(ranks) != 1 or not ranks <= {3, 4}:
            return False
        if len({editor.shape(source)[:-2] for source in sources}) != 1:
            return False
        editor.last(node, lambda name: MatrixProduct(name=name), sources)
        return True
    matrix = constant(right)
    if not isinstance(left, ValueRef) or matrix is None or matrix.ndim != 2:
        return False
    source = editor.at(left.id)

    def make(name: str) -> layers.Layer:
        layer = layers.Dense(matrix.shape[1], use_bias=False, name=name)
        layer.build(editor.shape(source))
        layer.kernel.assign(matrix)
        layer.trainable = isinstance(right, keras.Variable) and right.trainable
        return layer

    editor.last(node, make, [source])
    return True


def negative(editor: Editor, node: LayerNode) -> bool:
    return _rescale(editor, node, node.inputs[0], np.array(-1.0), np.array(0.0))


def square(editor: Editor, node: LayerNode) -> bool:
    source = editor.at(node.inputs[0])
    editor.last(node, lambda name: layers.Multiply(name=name), [source, source])
    return True


def power(editor: Editor, node: LayerNode) -> bool:
    value = constant(operands_of(node)[1])
    if value is None or value.size != 1 or len(node.inputs) != 1:
        return False
    if float(value.reshape(())) == 1:
        editor.alias(node.outputs[0], editor.at(node.inputs[0]))
        return True
    if float(value.reshape(())) == 2:
        return square(editor, node)
    if not isinstance(operands_of(node)[0], ValueRef):
        return False
    make = functools.partial(_by_table, "power", float(value.reshape(())))
    editor.last(node, make, [editor.at(node.inputs[0])])
    return True


def _by_table(function: str, *arguments: Any) -> layers.Layer:
    """The layer of an elementwise function; the last argument is its name."""
    *numbers, name = arguments
    return Elementwise(function, arguments=numbers, name=name)


def looked_up(function: str, attributes: Sequence[str] = ()) -> Twin:
    """A function by a table; `attributes` of the operation are its arguments behind x."""

    def twin(editor: Editor, node: LayerNode) -> bool:
        numbers = [float(getattr(node.operation, name)) for name in attributes]
        make = functools.partial(_by_table, function, *numbers)
        editor.last(node, make, sources_of(editor, node))
        return True

    return twin


def absolute(editor: Editor, node: LayerNode) -> bool:
    """|x| = relu(x) + relu(-x)."""
    source = editor.at(node.inputs[0])
    above = editor.part(node, "above", lambda name: layers.ReLU(name=name), [source])
    minus = editor.part(node, "minus", lambda name: layers.Rescaling(-1.0, name=name), [source])
    below = editor.part(node, "below", lambda name: layers.ReLU(name=name), [minus])
    editor.last(node, lambda name: layers.Add(name=name), [above, below])
    return True
