"""The GF(2) bottleneck: bits, values and gradients against the formulas of the paper in NumPy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gf2_reference as reference
import keras
import numpy as np
import pytest

from keras_fmc.errors import BadInputError
from keras_fmc.layers import transposed
from keras_fmc.layers.bit_planes import ONE, bit_planes, planes_to_weigh, weigh_planes
from keras_fmc.layers.code_quantizer import CodeQuantizer
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.model.nonnegative import can_be_negative

# bits, kernel_size, strides, height, width, signed
CASES = [
    (4, 1, 1, 5, 6, False),
    (8, 1, 1, 4, 4, False),
    (2, 1, 1, 4, 3, True),
    (6, 2, 2, 6, 6, False),
    (4, 2, 2, 7, 5, True),
    (4, 3, 2, 7, 6, False),
    (8, 3, 2, 8, 8, True),
    (6, 3, 2, 5, 7, False),
]


def _random_layer(
    bits: int, kernel_size: int, strides: int, shape: tuple[int, ...], signed: bool, seed: int = 3
) -> GF2Bottleneck:
    layer = GF2Bottleneck(
        11, bits=bits, kernel_size=kernel_size, strides=strides, start="random", signed=signed
    )
    layer.build(shape)
    layer.quantizer.set_range(-0.6 if signed else 0.0, 0.9)
    rng = np.random.default_rng(seed)
    for _, bias in (*layer.compression, *layer.restoration):
        bias.assign(np.asarray(bias) + rng.normal(0, 0.1, bias.shape))
    return layer


def _oracle(layer: GF2Bottleneck) -> reference.GF2Oracle:
    def pair(weights):
        kernel, bias = (np.asarray(weight, np.float64) for weight in weights)
        return kernel, bias

    form = "free" if layer.signed else "unsigned"
    return reference.GF2Oracle(
        pair(layer.compression[0]),
        pair(layer.restoration[0]),
        bits=layer.bits,
        strides=layer.strides,
        levels=reference.code_levels(layer.bits, form, *layer.quantizer.range),
        gradient_scale=layer.gradient_scale,
    )


def _map(height: int, width: int, signed: bool, seed: int = 4) -> np.ndarray:
    low = -0.9 if signed else -0.3
    shape = (2, height, width, 3)
    return np.random.default_rng(seed).uniform(low, 1.2, shape).astype(np.float32)


@pytest.mark.parametrize(("bits", "kernel_size", "strides", "height", "width", "signed"), CASES)
def test_forward_is_the_oracle(bits, kernel_size, strides, height, width, signed):
    x = _map(height, width, signed)
    layer = _random_layer(bits, kernel_size, strides, x.shape, signed)
    oracle = _oracle(layer)
    restored = oracle.forward(x)
    assert 0.2 < oracle.stored.mean() < 0.8
    np.testing.assert_array_equal(layer.encode(x), oracle.stored)
    np.testing.assert_allclose(layer(x), restored, atol=1e-6)
    np.testing.assert_allclose(
        layer.decode(oracle.stored.astype(np.float32), (height, width)), restored, atol=1e-6
    )


@pytest.mark.parametrize(("bits", "kernel_size", "strides", "height", "width", "signed"), CASES)
def test_gradients_are_those_of_the_paper(bits, kernel_size, strides, height, width, signed):
    import tensorflow as tf

    x = _map(height, width, signed)
    layer = _random_layer(bits, kernel_size, strides, x.shape, signed)
    oracle = _oracle(layer)
    oracle.forward(x)
    upstream = np.random.default_rng(6).normal(size=x.shape)
    wanted = oracle.backward(upstream)
    weights = [weight.value for pair in (*layer.compression, *layer.restoration) for weight in pair]
    source = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(source)
        loss = tf.reduce_sum(layer(source) * upstream.astype(np.float32))
    found = tape.gradient(loss, [source, *weights])
    for name, gradient in zip(("x", "P", "p", "R", "r"), found, strict=True):
        assert np.abs(wanted[name]).max() > 0.1, name
        np.testing.assert_allclose(gradient, wanted[name], atol=2e-5, err_msg=name)


@pytest.mark.parametrize("bits", [8, 6, 4, 2])
@pytest.mark.parametrize("below", [0, 3])
def test_every_code_becomes_its_bits_and_back(bits, below):
    scale = 0.37
    codes = np.arange(2**bits).reshape(1, 1, -1, 2)
    x = ((codes - below) * scale).astype(np.float32)
    planes = np.asarray(bit_planes(x, scale, float(below), bits, gradient_scale=1.0))
    np.testing.assert_array_equal(planes, reference.bit_planes(codes, bits))
    np.testing.assert_array_equal(reference.weigh_planes(planes.astype(int), bits), codes)

    wanted = planes.reshape(*codes.shape, bits)[..., planes_to_weigh(bits)]
    flat = wanted.reshape(1, 1, codes.shape[2], -1) * ONE
    again = weigh_planes(flat.astype(np.float32), scale, float(below), bits)
    np.testing.assert_allclose(again, x, rtol=1e-5, atol=1e-6)


def test_equation_5_by_hand():
    """Code 5 = 101 of 4 bits: planes 0 and 2 get the gradient of the channel, 1 and 3 none."""
    import tensorflow as tf

    planes = tf.constant([[[[1.0, 0, 1, 0]]]]) * ONE
    with tf.GradientTape() as tape:
        tape.watch(planes)
        y = weigh_planes(planes, 0.5, 0.0, 4)
        loss = 3.0 * tf.reduce_sum(y)
    assert y.numpy().item() == 2.5
    np.testing.assert_array_equal(tape.gradient(loss, planes).numpy().ravel() * ONE, [3, 0, 3, 0])


def test_equation_6_by_hand():
    import tensorflow as tf

    x = tf.constant([[[[2.5]]]])
    weights = tf.constant([1.0, 10, 100, 1000])
    with tf.GradientTape() as tape:
        tape.watch(x)
        planes = bit_planes(x, 0.5, 0.0, 4, gradient_scale=0.5)
        loss = tf.reduce_sum(planes * weights)
    np.testing.assert_array_equal(planes.numpy().ravel(), [1, 0, 1, 0])
    assert tape.gradient(loss, x).numpy().item() == 0.5 * 1111


def test_identity_with_all_planes_loses_nothing():
    x = _map(6, 6, signed=False)
    layer = GF2Bottleneck(3 * 4, bits=4)
    layer.build(x.shape)
    layer.quantizer.set_range(0.0, 0.9)
    levels = reference.code_levels(4, "unsigned", 0.0, 0.9)
    np.testing.assert_allclose(layer(x), reference.nearest_level(x, levels), atol=1e-6)


@pytest.mark.parametrize("hidden", [(), (12,), (12, 14)])
def test_truncated_identity_drops_the_least_significant_planes(hidden):
    x = _map(6, 6, signed=False)
    layer = GF2Bottleneck(3 * 3, bits=4, hidden=hidden)
    layer.build(x.shape)
    layer.quantizer.set_range(0.0, 1.5)
    codes = np.clip(np.floor(x / 0.1 + 0.5), 0, 15).astype(int)
    np.testing.assert_allclose(layer(x), 0.1 * (codes & 0b1110), atol=1e-6)


@pytest.mark.parametrize(
    ("kernel_size", "size", "kept"),
    [(2, (6, 6), (0, 0)), (3, (6, 6), (1, 1)), (3, (7, 7), (0, 0)), (2, (7, 5), (0, 0))],
)
def test_strided_identity_repeats_one_pixel_of_each_block(kernel_size, size, kept):
    """Of a SAME window of 3 rows, the middle one: row 1 of each block, row 0 if the height is odd,
    as then one row is padded before."""
    x = _map(*size, signed=False)
    layer = GF2Bottleneck(3 * 4, bits=4, kernel_size=kernel_size, strides=2)
    layer.build(x.shape)
    layer.quantizer.set_range(0.0, 1.5)
    q = 0.1 * np.clip(np.floor(x / 0.1 + 0.5), 0, 15)
    chosen = q[:, kept[0] :: 2, kept[1] :: 2]
    if kernel_size == 3 and size[0] % 2:
        # Blocks begin one row and column before the map.
        wanted = np.repeat(np.repeat(chosen, 2, 1), 2, 2)[:, 1 : 1 + size[0], 1 : 1 + size[1]]
    else:
        wanted = np.repeat(np.repeat(chosen, 2, 1), 2, 2)[:, : size[0], : size[1]]
    np.testing.assert_allclose(layer(x), wanted, atol=1e-6)


def test_hidden_layers_are_binary_convolutions_in_turn():
    x = _map(6, 6, signed=False)
    layer = GF2Bottleneck(7, bits=4, kernel_size=2, strides=2, hidden=(9, 8), start="random")
    layer.build(x.shape)
    layer.quantizer.set_range(0.0, 1.0)
    codes = np.clip(np.floor(x * 15 + 0.5), 0, 15).astype(int)
    bits = reference.bit_planes(codes, 4)
    for (kernel, bias), strides in zip(layer.compression, (1, 1, 2), strict=True):
        q, n, _ = reference.int8_kernel(np.asarray(kernel), np.asarray(bias))
        bits = (reference.convolve(bits, q, strides) + n > 0).astype(int)
    np.testing.assert_array_equal(layer.encode(x), bits)
    assert [tuple(kernel.shape) for kernel, _ in layer.compression] == [
        (1, 1, 12, 9), (1, 1, 9, 8), (2, 2, 8, 7),
    ]  # fmt: skip
    assert [tuple(kernel.shape) for kernel, _ in layer.restoration] == [
        (2, 2, 7, 8), (1, 1, 8, 9), (1, 1, 9, 12),
    ]  # fmt: skip


def test_all_layers_learn_from_the_identity():
    import tensorflow as tf

    x = _map(6, 6, signed=False)
    layer = GF2Bottleneck(8, bits=4, hidden=(10,))
    layer.build(x.shape)
    layer.quantizer.set_range(0.0, 1.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((layer(x) - x) ** 2)
    gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
    assert len(gradients) == 8
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


def test_scale_of_equation_6_is_two_over_bits_by_default():
    assert GF2Bottleneck(8, bits=4).gradient_scale == 2 / 4
    assert GF2Bottleneck(8, bits=8, gradient_scale=1).gradient_scale == 1.0


def test_stored_bits_are_counted():
    assert GF2Bottleneck(96, bits=6).stored_bits((56, 56, 16)) == 56 * 56 * 96
    strided = GF2Bottleneck(96, bits=6, kernel_size=2, strides=2)
    assert strided.stored_bits((57, 56, 16)) == 29 * 28 * 96
    assert strided.stored_shape((57, 56, 16)) == (29, 28, 96)
    x = np.zeros((1, 57, 56, 16), np.float32)
    strided.build(x.shape)
    assert tuple(strided.encode(x).shape) == (1, *strided.stored_shape((57, 56, 16)))


def test_blocks_of_pixels_without_tensorflow_operators(monkeypatch):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 2 * 2 * 5)).astype(np.float32)
    wanted = np.asarray(transposed.depth_to_space(x, 2))
    monkeypatch.setattr(keras.backend, "backend", lambda: "other")
    np.testing.assert_array_equal(transposed.depth_to_space(x, 2), wanted)


def _classifier() -> keras.Model:
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    bottleneck = GF2Bottleneck(12, bits=4, kernel_size=2, strides=2, momentum=0.5, name="gf2")
    x = bottleneck(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def _stripes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of horizontal or vertical bars, and which."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    images = np.zeros((count, 8, 8, 1), np.float32)
    for image, label in zip(images, labels, strict=True):
        place = rng.integers(0, 7)
        if label:
            image[place : place + 2] = 1
        else:
            image[:, place : place + 2] = 1
    return images, labels


def test_model_fit_learns_through_it():
    keras.utils.set_random_seed(1)
    model = _classifier()
    images, labels = _stripes(256)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    before = [np.array(weight) for weight in model.get_layer("gf2").trainable_weights]
    model.fit(images, labels, epochs=12, batch_size=32, verbose=0)
    assert model.evaluate(images, labels, verbose=0)[1] > 0.95
    after = model.get_layer("gf2").trainable_weights
    assert all(np.abs(a - np.array(b)).max() > 0 for a, b in zip(before, after, strict=True))
    assert model.get_layer("gf2").quantizer.calibrated


def test_save_and_load(tmp_path):
    x = _map(6, 6, signed=True)
    inputs = keras.Input((6, 6, 3))
    layer = GF2Bottleneck(
        10, bits=6, kernel_size=3, strides=2, hidden=(12,), signed=True, gradient_scale=1.0,
        start="random", momentum=0.9, seed=5,
    )  # fmt: skip
    model = keras.Model(inputs, layer(inputs))
    layer.quantizer.set_range(-0.6, 0.9)
    model.save(tmp_path / "gf2.keras")
    loaded = keras.models.load_model(tmp_path / "gf2.keras")
    assert loaded.layers[-1].get_config() == layer.get_config()
    np.testing.assert_array_equal(loaded(x), model(x))
    assert np.ptp(model(x)) > 0.5
    assert model.output_shape == (None, 6, 6, 3)


_STRATEGY = """
import os, sys
sys.path.insert(0, "tests")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from gf2_test import _classifier, _stripes
keras.utils.set_random_seed(1)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = _classifier()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
images, labels = _stripes(64)
model.fit(images, labels, epochs=1, batch_size=32, verbose=0)
gf2 = model.get_layer("gf2")
assert gf2.quantizer.calibrated and np.isfinite(gf2.quantizer.range).all()
print("range", gf2.quantizer.range[1] > 0)
"""


def test_it_trains_under_a_distribution_strategy():
    root = Path(__file__).resolve().parent.parent
    run = subprocess.run(
        [sys.executable, "-c", _STRATEGY], cwd=root, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "range True" in run.stdout


def _sources() -> dict[str, tuple[object, bool]]:
    """Name of a map → (the map, whether it can be negative)."""
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    conv = layers.Conv2D(4, 3, padding="same")(image)
    relu = layers.ReLU()(layers.BatchNormalization()(conv))
    return {
        "conv": (conv, True),
        "batch normalisation": (layers.BatchNormalization()(relu), True),
        "relu": (relu, False),
        "fused relu": (layers.Conv2D(4, 3, activation="relu")(image), False),
        "pooled relu": (layers.MaxPooling2D()(layers.ZeroPadding2D()(relu)), False),
        "sum": (layers.Add()([relu, relu]), False),
        "sum with a conv": (layers.Add()([relu, conv]), True),
        "leaky relu": (layers.LeakyReLU()(conv), True),
        "relu with a slope": (layers.ReLU(negative_slope=0.1)(conv), True),
        "relu of keras.ops": (keras.ops.relu(conv), False),
        "sum of keras.ops": (relu + conv, True),
        "an input": (image, False),
        "code": (CodeQuantizer(4)(relu), True),
        "unsigned code": (CodeQuantizer(4, form="unsigned")(conv), False),
    }


@pytest.mark.parametrize("name", list(_sources()))
def test_maps_that_can_be_negative_are_refused(name):
    tensor, negative = _sources()[name]
    assert can_be_negative(tensor) is negative
    if negative:
        with pytest.raises(BadInputError, match="on a map that can be negative; expected a map"):
            GF2Bottleneck(8, bits=4)(tensor)
    else:
        GF2Bottleneck(8, bits=4)(tensor)
    GF2Bottleneck(8, bits=4, signed=True)(tensor)


def test_negative_calibration_is_refused():
    layer = GF2Bottleneck(8, bits=4)
    layer.build((None, 4, 4, 3))
    with pytest.raises(BadInputError, match="unsigned code 'quantizer' of a map with negative"):
        layer.quantizer.set_range(-0.1, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stored_channels": 0}, r"channels of bottleneck 'gf2'; expected integers of at least 1"),
        ({"hidden": (8, 0)}, r"received \(8, 0, 8\)"),
        ({"bits": 3}, r"bit planes of bottleneck 'gf2'; expected bits of 8, 6, 4 or 2; received 3"),
        ({"bits": 1}, r"expected bits of 8, 6, 4 or 2; received 1"),
        ({"kernel_size": 3}, r"kernel_size 1 with strides 1, or 2 or 3 with strides 2; received 3"),
        ({"kernel_size": 1, "strides": 2}, r"received 1 with 2"),
        ({"start": "pca"}, r"start of bottleneck 'gf2'; expected identity or random"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(BadInputError, match=message):
        GF2Bottleneck(**{"stored_channels": 8, "bits": 4, "name": "gf2", **arguments})


@pytest.mark.parametrize("shape", [(None, 8, 3), (None, None, 8, 3), (None, 8, 8, None)])
def test_inputs_of_unknown_size_are_refused(shape):
    with pytest.raises(BadInputError, match=r"of known sizes; received shape"):
        GF2Bottleneck(8, bits=4).build(shape)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
