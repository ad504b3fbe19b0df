"""Folding of P and R: where they go, and why they stay where they cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmc import ProjectionBottleneck
from keras_fmc.fold.fold import Folded, KeepReason, Kept, fold
from keras_fmc.layers.fake_quant import FakeQuant
from tests.fold_models import bottleneck, folded_equally, functional, names, randomise

pytestmark = pytest.mark.usefixtures("float64")


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


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
