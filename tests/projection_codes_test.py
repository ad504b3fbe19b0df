"""Projections of fewer bits and of stride 2: forward and backward against NumPy, saving."""

from __future__ import annotations

import json
import sys
import zipfile

import gf2_reference as reference
import keras
import numpy as np
import pytest

from keras_fmc.errors import BadInputError
from keras_fmc.layers import ProjectionBottleneck
from keras_fmc.layers.code_quantizer import CodeQuantizer, sign_thresholds

# kernel_size, strides, height, width
WINDOWS = [(1, 1, 5, 6), (2, 2, 6, 8), (2, 2, 7, 5), (3, 2, 8, 6), (3, 2, 7, 9), (3, 2, 1, 4)]


def _layer(bits: int | None, window: int, strides: int, shape: tuple[int, ...], rank: int = 4):
    layer = ProjectionBottleneck(rank, bits=bits, strides=strides, kernel_size=window)
    layer.build(shape)
    rng = np.random.default_rng(7)
    size = window**2 * shape[-1]
    layer.projection.assign(rng.normal(0, 0.9 / np.sqrt(size), layer.projection.shape))
    layer.restoration.assign(rng.normal(0, 1, layer.restoration.shape))
    if bits == 8:
        layer.quantizer.set_range(-1.3, 1.1)
    elif bits is not None:
        layer.quantizer.set_range(-0.6, 1.0)
    return layer


class _Oracle:
    """q(x ⋆ P) spread by R, and its gradients, in float64."""

    def __init__(self, layer: ProjectionBottleneck) -> None:
        window, self.strides = layer.kernel_size, layer.strides
        channels, rank = layer.projection.shape[-2:]
        self.p = np.asarray(layer.projection, np.float64).reshape(window, window, channels, rank)
        self.r = np.asarray(layer.restoration, np.float64).reshape(window, window, rank, channels)
        self.bits = layer.bits

    def levels(self) -> np.ndarray:
        if self.bits == 8:
            scale = 2.4 / 255
            return (np.arange(256) - np.floor(1.3 / scale + 0.5)) * scale
        return reference.code_levels(self.bits, "unit", -0.6, 1.0)

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x.astype(np.float64)
        self.sums = reference.convolve(self.x, self.p, self.strides)
        self.code, self.inside = self.sums, np.ones_like(self.sums)
        if self.bits == 1:
            thresholds = sign_thresholds(self.sums.shape[-1])
            self.code = np.where(self.sums >= thresholds, 1.0, -1.0)
            self.inside = np.abs(self.sums - thresholds) <= 1
        elif self.bits is not None:
            levels = self.levels()
            self.code = reference.nearest_level(self.sums, levels)
            self.inside = (self.sums >= levels[0]) & (self.sums <= levels[-1])
        return reference.spread(self.code, self.r, self.strides, x.shape[1:3])

    def backward(self, upstream: np.ndarray) -> dict[str, np.ndarray]:
        by_code = reference.convolve(upstream, self.r.transpose(0, 1, 3, 2), self.strides)
        by_sums = by_code * self.inside
        window = len(self.p)
        by_r = reference.kernel_gradient(upstream, self.code, window, self.strides)
        return {
            "x": reference.spread(
                by_sums, self.p.transpose(0, 1, 3, 2), self.strides, self.x.shape[1:3]
            ),
            "P": reference.kernel_gradient(self.x, by_sums, window, self.strides),
            "R": by_r.transpose(0, 1, 3, 2),
        }


def _settled(oracle: _Oracle, x: np.ndarray) -> bool:
    """Whether no sum is so near to a decision that float32 could take it otherwise."""
    oracle.forward(x)
    if oracle.bits is None:
        return True
    if oracle.bits == 1:
        turns = sign_thresholds(oracle.sums.shape[-1])
        edges = np.stack([turns - 1, turns, turns + 1], axis=-1)
    else:
        levels = oracle.levels()
        edges = np.array([levels[0], levels[-1], *(levels[1:] + levels[:-1]) / 2])
    return bool(np.abs(oracle.sums[..., None] - edges).min() > 2e-6)


def _samples(layer: ProjectionBottleneck, shape: tuple[int, ...]) -> tuple[np.ndarray, _Oracle]:
    oracle = _Oracle(layer)
    for seed in range(100):
        x = np.random.default_rng(seed).normal(0, 1.5, shape).astype(np.float32)
        if _settled(oracle, x):
            return x, oracle
    raise AssertionError("no samples away from all decisions")


@pytest.mark.parametrize("bits", [8, 6, 4, 2, 1, None])
@pytest.mark.parametrize(("window", "strides", "height", "width"), WINDOWS)
def test_forward_and_backward_are_the_oracle(bits, window, strides, height, width):
    import tensorflow as tf

    shape = (2, height, width, 4)
    layer = _layer(bits, window, strides, shape)
    x, oracle = _samples(layer, shape)
    upstream = np.random.default_rng(1).normal(size=shape)
    wanted = oracle.forward(x)
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        y = layer(tensor)
        loss = tf.reduce_sum(y * upstream.astype(np.float32))
    np.testing.assert_allclose(y, wanted, atol=2e-5)
    assert layer.compute_output_shape(shape) == shape == tuple(y.shape)
    found = tape.gradient(loss, [tensor, layer.projection.value, layer.restoration.value])
    for name, gradient in zip(("x", "P", "R"), found, strict=True):
        expected = oracle.backward(upstream)[name].reshape(gradient.shape)
        np.testing.assert_allclose(gradient, expected, atol=2e-4, err_msg=name)
    if bits is not None and height > 1:
        assert 0.05 < oracle.inside.mean() < 1


@pytest.mark.parametrize("bits", [6, 4, 2, 1])
def test_codes_have_the_levels_of_their_bits_and_are_known_from_the_start(bits):
    layer = ProjectionBottleneck(3, bits=bits, strides=2)
    layer.build((None, 7, 9, 4))
    x = np.random.default_rng(0).normal(0, 2, (40, 7, 9, 4)).astype(np.float32)
    code = np.asarray(layer.encode(x))
    assert code.shape == (40, *layer.stored_shape((7, 9, 4))) == (40, 4, 5, 3)
    assert layer.stored_bits((7, 9, 4)) == 4 * 5 * 3 * bits
    assert isinstance(layer.quantizer, CodeQuantizer)
    np.testing.assert_allclose(np.unique(code), layer.quantizer.levels, atol=1e-6)
    assert len(np.unique(code)) == 2**bits


def test_weights_of_stride_2_are_two_kernels():
    layer = ProjectionBottleneck(5, bits=4, strides=2, kernel_size=3)
    layer.build((None, 8, 8, 6))
    shapes = [tuple(weight.shape) for weight in layer.trainable_weights]
    assert shapes == [(3, 3, 6, 5), (3, 3, 5, 6)]


@pytest.mark.parametrize(("bits", "strides", "window"), [(4, 1, 1), (1, 2, 2), (8, 2, 3)])
def test_save_and_load(bits, strides, window, tmp_path):
    inputs = keras.Input((7, 6, 3))
    layer = ProjectionBottleneck(4 if strides > 1 else 3, bits=bits, strides=strides,
                                 kernel_size=window, name="b")  # fmt: skip
    model = keras.Model(inputs, layer(inputs))
    layer.quantizer.set_range(-0.4, 1.0)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    again = loaded.get_layer("b")
    assert again.get_config() == layer.get_config()
    assert (again.bits, again.strides, again.kernel_size) == (bits, strides, window)
    x = np.random.default_rng(0).normal(size=(4, 7, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))


def test_files_from_before_bits_and_strides_load(tmp_path):
    inputs = keras.Input((4, 4, 6))
    model = keras.Model(inputs, ProjectionBottleneck(2, name="b")(inputs))
    model.get_layer("b").quantizer.set_range(-0.5, 1.5)
    model.save(tmp_path / "new.keras")
    with (
        zipfile.ZipFile(tmp_path / "new.keras") as new,
        zipfile.ZipFile(tmp_path / "old.keras", "w") as old,
    ):
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                config = json.loads(content)
                (layer,) = (c for c in config["config"]["layers"] if c["name"] == "b")
                assert layer["config"].pop("strides") == 1
                assert layer["config"].pop("kernel_size") == 1
                content = json.dumps(config).encode()
            old.writestr(name, content)
    loaded = keras.saving.load_model(tmp_path / "old.keras")
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 6)).astype(np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strides": 3}, "kernel_size 1 with strides 1, or 2 or 3 with strides 2; received None"),
        ({"strides": 2, "kernel_size": 1}, "received 1 with 2"),
        ({"kernel_size": 3}, "received 3 with 1"),
        ({"bits": 5}, "bits of 8, 6, 4, 2, 1, or bits=None for float; received 5"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(BadInputError, match=message):
        ProjectionBottleneck(2, name="b", **arguments)


def test_strided_projections_need_maps_of_known_size_and_at_most_all_of_a_block():
    with pytest.raises(BadInputError, match=r"input of bottleneck 'b' with stride 2; expected"):
        ProjectionBottleneck(2, strides=2, name="b").build((None, None, 8, 4))
    with pytest.raises(BadInputError, match=r"input of bottleneck 'b' with stride 2"):
        ProjectionBottleneck(2, strides=2, name="b").build((None, 4))
    ProjectionBottleneck(16, strides=2).build((None, 8, 8, 4))
    with pytest.raises(BadInputError, match=r"of rank 17; expected .* at least 5; received"):
        ProjectionBottleneck(17, strides=2).build((None, 8, 8, 4))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
