"""Calls that do the same to the same map, of which TensorFlow's converter keeps one."""

from __future__ import annotations

import json
from typing import Any

import keras
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.layers.slice import Slice
from keras_fmc.model.layer_graph import LayerGraph, LayerNode

_PLAIN = (
    *(layers.Cropping2D, layers.Permute, layers.Reshape, layers.ZeroPadding2D, Slice),
    *(layers.AveragePooling2D, layers.GlobalAveragePooling2D),
    *(layers.MaxPooling2D, layers.GlobalMaxPooling2D),
)


def alike(editor: Editor) -> LayerGraph:
    """Lets the readers of the others read the first."""
    first: dict[Any, int] = {}
    for node in editor.graph.nodes:
        key = _key(editor, node)
        if key is None or node.outputs[0] in editor.graph.outputs:
            editor.keep(node)
        elif key in first:
            editor.alias(node.outputs[0], first[key])
        else:
            first[key] = node.outputs[0]
            editor.keep(node)
    return editor.done()


def _key(editor: Editor, node: LayerNode) -> tuple[str, str, int] | None:
    layer = node.operation
    if type(layer) not in _PLAIN or len(node.inputs) != 1:
        return None
    config = {key: value for key, value in layer.get_config().items() if key != "name"}
    text = json.dumps(keras.saving.serialize_keras_object(config), sort_keys=True, default=str)
    return (type(layer).__name__, text, editor.at(node.inputs[0]))
