"""Layers that round as the device, against the kernels' integer arithmetic."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import layers
from kernel_arithmetic import kernel_levels

import keras_fmc as fmc
from keras_fmc.qat.kernel_rounding import requantized_mean
from keras_fmc.qat.weight_layers import (
    FakeQuantConv2D,
    FakeQuantConv2DTranspose,
    FakeQuantDense,
    FakeQuantDepthwiseConv2D,
)

BATCH, SIZE, CHANNELS, FILTERS = 16, 12, 6, 10


def convolution(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """VALID, stride 1; kernel (h, w, in, out)."""
    rows, columns = (x.shape[axis] - kernel.shape[axis - 1] + 1 for axis in (1, 2))
    total = np.zeros((len(x), rows, columns, kernel.shape[3]), np.int64)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            total += x[:, i : i + rows, j : j + columns] @ kernel[i, j]
    return total


def depthwise(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """VALID, stride 1; kernel (h, w, channels, 1)."""
    rows, columns = (x.shape[axis] - kernel.shape[axis - 1] + 1 for axis in (1, 2))
    total = np.zeros((len(x), rows, columns, kernel.shape[2]), np.int64)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            total += x[:, i : i + rows, j : j + columns] * kernel[i, j, :, 0]
    return total


def transposed(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Stride 2, a window of 2: no two inputs meet; kernel (2, 2, out, in)."""
    total = np.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2], kernel.shape[2]), np.int64)
    for i in range(2):
        for j in range(2):
            total[:, i::2, j::2] = x @ kernel[i, j].T
    return total


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A layer, and what the integer oracle does for it.

    Attributes:
        make: from the options of a weight layer.
        shape: of the kernel.
        axes: of the kernel that one weight scale covers; None is all.
        sums: of int64 inputs and an int64 kernel.
    """

    make: Callable[..., keras.Layer]
    shape: tuple[int, ...]
    axes: tuple[int, ...] | None
    sums: Callable[[np.ndarray, np.ndarray], np.ndarray]


KINDS = {
    "conv": Kind(lambda **k: FakeQuantConv2D(FILTERS, 3, **k), (3, 3, CHANNELS, FILTERS),
                 (0, 1, 2), convolution),
    "depthwise": Kind(lambda **k: FakeQuantDepthwiseConv2D(3, **k), (3, 3, CHANNELS, 1),
                      (0, 1, 3), depthwise),
    "dense": Kind(lambda **k: FakeQuantDense(FILTERS, **k), (CHANNELS, FILTERS), None,
                  lambda x, kernel: x @ kernel),
    "transposed": Kind(lambda **k: FakeQuantConv2DTranspose(FILTERS, 2, strides=2, **k),
                       (2, 2, FILTERS, CHANNELS), (0, 1, 3), transposed),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A layer with weights and inputs.

    Attributes:
        x: int64 input codes less their zero point.
        input_scale, output_scale, zero_point: of the tensors.
        weights: float32 kernel and bias.
        activation: "linear", "relu" or "relu6".
    """

    kind: str
    x: np.ndarray
    input_scale: float
    output_scale: float
    zero_point: int
    weights: tuple[np.ndarray, np.ndarray]
    activation: str

    def of_layer(self, **options: object) -> np.ndarray:
        """int8 codes that the layer and a FakeQuant behind it give."""
        layer = KINDS[self.kind].make(
            activation=self.activation,
            input_scale=self.input_scale,
            output_scale=self.output_scale,
            rectified=self.activation != "linear",
            **options,
        )
        low = self.output_scale * (-128 - self.zero_point)
        grid = fmc.FakeQuant(fixed_range=(low, low + 255 * self.output_scale))
        real = self.x.astype(np.float32) * np.float32(self.input_scale)
        layer.build(real.shape)
        layer.set_weights(list(self.weights))
        y = keras.ops.convert_to_numpy(grid(layer(real)))
        return np.rint(y / self.output_scale).astype(int) + self.zero_point

    def of_device(self) -> np.ndarray:
        """int8 codes by integer arithmetic."""
        kernel, bias = (weights.astype(np.float64) for weights in self.weights)
        axes = KINDS[self.kind].axes
        scales = np.abs(kernel).max(axis=axes, keepdims=True) / 127
        steps = self.input_scale * np.broadcast_to(scales.ravel(), bias.shape)
        sums = KINDS[self.kind].sums(self.x, np.rint(kernel / scales).astype(np.int64))
        sums = sums + np.rint(bias / steps).astype(np.int64)
        levels = np.stack(
            [kernel_levels(sums[..., c], step / self.output_scale) for c, step in enumerate(steps)],
            axis=-1,
        )
        low = -128 if self.activation == "linear" else max(-128, self.zero_point)
        high = 127
        if self.activation == "relu6":
            high = min(127, self.zero_point + round(6 / self.output_scale))
        return np.clip(levels + self.zero_point, low, high)


def case(
    kind: str,
    multiplier: float,
    *,
    activation: str,
    seed: int = 0,
    sparse: float = 1.0,
    inputs: int = CHANNELS,
) -> Case:
    """A random layer with M up to `multiplier` over its channels.

    Args:
        sparse: share of inputs that are not zero.
        inputs: channels.
    """
    rng = np.random.default_rng(seed)
    shape = tuple(inputs if size == CHANNELS else size for size in KINDS[kind].shape)
    axes = KINDS[kind].axes
    kernel = rng.normal(size=shape)
    kernel *= rng.uniform(0.5, 1.5, size=np.abs(kernel).max(axis=axes, keepdims=True).shape)
    # No weight lies so near the middle between two that float32 rounds it the other way.
    scales = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    kernel = np.rint(kernel / scales) * scales
    channels = CHANNELS if kind == "depthwise" else FILTERS
    input_scale = 0.0173
    output_scale = input_scale * float(np.abs(kernel).max()) / 127 / multiplier
    spatial = () if kind == "dense" else (SIZE, SIZE)
    x = rng.integers(-128, 128, (BATCH if spatial else 4096, *spatial, inputs))
    if sparse < 1:
        x = rng.integers(-2, 3, x.shape) * (rng.random(x.shape) < sparse)
    bias = rng.normal(size=channels) * 20 * output_scale
    zero_point = int(rng.integers(-20, 20)) if activation == "linear" else -128
    return Case(kind, x, input_scale, output_scale, zero_point,
                (kernel.astype(np.float32), bias.astype(np.float32)), activation)  # fmt: skip


MULTIPLIERS = [2.0**-2.5, 2.0**-4.2, 2.0**-6.9, 2.0**-10.5]
"""At the largest there are a few sums a level, at the smallest a thousand."""


@pytest.mark.parametrize("activation", ["linear", "relu", "relu6"])
@pytest.mark.parametrize("multiplier", MULTIPLIERS)
@pytest.mark.parametrize("kind", KINDS)
def test_levels_are_those_of_integer_arithmetic(kind, multiplier, activation):
    sample = case(kind, multiplier, activation=activation, sparse=0.3 if multiplier > 0.1 else 1)
    wanted = sample.of_device()
    assert np.mean((wanted > wanted.min()) & (wanted < wanted.max())) > 0.02
    got = sample.of_layer(device_rounding=True)
    assert (got == wanted).mean() >= 0.9999
    assert np.abs(got - wanted).max() <= 1


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("multiplier", [0.51372, 0.92413, 1.01237, 1.70711, 3.23607])
def test_left_shifts_round_once(multiplier, activation):
    sample = case("conv", multiplier, activation=activation, sparse=0.05)
    wanted = sample.of_device()
    assert np.mean((wanted > wanted.min()) & (wanted < wanted.max())) > 0.1
    got = sample.of_layer(device_rounding=True)
    assert (got == wanted).mean() >= 0.9999


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize(("kind", "inputs"), [("conv", 128), ("dense", 2304)])
def test_sums_of_many_products_in_float32_are_close_enough(kind, inputs, activation):
    sample = case(kind, 2.0**-10.7, activation=activation, inputs=inputs)
    wanted = sample.of_device()
    assert np.mean((wanted > -128) & (wanted < 127)) > 0.2
    np.testing.assert_array_equal(sample.of_layer(device_rounding=True), wanted)


@pytest.mark.parametrize("rectified", [False, True])
def test_sums_are_integers(rectified):
    """Sums are made of codes: what float32 lost of an input comes back."""
    codes = np.arange(-128, 128)
    acc = 127 * codes
    step, multiplier = 0.013, 0.00314159
    layer = FakeQuantDense(
        1,
        activation="relu" if rectified else None,
        input_scale=127 * step,
        output_scale=step / multiplier,
        rectified=rectified,
        device_rounding=True,
    )
    layer.build((None, 1))
    layer.set_weights([np.ones((1, 1)), np.zeros(1)])
    wanted = kernel_levels(acc, multiplier)
    for lost in (-0.3, 0.0, 0.3):
        y = layer(((codes + lost) * 127 * step)[:, None].astype(np.float32))
        levels = np.floor(keras.ops.convert_to_numpy(y)[:, 0] / layer.output_scale + 0.5)
        np.testing.assert_array_equal(levels, np.maximum(wanted, 0) if rectified else wanted)


def power_of_two(activation: str) -> Case:
    """M is a power of two in all channels, so odd sums are ties of the first rounding."""
    sample = case("conv", 1.0, activation=activation)
    scales = np.ldexp(1.0, np.arange(FILTERS) % 3 - 8)
    kernel = np.random.default_rng(1).integers(-127, 128, KINDS["conv"].shape)
    kernel[0, 0, 0] = 127
    weights = ((kernel * scales).astype(np.float32), np.zeros(FILTERS, np.float32))
    return dataclasses.replace(sample, input_scale=2.0**-6, output_scale=2.0**-2, weights=weights)


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_ties_of_the_first_rounding_go_up(activation):
    sample = power_of_two(activation)
    np.testing.assert_array_equal(sample.of_layer(device_rounding=True), sample.of_device())


@pytest.mark.parametrize(("multiplier", "least"), [(2.0**-2.5, 0.05), (2.0**-4.2, 0.005)])
def test_one_rounding_gives_other_levels_of_signed_sums(multiplier, least):
    """What a layer that is not switched gets wrong."""
    sample = case("conv", multiplier, activation="linear", sparse=0.3)
    assert np.mean(sample.of_layer() != sample.of_device()) > least


@pytest.mark.parametrize("multiplier", [2.0**-2.5, 2.0**-6.9, 0.92413, 1.70711])
def test_a_larger_bias_makes_up_for_most_of_it_behind_a_relu(multiplier):
    """Training without the switch; left shifts need no larger bias."""
    sample = case("dense", multiplier, activation="relu", sparse=0.3)
    assert np.mean(sample.of_layer() != sample.of_device()) < 0.03


def test_signs_have_their_thresholds_in_the_sum():
    """The binariser turns at a level of 2 of sums to which its thresholds are added."""
    sample = case("conv", 1.0, activation="linear", seed=3)
    kernel = sample.weights[0] * np.float32(2.0**-5 * 2 / (127 * sample.output_scale))
    weights = (kernel / np.abs(kernel).max() * 0.9, np.zeros(FILTERS, np.float32))
    input_scale = 0.02
    layer = FakeQuantConv2D(FILTERS, 3, input_scale=input_scale, output_scale=2.0, signs=True,
                            device_rounding=True)  # fmt: skip
    codes = np.random.default_rng(4).integers(-3, 4, sample.x.shape)
    layer.build(codes.shape)
    layer.set_weights(list(weights))
    binarise = fmc.CodeQuantizer(1, form="unit")
    got = binarise(layer(codes.astype(np.float32) * np.float32(input_scale)))
    scales = np.abs(weights[0].astype(np.float64)).max(axis=(0, 1, 2)) / 127
    steps = input_scale * scales
    thresholds = -(1 + np.arange(FILTERS) / (8 * FILTERS)) / 256
    sums = convolution(codes, np.rint(weights[0] / scales).astype(np.int64))
    sums = sums + np.rint((1 - thresholds) / steps).astype(np.int64)
    levels = np.stack([kernel_levels(sums[..., c], s / 2) for c, s in enumerate(steps)], axis=-1)
    wanted = np.where(np.clip(levels, 0, 1) == 1, 1.0, -1.0)
    assert 0.1 < np.mean(wanted > 0) < 0.9
    assert np.mean(keras.ops.convert_to_numpy(got) == wanted) >= 0.9999


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_sums(kind):
    """Straight through: the same as of the layer that rounds no sums."""
    import tensorflow as tf

    sample = case(kind, 2.0**-4.2, activation="linear")
    found = []
    for options in ({}, {"device_rounding": True}):
        layer = KINDS[kind].make(
            input_scale=sample.input_scale, output_scale=sample.output_scale, **options
        )
        x = tf.constant(sample.x[:4], tf.float32) * sample.input_scale
        layer.build(x.shape)
        layer.set_weights(list(sample.weights))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            weighted = y * tf.random.stateless_normal(y.shape, seed=(1, 2))
        found.append(tape.gradient(weighted, [x, *(w.value for w in layer.trainable_weights)]))
    for once, twice in zip(*found, strict=True):
        assert np.abs(once).max() > 0
        np.testing.assert_allclose(twice, once, rtol=1e-5, atol=1e-6)


def test_options_survive_the_configuration():
    layer = FakeQuantConv2D(4, 1, input_scale=0.5, output_scale=0.25, signs=True,
                            device_rounding=True)  # fmt: skip
    again = FakeQuantConv2D.from_config(layer.get_config())
    options = ("input_scale", "output_scale", "signs", "device_rounding")
    assert [getattr(again, name) for name in options] == [0.5, 0.25, True, True]
    stock = layers.Conv2D(4, 1).get_config()
    default = FakeQuantConv2D.from_config(stock)
    assert [getattr(default, name) for name in options] == [None, None, False, False]


@pytest.mark.parametrize("positions", [1, 6, 16])
def test_a_mean_on_the_scale_of_its_map_is_rounded_as_one_of_equal_scales(positions: int) -> None:
    """MEAN takes m = ½ and a shift of 1 of two equal float32 scales, however float64 has them."""
    for scale in np.random.default_rng(positions).uniform(0.01, 0.1, 40):
        held = float(np.float32(scale))
        layer = requantized_mean(scale=held, output_scale=scale, positions=positions, name="mean")
        assert layer.unit == min(1.0, 2.0 ** (1 - int(np.log2(positions))))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
