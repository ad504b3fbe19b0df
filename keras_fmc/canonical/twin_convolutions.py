"""Convolutions of `keras.ops` by a constant, or by a weight of a layer of the user's, as layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.canonical.expand import constant
from keras_fmc.canonical.twins import Twin, operands_of
from keras_fmc.model.layer_graph import LayerNode, ValueRef


def convolved(*, depthwise: bool) -> Twin:
    """conv(x, kernel): a layer without bias, whose kernel trains if it is a weight that does."""
    kinds = (
        {3: layers.DepthwiseConv1D, 4: layers.DepthwiseConv2D}
        if depthwise
        else {3: layers.Conv1D, 4: layers.Conv2D}
    )

    def twin(editor: Editor, node: LayerNode) -> bool:
        operation = node.operation
        inputs, other = operands_of(node)
        kernel = constant(other)
        if not isinstance(inputs, ValueRef) or kernel is None:
            return False
        source = editor.at(inputs.id)
        shape = editor.shape(source)
        channels = shape[-1]
        kind = kinds.get(len(shape))
        if kind is None or operation.data_format == "channels_first" or channels is None:
            return False
        options: dict[str, Any] = {
            "strides": operation.strides,
            "padding": operation.padding,
            "dilation_rate": operation.dilation_rate,
            "use_bias": False,
        }
        if depthwise:
            options["depth_multiplier"] = kernel.shape[-1]
        else:
            options |= {"filters": kernel.shape[-1], "groups": channels // kernel.shape[-2]}

        def make(name: str) -> keras.Layer:
            layer = kind(kernel_size=kernel.shape[:-2], name=name, **options)
            layer.build(shape)
            (weight,) = layer.weights
            weight.assign(kernel.astype(np.float32))
            layer.trainable = isinstance(other, keras.Variable) and other.trainable
            return layer

        editor.last(node, make, [source])
        return True

    return twin
