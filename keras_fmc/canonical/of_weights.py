"""What layers of the user's own compute of their weights alone, before they meet the input.

    weights w, relu(w) / Σ relu(w) of a weighted sum       →  one trained number for each map
    Embedding(positions), a class token for each sample    →  a trained constant map

Keras computes such a thing at once, so that it stands as a constant in the graph that following
the layer leaves. It becomes a weight in its place, starts at the same value and goes on training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fmc.canonical.editor import Editor
from keras_fmc.model.custom_layers import at_inference, difference, random_samples
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, ValueRef

_SEED = 0


def unseen_weights(operation: Any, graph: LayerGraph) -> list[keras.Variable]:
    """The weights of a layer that neither a layer nor an operation of the graph holds."""
    if not isinstance(operation, keras.Layer):
        return []
    seen = {
        id(weight)
        for node in graph.nodes
        if isinstance(node.operation, keras.Layer)
        for weight in node.operation.weights
    }
    seen |= {id(leaf) for leaf in _leaves(graph) if isinstance(leaf, keras.Variable)}
    return [weight for weight in operation.weights if id(weight) not in seen]


def with_variables(
    graph: LayerGraph,
    weights: list[keras.Variable],
    follow: Callable[[], LayerGraph],
    known: dict[int, keras.Variable],
) -> LayerGraph:
    """Makes weights of the constants that change with `weights`: following again with others shows
    which these are.

    Args:
        known: place among the arguments → weight that an earlier call of the layer has there; it
            is taken again where it holds the same, and new ones are entered.

    Raises:
        ValueError: none does.
    """
    kept = [np.array(ops.convert_to_numpy(weight)) for weight in weights]
    rng = np.random.default_rng(_SEED)
    try:
        for weight, values in zip(weights, kept, strict=True):
            weight.assign(values + rng.uniform(0.1, 0.9, values.shape).astype(values.dtype))
        other = list(_leaves(follow()))
    finally:
        for weight, values in zip(weights, kept, strict=True):
            weight.assign(values)
    trainable = any(weight.trainable for weight in weights)
    changed = [_differ(one, another) for one, another in zip(_leaves(graph), other, strict=True)]
    if not any(changed):
        raise ValueError("it computes with weights of its own, which no stock layer holds")
    place = iter(enumerate(changed))

    def variable(leaf: Any) -> Any:
        number, has_changed = next(place)
        if not has_changed:
            return leaf
        values = np.asarray(ops.convert_to_numpy(leaf), np.float32)
        held = known.get(number)
        if held is None or not np.array_equal(ops.convert_to_numpy(held), values):
            known[number] = keras.Variable(values, dtype="float32", trainable=trainable)
        return known[number]

    nodes = []
    for node in graph.nodes:
        args, kwargs = keras.tree.map_structure(variable, (node.args, node.kwargs))
        nodes.append(dataclasses.replace(node, args=args, kwargs=kwargs))
    return dataclasses.replace(graph, nodes=tuple(nodes))


def check_each_sample(graph: LayerGraph, editor: Editor, node: LayerNode) -> None:
    """Holds the graph of one sample against what a layer does to two.

    Raises:
        ValueError: the layer does something else.
    """
    ids = dict.fromkeys(node.inputs)
    samples = {id_: random_samples(editor.graph.values[id_].shape) for id_ in ids}

    def called(tensors: dict[int, Any]) -> Any:
        def fill(leaf: Any) -> Any:
            return tensors[leaf.id] if isinstance(leaf, ValueRef) else leaf

        args, kwargs = keras.tree.map_structure(fill, (node.args, node.kwargs))
        return at_inference(node.operation, *args, **kwargs)

    expected = keras.tree.flatten(called(samples))
    for index in range(len(next(iter(samples.values())))):
        one = [array[index : index + 1] for array in samples.values()]
        wrong = difference(_run(graph, one), [array[index : index + 1] for array in expected])
        if wrong:
            raise ValueError(wrong)


def _run(graph: LayerGraph, inputs: list[Any]) -> list[Any]:
    """What the calls of a graph make of tensors, outside training."""
    tensors = dict(zip(graph.inputs, map(ops.convert_to_tensor, inputs), strict=True))
    for node in graph.nodes:
        layer = node.operation
        made = node.replay(layer, [tensors[value] for value in node.inputs])
        tensors.update(zip(node.outputs, keras.tree.flatten(made), strict=True))
    return [tensors[value] for value in graph.outputs]


def _leaves(graph: LayerGraph) -> Iterator[Any]:
    """Arguments of calls, in the order in which `map_structure` comes to them."""
    for node in graph.nodes:
        yield from keras.tree.flatten((node.args, node.kwargs))


def _differ(one: Any, other: Any) -> bool:
    """Whether two arguments are floats of a tensor that are not the same."""
    plain = (ValueRef, keras.Variable, str, bytes, bool, int, float, type(None))
    if isinstance(one, plain) or isinstance(other, plain):
        return False
    try:
        a, b = (np.asarray(ops.convert_to_numpy(value)) for value in (one, other))
    except (TypeError, ValueError):
        return False
    floats = np.issubdtype(a.dtype, np.floating)
    return bool(floats and a.shape == b.shape and not np.array_equal(a, b))
