"""A Keras 3 graph of stock layers rebuilt in tf_keras, call by call.

Neither configurations, JSON nor .h5 files get a model across, and tf_keras' own `clone_model`
returns Keras 3 models, so each layer is made anew from the options that both versions have.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras

from keras_fmc.errors import UnsupportedModelError
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.model.layer_graph import LayerGraph, LayerNode
from keras_fmc.qat.device_form import ends_in_activation

_LEFT_OUT = ("name", "trainable", "dtype", "build_config", "quantization_config")
_LEFT_OUT_ENDINGS = ("_initializer", "_regularizer", "_constraint")
_RAW = {
    "add": "Add",
    "concatenate": "Concatenate",
    "maximum": "Maximum",
    "minimum": "Minimum",
    "multiply": "Multiply",
    "relu": "ReLU",
    "softmax": "Softmax",
    "subtract": "Subtract",
}
"""Operations of keras.ops, as in `x + y`, and the layer that does the same."""


def to_tf_keras(graph: LayerGraph, tf_keras: Any) -> Any:
    """Returns the tf_keras model of `graph`, with its weights; rounding layers are left out.

    Layers keep their names (`LayerNode.layer_name`).

    Args:
        graph: from `keras_fmc.qat.device_form.device_form`.
        tf_keras: the module.

    Raises:
        UnsupportedModelError: a layer or option that tf_keras does not have; names it.
    """
    tensors: dict[int, Any] = {}
    for value in graph.inputs:
        spec = graph.values[value]
        tensors[value] = tf_keras.Input(tuple(spec.shape[1:]), name=spec.name, dtype=spec.dtype)
    made: dict[str, Any] = {}
    for node in graph.nodes:
        inputs = [tensors[value] for value in node.inputs]
        if isinstance(node.operation, FakeQuant):
            tensors[node.outputs[0]] = inputs[0]
            continue
        first = node.layer_name not in made
        if first:
            made[node.layer_name] = _layer(node, tf_keras)
        layer = made[node.layer_name]
        outputs = layer(inputs if len(inputs) > 1 else inputs[0])
        if first and isinstance(node.operation, keras.Layer):
            _copy_weights(node, layer)
        tensors[node.outputs[0]] = outputs
    structure = keras.tree.map_structure(lambda ref: tensors[ref.id], graph.output_structure)
    ends = [tensors[value] for value in graph.inputs]
    return tf_keras.Model(ends if len(ends) > 1 else ends[0], structure, name=graph.name)


def _layer(node: LayerNode, tf_keras: Any) -> Any:
    source = node.operation
    if not isinstance(source, keras.Layer):
        name = _RAW.get(type(source).__name__.lower())
        if name is None:
            raise _unknown(node, f"operation {type(source).__name__}")
        return getattr(tf_keras.layers, name)(name=node.layer_name)
    cls = getattr(tf_keras.layers, type(source).__name__, None)
    if cls is None:
        raise _unknown(node, f"layer {type(source).__name__}")
    accepted = {
        name
        for base in cls.__mro__
        if base.__module__.startswith("tf_keras") and "__init__" in base.__dict__
        for name in inspect.signature(base.__init__).parameters
    }
    defaults = _defaults(type(source))
    options: dict[str, Any] = {"name": node.layer_name, "trainable": source.trainable}
    for key, value in source.get_config().items():
        if key in _LEFT_OUT or key.endswith(_LEFT_OUT_ENDINGS):
            continue
        if key in accepted:
            options[key] = value
        elif value is not None and value != defaults.get(key, None):
            raise _unknown(node, f"option {key}={value!r} of {type(source).__name__}")
    if ends_in_activation(node):
        options["activation"] = "linear"
    for key in ("max_value", "negative_slope", "threshold"):
        if options.get(key) is not None:
            options[key] = float(options[key])
    return cls(**options)


def _defaults(cls: type) -> dict[str, Any]:
    return {
        name: parameter.default
        for base in reversed(cls.__mro__)
        if "__init__" in base.__dict__
        for name, parameter in inspect.signature(base.__init__).parameters.items()  # type: ignore[misc]
    }


def _copy_weights(node: LayerNode, target: Any) -> None:
    values = [keras.ops.convert_to_numpy(weight) for weight in node.operation.weights]
    if len(values) != len(target.weights):
        raise _unknown(node, f"{len(values)} weights, {len(target.weights)} in tf_keras, of layer")
    target.set_weights(values)


def _unknown(node: LayerNode, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{node.name!r}: tf_keras has no {what}", remedy="Use the backend 'native'"
    )
