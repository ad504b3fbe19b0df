"""What a model must be before it can be quantised or converted."""

from __future__ import annotations

import keras

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layers.code_quantizer import CodeQuantizer
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.layers.projection import ProjectionBottleneck
from keras_fmc.model.layer_graph import trace


def check_deployable(model: keras.Model) -> None:
    """Checks that inputs are float32 of fixed size and that layers compute in float32.

    Raises:
        BadInputError: it is not so, or `model` is no built Keras 3 model; names the input or layer.
        UnsupportedModelError: a subclassed model.
    """
    graph = trace(model)
    for value in (graph.values[id_] for id_ in graph.inputs):
        if value.dtype != "float32":
            raise BadInputError(
                f"input {value.name!r} of the model is no float32 tensor",
                expected="float32",
                received=value.dtype,
                remedy="Build the model with keras.Input(shape, dtype='float32') and feed it "
                "preprocessed samples; the int8 model takes int8",
            )
        if None in value.shape[1:]:
            raise BadInputError(
                f"input {value.name!r} of the model has no fixed size",
                expected="a fixed shape, for the arena is planned ahead",
                received=f"shape {value.shape}",
                remedy="Build the model with a fixed input, e.g. keras.Input((96, 96, 3))",
            )
    for node in graph.nodes:
        policy = getattr(node.operation, "dtype_policy", None)
        if policy is not None and policy.compute_dtype != "float32":
            raise BadInputError(
                f"layer {node.name!r} computes in {policy.compute_dtype}",
                expected="float32",
                received=f"policy {policy.name!r}",
                remedy="Rebuild the model under keras.config.set_dtype_policy('float32') and "
                "load its weights",
            )


def check_eight_bits(model: keras.Model) -> None:
    """Checks that all bottlenecks are projections of 8 bits or float codes and of stride 1.

    Raises:
        UnsupportedModelError: one is not; names it.
    """
    for node in trace(model).nodes:
        layer = node.operation
        if isinstance(layer, ProjectionBottleneck):
            fits = layer.strides == 1 and layer.bits in (8, None)
        else:
            fits = not isinstance(layer, (CodeQuantizer, GF2Bottleneck))
        if not fits:
            raise UnsupportedModelError(
                f"the QAT backend 'tfmot' knows no {type(layer).__name__} such as {node.name!r}",
                expected="projections of 8 bits and stride 1",
                remedy="Use the backend 'native'",
            )
