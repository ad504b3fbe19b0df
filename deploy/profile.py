"""Feature maps of any model file: Keras models by their layers, the others by their operators."""

from __future__ import annotations

from pathlib import Path

from deploy import flatbuffer
from deploy.graph import Graph
from deploy.operators import OPERATORS
from deploy.passes.short_names import short_names
from keras_fmc.maps.feature_maps import Effect, FeatureMaps, MapOperator
from keras_fmc.model.loading import ModelFormat, model_format, saved_model_to_tflite

_INT8_KINDS = frozenset({"float16", "float32", "float64"})


def profile_file(path: str | Path) -> FeatureMaps:
    """Returns the feature maps of a .keras, .h5, SavedModel or .tflite file.

    Raises:
        BadInputError, UnsupportedModelError: the file cannot be read as a model.
    """
    kind = model_format(path)
    if kind is ModelFormat.TFLITE:
        return profile_graph(flatbuffer.read_file(path), name=str(path))
    if kind is ModelFormat.SAVED_MODEL:
        return profile_graph(flatbuffer.read(saved_model_to_tflite(path)), name=str(path))
    from keras_fmc.maps.feature_maps import profile

    return profile(path)


def profile_graph(graph: Graph, *, name: str) -> FeatureMaps:
    """Returns the feature maps of a TFLite graph; float maps count as the int8 they become."""
    names = short_names(graph)
    arena = set(graph.activations())
    values = [(names[i], graph.tensors[i].shape, _int8_bytes(graph, i)) for i in sorted(arena)]
    operators = [
        MapOperator(
            name=f"{operator.opcode} #{step}",
            kind=operator.opcode,
            inputs=tuple(names[i] for i in operator.present_inputs if i in arena),
            outputs=tuple(names[i] for i in operator.outputs),
            # A view of a constant is a map of its own.
            effect=_effect(operator.opcode) if arena & set(operator.inputs) else Effect.COMPUTE,
        )
        for step, operator in enumerate(graph.operators)
    ]
    return FeatureMaps.from_operators(
        name,
        values,
        operators,
        inputs=[names[i] for i in graph.inputs],
        outputs=[names[i] for i in graph.outputs],
    )


def _effect(opcode: str) -> Effect:
    row = OPERATORS.get(opcode)
    if row is None:
        # Models that cannot be planned are profiled all the same.
        return Effect.COMPUTE
    if row.same_bytes:
        return Effect.VIEW
    return Effect.ELEMENTWISE if row.in_place else Effect.COMPUTE


def _int8_bytes(graph: Graph, index: int) -> int:
    tensor = graph.tensors[index]
    return tensor.elements if tensor.dtype in _INT8_KINDS else tensor.size_bytes
