"""Models that are switched to the device's rounding: the same int8 values, the same conversion."""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from kernel_arithmetic import kernel_levels, scaled

import keras_fmc as fmc
from deploy import flatbuffer
from deploy.convert import convert_path, to_int8_tflite
from deploy.graph import Graph
from deploy.runtime import tflm
from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec, CompressionPlan
from keras_fmc.errors import BadInputError
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.model.layer_graph import trace
from keras_fmc.qat.kernel_rounding import DeviceAverage, DeviceRequantize, requantized_mean
from keras_fmc.qat.weight_layers import FAKE_QUANT_LAYERS

SHAPE = (12, 12, 3)
CODED = ("stem", "sum", "up")


def network() -> keras.Model:
    """All that rounds as the device, and an addition."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.Conv2D(8, 1, name="linear")(layers.ReLU(6.0)(y))
    x = layers.Add(name="sum")([x, y])
    x = layers.AveragePooling2D(2, name="mean")(x)
    x = layers.Conv2DTranspose(6, 2, strides=2, name="up")(x)
    x = layers.ReLU()(layers.AveragePooling2D(3, padding="same", name="padded")(x))
    y = layers.Conv2D(8, 3, padding="same", name="left")(x)
    x = layers.Multiply(name="product")([y, layers.Conv2D(8, 1, name="right")(x)])
    x = layers.MaxPooling2D(2, strides=1)(x)
    x = layers.GlobalAveragePooling2D(name="global")(x)
    return keras.Model(inputs, layers.Dense(10, name="head")(x), name="network")


def random_weights(model: keras.Model) -> keras.Model:
    """Biases that are not zero, and weights."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        scale = 0.1 if len(weight.shape) == 1 else np.prod(weight.shape[:-1]) ** -0.5
        weight.assign(rng.normal(size=weight.shape) * scale)
    return model


@functools.cache
def samples() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(64, *SHAPE)).astype(np.float32)


@functools.cache
def quantised(with_codes: bool) -> keras.Model:
    model = random_weights(network())
    if with_codes:
        projection, plain = BottleneckKind.PROJECTION, BottleneckKind.PLAIN
        shape = {name: tuple(model.get_layer(name).output.shape[1:]) for name in CODED}
        specs = (
            BottleneckSpec(name="stem", shape=shape["stem"], rank=8, bits=4, kind=projection),
            BottleneckSpec(name="sum", shape=shape["sum"], rank=8, bits=1, kind=projection),
            BottleneckSpec(name="up", shape=shape["up"], rank=6, bits=2, kind=plain, signed=True),
        )
        plan = CompressionPlan(model.name, 0, specs, (), 0, 0)
        model = fmc.insert_bottlenecks(model, plan, calibration=samples()).model
    return fmc.quantize(model, calibration=samples())


@functools.cache
def converted(with_codes: bool) -> bytes:
    return to_int8_tflite(quantised(with_codes))


def rounded_maps(model: keras.Model) -> list[tuple[str, float, int, np.ndarray]]:
    """Name, scale, zero point and int8 values of all that a FakeQuant of 8 bits makes."""
    found = [
        (layer, node.outputs[0])
        for layer in model.layers
        if type(layer) is FakeQuant
        for node in layer._inbound_nodes
    ]
    values = keras.Model(model.input, [tensor for _, tensor in found])(samples())
    return [
        (
            layer.name,
            layer.scale,
            layer.zero_point,
            np.rint(np.asarray(value) / layer.scale).astype(int) + layer.zero_point,
        )
        for (layer, _), value in zip(found, values, strict=True)
    ]


def device_maps(graph: Graph) -> list[tuple[float, int, np.ndarray]]:
    """Scale, zero point and values of all activations in TensorFlow Lite Micro.

    LiteRT's FULLY_CONNECTED rounds once, even with its reference kernels.
    """
    quantization = graph.tensors[graph.inputs[0]].quantization
    codes = np.floor(samples() / quantization.scales[0] + 0.5) + quantization.zero_points[0]
    codes = np.clip(codes, -128, 127).astype(np.int8)
    tensors = tuple(graph.activations())
    content = flatbuffer.write(graph.replace(outputs=tensors))
    results = tflm.run(content, [[code[None]] for code in codes], arena_bytes=1 << 20)
    return [
        (
            graph.tensors[tensor].quantization.scales[0],
            graph.tensors[tensor].quantization.zero_points[0],
            np.concatenate([result[index] for result in results]),
        )
        for index, tensor in enumerate(tensors)
    ]


def agreement(model: keras.Model, device: list[tuple[float, int, np.ndarray]]) -> list[float]:
    """For each map of the model the share of values that some map of the device shares."""
    shares = []
    for name, scale, zero_point, mine in rounded_maps(model):
        same = [
            float((theirs == mine).mean())
            for other_scale, other_zero, theirs in device
            if theirs.shape == mine.shape
            and other_zero == zero_point
            and other_scale == pytest.approx(scale, rel=1e-5)
        ]
        assert same, name
        shares.append(max(same))
    return shares


def test_all_int8_values_are_those_of_the_device():
    """Errors add up along the model: no map is set to the device's values in between."""
    qat = quantised(False)
    device = device_maps(flatbuffer.read(converted(False)))
    shares = agreement(fmc.device_rounding(qat), device)
    assert len(shares) == 13
    assert min(shares) >= 0.999
    assert sum(shares) / len(shares) >= 0.9999
    once = agreement(qat, device)
    assert min(once) < 0.9
    assert sum(share < 0.995 for share in once) >= 5


def test_conversion_gives_the_same_bytes():
    assert to_int8_tflite(fmc.device_rounding(quantised(False))) == converted(False)


def test_conversion_of_a_saved_model_with_codes_gives_the_same_bytes(tmp_path):
    fmc.device_rounding(quantised(True)).save(tmp_path / "on.keras")
    assert convert_path(tmp_path / "on.keras") == converted(True)


@pytest.mark.parametrize("with_codes", [False, True])
def test_on_and_off_keep_weights_names_and_structure(with_codes):
    qat = quantised(with_codes)
    on = fmc.device_rounding(qat)
    off = fmc.device_rounding(on, on=False)
    x = samples()
    for model in (on, off):
        assert model.name == qat.name
        for new, old in zip(model.weights, qat.weights, strict=True):
            assert new is not old
            np.testing.assert_array_equal(new, old)
    names = [layer.name for layer in qat.layers]
    assert [layer.name for layer in off.layers] == names
    weighted = [layer for layer in on.layers if isinstance(layer, FAKE_QUANT_LAYERS)]
    assert weighted
    assert all(layer.device_rounding for layer in weighted)
    # Without padding, the mean of codes is a depthwise convolution.
    behind = {"padded", "product", "global", "sum"} | (set() if with_codes else {"mean"})
    added = {layer.name for layer in on.layers if layer.name not in names}
    assert added == {f"{name}_device" for name in behind}
    np.testing.assert_array_equal(off(x), qat(x))
    assert np.abs(np.asarray(on(x)) - np.asarray(qat(x))).max() > 0
    again = fmc.device_rounding(on)
    assert [layer.name for layer in again.layers] == [layer.name for layer in on.layers]
    np.testing.assert_array_equal(again(x), on(x))


def test_frozen_layers_stay_frozen():
    qat = fmc.device_rounding(quantised(False))
    qat.get_layer("stem").trainable = False
    for model in (fmc.device_rounding(qat), fmc.device_rounding(qat, on=False)):
        frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
        assert frozen == ["stem"]


def test_it_saves_loads_and_trains(tmp_path):
    on = fmc.device_rounding(quantised(True))
    on.save(tmp_path / "on.keras")
    loaded = fmc.load_model(tmp_path / "on.keras")
    np.testing.assert_array_equal(loaded(samples()), on(samples()))
    before = [np.array(weight) for weight in loaded.trainable_weights]
    loaded.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")
    targets = np.random.default_rng(2).normal(size=(len(samples()), 10))
    losses = loaded.fit(samples(), targets, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    moved = [np.abs(np.array(new) - old).max() > 0
             for new, old in zip(loaded.trainable_weights, before, strict=True)]  # fmt: skip
    assert all(moved)


def test_a_float_model_is_refused():
    with pytest.raises(BadInputError, match="'network' has no layer that was quantised natively"):
        fmc.device_rounding(network())
    with pytest.raises(BadInputError, match="not a Keras model"):
        fmc.device_rounding("network")


def test_ranges_that_follow_the_data_are_refused():
    qat = fmc.quantize(network(), calibration=samples(), momentum=0.9)
    with pytest.raises(BadInputError, match=r"'stem' follow the data[^\n]*\n.* momentum=None"):
        fmc.device_rounding(qat)
    assert len(fmc.device_rounding(qat, on=False).layers) == len(qat.layers)


def shared(layer: keras.Layer) -> keras.Model:
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 1, activation="relu", name="first")(inputs)
    y = layers.Conv2D(4, 3, padding="same", name="second")(layer(x))
    return keras.Model(inputs, layers.Conv2D(2, 1)(layer(y)), name="shared")


def test_a_layer_that_is_called_with_several_scales_rounds_to_each():
    qat = fmc.quantize(shared(layers.Conv2D(4, 1, name="twice")), calibration=samples())
    on = fmc.device_rounding(qat)
    assert min(agreement(on, device_maps(flatbuffer.read(to_int8_tflite(qat))))) == 1
    assert to_int8_tflite(on) == to_int8_tflite(qat)


def test_a_pooling_that_is_called_with_several_scales_rounds_to_each():
    qat = fmc.quantize(shared(layers.AveragePooling2D(2, name="twice")), calibration=samples())
    on = fmc.device_rounding(qat)
    grids = {(la.scale, la.zero_point) for la in on.layers if isinstance(la, DeviceAverage)}
    assert len(grids) == 2
    assert to_int8_tflite(on) == to_int8_tflite(qat)


@pytest.mark.parametrize(
    ("size", "padding"), [(2, "valid"), (2, "same"), (3, "same"), (4, "valid")]
)
def test_ties_of_an_average_go_away_from_the_code_zero(size, padding):
    """Integer division as in the kernel: (sum ± count // 2) / count, towards zero."""
    rng = np.random.default_rng(5)
    scale, zero_point = 0.037, -29
    codes = rng.integers(-128, 128, (4, 11, 11, 3))
    rounded = DeviceAverage(scale=scale, zero_point=zero_point, positions=size**2)
    pool = layers.AveragePooling2D(size, padding=padding)
    got = rounded(pool(((codes - zero_point) * scale).astype(np.float32)))
    total, count = np.zeros(got.shape, int), np.zeros(got.shape, int)
    before = max((got.shape[1] - 1) * size + size - 11, 0) // 2 if padding == "same" else 0
    for row in range(got.shape[1]):
        for column in range(got.shape[2]):
            top, left = row * size - before, column * size - before
            window = codes[:, max(top, 0) : top + size, max(left, 0) : left + size]
            total[:, row, column] = window.sum(axis=(1, 2))
            count[:, row, column] = window.shape[1] * window.shape[2]
    wanted = np.sign(total) * ((np.abs(total) + count // 2) // count)
    found = np.rint(np.asarray(got) / scale).astype(int) + zero_point
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 6), (16, 16), (3, 5), (2, 2)])
@pytest.mark.parametrize("ratio", [2.118731, 1.031273, 0.771139, 0.251347, 3.903171])
def test_global_averages_are_those_of_mean(size, ratio):
    """The multiplier is divided by the positions, as far as it stays a fraction of 2³¹."""
    rng = np.random.default_rng(6)
    positions = math.prod(size)
    acc = rng.integers(-128 * positions, 128 * positions, 20000)
    output_scale, scale = 0.0211, 0.0211 * ratio
    fraction, shift = math.frexp(ratio)
    more = positions.bit_length() - 1
    quantized = (round(fraction * 2**31) << more) // positions
    wanted = scaled(acc, quantized, shift - more)
    rounds = requantized_mean(
        scale=scale, output_scale=output_scale, positions=positions, name="mean"
    )
    assert_levels(rounds(real(acc, scale / positions)), output_scale, wanted)


@pytest.mark.parametrize("multiplier", [0.019331, 0.0012713, 0.314159, 0.0625123])
def test_products_are_those_of_mul(multiplier):
    rng = np.random.default_rng(7)
    acc = rng.integers(-255, 256, 20000) * rng.integers(-255, 256, 20000)
    output_scale = 0.0307
    step = output_scale * multiplier
    rounds = DeviceRequantize(step=step, output_scale=output_scale)
    assert_levels(rounds(real(acc, step)), output_scale, kernel_levels(acc, multiplier))


def real(acc: np.ndarray, step: float) -> np.ndarray:
    return (acc * step).astype(np.float32)


def assert_levels(got: Any, output_scale: float, wanted: np.ndarray) -> None:
    """Checks values that a FakeQuant would round against the kernel's levels, where int8 ends."""
    low = -128 * output_scale
    rounded = fmc.FakeQuant(fixed_range=(low, low + 255 * output_scale))(got)
    levels = np.rint(np.asarray(rounded) / output_scale).astype(int)
    assert (levels == np.clip(wanted, -128, 127)).mean() >= 0.9999
    assert np.abs(levels - np.clip(wanted, -128, 127)).max() <= 1


def test_every_quantised_layer_knows_its_levels():
    for node in trace(quantised(True)).nodes:
        if isinstance(node.operation, FAKE_QUANT_LAYERS):
            assert node.operation.output_scale > 0
            assert not node.operation.device_rounding


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
