"""Folding of projections of fewer bits and of stride 2: the function stays to 1e-10."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from fold_models import randomise
from keras import layers

from keras_fmc import CodeQuantizer, GF2Bottleneck, ProjectionBottleneck
from keras_fmc.fold.fold import FoldResult, KeepReason, fold
from keras_fmc.layers.transposed import DepthToSpace

BOUND = 1e-10

pytestmark = pytest.mark.usefixtures("float64")


def folded_equally(model: keras.Model, seed: int) -> FoldResult:
    randomise(model, seed)
    result = fold(model)
    x = np.random.default_rng(seed + 1).normal(size=(3, *model.input_shape[1:]))
    want, got = np.array(model(x, training=False)), np.array(result.model(x, training=False))
    assert np.abs(want - got).max() <= BOUND * max(1.0, np.abs(want).max())
    assert np.ptp(want) > 1e-3
    return result


def between(layer: keras.Layer, size: tuple[int, int], *, linear: bool) -> keras.Model:
    """A convolution with BN, the bottleneck, and two readers: a convolution and an addition."""
    inputs = keras.Input((*size, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="before")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = x if linear else layers.ReLU(name="relu")(x)
    x = layer(x)
    y = layers.Conv2D(6, 3, padding="same", name="after")(x)
    return keras.Model(inputs, layers.Add(name="add")([x, y]))


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("bits", [6, 4, 2, 1])
def test_the_quantiser_stays_between_p_and_r(bits, linear):
    model = between(ProjectionBottleneck(4, bits=bits, name="p"), (7, 6), linear=linear)
    result = folded_equally(model, bits)
    assert isinstance(result.model.get_layer("p_code"), CodeQuantizer)
    folded = {item.layer: item.into for item in result.folded}
    kept = {item.layer: item.reason for item in result.kept}
    assert folded["p_restoration"] == ("after",)
    assert kept["p_restoration"] is KeepReason.ADDITION
    if linear:
        assert folded["p_projection"] == ("before",)
        assert result.model.get_layer("before").filters == 4
    else:
        assert kept["p_projection"] is KeepReason.NONLINEARITY
    assert result.model.get_layer("after").kernel.shape[2] == 4


@pytest.mark.parametrize("bits", [None, 8, 4, 1])
@pytest.mark.parametrize(
    ("window", "size"), [(2, (6, 8)), (2, (7, 5)), (3, (8, 8)), (3, (7, 9)), (3, (8, 5))]
)
def test_stride_2_becomes_convolutions_that_stay(window, size, bits):
    layer = ProjectionBottleneck(5, bits=bits, strides=2, kernel_size=window, name="p")
    model = between(layer, size, linear=True)
    if bits == 8:
        layer.quantizer.set_range(-2.0, 3.0)
    result = folded_equally(model, window)
    kept = {str(item) for item in result.kept}
    assert kept == {
        f"p_{part} stays: a window of stride 2 is a layer of its own; stands as p_{part}"
        for part in ("projection", "restoration")
    }
    assert [item.layer for item in result.folded] == ["bn"]
    kinds = [type(node) for node in result.model.layers]
    assert ProjectionBottleneck not in kinds
    assert kinds.count(DepthToSpace) == 1
    assert (layers.ZeroPadding2D in kinds) == (window == 3)
    assert (layers.Cropping2D in kinds) == any(length % 2 for length in size)
    p = result.model.get_layer("p_projection")
    assert (p.kernel_size, p.strides, p.padding) == ((window, window), (2, 2), "same")
    taps = -(-window // 2)
    assert result.model.get_layer("p_restoration").kernel.shape == (taps, taps, 5, 4 * 6)


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_a_code_of_few_bits_keeps_r_in_front_of_a_concatenation(bits):
    """What is joined to it has another scale; a code of eight bits takes that scale, too."""
    inputs = keras.Input((6, 5, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="one")(inputs)
    other = layers.Conv2D(4, 3, padding="same", activation="relu", name="other")(inputs)
    coded = ProjectionBottleneck(5, bits=bits, name="p")
    join = layers.Concatenate(name="join")([other, coded(x)])
    model = keras.Model(inputs, layers.Conv2D(2, 3, padding="same", name="after")(join))
    if bits == 8:
        coded.quantizer.set_range(-2.0, 3.0)
    result = folded_equally(model, bits)
    kept = {item.layer: item.reason for item in result.kept}
    channels = result.model.get_layer("after").kernel.shape[2]
    if bits == 8:
        assert "p_restoration" not in kept
        assert channels == 4 + 5
    else:
        assert kept["p_restoration"] is KeepReason.CONCATENATION
        assert channels == 4 + 6


def test_two_bottlenecks_in_a_row_fold_into_each_other():
    """R of the first goes into P of the second, whose window stays."""
    inputs = keras.Input((8, 6, 3))
    x = layers.Conv2D(6, 1, activation="relu")(inputs)
    x = ProjectionBottleneck(3, bits=4, name="first")(x)
    x = ProjectionBottleneck(5, bits=2, strides=2, name="second")(x)
    result = folded_equally(keras.Model(inputs, layers.Conv2D(2, 3)(x)), 4)
    assert ("first_restoration", ("second_projection",)) in [
        (item.layer, item.into) for item in result.folded
    ]


def test_gf2_and_plain_codes_are_left_as_they_are():
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    inputs = keras.Input((8, 6, 3))
    x = layers.Conv2D(4, 1, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="bn")(x))
    plain = CodeQuantizer(4, form="unsigned", name="plain")
    x = plain(x)
    x = layers.ReLU()(layers.Conv2D(4, 3, padding="same", name="reader")(x))
    gf2 = GF2Bottleneck(12, bits=4, name="gf2")
    x = gf2(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    randomise(model, 5)
    plain.set_range(0, 2.0)
    gf2.quantizer.set_range(0, 3.0)
    result = fold(model)
    assert [item.layer for item in result.folded] == ["bn"]
    assert result.kept == ()
    x = np.random.default_rng(6).normal(size=(2, 8, 6, 3)).astype(np.float32)
    for name in ("plain", "gf2"):
        ours, theirs = (m.get_layer(name) for m in (model, result.model))
        assert ours is not theirs
        for old, new in zip(ours.weights, theirs.weights, strict=True):
            np.testing.assert_array_equal(np.array(old), np.array(new))
    codes = [
        np.array(keras.Model(m.input, m.get_layer("plain").output)(x))
        for m in (model, result.model)
    ]
    assert (np.abs(codes[0] - codes[1]) < 1e-5).mean() > 0.99


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
