"""What-if graphs: operators, shapes and codes as conversion of the rewritten model makes them."""

from __future__ import annotations

import os
import sys

import fit_models
import keras
import numpy as np
import pytest

from deploy import flatbuffer
from deploy.codes.levels import find_code_maps
from deploy.convert import to_int8_tflite
from deploy.fit.estimate import Question, estimate
from deploy.fit.what_if import can_be_plain, with_codes
from deploy.graph import Graph
from deploy.passes.reference_versions import with_reference_versions
from deploy.settings import PlanSettings
from keras_fmc import BottleneckKind, BottleneckSpec, CompressionPlan, insert_bottlenecks

PLAIN, PROJECTION = BottleneckKind.PLAIN, BottleneckKind.PROJECTION
SKIPS = {"heads": (16, 16, 16), "unet": (24, 24, 8)}
"""Model → the shape of the map that its first layers make and that waits."""


def converted(model: keras.Model, x: list[np.ndarray]) -> Graph:
    return with_reference_versions(flatbuffer.read(to_int8_tflite(model, calibration=x)))


def outline(graph: Graph) -> list[tuple[object, ...]]:
    """Operators with the shapes that they write and read, and their activations."""
    tensors = graph.tensors
    return sorted(
        (
            operator.opcode,
            tuple(tensors[index].shape for index in operator.outputs),
            tuple(tensors[index].shape for index in operator.present_inputs),
            operator.option("fused_activation_function") or 0,
        )
        for operator in graph.operators
    )


def codes(graph: Graph) -> list[tuple[object, ...]]:
    return sorted((graph.tensors[m.tensor].shape, m.bits) for m in find_code_maps(graph))


def c_bytes(graph: Graph) -> int:
    settings = PlanSettings(runtime="c", effort="quick")
    return estimate(Question(graph, settings, 0, True, os.getpid())).arena_bytes


@pytest.fixture(scope="module", params=list(SKIPS))
def case(request):
    keras.utils.set_random_seed(0)
    model = fit_models.MODELS[request.param][0]()
    x = fit_models.samples(model, 4)
    graph = converted(model, x)
    shape = SKIPS[request.param]
    index = next(
        operator.outputs[0]
        for operator in graph.operators
        if graph.tensors[operator.outputs[0]].shape == (1, *shape)
    )
    layer = next(layer for layer in model.layers[1:] if isinstance(layer, keras.layers.Activation))
    assert tuple(layer.output.shape[1:]) == shape
    return model, x, graph, index, layer.name, shape


@pytest.mark.parametrize(
    ("kind", "bits", "share"),
    [
        (PROJECTION, 8, 2),
        (PROJECTION, 4, 1),
        (PROJECTION, 2, 2),
        (PROJECTION, 1, 1),
        (PLAIN, 4, 1),
        (PLAIN, 1, 1),
    ],
)
def test_a_what_if_graph_is_what_conversion_makes(case, kind, bits, share):
    model, x, graph, index, name, shape = case
    if kind is PLAIN and not can_be_plain(graph, index):
        pytest.skip("its scale is shared with other maps")
    spec = BottleneckSpec(name, shape, shape[-1] // share, bits, kind)
    plan = CompressionPlan(model.name, spec.code_bytes, (spec,), (), 0, 0)
    real = converted(insert_bottlenecks(model, plan, calibration=x).model, x)
    assumed = with_codes(graph, {index: spec}).graph
    assert outline(assumed) == outline(real)
    assert codes(assumed) == codes(real)
    if bits < 8:
        assert any(width == bits for _, width in codes(assumed))
    assert c_bytes(assumed) == c_bytes(real)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
