"""Quantisation-aware training by TensorFlow's Model Optimization Toolkit, on tf_keras.

    fold → take activations apart → rebuild on tf_keras → quantize_apply → set ranges from data

The toolkit knows tf_keras models only, and importing it sets TF_USE_LEGACY_KERAS for the whole
process, which turns `tf.keras` into tf_keras for whoever asks for it first. Here `tf.keras` is
resolved before the import and the variable put back after it, so nothing changes for others.

Other than the native backend, it gives a depthwise kernel one scale for all channels, knows no
common scale for the inputs of a concatenation, and cannot save its models as .keras (.h5 works,
within `tensorflow_model_optimization.quantization.keras.quantize_scope()`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import keras
import numpy as np

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.model.layer_graph import LayerGraph, consumers
from keras_fmc.qat.device_form import device_form, quantised_graph
from keras_fmc.qat.native import group_ranges
from keras_fmc.qat.placement import ScaleGroup, scale_groups
from keras_fmc.qat.tf_keras_bridge import to_tf_keras

_LEGACY = "TF_USE_LEGACY_KERAS"
_WEIGHTS = {
    "Conv2D": "kernel",
    "Conv2DTranspose": "kernel",
    "Dense": "kernel",
    "DepthwiseConv2D": "depthwise_kernel",
}


def quantize(model: keras.Model, arrays: tuple[np.ndarray, ...]) -> Any:
    """Returns the tf_keras QAT model of `model`; see `keras_fmc.qat.quantize`."""
    tf_keras, toolkit = load()
    graph = device_form(quantised_graph(model))
    groups = scale_groups(graph)
    ranges = group_ranges(graph, groups, arrays)
    config = _placed_config(toolkit)
    rounded = _rounded_layers(graph, groups)

    def annotate(layer: Any) -> Any:
        # The wrapper keeps the layer itself, weights and all.
        return toolkit.quantization.keras.quantize_annotate_layer(
            layer, config(_WEIGHTS.get(type(layer).__name__, ""), layer.name in rounded)
        )

    floating = to_tf_keras(graph, tf_keras)
    try:
        annotated = tf_keras.models.clone_model(floating, clone_function=annotate)
        with toolkit.quantization.keras.quantize_scope({config.__name__: config}):
            quantised = toolkit.quantization.keras.quantize_apply(annotated, _scheme())
    except (RuntimeError, ValueError, TypeError) as error:
        raise UnsupportedModelError(
            f"the Model Optimization Toolkit refuses the model: {str(error).splitlines()[0]}",
            remedy="Use the backend 'native'",
        ) from error
    by_value = {
        value: range_
        for group, range_ in zip(groups, ranges, strict=True)
        for value in group.values
    }
    by_layer = {node.layer_name: by_value.get(node.outputs[0]) for node in graph.nodes}
    by_layer.update((graph.values[value].name, by_value.get(value)) for value in graph.inputs)
    _set_ranges(quantised, by_layer)
    _freeze(quantised)
    return quantised


def load() -> tuple[ModuleType, ModuleType]:
    """Returns tf_keras and the toolkit, imported with no effect on Keras 3.

    Raises:
        BadInputError: they are not installed.
    """
    import tensorflow as tf

    with _kept(_LEGACY):
        str(tf.keras.__name__)
        try:
            import tensorflow_model_optimization as toolkit
            import tf_keras
        except ImportError as error:
            raise BadInputError(
                "the QAT backend 'tfmot' is not installed",
                expected="packages tensorflow-model-optimization and tf_keras",
                received=str(error),
                remedy="Install the extra, pip install 'keras_fmc[tfmot]', or use backend='native'",
            ) from error
    return tf_keras, toolkit


@contextlib.contextmanager
def _kept(name: str) -> Iterator[None]:
    """Gives an environment variable back its value afterwards."""
    value = os.environ.get(name)
    try:
        yield
    finally:
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _rounded_layers(graph: LayerGraph, groups: tuple[ScaleGroup, ...]) -> set[str]:
    """Names of the layers that round their output.

    The toolkit has no range that several layers share. Where all tensors of a group do nothing but
    enter one concatenation, that one rounds for them.
    """
    readers = consumers(graph)
    rounded = set()
    for group in groups:
        if group.fixed is not None:
            continue
        joint = [
            node
            for node in graph.nodes
            if isinstance(node.operation, keras.layers.Concatenate)
            and set(node.inputs) == set(group.sources)
            and all(len(readers[value]) == 1 for value in node.inputs)
        ]
        values = joint[0].outputs if joint else group.sources
        rounded |= {node.layer_name for node in graph.nodes if node.outputs[0] in values}
    return rounded


def _scheme() -> Any:
    """Returns the toolkit's 8-bit scheme without its own ideas of what is fused.

    Those take the rounding of weights away from a convolution before a ReLU.
    """
    from tensorflow_model_optimization.python.core.quantization.keras import (
        quantize_layout_transform,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_scheme,
        default_8bit_transforms,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.graph_transformations import (
        model_transformer,
    )

    class RoundInputs(quantize_layout_transform.QuantizeLayoutTransform):
        def apply(self, model: Any, layer_quantize_map: dict[str, Any]) -> Any:
            transforms = [default_8bit_transforms.InputLayerQuantize()]
            return model_transformer.ModelTransformer(
                model, transforms, set(layer_quantize_map), layer_quantize_map
            ).transform()

    class PlacedScheme(default_8bit_quantize_scheme.Default8BitQuantizeScheme):
        def get_layout_transformer(self) -> Any:
            return RoundInputs()

    return PlacedScheme()


def _placed_config(toolkit: ModuleType) -> Any:
    """Returns the QuantizeConfig class that rounds where it is told, with the toolkit's rounding
    of weights."""
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantizers,
    )

    api = toolkit.quantization.keras

    class PlacedQuantizeConfig(api.QuantizeConfig):  # type: ignore[name-defined]
        def __init__(self, weight: str, rounds_output: bool) -> None:
            self.weight = weight
            self.rounds_output = rounds_output

        def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
            if not self.weight:
                return []
            if type(layer).__name__ == "Conv2DTranspose":
                quantizer = default_8bit_quantizers.Default8BitConvTransposeWeightsQuantizer()
            elif type(layer).__name__ == "Dense":
                quantizer = api.quantizers.LastValueQuantizer(
                    num_bits=8, per_axis=False, symmetric=True, narrow_range=True
                )
            else:
                quantizer = default_8bit_quantizers.Default8BitConvWeightsQuantizer()
            return [(getattr(layer, self.weight), quantizer)]

        def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
            if self.weight:
                setattr(layer, self.weight, quantize_weights[0])

        def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
            return []

        def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
            pass

        def get_output_quantizers(self, layer: Any) -> list[Any]:
            if not self.rounds_output:
                return []
            return [
                api.quantizers.MovingAverageQuantizer(
                    num_bits=8, per_axis=False, symmetric=False, narrow_range=False
                )
            ]

        def get_config(self) -> dict[str, Any]:
            return {"weight": self.weight, "rounds_output": self.rounds_output}

    return PlacedQuantizeConfig


def _set_ranges(model: Any, by_layer: dict[str, tuple[float, float] | None]) -> None:
    """Sets all ranges of the toolkit's layers: of activations from data, of weights from them."""
    for layer in model.layers:
        variables = {weight.name.split("/")[-1].split(":")[0]: weight for weight in layer.weights}
        if type(layer).__name__ == "QuantizeLayer":
            # The toolkit's own, behind an input; it numbers its variables over the process.
            range_ = by_layer.get(layer.inbound_nodes[0].inbound_layers.name)
            prefix = next(name.removesuffix("_min") for name in variables if name.endswith("_min"))
        else:
            range_ = by_layer.get(getattr(layer, "layer", layer).name)
            prefix = "output"
        if range_ is not None and f"{prefix}_min" in variables:
            variables[f"{prefix}_min"].assign(range_[0])
            variables[f"{prefix}_max"].assign(range_[1])
        for weight in _WEIGHTS.values():
            if weight in variables and f"{weight}_max" in variables:
                largest = variables[f"{weight}_max"]
                axes = None if largest.shape.rank == 0 else (0, 1, 2)
                value = np.abs(variables[weight].numpy()).max(axis=axes)
                largest.assign(value)
                variables[f"{weight}_min"].assign(-value)


def _freeze(model: Any) -> None:
    """Takes the weights of frozen layers out of training, where the toolkit puts all of them."""
    for layer in model.layers:
        inner = getattr(layer, "layer", None)
        if inner is not None and not inner.trainable:
            layer._non_trainable_weights.extend(layer._trainable_weights)
            layer._trainable_weights = []
