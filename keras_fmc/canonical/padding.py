"""Zero padding that a convolution can do by itself.

    ZeroPadding2D(p), Conv2D(…, "valid")  →  Conv2D(…, "same")

where SAME pads the same rows and columns, and nothing else reads the padded map: the converter does
so, too, and then the padded map does not exist. SAME puts the odd row or column behind:

    total = max((⌈n / stride⌉ - 1) · stride + (window - 1) · dilation + 1 - n, 0),
    before = ⌊total / 2⌋
"""

from __future__ import annotations

import keras
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, consumers
from keras_fmc.model.surgery import copy_weights
from keras_fmc.padding import same_padding

_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)


def padding(editor: Editor) -> LayerGraph:
    """Merges padding layers into the convolutions that read them."""
    graph = editor.graph
    readers = consumers(graph)
    calls: dict[int, int] = {}
    for node in graph.nodes:
        calls[id(node.operation)] = calls.get(id(node.operation), 0) + 1
    merged: dict[int, int] = {}
    for node in graph.nodes:
        if type(node.operation) is layers.ZeroPadding2D and len(readers[node.outputs[0]]) == 1:
            reader = graph.nodes[readers[node.outputs[0]][0]]
            shared = calls[id(reader.operation)] > 1
            is_output = node.outputs[0] in graph.outputs
            if not shared and not is_output and _same(graph, node, reader):
                merged[node.outputs[0]] = node.inputs[0]
                continue
        if node.inputs and node.inputs[0] in merged:
            source = editor.at(merged[node.inputs[0]])
            shape = editor.shape(source)
            layer, name = editor.layer(
                node, "", lambda name, node=node, shape=shape: _same_layer(node, name, shape)
            )
            editor.call(layer, name, [source], name=node.name, output=node.outputs[0])
        else:
            editor.keep(node)
    return editor.done()


def _same(graph: LayerGraph, node: LayerNode, reader: LayerNode) -> bool:
    layer = reader.operation
    if type(layer) not in _CONVOLUTIONS or layer.padding != "valid":
        return False
    if "channels_first" in (layer.data_format, node.operation.data_format):
        return False
    lengths = graph.values[node.inputs[0]].shape[1:3]
    parts = zip(
        lengths,
        node.operation.padding,
        layer.kernel_size,
        layer.strides,
        layer.dilation_rate,
        strict=True,
    )
    for length, pads, window, stride, dilation in parts:
        if length is None:
            return False
        reach = (window - 1) * dilation + 1
        if tuple(pads) != same_padding(length, reach, stride):
            return False
    return True


def _same_layer(node: LayerNode, name: str, shape: tuple[int | None, ...]) -> keras.Layer:
    source = node.operation
    layer = type(source).from_config({**source.get_config(), "name": name, "padding": "same"})
    layer.build(shape)
    copy_weights(source, layer)
    layer.trainable = source.trainable
    return layer
