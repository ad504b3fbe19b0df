"""Bottlenecks are for float models: what `keras_fmc.quantize` made is refused here, at once."""

from __future__ import annotations

from typing import Any

from keras_fmc.errors import BadInputError
from keras_fmc.model.layer_graph import LayerGraph
from keras_fmc.qat.checks import checked_graph
from keras_fmc.qat.weight_layers import FAKE_QUANT_LAYERS

_REMEDY = "Choose and insert bottlenecks into the float model first, then call quantize()"


def trace_float(model: Any, *, purpose: str) -> LayerGraph:
    """Returns the canonical form of a float model.

    Args:
        purpose: what the graph is for, for the message.

    Raises:
        BadInputError: the model is quantised already, or no Keras model with sizes.
        UnsupportedModelError: as `keras_fmc.check`.
    """
    if type(model).__module__.split(".")[0] == "tf_keras":
        raise BadInputError(
            f"{purpose}: model {model.name!r} is one of tf_keras, as quantize() makes them with "
            "the backend 'tfmot'",
            expected="a float model of Keras 3",
            received=f"tf_keras {type(model).__name__}",
            remedy=_REMEDY,
        )
    graph = checked_graph(model)
    for node in graph.nodes:
        if isinstance(node.operation, FAKE_QUANT_LAYERS):
            raise BadInputError(
                f"{purpose}: layer {node.name!r} of model {model.name!r} is quantised already",
                expected="a float model",
                received=type(node.operation).__name__,
                remedy=_REMEDY,
            )
    return graph
