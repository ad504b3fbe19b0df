"""Whether a symbolic tensor can hold negative values, from the layers that made it."""

from __future__ import annotations

from typing import Any

import keras

from keras_fmc.layers.code_quantizer import CodeForm, CodeQuantizer
from keras_fmc.model.layer_graph import LayerGraph
from keras_fmc.model.operations import own_sign


def can_be_negative(tensor: Any) -> bool:
    """Returns False where `tensor` is known to be at least 0, or nothing is known of it.

    Nothing is known of numbers (not symbolic) and of a model's inputs; True stands for a layer that
    can make negative values, such as a convolution without a ReLU, and for every layer that is not
    known here.
    """
    if not isinstance(tensor, keras.KerasTensor):
        return False
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return False
    operation = history.operation
    if isinstance(operation, keras.layers.InputLayer):
        return False
    own = _own_sign(operation)
    if own is not None:
        return own
    node: Any = operation._inbound_nodes[history.node_index]
    return any(can_be_negative(source) for source in node.input_tensors)


def negative_values(graph: LayerGraph) -> frozenset[int]:
    """Returns the ids of the values of a graph that can be negative, inputs among them."""
    found = set(graph.inputs)
    for node in graph.nodes:
        own = _own_sign(node.operation)
        if own or (own is None and found.intersection(node.inputs)):
            found.update(node.outputs)
    return frozenset(found)


def _own_sign(operation: Any) -> bool | None:
    """Whether an operation can make negative values; None if only from negative ones."""
    if isinstance(operation, CodeQuantizer):
        return operation.form is not CodeForm.UNSIGNED
    if getattr(operation, "makes_nonnegative", False):
        return False
    return own_sign(operation)
