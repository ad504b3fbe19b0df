"""Sums, gates and scalings in the form in which the device rounds them.

    Average([x, y, z])                →  Add, Add, Rescaling(1/3)
    Add([x, y, z])                    →  Add([Add([x, y]), z]); products and extremes alike
    exponential(x), softsign(x)       →  Elementwise, a table; so ReLU with a threshold, or with a
                                         slope and a maximum
    hard_sigmoid(x)                   →  ReLU6(x + 3) / 6
    hard_tanh(x)                      →  ReLU6(3x + 3) / 3 - 1
    selu(x), ELU(alpha)(x)            →  weighted sum of elu(x) and ReLU(x)
    tanh_shrink(x)                    →  x - tanh(x)
    ReLU(max_value=m)(x)              →  m/6 · ReLU6(6/m · x)
    z · ReLU6(z + 3) / 6              →  hard_swish(z), wherever the factor stands
    Rescaling(Rescaling(x))           →  one Rescaling

The device adds two tensors at a time and rounds each sum, so training has to see each of them.
The converter would make hard swish of that pattern by itself, over our roundings.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.canonical.softmax import softmax
from keras_fmc.layers.elementwise import ACTIVATIONS as LOOKED_UP
from keras_fmc.layers.elementwise import Elementwise
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, consumers, producers
from keras_fmc.model.operations import activation_name
from keras_fmc.model.surgery import copy_weights

_MERGING = (layers.Add, layers.Multiply, layers.Maximum, layers.Minimum)
_SPLIT_OFF = (
    *("hard_sigmoid", "hard_tanh", "selu", "tanh_shrink"),
    *("gelu", "log_sigmoid", "mish", "softplus"),
    *LOOKED_UP,
)
"""Activations that a layer of its own has to make first."""

_TENSORFLOW_NAMES = {"softmax_v2": "softmax", "swish": "silu"}
_CLOSE = 1e-6


def activations(editor: Editor) -> LayerGraph:
    """Takes activations out of layers where they have to be rewritten, and gives functions of
    TensorFlow, such as `tf.nn.softmax`, the name that Keras has for them."""
    for node in editor.graph.nodes:
        operation = node.operation
        function = getattr(operation, "activation", None)
        own = isinstance(operation, keras.Layer) and type(operation).__module__.startswith("keras.")
        if not own or function is None or isinstance(operation, layers.Wrapper):
            editor.keep(node)
            continue
        name = getattr(function, "__name__", "")
        module = getattr(function, "__module__", "") or ""
        if isinstance(operation, _RECURRENT):
            editor.keep(node)
        elif module.startswith("tensorflow."):
            known = _TENSORFLOW_NAMES.get(name, name)
            try:
                keras.activations.get(known)
            except ValueError:
                editor.refuse(node, f"activation {name} of TensorFlow", _NAMES)
                continue
            _write(editor, node, keras.layers.Activation(known).activation)
        elif isinstance(function, keras.Layer):
            _apart(editor, node, function)
        elif not module.startswith(("keras.", "keras_fmc.")):
            _apart(editor, node, layers.Lambda(function))
        elif name in _SPLIT_OFF and not isinstance(operation, layers.Activation):
            _apart(editor, node, layers.Activation(name))
        else:
            editor.keep(node)
    return editor.done()


_RECURRENT = (layers.RNN,)
_NAMES = "Give the name of a Keras activation, such as 'relu' or 'softmax'"


def _write(editor: Editor, node: LayerNode, function: Any) -> None:
    layer, name = editor.layer(node, "", lambda name: _like(node.operation, name, function))
    editor.call(
        layer,
        name,
        [editor.at(value) for value in node.inputs],
        name=node.name,
        output=node.outputs[0],
    )


def _apart(editor: Editor, node: LayerNode, activation: keras.Layer) -> None:
    """The layer without its activation, and the activation, which has the name behind it."""
    linear = keras.activations.linear
    if isinstance(node.operation, layers.Activation):
        source = editor.at(node.inputs[0])
    else:
        layer, name = editor.layer(node, "", lambda name: _like(node.operation, name, linear))
        source = editor.call(layer, name, [editor.at(node.inputs[0])], name=node.name)
    config = activation.get_config() if not isinstance(activation, layers.Lambda) else None

    def make(name: str) -> keras.Layer:
        if config is None:
            return layers.Lambda(activation.function, name=name)
        return type(activation).from_config({**config, "name": name})

    layer, name = editor.layer(node, "activation", make)
    editor.call(layer, name, [source], output=node.outputs[0], shape=editor.shape(source))


def _like(source: keras.Layer, name: str, function: Any) -> keras.Layer:
    """The same layer with another activation, its weights included."""
    config = {**source.get_config(), "name": name}
    config["activation"] = keras.activations.serialize(function)
    layer = type(source).from_config(config)
    if source.built and source.weights:
        layer.build_from_config(source.get_build_config())
        copy_weights(source, layer)
    layer.trainable = source.trainable
    return layer


def arithmetic(editor: Editor) -> LayerGraph:
    """Rewrites merging, gates and ceilings."""
    for node in editor.graph.nodes:
        operation = node.operation
        kind = type(operation)
        if kind in _MERGING and len(node.inputs) > 2:
            _chain(editor, node, kind, None)
        elif kind is layers.Average:
            _chain(editor, node, layers.Add, 1 / len(node.inputs))
        elif _is(operation, "hard_sigmoid"):
            _scaled_relu6(editor, node, (1.0, 3.0), 1 / 6)
        elif _is(operation, "hard_tanh"):
            _scaled_relu6(editor, node, (3.0, 3.0), 1 / 3, -1.0)
        elif _is(operation, "selu"):
            _exponential(editor, node, _SELU_ALPHA, _SELU_SCALE)
        elif kind is layers.ELU:
            _exponential(editor, node, float(operation.alpha), 1.0)
        elif _is(operation, "tanh_shrink"):
            source = editor.at(node.inputs[0])
            make = lambda name: layers.Activation("tanh", name=name)  # noqa: E731
            value = editor.part(node, "tanh", make, [source])
            editor.last(node, lambda name: layers.Subtract(name=name), [source, value])
        elif isinstance(operation, layers.Activation) and activation_name(operation) in LOOKED_UP:
            function = LOOKED_UP[activation_name(operation)]
            make = functools.partial(_elementwise, function)
            editor.last(node, make, [editor.at(node.inputs[0])])
        elif kind is layers.Softmax:
            softmax(editor, node)
        elif kind is layers.ReLU and _bent(operation):
            make = functools.partial(_relu_by_table, operation)
            editor.last(node, make, [editor.at(node.inputs[0])])
        elif kind is layers.ReLU and _ceiling(operation):
            _scaled_relu6(editor, node, (6 / operation.max_value, 0.0), operation.max_value / 6)
        else:
            editor.keep(node)
    return editor.done()


def _elementwise(function: str, name: str) -> Elementwise:
    return Elementwise(function, name=name)


def _chain(editor: Editor, node: LayerNode, kind: Any, factor: float | None) -> None:
    sources = [editor.at(value) for value in node.inputs]
    if len(sources) == 1:
        editor.alias(node.outputs[0], sources[0])
        return
    value = sources[0]
    for index, source in enumerate(sources[1:-1]):
        value = editor.part(node, f"part{index}", lambda name: kind(name=name), [value, source])
    if factor is None:
        editor.last(node, lambda name: kind(name=name), [value, sources[-1]])
        return
    value = editor.part(node, "sum", lambda name: kind(name=name), [value, sources[-1]])
    editor.last(node, lambda name: layers.Rescaling(factor, name=name), [value])


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""Of Klambauer et al., arXiv 1706.02515, as `keras.activations.selu` has them."""


def _is(operation: keras.Operation, function: str) -> bool:
    return (
        isinstance(operation, layers.Activation)
        and getattr(operation.activation, "__name__", "") == function
    )


def _exponential(editor: Editor, node: LayerNode, alpha: float, scale: float) -> None:
    """scale · (α elu(x) + (1 - α) relu(x)), for elu has no α on the device."""
    source = editor.at(node.inputs[0])
    make = lambda name: layers.Activation("elu", name=name)  # noqa: E731
    if alpha == 1 and scale == 1:
        editor.last(node, make, [source])
        return
    curve = editor.part(node, "elu", make, [source])
    line = editor.part(node, "relu", lambda name: layers.ReLU(name=name), [source])
    one, other = scale * alpha, scale * (1 - alpha)
    curve = editor.part(node, "curve", lambda name: layers.Rescaling(one, name=name), [curve])
    line = editor.part(node, "line", lambda name: layers.Rescaling(other, name=name), [line])
    editor.last(node, lambda name: layers.Add(name=name), [curve, line])


def _ceiling(layer: layers.ReLU) -> bool:
    return not (layer.threshold or layer.negative_slope or layer.max_value in (None, 6))


def _bent(layer: layers.ReLU) -> bool:
    """Whether it is none of the ReLUs that the device has."""
    return bool(layer.threshold) or bool(layer.negative_slope and layer.max_value is not None)


def _relu_by_table(layer: layers.ReLU, name: str) -> Elementwise:
    highest = float(np.inf) if layer.max_value is None else layer.max_value
    arguments = (layer.negative_slope, highest, layer.threshold)
    return Elementwise("activations.relu", arguments=arguments, name=name)


def _scaled_relu6(
    editor: Editor,
    node: LayerNode,
    before: tuple[float, float],
    behind: float,
    lower: float = 0.0,
) -> None:
    scale, offset = before
    value = editor.part(
        node,
        "in",
        lambda name: layers.Rescaling(scale, offset, name=name),
        [editor.at(node.inputs[0])],
    )
    value = editor.part(node, "relu6", lambda name: layers.ReLU(6.0, name=name), [value])
    editor.last(node, lambda name: layers.Rescaling(behind, lower, name=name), [value])


def hard_swish(editor: Editor) -> LayerGraph:
    """Finds products of a tensor and its own gate, and writes the activation."""
    graph = editor.graph
    makers, readers = producers(graph), consumers(graph)

    def maker(value: int) -> LayerNode | None:
        return graph.nodes[makers[value]] if value in makers else None

    def unscaled(value: int) -> tuple[int, float, list[LayerNode]]:
        """What a value is a multiple of, the factor, and the calls between."""
        node, factor, between = maker(value), 1.0, []
        while node is not None and (number := _factor(node)) is not None and alone(node):
            factor, value = factor * number, node.inputs[0]
            between.append(node)
            node = maker(value)
        return value, factor, between

    def alone(node: LayerNode) -> bool:
        output = node.outputs[0]
        return len(readers[output]) == 1 and output not in graph.outputs

    def gate(value: int) -> tuple[int, list[LayerNode]] | None:
        """x, if value is ReLU6(x + 3)."""
        relu = maker(value)
        if relu is None or not _is_relu6(relu.operation) or not alone(relu):
            return None
        shift = maker(relu.inputs[0])
        if shift is None or not alone(shift) or _affine(shift) != (1.0, 3.0):
            return None
        return shift.inputs[0], [relu, shift]

    found: dict[str, tuple[int, float, int]] = {}
    gone: set[str] = set()
    for node in graph.nodes:
        if not isinstance(node.operation, layers.Multiply) or len(node.inputs) != 2:
            continue
        sides = [unscaled(value) for value in node.inputs]
        for (one, factor, some), (other, more, others) in (sides, sides[::-1]):
            inside = gate(other)
            if inside is None or inside[0] != one:
                continue
            output, rest, between = node.outputs[0], factor * more * 6, [*some, *others, *inside[1]]
            behind = None
            if alone(node):
                reader = graph.nodes[readers[output][0]]
                number = _factor(reader)
                if number is not None and abs(rest * number - 1) < _CLOSE:
                    behind, rest = reader, rest * number
            last = behind or node
            found[last.name] = (one, rest, last.outputs[0])
            gone |= {item.name for item in between} | ({node.name} if behind else set())
            break
    for node in graph.nodes:
        if node.name in found:
            source, rest, _ = found[node.name]
            make = lambda name: layers.Activation("hard_silu", name=name)  # noqa: E731
            if abs(rest - 1) < _CLOSE:
                editor.last(node, make, [editor.at(source)])
            else:
                value = editor.part(node, "hard_swish", make, [editor.at(source)])
                scale = rest
                editor.last(
                    node, lambda name, scale=scale: layers.Rescaling(scale, name=name), [value]
                )
        elif node.name not in gone:
            editor.keep(node)
    return editor.done()


def scalings(editor: Editor) -> LayerGraph:
    """Joins neighbouring `Rescaling` layers, and drops those that do nothing."""
    graph = editor.graph
    readers = consumers(graph)
    joined: dict[int, tuple[int, np.ndarray, np.ndarray]] = {}
    for node in graph.nodes:
        if type(node.operation) is not layers.Rescaling:
            editor.keep(node)
            continue
        source, output = node.inputs[0], node.outputs[0]
        scale = np.asarray(node.operation.scale, np.float64)
        offset = np.asarray(node.operation.offset, np.float64)
        changed = source in joined
        if changed:
            source, before, shift = joined[source]
            scale, offset = scale * before, scale * shift + offset
        follower = graph.nodes[readers[output][0]] if len(readers[output]) == 1 else None
        goes_on = (
            follower is not None
            and type(follower.operation) is layers.Rescaling
            and output not in graph.outputs
        )
        if goes_on:
            joined[output] = (source, scale, offset)
        elif np.all(scale == 1) and not np.any(offset):
            editor.alias(output, editor.at(source))
        elif changed:
            parts = [part.item() if part.ndim == 0 else part.tolist() for part in (scale, offset)]
            make = lambda name, parts=parts: layers.Rescaling(*parts, name=name)  # noqa: E731
            editor.last(node, make, [editor.at(source)])
        else:
            editor.keep(node)
    return editor.done()


def _affine(node: LayerNode) -> tuple[float, float] | None:
    """(scale, offset) of a `Rescaling` of one number each."""
    operation = node.operation
    if type(operation) is not layers.Rescaling:
        return None
    if np.ndim(operation.scale) or np.ndim(operation.offset):
        return None
    return float(operation.scale), float(operation.offset)


def _factor(node: LayerNode) -> float | None:
    form = _affine(node)
    return form[0] if form is not None and form[1] == 0 else None


def _is_relu6(operation: keras.Operation) -> bool:
    if isinstance(operation, layers.ReLU):
        plain = not (operation.threshold or operation.negative_slope)
        return plain and operation.max_value == 6
    return (
        isinstance(operation, layers.Activation)
        and getattr(operation.activation, "__name__", "") == "relu6"
    )
