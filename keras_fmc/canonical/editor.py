"""Writing a `LayerGraph` anew, call by call; the frame of every pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_fmc.model.layer_graph import LayerGraph, LayerNode, ValueRef, ValueSpec
from keras_fmc.names import layer_name

_PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a layer cannot come to the device.

    Attributes:
        layer: name of the call in the user's model.
        what: what it is, and what is wrong with it.
        remedy: what to write instead.
    """

    layer: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"layer {self.layer!r}: {self.what}. {self.remedy}"


@dataclass(slots=True)
class Editor:
    """A graph in the making.

    Attributes:
        graph: the source.
        values, nodes: what there is so far; ids of the source stay.
        moved: id of the source → id that its readers have to read.
        refusals: what cannot be rewritten.
    """

    graph: LayerGraph
    values: list[ValueSpec] = field(init=False)
    nodes: list[LayerNode] = field(default_factory=list)
    moved: dict[int, int] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    _taken: set[str] = field(init=False)
    _layers: dict[tuple[object, str], Any] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = list(self.graph.values)
        self._taken = {value.name for value in self.values}
        self._taken |= {node.layer_name for node in self.graph.nodes}
        self._names = {id(node.operation): node.layer_name for node in self.graph.nodes}

    def at(self, value: int) -> int:
        """Returns what stands for a value of the source by now."""
        return self.moved.get(value, value)

    def shape(self, value: int) -> tuple[int | None, ...]:
        """Returns the shape of a value of the new graph, batch first."""
        return self.values[value].shape

    def keep(self, node: LayerNode) -> None:
        """Copies a call; it reads what its inputs have become."""
        self.nodes.append(
            dataclasses.replace(
                node,
                inputs=tuple(self.at(value) for value in node.inputs),
                args=self._mapped(node.args),
                kwargs=self._mapped(node.kwargs),
            )
        )

    def alias(self, value: int, stands_for: int) -> None:
        """Lets the readers of `value`, of the source, read another value."""
        self.moved[value] = stands_for

    def refuse(self, node: LayerNode, what: str, remedy: str) -> None:
        """Leaves a call as it is, with the reason why it cannot come to the device."""
        self.refusals.append(Refusal(node.name, what, remedy))
        self.keep(node)

    def layer(self, node: LayerNode, part: str, make: Any) -> tuple[Any, str]:
        """Returns the new layer that stands for a part of a layer, and its name.

        Calls of a source layer with weights share it, and so do operations that do the same with
        the same weights. `part` "" is the last part, which has the name of the layer.
        """
        shared = isinstance(node.operation, keras.Layer) and bool(node.operation.weights)
        source = id(node.operation) if shared else self._with_weights(node) or node.name
        key = (source, part)
        if key not in self._layers:
            stem = node.layer_name if shared else node.name
            name = self.free(f"{stem}_{part}") if part else stem
            self._layers[key] = (make(name), name, node.operation)
        made, name, _ = self._layers[key]
        return made, name

    def _with_weights(self, node: LayerNode) -> tuple[object, ...]:
        """What an operation does with which weights; () if with none."""
        leaves = keras.tree.flatten((node.args, node.kwargs))
        if not any(isinstance(leaf, keras.Variable) for leaf in leaves):
            return ()
        read = (
            repr(leaf)
            if isinstance(leaf, _PLAIN)
            else None
            if isinstance(leaf, ValueRef)
            else id(leaf)
            for leaf in leaves
        )
        shapes = (self.shape(value) for value in (*node.inputs, *node.outputs))
        attributes = {k: str(v) for k, v in vars(node.operation).items() if not k.startswith("_")}
        attributes.pop("name", None)
        return type(node.operation).__name__, *read, *shapes, str(attributes)

    def layer_name(self, operation: Any, wanted: str, *, exact: bool = False) -> str:
        """Returns the one name of an operation, a free one if it is new; `exact` takes `wanted`."""
        if id(operation) not in self._names:
            self._names[id(operation)] = wanted if exact else self.free(wanted)
        return self._names[id(operation)]

    def call(
        self,
        layer: Any,
        layer_name: str,
        inputs: Sequence[int],
        *,
        name: str | None = None,
        output: int | None = None,
        shape: tuple[int | None, ...] | None = None,
    ) -> int:
        """Appends a call of a layer with one output; builds the layer if it has weights.

        Args:
            layer: that of a weight has to be built already, unless `shape` is given.
            layer_name: its name in the new graph.
            inputs: values of the new graph.
            name: of the call; by default a free one after the layer.
            output: the value of the source that it makes; a new one by default.
            shape: of the output, where the layer cannot say.
        """
        shapes = [self.values[value].shape for value in inputs]
        given = shapes[0] if len(shapes) == 1 else shapes
        if shape is None:
            shape = (None, *tuple(layer.compute_output_shape(given))[1:])
        called = {node.name for node in self.nodes}
        if name is None:
            name = layer_name if layer_name not in called else self.free(layer_name)
        if output is None:
            self.values.append(ValueSpec(name, shape, "float32"))
            output = len(self.values) - 1
        else:
            self.values[output] = ValueSpec(name, shape, self.values[output].dtype)
        references = [ValueRef(value) for value in inputs]
        args = (references[0],) if len(references) == 1 else (references,)
        self.nodes.append(LayerNode(name, layer_name, layer, tuple(inputs), (output,), args, {}))
        return output

    def part(self, node: LayerNode, part: str, make: Any, inputs: Sequence[int]) -> int:
        """Calls a part of a layer that is rewritten; see `layer`."""
        layer, name = self.layer(node, part, make)
        return self.call(layer, name, inputs)

    def last(
        self,
        node: LayerNode,
        make: Any,
        inputs: Sequence[int],
        *,
        output: int | None = None,
        shape: tuple[int | None, ...] | None = None,
    ) -> int:
        """Calls the last part, which has the name and the output of the call that it stands for."""
        layer, name = self.layer(node, "", make)
        output = node.outputs[0] if output is None else output
        return self.call(layer, name, inputs, name=node.name, output=output, shape=shape)

    def free(self, wanted: str) -> str:
        return layer_name(wanted, self._taken)

    def done(self) -> LayerGraph:
        """Returns the new graph."""
        return dataclasses.replace(
            self.graph,
            nodes=tuple(self.nodes),
            values=tuple(self.values),
            outputs=tuple(self.at(value) for value in self.graph.outputs),
            output_structure=self._mapped(self.graph.output_structure),
        )

    def _mapped(self, structure: Any) -> Any:
        def at(leaf: Any) -> Any:
            return ValueRef(self.at(leaf.id)) if isinstance(leaf, ValueRef) else leaf

        return keras.tree.map_structure(at, structure)
