"""Folding on Keras models: the function stays, and what cannot be folded says why."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import keras
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from keras import layers

from keras_fmc import ProjectionBottleneck
from keras_fmc.fold import Folded, FoldResult, KeepReason, Kept, fold
from keras_fmc.layers.fake_quant import FakeQuant

BOUND = 1e-10
STOCK = """Activation Add AveragePooling2D Concatenate Conv2D Conv2DTranspose Cropping2D Dense
    DepthwiseConv2D Dropout Flatten GlobalAveragePooling2D InputLayer LeakyReLU MaxPooling2D ReLU
    Reshape UpSampling2D ZeroPadding2D FakeQuant"""
BLOCKS = """conv depthwise separable deconv bn bottleneck bottleneck relu residual concat avgpool
    maxpool pad crop up dropout fork"""


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def randomise(model: keras.Model, seed: int) -> None:
    """Weights of which no BN is near the identity; variances and a few scales are positive."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.normal(size=weight.shape) * 0.5
        if weight.name in ("moving_variance", "variance"):
            value = np.abs(value) + 0.3
        if weight.name == "gamma":
            value = np.where(rng.random(weight.shape) < 0.3, -1.0, 1.0) * (np.abs(value) + 0.3)
        if weight.name not in ("low", "high", "count", "seed_generator_state"):
            weight.assign(value)


def folded_equally(model: keras.Model, *, seed: int = 0) -> FoldResult:
    """Folds a model with random weights and checks that its function stays to 1e-10."""
    randomise(model, seed)
    before = [np.array(weight) for weight in model.weights]
    result = fold(model)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, np.array(weight), err_msg="the source model changed")
    x = np.random.default_rng(seed + 1).normal(size=(2, *model.input_shape[1:]))
    want, got = (keras.tree.flatten(m(x, training=False)) for m in (model, result.model))
    for a, b in zip(want, got, strict=True):
        a, b = np.array(a), np.array(b)
        assert a.dtype == np.float64
        assert np.abs(a).max() > 1e-6, "a dead model shows nothing"
        np.testing.assert_allclose(b, a, rtol=0, atol=BOUND * max(1.0, np.abs(a).max()))
    kinds = {type(layer).__name__ for layer in result.model.layers}
    assert kinds <= set(STOCK.split()), kinds - set(STOCK.split())
    return result


def functional(
    build: Callable[[keras.KerasTensor], object], shape: tuple[int, ...] = (8, 9, 4)
) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, build(inputs))


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


@settings(derandomize=True, max_examples=60, deadline=None, phases=[Phase.generate])
@given(st.data(), st.integers(1, 6), st.integers(0, 10**6))
def test_function_stays(data: st.DataObject, blocks: int, seed: int) -> None:
    grower = _Drawn(data.draw)
    x = inputs = keras.Input((7, 6, 4))
    for _ in range(blocks):
        x = grower.block(x)
    folded_equally(keras.Model(inputs, grower.head(x)), seed=seed)


def names(result: FoldResult) -> set[str]:
    return {folded.layer for folded in result.folded}


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


def bottleneck(rank: int, name: str = "p") -> ProjectionBottleneck:
    return ProjectionBottleneck(rank, bits=None, name=name)


def test_bottleneck_after_relu_leaves_p_and_gives_r_to_every_reader() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = bottleneck(2)(layers.ReLU(name="relu")(x))
        one = layers.Conv2D(3, 3, padding="same", dilation_rate=2, name="c1")(x)
        two = layers.Conv2D(3, 3, padding="same", strides=2, name="c2")(x)
        three = layers.Dense(3, name="d")(layers.GlobalAveragePooling2D()(x))
        four = layers.Dense(3, name="e")(layers.Flatten()(layers.AveragePooling2D(2)(x)))
        return [one, two, three, four]

    result = folded_equally(functional(build))
    (folded,) = result.folded
    assert folded.layer == "p_restoration"
    assert sorted(folded.into) == ["c1", "c2", "d", "e"]
    assert result.kept == (Kept("p_projection", KeepReason.NONLINEARITY, "relu", "p_projection"),)
    projection = result.model.get_layer("p_projection")
    assert type(projection) is layers.Conv2D
    assert projection.kernel.shape == (1, 1, 4, 2)
    assert not projection.use_bias
    assert result.model.get_layer("c1").kernel.shape == (3, 3, 2, 3)
    assert result.model.get_layer("e").kernel.shape == (4 * 4 * 2, 3)


def test_p_goes_into_a_linear_producer_with_its_bn() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.BatchNormalization(name="b")(layers.Conv2D(6, 3, name="c")(x))
        return layers.Conv2D(5, 3, name="d")(bottleneck(2)(layers.AveragePooling2D(2)(x)))

    result = folded_equally(functional(build))
    assert names(result) == {"b", "p_projection", "p_restoration"}
    assert result.kept == ()
    assert result.model.get_layer("c").kernel.shape == (3, 3, 4, 2)
    assert result.model.get_layer("d").kernel.shape == (3, 3, 2, 5)


def test_residual_addition_keeps_r_while_the_convolution_reads_the_code() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = bottleneck(2)(layers.ReLU()(x))
        y = layers.Conv2D(4, 3, padding="same", name="c")(x)
        return layers.Add(name="add")([x, y])

    result = folded_equally(functional(build))
    assert Folded("p_restoration", ("c",)) in result.folded
    assert Kept("p_restoration", KeepReason.ADDITION, "add", "p_restoration") in result.kept
    assert result.model.get_layer("p_restoration").kernel.shape == (1, 1, 2, 4)


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        (lambda: layers.DepthwiseConv2D(3, name="n"), KeepReason.DEPTHWISE),
        (lambda: layers.MaxPooling2D(name="n"), KeepReason.MAX_POOLING),
        (lambda: layers.GlobalMaxPooling2D(name="n"), KeepReason.MAX_POOLING),
        (lambda: layers.LeakyReLU(name="n"), KeepReason.NONLINEARITY),
        (lambda: layers.Conv2D(4, 3, groups=4, name="n"), KeepReason.GROUPED),
        (lambda: layers.Permute((3, 1, 2), name="n"), KeepReason.OPERATION),
    ],
)
def test_r_stays_and_says_why(reader: Callable[[], layers.Layer], reason: KeepReason) -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        return reader()(bottleneck(3)(layers.ReLU()(x)))

    model = functional(build)
    result = fold(model)
    assert Kept("p_restoration", reason, "n", "p_restoration") in result.kept


def test_r_at_a_model_output_stays() -> None:
    result = folded_equally(functional(lambda x: bottleneck(2)(layers.ReLU()(x))))
    assert Kept("p_restoration", KeepReason.MODEL_OUTPUT, "", "p_restoration") in result.kept


@pytest.mark.parametrize(
    ("before", "reason", "neighbour"),
    [
        (lambda x: x, KeepReason.MODEL_INPUT, ""),
        (lambda x: layers.DepthwiseConv2D(3, name="n")(x), KeepReason.DEPTHWISE, "n"),
        (lambda x: layers.Conv2D(4, 3, groups=2, name="n")(x), KeepReason.GROUPED, "n"),
        (
            lambda x: layers.Conv2D(4, 3, activation="relu", name="n")(x),
            KeepReason.NONLINEARITY,
            "n",
        ),
        (
            lambda x: layers.MaxPooling2D(name="n")(layers.Conv2D(4, 3)(x)),
            KeepReason.MAX_POOLING,
            "n",
        ),
        (lambda x: layers.Add(name="n")([x, x]), KeepReason.ADDITION, "n"),
    ],
)
def test_p_stays_and_says_why(
    before: Callable[[keras.KerasTensor], keras.KerasTensor], reason: KeepReason, neighbour: str
) -> None:
    result = folded_equally(
        functional(lambda x: layers.Conv2D(3, 1, name="after")(bottleneck(2)(before(x))))
    )
    assert result.kept == (Kept("p_projection", reason, neighbour, "p_projection"),)


def test_p_stays_where_its_producer_is_read_elsewhere() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.Conv2D(4, 3, padding="same", name="c")(x)
        y = layers.Conv2D(4, 1)(bottleneck(2)(x))
        return layers.Add()([x, y])

    result = folded_equally(functional(build))
    assert result.kept == (Kept("p_projection", KeepReason.OTHER_READERS, "c", "p_projection"),)


def test_r_crosses_a_concatenation_whose_readers_all_take_it() -> None:
    def build(x: keras.KerasTensor, last: layers.Layer) -> keras.KerasTensor:
        x = layers.ReLU()(x)
        joined = layers.Concatenate(name="cat")([x, bottleneck(2)(x), x])
        return last(joined)

    result = folded_equally(
        functional(lambda x: build(x, layers.Conv2D(3, 3, padding="same", name="c")))
    )
    assert Folded("p_restoration", ("c",)) in result.folded
    assert result.model.get_layer("c").kernel.shape == (3, 3, 4 + 2 + 4, 3)
    result = folded_equally(functional(lambda x: build(x, layers.MaxPooling2D())))
    assert Kept("p_restoration", KeepReason.CONCATENATION, "cat", "p_restoration") in result.kept


def test_r_crosses_nested_concatenations_and_shuffled_readers() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.ReLU()(x)
        inner = layers.Concatenate()([x, bottleneck(2)(x), x])
        outer = layers.Concatenate()([x, layers.Dropout(0.5)(inner), x])
        return layers.Dense(3, name="d")(layers.Flatten()(outer))

    result = folded_equally(functional(build))
    assert Folded("p_restoration", ("d",)) in result.folded
    assert result.model.get_layer("d").kernel.shape == (8 * 9 * (4 + 4 + 2 + 4 + 4), 3)


def test_r_read_twice_through_one_concatenation_stays() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.Dropout(0.5)(bottleneck(2)(layers.ReLU()(x)))
        joined = layers.Concatenate()([layers.Dropout(0.5)(x), layers.Dropout(0.4)(x)])
        return layers.Conv2D(3, 3, name="c")(joined)

    result = folded_equally(functional(build))
    assert Kept("p_restoration", KeepReason.CONCATENATION, "c", "p_restoration") in result.kept


def test_shared_reader_leaves_r_and_bn_in_place() -> None:
    shared = layers.Conv2D(4, 1, name="shared")

    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.BatchNormalization(name="b")(layers.ReLU()(x))
        x = bottleneck(2)(layers.ReLU()(shared(x)))
        return shared(x)

    result = folded_equally(functional(build))
    assert Kept("b", KeepReason.SHARED_LAYER, "shared", "b") in result.kept
    assert Kept("p_restoration", KeepReason.SHARED_LAYER, "shared", "p_restoration") in result.kept


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
        return layers.Conv2D(3, 3, name="c")(layers.ZeroPadding2D(name="pad")(x))

    result = folded_equally(functional(padded_after))
    assert result.kept == (Kept("b", KeepReason.OPERATION, "pad", "b"),)


def test_bn_behind_a_flattened_map_is_not_mistaken_for_one_on_channels() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.Flatten(name="f")(layers.Conv2D(2, 7, name="c")(x))
        return layers.LeakyReLU(name="r")(layers.BatchNormalization(name="b")(x))

    result = folded_equally(functional(build))
    assert result.kept == (Kept("b", KeepReason.NONLINEARITY, "r", "b"),)


def test_bn_after_r_makes_it_a_convolution_with_bias() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.BatchNormalization(name="b")(bottleneck(2)(layers.ReLU()(x)))
        return layers.LeakyReLU()(x)

    result = folded_equally(functional(build))
    assert result.folded == (Folded("b", ("p_restoration",)),)
    assert result.model.get_layer("p_restoration").use_bias

    def both(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.BatchNormalization(name="b")(bottleneck(2)(layers.ReLU()(x)))
        return [layers.LeakyReLU()(x), layers.Conv2D(3, 3, padding="same", name="c")(x)]

    result = folded_equally(functional(both))
    assert names(result) == {"b"}, "an R with a constant must not go into a padding reader"


def test_grouped_reader_takes_r_where_that_saves_multiplications() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = bottleneck(1)(layers.ReLU()(x))
        return layers.Conv2D(6, 3, padding="same", groups=2, name="c")(x)

    result = folded_equally(functional(build))
    assert Folded("p_restoration", ("c",)) in result.folded
    assert result.model.get_layer("c").groups == 1
    assert result.model.get_layer("c").kernel.shape == (3, 3, 1, 6)


def test_a_calibrated_code_quantiser_stays_between_p_and_r() -> None:
    inputs = keras.Input((6, 6, 4))
    layer = ProjectionBottleneck(2, bits=8, name="p")
    model = keras.Model(inputs, layers.Conv2D(3, 1)(layer(layers.ReLU()(inputs))))
    randomise(model, 1)
    assert not any(isinstance(one, FakeQuant) for one in fold(model).model.layers)
    layer.quantizer.set_range(-1.5, 3.0)
    result = fold(model)
    code = result.model.get_layer("p_code")
    assert isinstance(code, FakeQuant)
    assert code.range == (-1.5, 3.0)
    x = np.random.default_rng(2).normal(size=(2, 6, 6, 4))
    np.testing.assert_allclose(result.model(x), model(x), atol=1e-6)


def test_bottleneck_on_features_becomes_dense_layers() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.ReLU()(layers.Dense(6)(layers.Flatten()(x)))
        return layers.Dense(3, name="d")(bottleneck(2)(x))

    result = folded_equally(functional(build))
    assert type(result.model.get_layer("p_projection")) is layers.Dense
    assert result.model.get_layer("d").kernel.shape == (2, 3)


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
