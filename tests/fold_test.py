"""Folding on Keras models: the function stays; batch normalisation and what stays apart."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from keras import layers

from keras_fmc import ProjectionBottleneck
from keras_fmc.fold.fold import Folded, KeepReason, Kept, fold
from tests.fold_models import bottleneck, folded_equally, functional, names, randomise

pytestmark = pytest.mark.usefixtures("float64")
BLOCKS = """conv depthwise separable deconv bn bottleneck bottleneck relu residual concat avgpool
    maxpool pad crop up dropout fork"""


class _Drawn:
    """Grows a random model out of what folding has to get through."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.count = 0

    def block(self, x: keras.KerasTensor) -> keras.KerasTensor:
        kind = self.draw(st.sampled_from(BLOCKS.split()))
        return getattr(self, kind)(x)

    def conv(self, x: keras.KerasTensor) -> keras.KerasTensor:
        channels = x.shape[-1]
        filters = self.draw(st.sampled_from([2, 4, 6]))
        groups = 2 if channels % 2 == 0 and self.draw(st.booleans()) else 1
        stride = self.draw(st.sampled_from([1, 1, 2]))
        padding, window = self.draw(st.sampled_from([("same", 1), ("same", 3), ("valid", 2)]))
        dilation = self.draw(st.sampled_from([1, 2])) if stride == 1 else 1
        if min(x.shape[1:3]) <= (window - 1) * dilation:
            padding = "same"
        return layers.Conv2D(
            filters, window, strides=stride, padding=padding, dilation_rate=dilation,
            groups=groups, use_bias=self.draw(st.booleans()),
            activation=self.draw(st.sampled_from([None, None, "relu"])),
        )(x)  # fmt: skip

    def depthwise(self, x: keras.KerasTensor) -> keras.KerasTensor:
        multiplier = self.draw(st.sampled_from([1, 2]))
        bias = self.draw(st.booleans())
        return layers.DepthwiseConv2D(
            3, padding="same", depth_multiplier=multiplier, use_bias=bias
        )(x)

    def separable(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.SeparableConv2D(4, 3, padding="same", use_bias=self.draw(st.booleans()))(x)

    def deconv(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.Conv2DTranspose(3, 3, strides=1, padding="same")(x)

    def bn(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.BatchNormalization(
            center=self.draw(st.booleans()), scale=self.draw(st.booleans())
        )(x)

    def bottleneck(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return ProjectionBottleneck(self.draw(st.integers(1, x.shape[-1])), bits=None)(x)

    def relu(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.LeakyReLU(0.3)(x)

    def residual(self, x: keras.KerasTensor) -> keras.KerasTensor:
        y = layers.Conv2D(x.shape[-1], 3, padding="same")(x)
        return layers.Add()([x, self.bn(y)])

    def concat(self, x: keras.KerasTensor) -> keras.KerasTensor:
        left, right = layers.Conv2D(2, 1)(x), x
        if self.draw(st.booleans()):
            left = ProjectionBottleneck(1, bits=None)(left)
        if self.draw(st.booleans()):
            right = self.bn(right)
        return layers.Concatenate()([left, right])

    def fork(self, x: keras.KerasTensor) -> keras.KerasTensor:
        y = self.bottleneck(x)
        return layers.Add()([layers.Conv2D(3, 1)(y), layers.Conv2D(3, 3, padding="same")(y)])

    def avgpool(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.AveragePooling2D(2, padding="same")(x)

    def maxpool(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.MaxPooling2D(2, padding="same")(x)

    def pad(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.ZeroPadding2D(((0, 1), (1, 0)))(x)

    def crop(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.Cropping2D(((0, 1), (0, 0)))(x) if x.shape[1] > 2 else x

    def up(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.UpSampling2D(2)(x) if x.shape[1] < 8 else x

    def dropout(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.Dropout(0.5)(x)

    def head(self, x: keras.KerasTensor) -> object:
        kind = self.draw(st.sampled_from(["flatten", "gap", "reshape", "maps"]))
        if kind == "maps":
            return [x, self.bn(x)]
        if kind == "flatten":
            x = layers.Flatten()(x)
        elif kind == "reshape":
            x = layers.Reshape((-1,))(x)
        else:
            x = layers.GlobalAveragePooling2D()(x)
        return layers.Dense(3)(self.bn(layers.Dense(5)(x)))


@pytest.mark.long
@settings(derandomize=True, max_examples=60, deadline=None, phases=[Phase.generate])
@given(st.data(), st.integers(1, 6), st.integers(0, 10**6))
def test_function_stays(data: st.DataObject, blocks: int, seed: int) -> None:
    grower = _Drawn(data.draw)
    x = inputs = keras.Input((7, 6, 4))
    for _ in range(blocks):
        x = grower.block(x)
    folded_equally(keras.Model(inputs, grower.head(x)), seed=seed)


def test_bn_goes_into_conv_depthwise_dense_and_transposed_conv() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.BatchNormalization(name="b1")(layers.Conv2D(3, 3, use_bias=False, name="c")(x))
        x = layers.ReLU()(x)
        x = layers.BatchNormalization(name="b2")(layers.DepthwiseConv2D(3, name="d")(x))
        x = layers.ReLU()(x)
        x = layers.BatchNormalization(name="b3")(layers.Conv2DTranspose(3, 2, name="t")(x))
        x = layers.Flatten()(layers.ReLU()(x))
        return layers.BatchNormalization(name="b4")(layers.Dense(4, name="e")(x))

    result = folded_equally(functional(build))
    assert result.folded == tuple(
        Folded(bn, (layer,)) for bn, layer in [("b1", "c"), ("b2", "d"), ("b3", "t"), ("b4", "e")]
    )
    assert result.kept == ()
    assert result.model.get_layer("c").use_bias


def test_bn_before_a_valid_convolution_goes_into_it() -> None:
    result = folded_equally(
        functional(lambda x: layers.Conv2D(3, 3, name="c")(layers.BatchNormalization(name="b")(x)))
    )
    assert result.folded == (Folded("b", ("c",)),)


def test_bn_with_a_constant_before_a_padded_convolution_stays_as_depthwise() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.BatchNormalization(name="b")(layers.ReLU()(x))
        return layers.Conv2D(3, 3, padding="same", name="c")(x)

    result = folded_equally(functional(build))
    assert result.kept == (Kept("b", KeepReason.BORDER, "c", "b"),)
    assert type(result.model.get_layer("b")) is layers.DepthwiseConv2D
    assert "pads with zeros" in str(result.kept[0])


def test_bn_read_twice_goes_into_both_or_into_none() -> None:
    def build(x: keras.KerasTensor, padding: str) -> keras.KerasTensor:
        x = layers.BatchNormalization(name="b")(layers.ReLU()(x))
        one = layers.Conv2D(3, 1, name="c1")(x)
        two = layers.Conv2D(3, 3, padding=padding, name="c2")(layers.Dropout(0.2)(x))
        return [one, two]

    result = folded_equally(functional(lambda x: build(x, "valid")))
    assert [(folded.layer, sorted(folded.into)) for folded in result.folded] == [
        ("b", ["c1", "c2"])
    ]
    result = folded_equally(functional(lambda x: build(x, "same")))
    assert result.kept == (Kept("b", KeepReason.BORDER, "c2", "b"),)


def test_bn_on_features_stays_as_depthwise_between_reshapes() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.ReLU()(layers.Dense(5)(layers.Flatten()(x)))
        return layers.LeakyReLU(name="after")(layers.BatchNormalization(name="b")(x))

    result = folded_equally(functional(build))
    assert result.kept == (Kept("b", KeepReason.NONLINEARITY, "after", "b"),)
    assert type(result.model.get_layer("b")) is layers.DepthwiseConv2D


def test_bn_in_training_mode_or_on_another_axis_is_left_alone() -> None:
    inputs = keras.Input((4, 4, 4))
    x = layers.BatchNormalization(name="b1")(layers.Conv2D(4, 1)(inputs), training=True)
    x = layers.BatchNormalization(axis=1, name="b2")(layers.Conv2D(4, 1)(x))
    result = fold(keras.Model(inputs, x))
    assert result.folded == ()
    assert result.kept == (
        Kept("b1", KeepReason.TRAINING_STATISTICS),
        Kept("b2", KeepReason.AXIS),
    )


def test_shared_convolution_keeps_its_weights() -> None:
    shared = layers.Conv2D(4, 3, padding="same", name="shared")

    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        return shared(layers.ReLU()(layers.BatchNormalization(name="b")(shared(x))))

    result = folded_equally(functional(build))
    assert names(result) == set()
    assert result.kept[0].reason is KeepReason.NONLINEARITY


def test_rescaling_at_the_input_becomes_an_untrained_depthwise_convolution() -> None:
    result = folded_equally(
        functional(lambda x: layers.Conv2D(3, 3)(layers.Rescaling(1 / 256, name="r")(x)))
    )
    assert result.kept == (Kept("r", KeepReason.PREPROCESSING, "", "r"),)
    assert not result.model.get_layer("r").trainable
    result = folded_equally(
        functional(lambda x: layers.Conv2D(3, 3, name="c")(layers.Rescaling(2.0, -1, name="r")(x)))
    )
    assert result.folded == (Folded("r", ("c",)),)


def test_normalization_is_folded() -> None:
    normalization = layers.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 2, 3, 4], name="n")
    result = folded_equally(functional(lambda x: layers.Conv2D(3, 1, name="c")(normalization(x))))
    assert result.folded == (Folded("n", ("c",)),)


def test_constants_do_not_cross_padding_but_maps_do() -> None:
    def build(x: keras.KerasTensor, last: layers.Layer) -> keras.KerasTensor:
        x = layers.ZeroPadding2D(name="pad")(layers.Conv2D(4, 1, name="c")(x))
        return layers.LeakyReLU(name="r")(last(x))

    result = folded_equally(functional(lambda x: build(x, layers.BatchNormalization(name="b"))))
    assert result.kept == (Kept("b", KeepReason.NONLINEARITY, "r", "b"),)
    plain = layers.BatchNormalization(center=False, moving_mean_initializer="zeros", name="b")
    model = functional(lambda x: build(x, plain))
    randomise(model, 0)
    plain.moving_mean.assign(np.zeros(4))
    assert fold(model).folded == (Folded("b", ("c",)),)

    def padded_after(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.BatchNormalization(name="b")(layers.ReLU()(x))
        return layers.Conv2D(3, 3, name="c")(layers.ZeroPadding2D(2, name="pad")(x))

    result = folded_equally(functional(padded_after))
    assert result.kept == (Kept("b", KeepReason.OPERATION, "pad", "b"),)


def test_bn_behind_a_flattened_map_is_not_mistaken_for_one_on_channels() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.Flatten(name="f")(layers.Conv2D(2, 7, name="c")(x))
        return layers.LeakyReLU(name="r")(layers.BatchNormalization(name="b")(x))

    result = folded_equally(functional(build))
    assert result.kept == (Kept("b", KeepReason.NONLINEARITY, "r", "b"),)


def test_nested_models_and_reused_names() -> None:
    inner = keras.Sequential(
        [
            keras.Input((8, 9, 4)),
            layers.Conv2D(4, 3, padding="same", name="c"),
            layers.BatchNormalization(name="b"),
            layers.ReLU(),
        ],
        name="inner",
    )
    result = folded_equally(functional(lambda x: layers.Conv2D(2, 1, name="c")(inner(x))))
    assert result.folded == (Folded("inner_b", ("inner_c",)),)


def test_separable_convolution_becomes_two() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.SeparableConv2D(
            5, 3, strides=2, padding="same", activation="relu", depth_multiplier=2, name="s"
        )(x)
        return layers.Conv2D(3, 1)(bottleneck(2)(x))

    result = folded_equally(functional(build))
    assert type(result.model.get_layer("s_depthwise")) is layers.DepthwiseConv2D
    assert type(result.model.get_layer("s")) is layers.Conv2D
    assert Kept("p_projection", KeepReason.NONLINEARITY, "s", "p_projection") in result.kept


def test_trainable_flags_and_regularisers_stay() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.Conv2D(
            3, 3, name="c", kernel_regularizer=keras.regularizers.L2(0.1),
            kernel_constraint=keras.constraints.UnitNorm(), trainable=False,
        )(x)  # fmt: skip
        return layers.BatchNormalization()(x)

    conv = fold(functional(build)).model.get_layer("c")
    assert not conv.trainable
    assert float(conv.kernel_regularizer.l2) == pytest.approx(0.1)
    assert conv.kernel_constraint is None


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
