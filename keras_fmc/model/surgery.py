"""Building Keras 3 models from the graph of another.

`rebuild` replays the calls of a `LayerGraph` on fresh inputs; hooks replace layers, wrap calls and
wrap inputs. The source model is never changed.

    graph = trace(model)
    copy = rebuild(graph)                                    # same function, own weights
    probed = rebuild(graph, call=lambda node, layer, inputs: watch(node.replay(layer, inputs)))
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from typing import Any

import keras

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.model.layer_graph import (
    LayerGraph,
    LayerNode,
    ValueRef,
    ValueSpec,
    consumers,
    producers,
    trace,
)
from keras_fmc.model.named_outputs import named

__all__ = [
    "LayerGraph",
    "LayerNode",
    "ValueRef",
    "ValueSpec",
    "clone",
    "consumers",
    "copy_weights",
    "producers",
    "rebuild",
    "sublayers",
    "trace",
]

MakeLayer = Callable[[LayerNode], keras.Operation | None]
MakeCall = Callable[[LayerNode, Any, tuple[Any, ...]], Any]
WrapInput = Callable[[int, Any], Any]


def rebuild(
    graph: LayerGraph,
    *,
    call: MakeCall | None = None,
    layer: MakeLayer | None = None,
    wrap_input: WrapInput | None = None,
    name: str | None = None,
) -> keras.Model:
    """Returns a new functional model that replays `graph` on fresh inputs.

    Args:
        graph: what to build.
        call: `call(node, layer, inputs) -> outputs` takes the place of
            `node.replay(layer, inputs)`; it may add layers before and after. It must return as
            many tensors as the node has outputs.
        layer: `layer(node) -> layer` is asked once for each distinct layer, at its first call, and
            defaults to `clone`. An unbuilt layer gets the source layer's weights (`copy_weights`)
            and trainable flags once its call has built it; a built one keeps what it has. None
            removes the layer: its input becomes its output, unless `call` does otherwise.
        wrap_input: `wrap_input(value_id, tensor) -> tensor` for each graph input; its result
            takes the place of the input in all calls.
        name: of the new model; defaults to the graph's.

    Returns:
        A model with the structure of inputs and outputs of the source model, its layer names and
        the names of its outputs. It is not compiled, and of the source model's class where that is
        a functional model of the user's, so that its `train_step` stays.
    """
    layer = layer or clone
    call = call or _default_call
    inputs = {
        id_: keras.Input(
            batch_shape=graph.values[id_].shape,
            dtype=graph.values[id_].dtype,
            name=graph.values[id_].name,
        )
        for id_ in graph.inputs
    }
    tensors: dict[int, Any] = {
        id_: wrap_input(id_, tensor) if wrap_input else tensor for id_, tensor in inputs.items()
    }
    made: dict[int, Any] = {}
    for node in graph.nodes:
        source = node.operation
        if id(source) not in made:
            made[id(source)] = layer(node)
        target = made[id(source)]
        unbuilt = isinstance(target, keras.Layer) and not target.built
        outputs = keras.tree.flatten(call(node, target, tuple(tensors[i] for i in node.inputs)))
        if len(outputs) != len(node.outputs):
            raise BadInputError(
                f"rebuilding call {node.name!r}", f"{len(node.outputs)} outputs", len(outputs)
            )
        if unbuilt and target.built:
            copy_weights(source, target)
            _copy_trainable(source, target)
        tensors.update(zip(node.outputs, outputs, strict=True))
    return _make_model(
        graph,
        _fill(graph.input_structure, inputs),
        _fill(graph.output_structure, tensors),
        name=name or graph.name,
    )


def clone(node: LayerNode) -> keras.Operation:
    """Returns a new layer with the configuration of `node.operation`, named `node.layer_name`.

    It is not built, and has no weights yet, unless its class builds it when it is made.

    Raises:
        UnsupportedModelError: the layer cannot be made from its configuration.
    """
    source = node.operation
    if not isinstance(source, keras.Layer):
        # A raw operation has no weights: a copy with its own place in the graph is a clone.
        target = copy.copy(source)
        target.name = node.layer_name
        target._inbound_nodes, target._outbound_nodes = [], []
        return target
    if isinstance(source, keras.layers.Lambda):
        # Its configuration holds marshalled code that loses its module; the function itself is
        # at hand.
        return keras.layers.Lambda(
            source.function,
            output_shape=source._output_shape,
            mask=source.mask,
            arguments=source.arguments,
            name=node.layer_name,
            dtype=source.dtype_policy,
        )
    try:
        target = type(source).from_config({**source.get_config(), "name": node.layer_name})
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UnsupportedModelError(
            f"layer {node.name!r} ({type(source).__name__}) cannot be made anew from its "
            f"configuration: {next(iter(str(error).splitlines()), type(error).__name__)}",
            remedy="Give its class get_config() and from_config() that restore it",
        ) from error
    if target.built:
        copy_weights(source, target)
        _copy_trainable(source, target)
    return target


def copy_weights(source: keras.Layer, target: keras.Layer) -> None:
    """Copies the state of one built layer into another.

    Layers of one class hand it over by Keras' own means of saving, for it may be more than weights:
    an adapted `Normalization` works out mean and variance when it loads. Otherwise each weight of
    `source` goes to the weight of the same name in `target`, whose further weights keep their
    values.

    Raises:
        UnsupportedModelError: a weight has no counterpart of its name and shape, or a layer cannot
            load what it saved.
    """
    same = len(source.weights) == len(target.weights) and len(sublayers(source)) == len(
        sublayers(target)
    )
    if type(source) is type(target) and same:
        _load_saved(source, target)
        return
    by_name = {weight.name: weight for weight in target.weights}
    for weight in source.weights:
        counterpart = by_name.get(weight.name)
        if counterpart is None or tuple(counterpart.shape) != tuple(weight.shape):
            raise UnsupportedModelError(
                f"weight {weight.path!r} has no counterpart in layer {target.name!r}",
                tuple(weight.shape),
                None if counterpart is None else tuple(counterpart.shape),
            )
        counterpart.assign(weight)


def _load_saved(source: keras.Layer, target: keras.Layer) -> None:
    ours, theirs = ([layer, *sublayers(layer)] for layer in (source, target))
    try:
        for one, other in zip(ours, theirs, strict=True):
            store: dict[str, Any] = {}
            one.save_own_variables(store)
            other.load_own_variables(
                {key: keras.ops.convert_to_numpy(value) for key, value in store.items()}
            )
            if hasattr(one, "save_assets"):
                with tempfile.TemporaryDirectory() as folder:
                    one.save_assets(folder)
                    other.load_assets(folder)
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise UnsupportedModelError(
            f"layer {source.name!r} ({type(source).__name__}) cannot load the state that it saved: "
            f"{next(iter(str(error).splitlines()), type(error).__name__)}",
            remedy="Give its class get_config() and build() that make the same weights, or "
            "save_own_variables() and load_own_variables() that fit each other",
        ) from error


def sublayers(layer: keras.Layer, *, recursive: bool = True) -> list[keras.Layer]:
    """Returns the layers inside a layer or model, in the order in which it tracks them."""
    return list(layer._flatten_layers(include_self=False, recursive=recursive))


def _make_model(graph: LayerGraph, inputs: Any, outputs: Any, *, name: str) -> keras.Model:
    cls = graph.model_class or keras.Model
    model = cls(inputs=inputs, outputs=outputs, name=name)
    names = list(graph.output_names)
    if not names or names == list(model.output_names):
        return model
    return named(graph.model_class)(inputs=inputs, outputs=outputs, name=name, output_names=names)


def _default_call(node: LayerNode, layer: Any, inputs: tuple[Any, ...]) -> Any:
    if layer is None:
        return inputs[0]
    return node.replay(layer, inputs)


def _fill(structure: Any, tensors: dict[int, Any]) -> Any:
    return keras.tree.map_structure(lambda ref: tensors[ref.id], structure)


def _copy_trainable(source: keras.Layer, target: keras.Layer) -> None:
    """Makes `target` as trainable as `source`, sub-layers and single weights included."""
    target.trainable = source.trainable
    if type(source) is not type(target):
        return
    for ours, theirs in zip(sublayers(source), sublayers(target), strict=True):
        theirs.trainable = ours.trainable
    for ours, theirs in zip(source.weights, target.weights, strict=True):
        if theirs.trainable != ours.trainable:
            theirs.trainable = ours.trainable
