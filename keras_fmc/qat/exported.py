"""Registered layers (`keras_fmc.model.custom_layers`) as TensorFlow's converter reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_fmc.model.custom_layers import is_absent, is_elementwise
from keras_fmc.model.layer_graph import LayerNode, trace
from keras_fmc.model.surgery import clone, rebuild
from keras_fmc.qat.grids import Grids


class LookUp(keras.layers.Layer):
    """The table of an elementwise layer as CAST and GATHER, to be converted, not to be run.

    In float the index would be the code; `deploy.look_up` makes it that in the int8 file.

    Args:
        table: 256 real values, those of the codes from -128 on.
    """

    def __init__(self, table: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = tuple(float(value) for value in table)

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        return tf.gather(tf.constant(self.table, tf.float32), tf.cast(inputs, tf.int32))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def exported(model: keras.Model) -> keras.Model:
    """Returns a quantised model to convert: elementwise layers are tables of the codes that they
    make with the weights and ranges as they are now, absent ones are left out."""
    graph = trace(model)
    if not any(_is_own(node) for node in graph.nodes):
        return model
    grids = Grids(graph)

    def call(node: LayerNode, layer: Any, inputs: tuple[Any, ...]) -> Any:
        if is_elementwise(node.operation):
            target = grids.behind(node.outputs[0])
            table = [target.scale * (code - target.zero_point) for code in grids.table(node)]
            return LookUp(table, name=node.name)(inputs[0])
        return inputs[0] if layer is None else node.replay(layer, inputs)

    return rebuild(graph, layer=lambda node: None if _is_own(node) else clone(node), call=call)


def _is_own(node: LayerNode) -> bool:
    return is_elementwise(node.operation) or is_absent(node.operation)
