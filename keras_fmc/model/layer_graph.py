"""A Keras 3 model as a flat graph of calls.

`trace` reads a Sequential, functional or nested model: calls in execution order, joined by
numbered values. Together with `surgery`, which builds models from such graphs, this is the one
place that touches Keras' graph internals.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras.src.models.functional import functional_like_constructor

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layers.constant_map import ConstantMap
from keras_fmc.model.named_outputs import own_class
from keras_fmc.names import free_name


@dataclass(frozen=True, slots=True)
class ValueRef:
    """Stands for the value `id` in the argument templates of a call."""

    id: int


@dataclass(frozen=True, slots=True)
class ValueSpec:
    """A tensor that flows between calls.

    Attributes:
        name: name of the call that makes it (`"call:1"` for a second output), or of the input.
        shape: with the batch dimension as None.
        dtype: as Keras spells it, `"float32"`.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class LayerNode:
    """One call of a layer, or of a raw operation such as the addition in `x + y`.

    Attributes:
        name: unique among calls: the layer's name; further calls of a shared layer add `_1`, `_2`…
        layer_name: unique among layers, and the same for all calls of one layer. Layers of nested
            models carry the model's name before their own, joined by `_`.
        operation: the source model's `keras.Layer` or `keras.Operation`.
        inputs, outputs: value ids, in the order of the arguments; an input may occur twice.
        args, kwargs: what the operation was called with, `ValueRef` in place of tensors.
    """

    name: str
    layer_name: str
    operation: keras.Operation
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def replay(self, layer: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """Calls `layer` as the source operation was called, on `inputs` in the order of
        `self.inputs`."""
        tensors = iter(inputs)

        def fill(leaf: Any) -> Any:
            return next(tensors) if isinstance(leaf, ValueRef) else leaf

        args, kwargs = keras.tree.map_structure(fill, (self.args, self.kwargs))
        return layer(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class LayerGraph:
    """A model as calls in execution order.

    Attributes:
        name: of the model.
        nodes: every call; each one's inputs are made by earlier calls or are graph inputs.
        values: every tensor; a value's id is its index.
        inputs, outputs: value ids, in Keras' flat order. A value may be output twice.
        input_structure, output_structure: the same as the user nested them, with `ValueRef`.
        output_names: what `compile` and `fit` call the outputs.
        model_class: class of the model, where it is the user's and made as `keras.Model` is.
    """

    name: str
    nodes: tuple[LayerNode, ...]
    values: tuple[ValueSpec, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_structure: Any
    output_structure: Any
    output_names: tuple[str, ...] = ()
    model_class: type[keras.Model] | None = None

    def node(self, name: str) -> LayerNode:
        """Returns the call of that name.

        Raises:
            BadInputError: no such call.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise BadInputError("no such layer call", received=repr(name))


def trace(model: keras.Model) -> LayerGraph:
    """Returns the graph of `model`, nested models flattened.

    Calls stand in the order in which Keras executes them. Layers that are called several times,
    inside or across nested models, stay shared.

    Raises:
        BadInputError: not a Keras model, or a Sequential model with no input shape yet.
        UnsupportedModelError: a subclassed model, or one inside; names it.
    """
    if not isinstance(model, keras.Model):
        raise BadInputError("not a Keras model", "keras.Model", type(model).__name__)
    return _Tracer().trace(model)


def producers(graph: LayerGraph) -> dict[int, int]:
    """Returns value id → index of the node that makes it; graph inputs are left out."""
    return {id_: index for index, node in enumerate(graph.nodes) for id_ in node.outputs}


def consumers(graph: LayerGraph) -> dict[int, tuple[int, ...]]:
    """Returns value id → ascending indices of the nodes that read it, each node once.

    A constant map reads no values: its input says how many samples there are.
    """
    readers: dict[int, list[int]] = {id_: [] for id_ in range(len(graph.values))}
    for index, node in enumerate(graph.nodes):
        if isinstance(node.operation, ConstantMap):
            continue
        for id_ in sorted(set(node.inputs)):
            readers[id_].append(index)
    return {id_: tuple(indices) for id_, indices in readers.items()}


class _Tracer:
    """Gathers calls and values over a model and the models inside it."""

    def __init__(self) -> None:
        self._values: list[ValueSpec] = []
        self._calls: list[tuple[keras.Operation, str, Any, tuple[int, ...]]] = []

    def trace(self, model: keras.Model) -> LayerGraph:
        functional = _functional(model, model.name)
        names: set[str] = set()
        ids = {}
        for tensor in functional.inputs:
            name = free_name(tensor._keras_history.operation.name, names)
            ids[id(tensor)] = self._new_value(name, tensor)
        inputs = tuple(ids[id(tensor)] for tensor in functional.inputs)
        outputs = self._walk(functional, inputs, "", {})
        nodes = self._named_nodes(names)
        return LayerGraph(
            name=model.name,
            nodes=nodes,
            values=tuple(self._named_values(nodes)),
            inputs=inputs,
            outputs=outputs,
            input_structure=_packed(functional._inputs_struct, inputs),
            output_structure=_packed(functional._outputs_struct, outputs),
            output_names=tuple(getattr(model, "output_names", functional.output_names)),
            model_class=_own_class(model),
        )

    def _walk(
        self, functional: Any, inputs: tuple[int, ...], prefix: str, context: dict[str, Any]
    ) -> tuple[int, ...]:
        """Records the calls of one model applied to the values `inputs`; returns its outputs.

        `context` holds call arguments (`training`) that an enclosing call passes to all layers.
        """
        ids = {id(tensor): id_ for tensor, id_ in zip(functional.inputs, inputs, strict=True)}
        for depth in sorted(functional._nodes_by_depth, reverse=True):
            for node in functional._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                operation = node.operation
                accepted = getattr(operation, "_call_context_args", ())
                kwargs = {
                    **_without_empty_mask(node.arguments.kwargs),
                    **{key: value for key, value in context.items() if key in accepted},
                }
                args, kwargs = keras.tree.map_structure(
                    functools.partial(_reference, ids), (node.arguments.args, kwargs)
                )
                path = f"{prefix}{operation.name}"
                if isinstance(operation, keras.Model):
                    outputs = self._walk_nested(operation, path, args, kwargs)
                else:
                    outputs = self._record(node, path, args, kwargs)
                ids.update(
                    (id(tensor), id_) for tensor, id_ in zip(node.outputs, outputs, strict=True)
                )
        return tuple(ids[id(tensor)] for tensor in functional.outputs)

    def _walk_nested(
        self, model: keras.Model, path: str, args: Any, kwargs: Any
    ) -> tuple[int, ...]:
        functional = _functional(model, path)
        passed = {key: value for key, value in kwargs.items() if value is not None}
        given = args[0] if args else passed.pop("inputs", None)
        if isinstance(given, dict) and not isinstance(functional._inputs_struct, dict):
            given = [given[tensor._keras_history.operation.name] for tensor in functional.inputs]
        references = _references(given)
        unknown = sorted(set(passed) - {"training"})
        if unknown or len(args) > 1 or len(references) != len(functional.inputs):
            raise UnsupportedModelError(
                f"nested model {path!r} is called with arguments that cannot be followed",
                "its inputs, and optionally training=",
                unknown or f"{len(references)} inputs for {len(functional.inputs)}",
                "Call it on its input tensors alone",
            )
        inner = tuple(reference.id for reference in references)
        return self._walk(functional, inner, f"{path}_", passed)

    def _record(self, node: Any, path: str, args: Any, kwargs: Any) -> tuple[int, ...]:
        references = _references((args, kwargs))
        specs = node.outputs
        if any(
            tuple(tensor.shape[1:]) != self._values[reference.id].shape[1:]
            for tensor, reference in zip(node.input_tensors, references, strict=True)
        ):
            specs = self._infer(node.operation, args, kwargs)
        outputs = tuple(self._new_value("", spec) for spec in specs)
        self._calls.append((node.operation, path, (args, kwargs), outputs))
        return outputs

    def _infer(self, operation: keras.Operation, args: Any, kwargs: Any) -> list[Any]:
        """Output specs where a nested model is applied to shapes other than its own inputs'."""

        def symbolic(leaf: Any) -> Any:
            if not isinstance(leaf, ValueRef):
                return leaf
            value = self._values[leaf.id]
            return keras.KerasTensor(value.shape, dtype=value.dtype)

        args, kwargs = keras.tree.map_structure(symbolic, (args, kwargs))
        return keras.tree.flatten(operation.compute_output_spec(*args, **kwargs))

    def _new_value(self, name: str, tensor: Any) -> int:
        shape = (None, *tensor.shape[1:]) if len(tensor.shape) else ()
        self._values.append(ValueSpec(name, shape, keras.backend.standardize_dtype(tensor.dtype)))
        return len(self._values) - 1

    def _named_nodes(self, taken: set[str]) -> tuple[LayerNode, ...]:
        """Names layers first, so that the name of a second call never steals a layer's name."""
        layer_names: dict[int, str] = {}
        for operation, path, _, _ in self._calls:
            if id(operation) not in layer_names:
                layer_names[id(operation)] = free_name(path, taken)
        called: set[int] = set()
        nodes = []
        for operation, _, (args, kwargs), outputs in self._calls:
            layer_name = name = layer_names[id(operation)]
            if id(operation) in called:
                name = free_name(layer_name, taken)
            called.add(id(operation))
            inputs = tuple(reference.id for reference in _references((args, kwargs)))
            nodes.append(LayerNode(name, layer_name, operation, inputs, outputs, args, kwargs))
        return tuple(nodes)

    def _named_values(self, nodes: Iterable[LayerNode]) -> list[ValueSpec]:
        values = list(self._values)
        for node in nodes:
            for place, id_ in enumerate(node.outputs):
                name = f"{node.name}:{place}" if place else node.name
                values[id_] = ValueSpec(name, values[id_].shape, values[id_].dtype)
        return values


def _functional(model: keras.Model, path: str) -> Any:
    """Returns the functional graph behind a Sequential or functional model."""
    if not type(model).call.__module__.startswith("keras."):
        raise UnsupportedModelError(
            f"model {path!r} is a subclassed model ({type(model).__name__}) whose layers cannot "
            "be seen",
            remedy="Rebuild it with the functional API: keras.Model(inputs, outputs)",
        )
    if isinstance(model, keras.Sequential):
        if model._functional is None:
            raise BadInputError(
                f"Sequential model {path!r} has no input shape yet",
                remedy="Start it with keras.Input(shape), or call model.build((None, ...))",
            )
        return model._functional
    if not isinstance(model, keras.Function):
        raise UnsupportedModelError(
            f"model {path!r} ({type(model).__name__}) is neither Sequential nor functional",
            remedy="Rebuild it with the functional API: keras.Model(inputs, outputs)",
        )
    return model


def _own_class(model: keras.Model) -> type[keras.Model] | None:
    """Returns the class of a functional model if it is the user's, to build others of its kind."""
    cls = own_class(model)
    own = not cls.__module__.startswith(("keras.", "keras_fmc."))
    return cls if own and functional_like_constructor(cls) else None


def _without_empty_mask(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Drops the `mask=None` that Keras adds to every recorded call of a layer."""
    return {key: value for key, value in kwargs.items() if key != "mask" or value is not None}


def _reference(ids: dict[int, int], leaf: Any) -> Any:
    return ValueRef(ids[id(leaf)]) if isinstance(leaf, keras.KerasTensor) else leaf


def _references(structure: Any) -> list[ValueRef]:
    return [leaf for leaf in keras.tree.flatten(structure) if isinstance(leaf, ValueRef)]


def _packed(structure: Any, ids: Sequence[int]) -> Any:
    return keras.tree.pack_sequence_as(structure, [ValueRef(id_) for id_ in ids])
