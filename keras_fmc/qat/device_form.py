"""Calls as the device makes them: one for each tensor that it rounds.

    Dense(activation="softmax")         →  Dense, Activation("softmax")
    Activation("silu")                  →  Activation("sigmoid"), Multiply
    UpSampling2D(interpolation=nearest) →  Resizing
    Centre                              →  Conv2D of equal weights, Subtract
    UnitLength(epsilon)                 →  UnitLength, as the device has no epsilon
    GF2Bottleneck                       →  CodeQuantizer, GF2Bottleneck(quantizes_input=False)
    AveragePooling2D of few-bit codes   →  DepthwiseConv2D of equal weights

The device rounds between the two of a pair, so training has to see a tensor there. It resizes;
Keras repeats rows and columns, for which TensorFlow Lite Micro has no operator. The device's mean
of a window has the scale of what it averages; of codes with few levels too little would be left.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.canonical.form import canonical
from keras_fmc.errors import BadInputError
from keras_fmc.fold.fold import fold_for_device
from keras_fmc.layers.centre import Centre
from keras_fmc.layers.code_quantizer import CodeQuantizer
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.layers.unit_length import UnitLength
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, ValueRef, ValueSpec, consumers, trace
from keras_fmc.model.operations import (
    ACTIVATIONS,
    COMPOSED,
    Role,
    activation_name,
    is_activation,
    row_of,
)
from keras_fmc.model.surgery import copy_weights, rebuild
from keras_fmc.names import layer_name
from keras_fmc.qat.weight_layers import QUANTIZED


def quantised_graph(model: keras.Model) -> LayerGraph:
    """Returns what is quantised of a model: its canonical form, folded for the device, with layers
    and weights of its own."""
    return trace(rebuild(fold_for_device(canonical(model).graph).graph))


def ends_in_activation(node: LayerNode) -> bool:
    """Whether `device_form` takes an activation out of this layer."""
    name = activation_name(node.operation)
    known = ACTIVATIONS.get(name)
    fused = name == "linear" or (known is not None and known.fuses)
    return isinstance(node.operation, tuple(QUANTIZED)) and not fused


def device_form(graph: LayerGraph, *, split_codes: bool = True) -> LayerGraph:
    """Returns the graph with those calls replaced.

    Layers that ended in an activation are still the same objects: whoever builds the graph leaves
    the activation out (`ends_in_activation`).

    Args:
        split_codes: False leaves GF(2) bottlenecks, which may have no range yet, and averages of
            codes alone.
    """
    graph = _dense_on_positions(graph)
    values = list(graph.values)
    nodes: list[LayerNode] = []
    taken = {value.name for value in values}
    cores: dict[int, GF2Bottleneck] = {}
    averages: dict[int, layers.DepthwiseConv2D] = {}

    def add(wanted: str, layer: layers.Layer, inputs: tuple[int, ...], output: int | None) -> int:
        name = layer_name(wanted, taken)
        if output is None:
            source = values[inputs[0]]
            values.append(ValueSpec(name, source.shape, source.dtype))
            output = len(values) - 1
        else:
            values[output] = dataclasses.replace(values[output], name=name)
        references = tuple(ValueRef(value) for value in inputs)
        args = references if len(inputs) == 1 else (list(references),)
        nodes.append(LayerNode(name, name, layer, inputs, (output,), args, {}))
        return output

    def activate(node: LayerNode, function: str, source: int, output: int) -> None:
        dtype = node.operation.dtype_policy
        if function in COMPOSED:
            gate = layers.Activation("sigmoid", dtype=dtype)
            gated = add(f"{node.name}_sigmoid", gate, (source,), None)
            add(f"{node.name}_multiply", layers.Multiply(dtype=dtype), (source, gated), output)
        else:
            activation = layers.Activation(node.operation.activation, dtype=dtype)
            add(f"{node.name}_{function}", activation, (source,), output)

    for node in graph.nodes:
        function = activation_name(node.operation)
        if ends_in_activation(node):
            (output,) = node.outputs
            values.append(dataclasses.replace(values[output]))
            linear = len(values) - 1
            nodes.append(dataclasses.replace(node, outputs=(linear,)))
            activate(node, function, linear, output)
        elif isinstance(node.operation, layers.Activation) and function in COMPOSED:
            activate(node, function, node.inputs[0], node.outputs[0])
        elif isinstance(node.operation, Centre):
            (source,), (output,) = node.inputs, node.outputs
            mean = add(f"{node.name}_mean", _mean(values[source].shape), (source,), None)
            values[mean] = dataclasses.replace(values[mean], shape=(*values[source].shape[:-1], 1))
            taken.discard(node.name)
            add(node.name, layers.Subtract(), (source, mean), output)
        elif isinstance(node.operation, UnitLength) and node.operation.epsilon:
            taken.discard(node.name)
            add(node.name, UnitLength(), node.inputs, node.outputs[0])
        elif isinstance(node.operation, layers.UpSampling2D) and _is_nearest(node.operation):
            rows, columns = values[node.outputs[0]].shape[1:3]
            resizing = layers.Resizing(
                rows, columns, interpolation="nearest", dtype=node.operation.dtype_policy
            )
            taken.discard(node.name)
            add(node.name, resizing, node.inputs, node.outputs[0])
        elif (
            split_codes
            and isinstance(node.operation, GF2Bottleneck)
            and node.operation.quantizes_input
        ):
            codes = add(f"{node.name}_code", _quantizer(node), node.inputs, None)
            core = cores.setdefault(id(node.operation), _core(node, values[codes].shape))
            nodes.append(
                dataclasses.replace(
                    node, operation=core, inputs=(codes,), args=(ValueRef(codes),), kwargs={}
                )
            )
        elif (
            split_codes
            and isinstance(node.operation, layers.AveragePooling2D)
            and _averages_codes(nodes, node)
        ):
            averaging = averages.setdefault(id(node.operation), _average(node, values))
            nodes.append(dataclasses.replace(node, operation=averaging))
        else:
            nodes.append(node)
    return dataclasses.replace(graph, nodes=tuple(nodes), values=tuple(values))


def _dense_on_positions(graph: LayerGraph) -> LayerGraph:
    """Makes dense layers convolutions where a ReLU and something else read what they make.

    Of a dense layer TensorFlow's converter would make two, one with the ReLU inside, which then
    rounds otherwise than training saw; of a convolution it does not.
    """
    readers = consumers(graph)
    wanted = {
        id(node.operation)
        for node in graph.nodes
        if type(node.operation) is layers.Dense
        and activation_name(node.operation) == "linear"
        and len(graph.values[node.outputs[0]].shape) == 2
        and (len(readers[node.outputs[0]]) > 1 or node.outputs[0] in graph.outputs)
        and any(_is_relu(graph.nodes[index].operation) for index in readers[node.outputs[0]])
    }
    if not wanted:
        return graph
    editor = Editor(graph)
    for node in graph.nodes:
        dense = node.operation
        if id(dense) not in wanted:
            editor.keep(node)
            continue
        (source,) = (editor.at(value) for value in node.inputs)
        features = editor.shape(source)[-1] or 1
        at = layers.Reshape((1, 1, features))
        name = editor.free(f"{node.name}_position")
        position = editor.call(at, name, [source])
        make = functools.partial(_convolution, dense, features)
        convolution, layer_name = editor.layer(node, "", make)
        made = editor.call(convolution, layer_name, [position], name=node.name)
        back = layers.Reshape((dense.units,))
        name = editor.free(f"{node.name}_features")
        editor.call(back, name, [made], output=node.outputs[0])
    return editor.done()


def _is_relu(operation: keras.Operation) -> bool:
    known = ACTIVATIONS.get(activation_name(operation))
    return is_activation(operation) and known is not None and known.fuses


def _convolution(dense: layers.Dense, features: int, name: str) -> layers.Conv2D:
    config = dense.get_config()
    keys = ("use_bias", "kernel_regularizer", "bias_regularizer", "dtype")
    options = {key: config[key] for key in keys}
    layer = layers.Conv2D(dense.units, 1, name=name, **options)
    layer.build((None, 1, 1, features))
    layer.kernel.assign(keras.ops.reshape(dense.kernel, (1, 1, features, dense.units)))
    if dense.use_bias:
        layer.bias.assign(dense.bias)
    layer.trainable = dense.trainable
    return layer


def _averages_codes(nodes: Sequence[LayerNode], node: LayerNode) -> bool:
    """Whether a pooling reads codes of fewer than 8 bits, and pads none of them."""
    layer = node.operation
    if layer.padding != "valid" or layer.data_format != "channels_last":
        return False
    value = node.inputs[0]
    makers = {output: maker for maker in nodes for output in maker.outputs}
    while value in makers and _keeps_codes(makers[value].operation):
        value = makers[value].inputs[0]
    maker = makers[value].operation if value in makers else None
    return isinstance(maker, (CodeQuantizer, GF2Bottleneck)) and maker.bits < 8


def _keeps_codes(operation: keras.Operation) -> bool:
    """Whether it hands codes on one by one, or does nothing at inference."""
    if isinstance(operation, (layers.MaxPooling2D, layers.ZeroPadding2D, layers.Cropping2D)):
        return True
    row = row_of(operation)
    absent = row is not None and row.role is Role.ABSENT
    return absent and not isinstance(operation, FakeQuant)


def _average(node: LayerNode, values: Sequence[ValueSpec]) -> layers.DepthwiseConv2D:
    layer = node.operation
    convolution = layers.DepthwiseConv2D(
        layer.pool_size,
        strides=layer.strides,
        use_bias=False,
        depthwise_initializer=keras.initializers.Constant(1 / math.prod(layer.pool_size)),
        trainable=False,
        dtype=layer.dtype_policy,
    )
    convolution.build(values[node.inputs[0]].shape)
    return convolution


def _mean(shape: tuple[int | None, ...]) -> layers.Layer:
    """The mean over channels: equal weights, which training leaves alone."""
    options = {
        "use_bias": False,
        "kernel_initializer": keras.initializers.Constant(1 / (shape[-1] or 1)),
        "trainable": False,
    }
    layer = layers.Dense(1, **options) if len(shape) == 2 else layers.Conv2D(1, 1, **options)
    layer.build(shape)
    return layer


def _quantizer(node: LayerNode) -> CodeQuantizer:
    """The quantiser of a GF(2) bottleneck."""
    quantizer = node.operation.quantizer
    if not quantizer.calibrated:
        raise BadInputError(
            f"GF(2) bottleneck {node.name!r} has no range yet",
            remedy="Set it from data: insert_bottlenecks(model, plan, calibration=samples), or "
            "keras_fmc.start.gf2_start.start_from_data(layer, batches)",
        )
    return quantizer


def _core(node: LayerNode, shape: tuple[int | None, ...]) -> GF2Bottleneck:
    """The bottleneck without its quantiser."""
    config = {**node.operation.get_config(), "quantizes_input": False}
    core = GF2Bottleneck.from_config(config)
    core.build(shape)
    copy_weights(node.operation, core)
    core.trainable = node.operation.trainable
    return core


def _is_nearest(layer: layers.UpSampling2D) -> bool:
    return layer.interpolation == "nearest" and layer.data_format == "channels_last"
