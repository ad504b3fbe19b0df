"""Bits of weights, layer by layer: the grid, the int8 file, and the device level for level."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras_fmc as fmc
from deploy import flatbuffer
from deploy.convert import to_int8_tflite
from deploy.predict import predict
from keras_fmc.errors import BadInputError

BITS = {"first": 4, "d*": 3, "u*": 5, "dense": 2}


def model() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", name="depth")(x)
    x = layers.Conv2DTranspose(5, 2, strides=2, name="up")(x)
    x = layers.Conv2D(4, 3, activation="relu", name="plain")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(7, name="dense")(x))


def samples() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(48, 8, 8, 3)).astype(np.float32)


def built(**options: Any) -> keras.Model:
    keras.utils.set_random_seed(2)
    source = model()
    rng = np.random.default_rng(1)
    for weight in source.weights:
        if weight.name == "bias":
            weight.assign(rng.normal(size=weight.shape) * 0.1)
    return fmc.quantize(source, calibration=samples(), **options)


def test_codes_of_the_file_have_so_many_bits_and_the_device_is_equal() -> None:
    x = samples()
    qat = built(weight_bits=BITS)
    qat.compile("adam", "mse", jit_compile=False)
    qat.fit(x, np.zeros((48, 7), np.float32), verbose=0)
    content = to_int8_tflite(qat)
    graph = flatbuffer.read(content)
    kinds = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"}
    largest = [
        int(np.abs(graph.tensors[operator.inputs[1]].array().astype(int)).max())
        for operator in graph.operators
        if operator.opcode in kinds
    ]
    # The last pattern that fits counts: "d*" fits "depth" and "dense". "up" keeps 8.
    assert largest == [2**3 - 1, 2**2 - 1, 127, 127, 2**1 - 1]
    rounded = fmc.device_rounding(qat)
    source, target = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    (scale,), (zero,) = source.quantization.scales, source.quantization.zero_points
    codes = np.clip(np.floor(x / scale + 0.5) + zero, -128, 127)
    on_grid = (scale * (codes - zero)).astype(np.float32)
    mine, theirs = rounded.predict(on_grid, verbose=0), predict(content, on_grid, progress=False)
    assert np.array_equal(*(np.rint(y / target.quantization.scales[0]) for y in (mine, theirs)))


def test_the_largest_weight_has_the_largest_code() -> None:
    layer = built(weight_bits=4).get_layer("first")
    kernel = np.asarray(layer.kernel)
    scale = np.abs(kernel).max(axis=(0, 1, 2)) / 7
    rounded = np.asarray(layer._rounded_kernel())
    np.testing.assert_allclose(rounded, scale * np.rint(kernel / scale), rtol=1e-4, atol=1e-6)


def test_bits_are_saved(tmp_path: Any) -> None:
    qat = built(weight_bits={"plain": 3})
    qat.save(tmp_path / "m.keras")
    loaded = fmc.load_model(tmp_path / "m.keras")
    assert [loaded.get_layer(name).weight_bits for name in ("first", "plain")] == [8, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": 9}, "a whole number from 2 to 8"),
        ({"weight_bits": True}, "a whole number from 2 to 8"),
        ({"weight_bits": {"frist": 4}}, r"'frist', which no layer.*such as 'first'"),
        ({"weight_bits": {"global*": 4}}, r"no layer with weights"),
        ({"weight_bits": {"up": 4}}, "for the transposed convolution 'up'"),
        ({"weight_bits": 4, "backend": "tfmot"}, "weight_bits with the backend 'tfmot'"),
    ],
)
def test_what_is_wrong_is_named(options: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        built(**options)


if __name__ == "__main__":
    import sys

    sys.exit(pytest.main([__file__]))
