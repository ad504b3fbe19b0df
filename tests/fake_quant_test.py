"""The int8 grid: FakeQuant and weights against NumPy, their gradients, saving."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_fmc.errors import BadInputError
from keras_fmc.layers.fake_quant import (
    SMALLEST_RANGE,
    FakeQuant,
    fake_quant_weights,
)
from keras_fmc.qat.weight_layers import (
    FakeQuantConv2D,
    FakeQuantConv2DTranspose,
    FakeQuantDense,
    FakeQuantDepthwiseConv2D,
)


def layer_with_range(low: float, high: float, **options: object) -> FakeQuant:
    layer = FakeQuant(**options)
    layer.build((None, 4))
    layer.set_range(low, high)
    return layer


def grid(low: float, high: float) -> np.ndarray:
    """The 256 values of the formula in the docstring."""
    scale = (high - low) / 255
    zero_point = np.round(-128 - low / scale)
    return (np.arange(-128, 128) - zero_point) * scale


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.floats(-30, 0), st.floats(0, 30), st.integers(0, 1000))
def test_values_are_the_nearest_of_the_grid(low: float, high: float, seed: int) -> None:
    if high - low < 1e-2:
        high = low + 1.0 if low + 1 > 0 else 1.0
    levels = grid(low, high)
    step = levels[1] - levels[0]
    x = np.random.default_rng(seed).uniform(1.5 * low - 0.1, 1.5 * high + 0.1, 200)
    # Nothing next to where the code changes: float32 may fall on either side.
    edges = (levels[1:] + levels[:-1]) / 2
    x = x[np.abs(x[:, None] - edges).min(1) > step / 100].astype(np.float32)
    y = np.array(layer_with_range(low, high)(x))
    nearest = levels[np.abs(x[:, None].astype(np.float64) - levels).argmin(1)]
    np.testing.assert_allclose(y, nearest, atol=step / 100)


@pytest.mark.parametrize("limits", [(-1.0, 2.0), (0.0, 6.0), (-3.0, 0.0), (-0.013, 5.0)])
def test_zero_is_exact_and_scale_and_zero_point_are_the_devices(
    limits: tuple[float, float],
) -> None:
    layer = layer_with_range(*limits)
    assert float(layer(np.zeros((1, 1), np.float32))[0, 0]) == 0.0
    assert layer.scale == pytest.approx((limits[1] - limits[0]) / 255)
    lowest, highest = (
        float(np.array(layer(np.full((1, 1), end, np.float32)))[0, 0]) for end in (-1e3, 1e3)
    )
    assert lowest == pytest.approx((-128 - layer.zero_point) * layer.scale, abs=1e-5)
    assert highest == pytest.approx((127 - layer.zero_point) * layer.scale, abs=1e-5)


def test_gradient_passes_inside_the_range_and_nowhere_else() -> None:
    layer = layer_with_range(-1.0, 2.0)
    x = tf.constant([[-1.5, -0.9, 0.0, 1.99, 2.1]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(layer(x) * tf.constant([1.0, 2, 3, 4, 5]))
    np.testing.assert_array_equal(tape.gradient(y, x), [[0, 2, 3, 4, 0]])
    assert layer.trainable_weights == []


def test_range_is_kept_without_momentum_and_follows_with_it() -> None:
    x = np.array([[-4.0, 8.0]], np.float32)
    layer = layer_with_range(-1, 2)
    layer(x, training=True)
    assert layer.range == (-1.0, 2.0)
    layer = layer_with_range(-1, 2, momentum=0.75)
    layer(x, training=False)
    assert layer.range == (-1.0, 2.0)
    layer(x, training=True)
    assert layer.range == (0.75 * -1 + 0.25 * -4, 0.75 * 2 + 0.25 * 8)
    fixed = FakeQuant(fixed_range=(0.0, 1.0), momentum=0.5)
    fixed(x, training=True)
    assert fixed.range == (0.0, 1.0)


def test_first_batch_sets_an_unknown_range() -> None:
    layer = FakeQuant(momentum=0.9)
    layer.build((None, 2))
    assert not layer.calibrated
    layer(np.array([[0.5, 3.0]], np.float32), training=True)
    assert layer.calibrated
    assert layer.range == (0.0, 3.0)


def test_range_is_widened_to_zero_and_never_empty() -> None:
    assert layer_with_range(0.5, 3.0).range == (0.0, 3.0)
    assert layer_with_range(-2.0, -1.0).range == (-2.0, 0.0)
    assert layer_with_range(0.0, 0.0).scale > 0


def test_bad_ranges() -> None:
    with pytest.raises(BadInputError, match=r"finite low <= 0 <= high; received \[0.0, inf\]"):
        layer_with_range(0.0, np.inf)
    with pytest.raises(BadInputError, match=r"received \[0.5, 1.0\]"):
        FakeQuant(fixed_range=(0.5, 1.0))
    with pytest.raises(BadInputError, match=r"momentum .*; expected 0 <= momentum < 1; received 1"):
        FakeQuant(momentum=1.0)
    layer = FakeQuant(fixed_range=(0.0, 1.0))
    layer.build((None, 2))
    with pytest.raises(BadInputError, match="is fixed"):
        layer.set_range(0.0, 2.0)
    layer = FakeQuant(name="fresh")
    layer.build((None, 2))
    with pytest.raises(BadInputError, match="'fresh' has no range yet\\.\nCalibrate it"):
        _ = layer.zero_point


def test_saving_keeps_ranges(tmp_path: Path) -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, FakeQuant(momentum=0.9, name="q")(inputs))
    model.get_layer("q").set_range(-0.5, 1.5)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras").get_layer("q")
    assert loaded.range == (-0.5, 1.5)
    assert loaded.momentum == 0.9
    assert loaded.fixed_range is None
    fixed = FakeQuant.from_config(FakeQuant(fixed_range=(0.0, 1.0)).get_config())
    assert tuple(fixed.fixed_range) == (0.0, 1.0)


@pytest.mark.parametrize("axis", [-1, None])
def test_weights_against_the_formula(axis: int | None) -> None:
    kernel = np.random.default_rng(1).normal(size=(3, 3, 4, 5)).astype(np.float32)
    kernel[..., 2] = 0
    kernel[..., 3] *= 100
    largest = np.abs(kernel).reshape(-1, 5).max(0) if axis == -1 else np.abs(kernel).max()
    scale = np.maximum(largest, SMALLEST_RANGE) / 127
    want = np.round(kernel / scale) * scale
    np.testing.assert_allclose(fake_quant_weights(kernel, axis=axis), want, rtol=1e-5, atol=1e-9)
    assert np.abs(want / scale).max() == pytest.approx(127)


def test_small_channels_get_the_smallest_magnitude() -> None:
    kernel = np.array([[0.0, 1e-3, 2.0], [0.0, -2e-3, 1.0]], np.float32)
    y = fake_quant_weights(kernel, axis=-1, smallest=0.127)
    # Steps of 0.001, 0.001 and 2/127.
    np.testing.assert_allclose(y[:, :2], [[0, 1e-3], [0, -2e-3]], rtol=1e-4)
    np.testing.assert_allclose(y[:, 2], [2, round(63.5) * 2 / 127], rtol=1e-6)


def test_weights_pass_the_whole_gradient() -> None:
    kernel = tf.Variable(np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(fake_quant_weights(kernel, axis=-1) * [[1.0, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(tape.gradient(y, kernel), [[1, 2, 3], [4, 5, 6]])


def test_weights_of_an_unknown_axis() -> None:
    with pytest.raises(BadInputError, match="expected -1 or None; received 0"):
        fake_quant_weights(np.ones((2, 2), np.float32), axis=0)


def rounded(kernel: np.ndarray, axes: tuple[int, ...] | None) -> np.ndarray:
    scale = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    return np.round(kernel / scale) * scale


@pytest.mark.parametrize(
    ("quantised", "stock", "axes"),
    [
        (FakeQuantConv2D, keras.layers.Conv2D, (0, 1, 2)),
        (FakeQuantDepthwiseConv2D, keras.layers.DepthwiseConv2D, (0, 1)),
        (FakeQuantConv2DTranspose, keras.layers.Conv2DTranspose, (0, 1, 3)),
        (FakeQuantDense, keras.layers.Dense, None),
    ],
)
@pytest.mark.parametrize("use_bias", [True, False])
def test_layers_compute_with_rounded_kernels(
    quantised: type, stock: type, axes: tuple[int, ...] | None, use_bias: bool
) -> None:
    """Oracle: the stock layer with a kernel rounded in NumPy."""
    options: dict[str, object] = {"use_bias": use_bias, "activation": "relu"}
    if stock is keras.layers.Dense:
        options["units"] = 5
    elif stock is keras.layers.DepthwiseConv2D:
        options.update(kernel_size=3, depth_multiplier=2, strides=2, padding="same")
    else:
        options.update(filters=5, kernel_size=3, strides=2, padding="same")
    ours, oracle = quantised(**options), stock(**options)
    rng = np.random.default_rng(7)
    x = rng.normal(size=(2, 6, 6, 4)).astype(np.float32)
    ours.build(x.shape)
    oracle.build(x.shape)
    for weight, twin in zip(ours.weights, oracle.weights, strict=True):
        value = rng.normal(size=weight.shape).astype(np.float32)
        weight.assign(value)
        twin.assign(rounded(value, axes) if value.ndim > 1 else value)
    np.testing.assert_allclose(ours(x), oracle(x), rtol=1e-5, atol=1e-5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(ours(x))
    with tf.GradientTape() as other:
        want = tf.reduce_sum(oracle(x))
    for got, expected in zip(
        tape.gradient(loss, [weight.value for weight in ours.trainable_weights]),
        other.gradient(want, [weight.value for weight in oracle.trainable_weights]),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    again = quantised.from_config({**ours.get_config(), "smallest": 0.5})
    assert again.smallest == 0.5
    again = quantised.from_config(ours.get_config())
    assert again.get_config() == ours.get_config()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
