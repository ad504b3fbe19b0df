"""What layers make of constants alone, worked out: a constant again."""

from __future__ import annotations

import functools
from collections import Counter

import keras
import numpy as np
from keras import ops

from keras_fmc.canonical.editor import Editor
from keras_fmc.layers.constant_map import ConstantMap, constant_map
from keras_fmc.model.layer_graph import LayerGraph, consumers


def constants(editor: Editor) -> LayerGraph:
    """Replaces layers without weights that read nothing but constants; one that is trained stays
    so. Drops constants that nothing reads then.

    What others read as well, and is trained, stays one weight: its readers are not worked out.
    """
    known: dict[int, ConstantMap] = {}
    read_by = consumers(editor.graph)
    readers: Counter[int] = Counter()
    for node in editor.graph.nodes:
        readers[id(node.operation)] += sum(len(read_by[value]) for value in node.outputs)
    for node in editor.graph.nodes:
        operation = node.operation
        read = [known.get(value) for value in node.inputs]
        if isinstance(operation, ConstantMap):
            known[node.outputs[0]] = operation
        plain = isinstance(operation, keras.Layer) and not operation.weights
        if not plain or not read or None in read or len(node.outputs) > 1:
            editor.keep(node)
            continue
        maps = [layer for layer in read if layer is not None]
        if any(layer.trainable and readers[id(layer)] > 1 for layer in maps):
            editor.keep(node)
            continue
        given = [np.asarray(ops.convert_to_numpy(layer.values))[None] for layer in maps]
        values = ops.convert_to_numpy(node.replay(operation, given))[0]
        trainable = any(layer.trainable for layer in maps)
        make = functools.partial(constant_map, values=values, trainable=trainable)
        editor.last(node, make, [editor.graph.inputs[0]])
        known[node.outputs[0]] = editor.nodes[-1].operation
    wanted = {value for node in editor.nodes for value in node.inputs}
    wanted.update(editor.at(value) for value in editor.graph.outputs)
    editor.nodes = [
        node
        for node in editor.nodes
        if not isinstance(node.operation, ConstantMap) or node.outputs[0] in wanted
    ]
    return editor.done()
