"""Values whose kernel fixes their scale, brought to the scale of what they are joined with.

    Concatenate([sigmoid(x), y])   →   Concatenate([OtherScale(sigmoid(x)), y])

A joint needs one scale. Where that of a sigmoid, say, is not the one of all that is joined, the
device requantises it first, as TensorFlow's own quantisation does.
"""

from __future__ import annotations

import dataclasses

import keras

from keras_fmc.layers.other_scale import OtherScale
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, ValueRef, ValueSpec
from keras_fmc.names import free_name
from keras_fmc.qat.placement import conflicts


def with_other_scales(graph: LayerGraph) -> LayerGraph:
    """Returns a graph in the device's form with these layers."""
    found = conflicts(graph)
    if not found:
        return graph
    values = list(graph.values)
    taken = {value.name for value in values} | {node.layer_name for node in graph.nodes}
    moved: dict[tuple[str, int], int] = {}
    nodes: list[LayerNode] = []
    for node in graph.nodes:
        nodes.append(_reading(node, moved))
        for output in node.outputs:
            if output not in found:
                continue
            name = free_name(f"{node.name}_scaled", taken)
            spec = values[output]
            values.append(ValueSpec(name, spec.shape, spec.dtype))
            new = len(values) - 1
            layer = OtherScale(name=name)
            args = (ValueRef(output),)
            nodes.append(LayerNode(name, name, layer, (output,), (new,), args, {}))
            moved |= {(reader, output): new for reader in found[output]}
    return dataclasses.replace(graph, nodes=tuple(nodes), values=tuple(values))


def _reading(node: LayerNode, moved: dict[tuple[str, int], int]) -> LayerNode:
    """The call with what it reads now."""

    def at(value: int) -> int:
        return moved.get((node.name, value), value)

    def reference(leaf: object) -> object:
        return ValueRef(at(leaf.id)) if isinstance(leaf, ValueRef) else leaf

    args, kwargs = keras.tree.map_structure(reference, (node.args, node.kwargs))
    inputs = tuple(map(at, node.inputs))
    return dataclasses.replace(node, inputs=inputs, args=args, kwargs=kwargs)
