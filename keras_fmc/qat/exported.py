"""Registered layers (`keras_fmc.model.custom_layers`) as TensorFlow's converter reads them, and
changes of scale, which it would drop."""

from __future__ import annotations

from typing import Any

import keras

from keras_fmc.layers.look_up import LookUp
from keras_fmc.layers.other_scale import OtherScale
from keras_fmc.model.custom_layers import is_absent, is_elementwise
from keras_fmc.model.layer_graph import LayerNode, trace
from keras_fmc.model.surgery import clone, rebuild
from keras_fmc.qat.grids import Grids


def exported(model: keras.Model) -> keras.Model:
    """Returns a quantised model to convert: elementwise layers are tables of the codes that they
    make with the weights and ranges as they are now, absent ones are left out."""
    graph = trace(model)
    if not any(_is_own(node) for node in graph.nodes):
        return model
    grids = Grids(graph)

    def call(node: LayerNode, layer: Any, inputs: tuple[Any, ...]) -> Any:
        if _is_table(node):
            target = grids.behind(node.outputs[0])
            table = [target.scale * (code - target.zero_point) for code in grids.table(node)]
            if isinstance(node.operation, OtherScale):
                table.append(table[-1])
            return LookUp(table, name=node.name)(inputs[0])
        return inputs[0] if layer is None else node.replay(layer, inputs)

    return rebuild(graph, layer=lambda node: None if _is_own(node) else clone(node), call=call)


def _is_own(node: LayerNode) -> bool:
    return _is_table(node) or is_absent(node.operation)


def _is_table(node: LayerNode) -> bool:
    return is_elementwise(node.operation) or isinstance(node.operation, OtherScale)
