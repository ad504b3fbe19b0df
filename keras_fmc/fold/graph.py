"""A model under the hands of `fold`: the calls of a `LayerGraph`, edited, and weights in float64.

Layers that folding can change are held as `Linear`; all others are cloned when the model is built.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fmc.fold.algebra import Kind, Linear
from keras_fmc.layers.constant_map import ConstantMap
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, ValueRef, ValueSpec
from keras_fmc.names import layer_name

Rows = Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Weighted:
    """A layer with weights: what it computes, and the rest of its configuration."""

    linear: Linear
    config: dict[str, Any]
    is_linear: bool
    trainable: bool = True
    changed: bool = False


class WorkGraph:
    """An editable copy of a `LayerGraph`. Calls are known by name, values by id.

    Attributes:
        nodes: calls in execution order.
        values: tensors; their shapes follow the edits.
        weighted: layer name → weights, for the layers that folding can change.
        gone: value that no call makes any more → the value that holds what it held.
    """

    def __init__(self, graph: LayerGraph) -> None:
        self._graph = graph
        self.nodes = list(graph.nodes)
        self.values = list(graph.values)
        self._output_structure = graph.output_structure
        self.weighted: dict[str, Weighted] = {}
        self.gone: dict[int, int] = {}
        for node in graph.nodes:
            if node.layer_name not in self.weighted:
                weighted = read_weighted(node.operation)
                if weighted is not None:
                    self.weighted[node.layer_name] = weighted
        self._names = {node.name for node in self.nodes} | {value.name for value in self.values}

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(ref.id for ref in keras.tree.flatten(self._output_structure))

    def node(self, name: str) -> LayerNode:
        return next(node for node in self.nodes if node.name == name)

    def producer(self, value: int) -> LayerNode | None:
        """Returns the call that makes `value`, None for an input of the model."""
        return next((node for node in self.nodes if value in node.outputs), None)

    def readers(self, value: int) -> list[LayerNode]:
        return [
            node
            for node in self.nodes
            if value in node.inputs and not isinstance(node.operation, ConstantMap)
        ]

    def sole_reader(self, value: int) -> LayerNode | None:
        """Returns the one call that reads `value`, None if there are more or it is an output."""
        readers = self.readers(value)
        return readers[0] if len(readers) == 1 and value not in self.outputs else None

    def is_shared(self, node: LayerNode) -> bool:
        """Whether the layer of this call is called more than once."""
        return sum(other.layer_name == node.layer_name for other in self.nodes) > 1

    def channels(self, value: int) -> int | None:
        return self.values[value].shape[-1]

    def spatial(self, value: int) -> tuple[int | None, int | None]:
        shape = self.values[value].shape
        return (shape[1], shape[2]) if len(shape) == 4 else (None, None)

    def free_name(self, wanted: str) -> str:
        return layer_name(wanted, self._names)

    def change(self, node: LayerNode, linear: Linear) -> None:
        """Gives the layer of `node` new weights."""
        old = self.weighted[node.layer_name]
        self.weighted[node.layer_name] = dataclasses.replace(old, linear=linear, changed=True)
        for output in node.outputs:
            self.set_channels(output, linear.out_channels)

    def set_channels(self, value: int, channels: int | None) -> None:
        spec = self.values[value]
        self.values[value] = dataclasses.replace(spec, shape=(*spec.shape[:-1], channels))

    def new_value(self, name: str, shape: tuple[int | None, ...], dtype: str) -> int:
        self.values.append(ValueSpec(name, shape, dtype))
        return len(self.values) - 1

    def insert(
        self,
        before: LayerNode,
        name: str,
        operation: keras.Operation,
        source: int,
        output: int,
        *,
        layer_name: str | None = None,
        weighted: Weighted | None = None,
    ) -> LayerNode:
        """Puts a call with one input and one output before another, and returns it."""
        node = LayerNode(
            name, layer_name or name, operation, (source,), (output,), (ValueRef(source),), {}
        )
        self.nodes.insert(self._index(before), node)
        if weighted is not None:
            self.weighted[node.layer_name] = weighted
        return node

    def insert_after(
        self, after: LayerNode, name: str, operation: keras.Operation, source: int, output: int
    ) -> None:
        """Puts a call with one input and one output behind another."""
        node = LayerNode(name, name, operation, (source,), (output,), (ValueRef(source),), {})
        self.nodes.insert(self._index(after) + 1, node)

    def replace_call(self, node: LayerNode, inputs: tuple[int], outputs: tuple[int]) -> None:
        """Lets a call read and make other values, with no arguments but its input."""
        self.nodes[self._index(node)] = dataclasses.replace(
            node, inputs=inputs, outputs=outputs, args=(ValueRef(inputs[0]),), kwargs={}
        )

    def rewire(self, node: LayerNode, old: int, new: int) -> LayerNode:
        """Lets one call read `new` instead of `old`; returns it as it stands then."""
        changed = dataclasses.replace(
            node,
            inputs=tuple(new if id_ == old else id_ for id_ in node.inputs),
            args=_substituted(node.args, old, new),
            kwargs=_substituted(node.kwargs, old, new),
        )
        self.nodes[self._index(node)] = changed
        return changed

    def replace_operation(self, node: LayerNode, operation: keras.Operation) -> None:
        """Gives one call a new layer of its own."""
        name = node.layer_name if not self.is_shared(node) else self.free_name(node.layer_name)
        self.nodes[self._index(node)] = dataclasses.replace(
            node, operation=operation, layer_name=name
        )

    def bypass(self, node: LayerNode) -> None:
        """Removes a call with one input and one output; its readers read its input."""
        (source,), (output,) = node.inputs, node.outputs
        for reader in self.readers(output):
            self.rewire(reader, output, source)
        self._output_structure = _substituted(self._output_structure, output, source)
        self.gone[output] = source
        self.remove(node)

    def remove(self, node: LayerNode) -> None:
        """Removes a call whose outputs nobody reads."""
        del self.nodes[self._index(node)]

    def _index(self, node: LayerNode) -> int:
        return next(i for i, other in enumerate(self.nodes) if other.name == node.name)

    def graph(self) -> LayerGraph:
        """Returns the edited graph: changed layers are new ones, with their new weights."""
        made: dict[str, keras.Layer] = {}
        nodes = []
        for node in self.nodes:
            weighted = self.weighted.get(node.layer_name)
            if weighted is not None and weighted.changed:
                if node.layer_name not in made:
                    shape = self.values[node.inputs[0]].shape
                    made[node.layer_name] = build_weighted(node.layer_name, weighted, shape)
                node = dataclasses.replace(node, operation=made[node.layer_name])
            nodes.append(node)
        return dataclasses.replace(
            self._graph,
            nodes=tuple(nodes),
            values=tuple(self.values),
            outputs=self.outputs,
            output_structure=self._output_structure,
        )


_CLASSES: dict[Kind, type[keras.Layer]] = {
    Kind.CONV: layers.Conv2D,
    Kind.DEPTHWISE: layers.DepthwiseConv2D,
    Kind.DENSE: layers.Dense,
    Kind.TRANSPOSED: layers.Conv2DTranspose,
}


def read_weighted(operation: keras.Operation) -> Weighted | None:
    """Returns the weights of a stock convolution or dense layer, None for anything else."""
    kind = next((kind for kind, cls in _CLASSES.items() if type(operation) is cls), None)
    if kind is None or getattr(operation, "data_format", "channels_last") != "channels_last":
        return None
    bias = float64(operation.bias) if operation.use_bias else None
    kernel = float64(operation.kernel)
    if kind is Kind.DENSE:
        linear = Linear(kind, kernel, bias)
    else:
        linear = Linear(
            kind,
            kernel,
            bias,
            strides=tuple(operation.strides),
            padding=operation.padding,
            dilation=tuple(operation.dilation_rate),
            groups=getattr(operation, "groups", 1),
        )
    return Weighted(
        linear,
        operation.get_config(),
        is_linear=operation.activation in (None, keras.activations.linear),
        trainable=operation.trainable,
    )


def build_weighted(name: str, weighted: Weighted, input_shape: Rows) -> keras.Layer:
    """Returns a built Keras layer that holds the weights. Constraints are left out: they were set
    for other weights."""
    linear = weighted.linear
    config = {
        key: value
        for key, value in weighted.config.items()
        if not key.endswith("_constraint") and key not in ("build_config", "groups")
    }
    config.update(name=name, use_bias=linear.bias is not None)
    if linear.kind is Kind.DENSE:
        config["units"] = linear.out_channels
    elif linear.kind is not Kind.DEPTHWISE:
        config["filters"] = linear.out_channels
    if linear.kind is Kind.CONV:
        config["groups"] = linear.groups
    layer = _CLASSES[linear.kind].from_config(config)
    layer.build(tuple(input_shape))
    layer.kernel.assign(linear.kernel)
    if linear.bias is not None:
        layer.bias.assign(linear.bias)
    layer.trainable = weighted.trainable
    return layer


def pointwise(
    matrix: np.ndarray, *, rank: int, dtype: Any, trainable: bool, bias: np.ndarray | None = None
) -> Weighted:
    """Returns channels' map `x · matrix + bias` as a 1×1 convolution, or a dense layer on tensors
    that are no maps."""
    if rank == 4:
        linear = Linear(Kind.CONV, matrix[None, None], bias)
        config = layers.Conv2D(matrix.shape[1], 1, dtype=dtype).get_config()
    else:
        linear = Linear(Kind.DENSE, matrix, bias)
        config = layers.Dense(matrix.shape[1], dtype=dtype).get_config()
    return Weighted(linear, config, is_linear=True, trainable=trainable, changed=True)


def scaling(scale: np.ndarray, shift: np.ndarray, *, dtype: Any, trainable: bool) -> Weighted:
    """Returns scale · x + shift, channel by channel, as a depthwise 1×1 convolution."""
    linear = Linear(Kind.DEPTHWISE, scale[None, None, :, None], shift)
    config = layers.DepthwiseConv2D(1, dtype=dtype).get_config()
    return Weighted(linear, config, is_linear=True, trainable=trainable, changed=True)


def float64(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)


def _substituted(structure: Any, old: int, new: int) -> Any:
    def swap(leaf: Any) -> Any:
        return ValueRef(new) if isinstance(leaf, ValueRef) and leaf.id == old else leaf

    return keras.tree.map_structure(swap, structure)
