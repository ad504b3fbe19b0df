"""Lambda, custom, recurrent and TimeDistributed layers, taken apart into the layers and operations
that they call.

Keras runs a layer on symbolic tensors as it runs a model: what `call` does with `keras.ops`, with
operators and with other layers leaves a graph. That graph takes the layer's place. Layers inside
stay the same objects, so a layer that is called twice stays shared. A weight of the layer's own may
scale, shift or join maps; what is computed of weights alone does so in their place
(`of_weights`). Functions of TensorFlow that `tensorflow_functions` does not name are refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers
from keras.src.utils.naming import to_snake_case as auto_name

from keras_fmc.canonical import recurrent, tensorflow_functions
from keras_fmc.canonical.composed import composed
from keras_fmc.canonical.editor import Editor
from keras_fmc.canonical.of_weights import check_each_sample, unseen_weights, with_variables
from keras_fmc.canonical.stand_ins import REMEDIES, STAND_INS
from keras_fmc.errors import FmcError
from keras_fmc.model.custom_layers import (
    Form,
    Registered,
    at_inference,
    contradiction,
    difference,
    random_samples,
    registered,
)
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, ValueRef, producers, trace
from keras_fmc.model.operations import is_activation

_DEPTH = 8
"""Layers inside layers inside …; more is a layer that calls itself."""

_OfWeights = dict[int, dict[int, keras.Variable]]
"""id of a layer → the weights that stand for what it computes of its own, see `of_weights`."""

_UNFOLLOWED = (FmcError, TypeError, ValueError, AttributeError, NotImplementedError)
"""What a layer's call on symbolic tensors ends with where it can't be followed."""

_WRITE = (
    "Write it with keras.ops and stock layers, whose calls can be followed, or say what it does on "
    "the device: keras_fmc.register_layer"
)
_PLAIN = (
    "Use LSTM, GRU, SimpleRNN or Bidirectional on sequences of a fixed length, stateless and "
    "without masks, or Conv1D layers, dilated and causal for a long view"
)
_CROP = "Crop in the data pipeline, or write CenterCrop or Resizing in the model"
_UNROLLED = Registered(Form.EXPANDS, recurrent.unroll)
_MEND = "Return from expand(layer, *inputs) what the layer makes of the inputs"


def expand(editor: Editor, *, depth: int = 0) -> LayerGraph:
    """Replaces every call that can be followed; see above."""
    found = False
    expansions: dict[int, LayerGraph] = {}
    of_weights: _OfWeights = {}
    for node in editor.graph.nodes:
        if isinstance(node.operation, layers.RandomCrop) and _changes_shape(editor, node):
            what = "RandomCrop of another size has no int8 form here: it resizes at inference"
            editor.refuse(node, what, _CROP)
            continue
        entry = registered(node.operation)
        if entry is not None and entry.form is not Form.EXPANDS:
            _kept(editor, node)
            continue
        if isinstance(node.operation, recurrent.LAYERS):
            entry = _UNROLLED
        elif type(node.operation) in STAND_INS:
            entry = Registered(Form.EXPANDS, STAND_INS[type(node.operation)])
        elif not _is_opaque(node):
            inner = composed(editor.graph, node)
            if inner is None:
                editor.keep(node)
            else:
                found = True
                _splice(editor, node, inner)
            continue
        # Augmentation layers of Keras have it by default.
        own = isinstance(node.operation, layers.CenterCrop)
        if node.kwargs.get("training") and not own:
            editor.refuse(node, "it is called with training=True", "Call it without training=")
            continue
        try:
            if entry is None:
                inner = _followed(editor, node, of_weights)
            else:
                inner = _expanded(editor, node, entry, expansions)
                inner = _by_step(inner) if entry is _UNROLLED else inner
        except _UNFOLLOWED as error:
            line = next(iter(str(error).strip().splitlines()), type(error).__name__)
            kind = _kind(node)
            if entry is _UNROLLED:
                editor.refuse(node, f"{kind} cannot be unrolled: {line}", _PLAIN)
                continue
            if type(node.operation) in STAND_INS:
                remedy = REMEDIES.get(type(node.operation), _WRITE)
                editor.refuse(node, f"{kind} has no int8 form here: {line}", remedy)
                continue
            if entry is not None:
                what = f"the expansion of {kind} does something else: {line}"
                editor.refuse(node, what, _MEND)
                continue
            editor.refuse(node, f"{kind} cannot be followed on symbolic tensors: {line}", _WRITE)
            continue
        found = True
        _splice(editor, node, inner)
    graph = editor.done()
    if not found or depth >= _DEPTH:
        return graph
    again = Editor(graph)
    graph = expand(again, depth=depth + 1)
    editor.refusals += [item for item in again.refusals if item not in editor.refusals]
    return graph


def _changes_shape(editor: Editor, node: LayerNode) -> bool:
    shapes = {editor.graph.values[value].shape for value in (*node.inputs, *node.outputs)}
    return len(shapes) > 1


def _kept(editor: Editor, node: LayerNode) -> None:
    """Keeps a layer that is registered as elementwise or absent, if it is."""
    shapes = [editor.graph.values[id_].shape for id_ in node.inputs]
    if len(shapes) != 1 or None in shapes[0][1:]:
        wrong = f"it reads {len(shapes)} tensors" if len(shapes) != 1 else "its shape is not fixed"
    else:
        wrong = contradiction(node.operation, shapes[0])
    if wrong:
        entry = registered(node.operation)
        kind = "elementwise" if entry is not None and entry.form is Form.ELEMENTWISE else "absent"
        what = f"{_kind(node)} is registered as {kind}, which it is not: {wrong}"
        editor.refuse(node, what, "Register it with expand=, or write it with keras.ops")
        return
    editor.keep(node)


def _expanded(
    editor: Editor, node: LayerNode, entry: Registered, expansions: dict[int, LayerGraph]
) -> LayerGraph:
    """Returns the graph of a registered expansion, held against the layer on random samples.

    Further calls of the layer share the layers of the first one's.
    """
    operation = node.operation
    ids = dict.fromkeys(node.inputs)
    inputs = {id_: keras.Input(batch_shape=editor.graph.values[id_].shape) for id_ in ids}

    def called(function: Any, tensors: dict[int, Any]) -> Any:
        def fill(leaf: Any) -> Any:
            return tensors[leaf.id] if isinstance(leaf, ValueRef) else leaf

        args, kwargs = keras.tree.map_structure(fill, (node.args, node.kwargs))
        kwargs = {key: value for key, value in kwargs.items() if key != "training"}
        return function(*args, **kwargs)

    with _left_alone(operation):
        if id(operation) in expansions:
            made = _replayed(expansions[id(operation)], list(inputs.values()))
        else:
            assert entry.expand is not None
            made = called(functools.partial(entry.expand, operation), inputs)
        leaves = keras.tree.flatten(made)
        if not all(isinstance(leaf, keras.KerasTensor) for leaf in leaves):
            raise ValueError("it returns something else than tensors")
        model = keras.Model(list(inputs.values()), leaves)
        samples = {id_: random_samples(editor.graph.values[id_].shape) for id_ in ids}
        expected = called(functools.partial(at_inference, operation), samples)
        wrong = difference(model(list(samples.values()), training=False), expected)
        if wrong:
            raise ValueError(wrong)
        graph = trace(model)
        expansions.setdefault(id(operation), graph)
        return graph


def _replayed(graph: LayerGraph, inputs: list[Any]) -> list[Any]:
    """The same calls of the same layers on other inputs."""
    tensors = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        outputs = node.replay(node.operation, [tensors[value] for value in node.inputs])
        tensors.update(zip(node.outputs, keras.tree.flatten(outputs), strict=True))
    return [tensors[value] for value in graph.outputs]


def _is_opaque(node: LayerNode) -> bool:
    return is_own(node.operation) or isinstance(node.operation, layers.TimeDistributed)


def is_own(operation: keras.Operation) -> bool:
    """Whether an operation is a Lambda layer or one of a class that is not Keras' own."""
    if isinstance(operation, layers.Lambda):
        return True
    module = type(operation).__module__
    own = module.startswith(("keras.", "keras_fmc.")) and ".applications." not in module
    return isinstance(operation, keras.Layer) and not own


def _kind(node: LayerNode) -> str:
    if isinstance(node.operation, layers.Lambda):
        return f"the function {_called(node.operation.function)}of a Lambda layer"
    if isinstance(node.operation, layers.TimeDistributed):
        return "TimeDistributed"
    kind = type(node.operation).__name__
    return f"custom layer {kind}" if is_own(node.operation) else kind


def _called(function: Any) -> str:
    name = getattr(function, "__name__", "")
    return f"{name} " if name and name.isidentifier() else ""


def _followed(editor: Editor, node: LayerNode, of_weights: _OfWeights) -> LayerGraph:
    """Returns the graph that a call of the layer leaves, with an input for each tensor it reads.

    A layer that asks how many samples there are gets one, and is held against what it does to two.
    """
    try:
        return _followed_with(editor, node, None, of_weights)
    except _UNFOLLOWED:
        if isinstance(node.operation, layers.TimeDistributed):
            raise
        with contextlib.suppress(*_UNFOLLOWED):
            graph = _followed_with(editor, node, 1, of_weights)
            check_each_sample(graph, editor, node)
            return graph
        raise


def _followed_with(
    editor: Editor, node: LayerNode, batch: int | None, of_weights: _OfWeights
) -> LayerGraph:
    operation = node.operation
    ids = dict.fromkeys(node.inputs)
    shapes = {id_: (batch, *editor.graph.values[id_].shape[1:]) for id_ in ids}
    inputs = {id_: keras.Input(batch_shape=shape) for id_, shape in shapes.items()}

    def fill(leaf: Any) -> Any:
        return inputs[leaf.id] if isinstance(leaf, ValueRef) else leaf

    args, kwargs = keras.tree.map_structure(fill, (node.args, node.kwargs))
    with _left_alone(operation):
        if isinstance(operation, layers.Lambda):
            function = functools.partial(operation.function, **operation.arguments)
        elif isinstance(operation, layers.TimeDistributed):
            function = functools.partial(_step_by_step, operation.layer)
            kwargs = {}
        else:
            function = operation.call
            kwargs = {key: value for key, value in kwargs.items() if key != "training"}

        def follow() -> LayerGraph:
            with _operators_of_weights(), tensorflow_functions.followed():
                outputs = function(*args, **kwargs)
            leaves = keras.tree.flatten(outputs)
            if len(leaves) != len(node.outputs) or not all(
                isinstance(leaf, keras.KerasTensor) for leaf in leaves
            ):
                raise ValueError("it returns something else than tensors")
            return trace(keras.Model(list(inputs.values()), leaves))

        graph = follow()
        unseen = unseen_weights(operation, graph)
        if unseen:
            known = of_weights.setdefault(id(operation), {})
            graph = with_variables(graph, unseen, follow, known)
        return _by_step(graph) if isinstance(operation, layers.TimeDistributed) else graph


@contextlib.contextmanager
def _left_alone(operation: Any) -> Iterator[None]:
    """Forgets calls of the layers inside, which belong to the user's model."""
    inside = _layers_in(operation)
    counts = [(layer, len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in inside]
    try:
        yield
    finally:
        for layer, before, behind in counts:
            del layer._inbound_nodes[before:]
            del layer._outbound_nodes[behind:]


def _by_step(graph: LayerGraph) -> LayerGraph:
    """The same calls, each one's inputs right before it: one step is done before the next begins,
    as TensorFlow's converter orders them."""
    makers = producers(graph)
    ordered: dict[int, LayerNode] = {}

    # Long sequences are deeper than Python's stack.
    waiting = [*reversed(graph.outputs)]
    while waiting:
        index = makers.get(waiting[-1])
        if index is None or index in ordered:
            waiting.pop()
            continue
        before = [
            value
            for value in graph.nodes[index].inputs
            if value in makers and makers[value] not in ordered
        ]
        if before:
            waiting += reversed(before)
            continue
        ordered[index] = graph.nodes[index]
        waiting.pop()
    return dataclasses.replace(graph, nodes=tuple(ordered.values()))


_ANY_STEPS = (layers.Dense, layers.Dropout)
"""Layers that treat steps as they treat positions."""


def _step_by_step(layer: keras.Layer, x: Any) -> Any:
    """The layer on each step, its weights shared; of layers that take all steps at once, one."""
    if x.shape[1] is None:
        raise ValueError("of a sequence of no fixed length")
    if type(layer) in _ANY_STEPS or is_activation(layer):
        return layer(x)
    shape = tuple(x.shape[2:])
    # The device slices tensors of up to four axes.
    flat = keras.ops.reshape(x, (-1, x.shape[1], math.prod(shape))) if len(shape) > 2 else x
    steps = [flat[:, step] for step in range(x.shape[1])]
    if len(shape) > 2:
        steps = [keras.ops.reshape(step, (-1, *shape)) for step in steps]
    return keras.ops.stack([layer(step) for step in steps], axis=1)


_OPERATORS = {
    "__add__": keras.ops.add,
    "__mul__": keras.ops.multiply,
    "__sub__": keras.ops.subtract,
    "__matmul__": keras.ops.matmul,
}


@contextlib.contextmanager
def _operators_of_weights() -> Iterator[None]:
    """Lets `weight * x` work on a symbolic x, as `x * weight` does."""
    own = {name: vars(keras.Variable).get(name) for name in _OPERATORS}

    def symbolic(function: Any, usual: Any) -> Any:
        def operator(self: Any, other: Any) -> Any:
            return (function if isinstance(other, keras.KerasTensor) else usual)(self, other)

        return operator

    try:
        for name, function in _OPERATORS.items():
            setattr(keras.Variable, name, symbolic(function, getattr(keras.Variable, name)))
        yield
    finally:
        for name, before in own.items():
            if before is None:
                delattr(keras.Variable, name)
            else:
                setattr(keras.Variable, name, before)


def _layers_in(operation: Any) -> list[keras.Layer]:
    if not isinstance(operation, keras.Layer):
        return []
    return list(operation._flatten_layers(include_self=False, recursive=True))


def _plain_name(call: LayerNode) -> str:
    """The name of what an expansion makes, without the number that Keras counts up each time."""
    name = call.layer_name
    stem, _, number = name.rpartition("_")
    return stem if stem == auto_name(type(call.operation).__name__) and number.isdigit() else name


def _splice(editor: Editor, node: LayerNode, inner: LayerGraph) -> None:
    """Puts the calls of `inner` where `node` stood; the last one has its name."""
    now = dict(zip(inner.inputs, map(editor.at, dict.fromkeys(node.inputs)), strict=True))
    made_outputs = dict(zip(inner.outputs, node.outputs, strict=True))
    last = inner.nodes[-1] if inner.nodes else None
    inside = {id(layer) for layer in _layers_in(node.operation)}
    for call in inner.nodes:
        is_last = call is last and len(node.outputs) == 1
        part = call.layer_name if id(call.operation) in inside else _plain_name(call)
        wanted = node.layer_name if is_last else f"{node.layer_name}_{part}"
        layer_name = editor.layer_name(call.operation, wanted, exact=is_last)
        outputs = []
        for value in call.outputs:
            spec = inner.values[value]
            if value in made_outputs and value not in now:
                id_ = made_outputs[value]
                editor.values[id_] = dataclasses.replace(
                    spec, name=editor.graph.values[id_].name if is_last else spec.name
                )
            else:
                editor.values.append(spec)
                id_ = len(editor.values) - 1
            now[value] = id_
            outputs.append(id_)
        name = node.name if is_last else layer_name
        if any(other.name == name for other in editor.nodes):
            name = editor.free(name)
        for place, id_ in enumerate(outputs):
            label = f"{name}:{place}" if place else name
            editor.values[id_] = dataclasses.replace(editor.values[id_], name=label)
        args, kwargs = keras.tree.map_structure(
            lambda leaf: ValueRef(now[leaf.id]) if isinstance(leaf, ValueRef) else leaf,
            (call.args, call.kwargs),
        )
        editor.nodes.append(
            LayerNode(
                name,
                layer_name,
                call.operation,
                tuple(now[value] for value in call.inputs),
                tuple(outputs),
                args,
                kwargs,
            )
        )
    for value, id_ in zip(inner.outputs, node.outputs, strict=True):
        if now[value] != id_:
            editor.alias(id_, now[value])


def constant(argument: Any) -> np.ndarray | None:
    """Returns a number or an array among the arguments of an operation, None for anything else."""
    if isinstance(argument, (ValueRef, str, bytes, type(None))):
        return None
    try:
        return np.asarray(keras.ops.convert_to_numpy(argument), np.float64)
    except (TypeError, ValueError):
        return None
