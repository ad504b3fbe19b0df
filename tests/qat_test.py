"""Both QAT backends: the same interface, the same tests."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections import Counter
from typing import Any

import keras
import numpy as np
import pytest
import qat_models
from keras import layers

import keras_fmc as fmc
from deploy import flatbuffer
from deploy.convert import to_int8_tflite
from deploy.graph import Graph
from deploy.runtime import litert
from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.fold.fold import fold

HAS_TFMOT = all(map(importlib.util.find_spec, ("tensorflow_model_optimization", "tf_keras")))
BACKENDS = [
    "native",
    pytest.param(
        "tfmot",
        marks=pytest.mark.skipif(
            not HAS_TFMOT, reason="the extra [tfmot] is not installed; see tests/tfmot_test.py"
        ),
    ),
]

both_backends = pytest.mark.parametrize("backend", BACKENDS)
all_models = pytest.mark.parametrize("name", qat_models.MODELS)


@functools.cache
def quantised(name: str, backend: str) -> Any:
    """A trained model, quantised and trained for one more epoch."""
    x, y, _, _ = qat_models.digits()
    keras.utils.set_random_seed(5)
    qat = fmc.quantize(qat_models.trained(name), calibration=x[:300], backend=backend)
    return qat_models.fit(qat, x, y, epochs=1, rate=5e-4)


@functools.cache
def converted(name: str, backend: str) -> bytes:
    return to_int8_tflite(quantised(name, backend))


def run_int8(content: bytes, x: np.ndarray) -> np.ndarray:
    """Outputs of LiteRT's reference kernels, as real values."""
    graph = flatbuffer.read(content)
    source, target = (graph.tensors[ends[0]].quantization for ends in (graph.inputs, graph.outputs))
    codes = np.round(x / source.scales[0]) + source.zero_points[0]
    codes = np.clip(codes, -128, 127).astype(np.int8)
    outputs = litert.run(content, [[sample[None]] for sample in codes])
    real = np.concatenate([output[0] for output in outputs]).astype(np.float32)
    return (real - target.zero_points[0]) * target.scales[0]


def accuracy(probabilities: np.ndarray) -> float:
    return float((probabilities.argmax(-1) == qat_models.digits()[3]).mean())


@both_backends
@all_models
def test_starts_where_the_float_model_is(name: str, backend: str) -> None:
    x, _, x_test, _ = qat_models.digits()
    model = qat_models.trained(name)
    qat = fmc.quantize(model, calibration=x[:300], backend=backend)
    want = model.predict(x_test, verbose=0)
    got = qat.predict(x_test, verbose=0)
    assert accuracy(want) > 0.85
    assert accuracy(got) > accuracy(want) - 0.03
    assert np.abs(got - want).mean() < 0.02
    assert np.abs(got - want).max() > 0, "nothing is quantised"


@both_backends
@all_models
def test_training_goes_on(name: str, backend: str) -> None:
    x_test = qat_models.digits()[2]
    trained = accuracy(quantised(name, backend).predict(x_test, verbose=0))
    assert trained > accuracy(qat_models.trained(name).predict(x_test, verbose=0)) - 0.02


@both_backends
@all_models
def test_int8_model_agrees_with_the_qat_model(name: str, backend: str) -> None:
    """The oracle is LiteRT's reference kernels; the bar is 99% of equal decisions."""
    x_test = qat_models.digits()[2]
    want = quantised(name, backend).predict(x_test, verbose=0)
    got = run_int8(converted(name, backend), x_test)
    assert (got.argmax(-1) == want.argmax(-1)).mean() >= 0.99
    assert np.abs(got - want).mean() < 0.01


@both_backends
@all_models
def test_int8_model_is_int8_throughout(name: str, backend: str) -> None:
    graph = flatbuffer.read(converted(name, backend))
    opcodes = {operator.opcode for operator in graph.operators}
    assert not opcodes & {"QUANTIZE", "DEQUANTIZE"}
    for index in graph.activations():
        assert graph.tensors[index].dtype == "int8", graph.tensors[index].name
    for index in (*graph.inputs, *graph.outputs):
        assert graph.tensors[index].shape[0] == 1


@both_backends
def test_int8_operators_are_those_of_the_folded_model(backend: str) -> None:
    def opcodes(name: str) -> Counter[str]:
        graph = flatbuffer.read(converted(name, backend))
        return Counter(operator.opcode for operator in graph.operators)

    assert opcodes("small_cnn") == {
        "CONV_2D": 2,
        "MAX_POOL_2D": 1,
        "AVERAGE_POOL_2D": 1,
        "RESHAPE": 1,
        "FULLY_CONNECTED": 2,
        "SOFTMAX": 1,
    }
    assert opcodes("residual_bottlenecks") == {
        "CONV_2D": 2 + 1 + 5,  # P twice, R once for the addition, the model's own
        "ADD": 2,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
        "SOFTMAX": 1,
    }


def int8_weights(graph: Graph, opcode: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Codes and scales of the kernels of one kind of operator."""
    found = []
    for operator in graph.operators:
        if operator.opcode == opcode:
            tensor = graph.tensors[operator.inputs[1]]
            found.append((tensor.array().astype(np.int32), np.array(tensor.quantization.scales)))
    return found


def expected_weights(qat: Any, backend: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Codes and scales by the formula, codes = clip(round(w / scale), -127, 127), in the layout of
    TFLite. The native scale is max |w| / 127; the toolkit's is that of the last step before the
    weights' last change."""
    found = []
    for layer in qat.layers:
        weights = {weight.name.split("/")[-1].split(":")[0]: weight for weight in layer.weights}
        for name in {"kernel", "depthwise_kernel"} & weights.keys():
            kernel = np.array(weights[name], np.float64)
            depthwise = "Depthwise" in type(getattr(layer, "layer", layer)).__name__
            if backend == "tfmot":
                largest = np.array(weights[f"{name}_max"], np.float64)
            elif depthwise:
                largest = np.abs(kernel).max(axis=(0, 1))
            else:
                largest = np.abs(kernel).max(axis=None if kernel.ndim == 2 else (0, 1, 2))
            scale = np.broadcast_to(largest / 127, kernel.shape)
            codes = np.clip(kernel / scale, -127, 127)
            if depthwise:
                codes, scale = (part.reshape(1, *kernel.shape[:2], -1) for part in (codes, scale))
            elif kernel.ndim == 4:
                codes, scale = (part.transpose(3, 0, 1, 2) for part in (codes, scale))
            else:
                codes, scale = codes.T, scale.T
            found.append((codes, scale))
    return found


@both_backends
@all_models
def test_int8_weights_are_the_rounded_trained_ones(name: str, backend: str) -> None:
    graph = flatbuffer.read(converted(name, backend))
    expected = expected_weights(quantised(name, backend), backend)
    opcodes = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    got = [found for opcode in opcodes for found in int8_weights(graph, opcode)]
    assert len(got) == len(expected)
    for codes, scales in got:
        assert any(
            codes.shape == want.shape
            and np.abs(codes - want).max() <= 0.5 + 1e-3
            and np.allclose(np.unique(scales), np.unique(scale.astype(np.float32)), rtol=1e-5)
            for want, scale in expected
        ), codes.shape


@both_backends
def test_depthwise_kernels_have_a_scale_per_channel_in_the_native_backend(backend: str) -> None:
    graph = flatbuffer.read(converted("mobile", backend))
    for _, scales in int8_weights(graph, "DEPTHWISE_CONV_2D"):
        assert len(np.unique(scales)) == (1 if backend == "tfmot" else len(scales))


@both_backends
def test_frozen_layers_stay_frozen(backend: str) -> None:
    x, y, _, _ = qat_models.digits()
    model = fmc.freeze_base(qat_models.residual_bottlenecks())
    qat = fmc.quantize(model, calibration=x[:50], backend=backend)
    trainable = {weight.name.split(":")[0] for weight in qat.trainable_weights}
    assert len(qat.trainable_weights) > 0, trainable
    before = {id(weight): weight.numpy().copy() for weight in qat.non_trainable_weights}
    frozen = [weight for weight in qat.non_trainable_weights if len(weight.shape) == 4]
    assert frozen
    qat_models.fit(qat, x[:64], y[:64], epochs=1, rate=1e-2)
    for weight in frozen:
        np.testing.assert_array_equal(weight.numpy(), before[id(weight)])


@both_backends
def test_source_model_is_left_alone(backend: str) -> None:
    x = qat_models.digits()[0][:50]
    model = qat_models.residual_bottlenecks()
    before = model.get_weights()
    config = model.to_json()
    fmc.quantize(model, calibration=x, backend=backend)
    assert model.to_json() == config
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@both_backends
def test_bad_calibration(backend: str) -> None:
    model = qat_models.small_cnn()
    good = np.zeros((4, 16, 16, 1), np.float32)
    with pytest.raises(BadInputError, match=r"wrong shape; expected .*\(n, 16, 16, 1\)"):
        fmc.quantize(model, calibration=good[..., 0], backend=backend)
    with pytest.raises(BadInputError, match=r"wrong dtype; .*int32"):
        fmc.quantize(model, calibration=good.astype(np.int32), backend=backend)
    bad = good.copy()
    bad[2, 0, 0] = np.nan
    with pytest.raises(BadInputError, match=r"1 of 4 samples .* index 2"):
        fmc.quantize(model, calibration=bad, backend=backend)


@both_backends
def test_bad_models(backend: str) -> None:
    x = np.zeros((4, 8, 8, 1), np.float32)

    def quantize(inputs: keras.KerasTensor, *body: layers.Layer) -> None:
        tensor = inputs
        for layer in body:
            tensor = layer(tensor)
        fmc.quantize(keras.Model(inputs, tensor), calibration=x, backend=backend)

    with pytest.raises(BadInputError, match=r"no float32 tensor; .*received int32"):
        quantize(keras.Input((8, 8, 1), dtype="int32"), layers.Rescaling(2.0))
    with pytest.raises(BadInputError, match=r"no fixed size; .*\(None, None, None, 1\)"):
        quantize(keras.Input((None, None, 1)), layers.Conv2D(2, 3))
    with pytest.raises(BadInputError, match="computes in float16"):
        quantize(keras.Input((8, 8, 1)), layers.Conv2D(2, 3, dtype="mixed_float16"))
    with pytest.raises(UnsupportedModelError, match="layer 'rows'"):
        quantize(keras.Input((8,)), layers.Embedding(8, 4, name="rows"))


def test_unknown_backend() -> None:
    with pytest.raises(BadInputError, match="'native' or 'tfmot'; received 'torch'"):
        fmc.quantize(qat_models.small_cnn(), calibration=np.zeros((1, 16, 16, 1)), backend="torch")


@pytest.mark.skipif(HAS_TFMOT, reason="the extra is installed")
def test_missing_extra_names_the_remedy() -> None:
    with pytest.raises(BadInputError, match=r"not installed[\s\S]*keras_fmc\[tfmot\]"):
        fmc.quantize(
            qat_models.small_cnn(),
            calibration=np.zeros((1, 16, 16, 1), np.float32),
            backend="tfmot",
        )


@pytest.mark.skipif(not HAS_TFMOT, reason="the extra [tfmot] is not installed")
def test_the_toolkit_leaves_keras_3_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    import tensorflow as tf

    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    quantised("small_cnn", "tfmot")
    assert "TF_USE_LEGACY_KERAS" not in os.environ
    assert tf.keras.Model is keras.Model


def test_folding_is_part_of_quantising() -> None:
    folded = fold(qat_models.trained("residual_bottlenecks")).model
    qat = quantised("residual_bottlenecks", "native")
    want = {layer.name: layer.kernel.shape for layer in folded.layers if "conv" in layer.name}
    assert len(want) == 5
    assert {name: qat.get_layer(name).kernel.shape for name in want} == want
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in qat.layers)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
