"""Codes that leave the converter lie on the levels that they were trained with."""

from __future__ import annotations

import dataclasses
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_fmc as fmc
from deploy import flatbuffer
from deploy.codes.expected import ExpectedCode, check_codes, expected_codes
from deploy.convert import to_int8_tflite
from deploy.graph import Activation, Graph, Operator
from keras_fmc.errors import UnsupportedModelError

KINDS = {
    "projection": {"kind": "projection", "bits": 4},
    "signs": {"kind": "projection", "bits": 1},
    "plain": {"kind": "plain", "bits": 2},
    "gf2": {"kind": "gf2", "bits": 4},
}


def _quantised(options: dict) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = layers.Input((12, 12, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    samples = np.random.default_rng(0).random((32, 12, 12, 3), np.float32)
    plan = fmc.choose_bottlenecks(
        model, ceiling=12 * 12 * 8, eligible=lambda item: item.shape[-1] == 16, **options
    )
    rewritten = fmc.insert_bottlenecks(model, plan, calibration=samples).model
    return fmc.quantize(rewritten, calibration=samples)


@pytest.fixture(scope="module", params=KINDS)
def converted(request: pytest.FixtureRequest) -> tuple[Graph, tuple[ExpectedCode, ...]]:
    model = _quantised(KINDS[request.param])
    return flatbuffer.read(to_int8_tflite(model)), expected_codes(model)


def test_every_code_is_expected_and_found(converted) -> None:
    graph, expected = converted
    assert len(expected) >= 1
    assert all(code.shape[:2] == (12, 12) for code in expected)
    check_codes(graph, expected)


def test_a_dropped_clip_is_noticed(converted) -> None:
    """Without fused activations and MINIMUMs nothing holds values to a few levels."""
    graph, expected = converted
    operators = tuple(_without_clip(operator) for operator in graph.operators)
    with pytest.raises(UnsupportedModelError, match=r"no map .* stays on the .* levels of layer"):
        check_codes(graph.replace(operators=operators), expected)


@pytest.mark.parametrize("change", [{"shape": (12, 12, 99)}, {"bits": 0}, {"scale": 123.0}])
def test_other_codes_than_trained_are_noticed(converted, change: dict) -> None:
    graph, expected = converted
    others = tuple(dataclasses.replace(code, **change) for code in expected)
    with pytest.raises(UnsupportedModelError, match="levels of layer"):
        check_codes(graph, others)


def _without_clip(operator: Operator) -> Operator:
    if operator.options is not None and operator.options.get("fused_activation_function"):
        options = operator.options.replace(fused_activation_function=int(Activation.NONE))
        return dataclasses.replace(operator, options=options)
    if operator.opcode in ("MINIMUM", "RELU"):
        return dataclasses.replace(operator, opcode="LOGISTIC")
    return operator


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
