"""Small models of each kind the whole way: one line of the coverage table each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import keras
import keras_models
import pytest
from keras import layers, ops
from support import shared_path, went_the_whole_way

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
from keras_coverage import row


def sequence() -> keras.Model:
    """Causal, dilated and separable 1-D convolutions with a residual, joined and pooled."""
    inputs = keras.Input((24, 3), name="imu")
    x = layers.Conv1D(8, 3, padding="causal", activation="relu")(inputs)
    y = layers.BatchNormalization()(layers.Conv1D(8, 3, padding="causal", dilation_rate=2)(x))
    x = layers.ReLU()(layers.Add()([x, y]))
    y = layers.SeparableConv1D(8, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling1D(2)(layers.Concatenate()([x, y]))
    return keras.Model(inputs, layers.Dense(3, name="out")(layers.GlobalAveragePooling1D()(x)))


def decoder() -> keras.Model:
    """A 1-D autoencoder that puts out a sequence and what lies in the middle."""
    inputs = keras.Input((16, 2))
    x = layers.Conv1D(6, 3, strides=2, padding="same", activation="relu", name="code")(inputs)
    y = layers.Conv1D(6, 3, padding="same", activation="tanh")(layers.UpSampling1D(2)(x))
    return keras.Model(inputs, [layers.Conv1DTranspose(2, 3, padding="same", name="again")(y), x])


def arithmetic() -> keras.Model:
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same")(inputs / 127.5 - 1.0)
    x = x * ops.relu6(x + 3.0) / 6.0
    a, b = ops.split(layers.Conv2D(8, 3, padding="same", activation="relu")(x), 2, axis=-1)
    x = ops.concatenate([ops.maximum(a, b), layers.Average()([a, b])], axis=-1)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(ops.mean(x, axis=(1, 2))))


def twins() -> keras.Model:
    """One network on two inputs, compared."""
    body = keras.Sequential(
        [
            keras.Input((10, 10, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(6),
        ],
        name="body",
    )
    one, other = keras.Input((10, 10, 1), name="one"), keras.Input((10, 10, 1), name="other")
    gap = ops.abs(body(one) - body(other))
    return keras.Model([one, other], layers.Dense(1, activation="sigmoid", name="same")(gap))


def activations() -> keras.Model:
    """Leaky ReLU, SiLU, tanh, bilinear resizing, a product and a sum."""
    inputs = keras.Input((10, 10, 2))
    x = layers.LeakyReLU(negative_slope=0.1)(layers.Conv2D(6, 3, padding="same")(inputs))
    y = layers.Conv2D(6, 3, strides=2, padding="same", activation="silu")(x)
    y = layers.UpSampling2D(2, interpolation="bilinear")(layers.Activation("tanh")(y))
    x = layers.Add()([layers.Multiply()([x, y]), y])
    return keras.Model(inputs, layers.Conv2D(4, 1, activation="softmax", name="mask")(x))


def augmented() -> keras.Model:
    flips = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)], name="flips")
    inputs = keras.Input((12, 12, 3))
    x = layers.Rescaling(1 / 255)(flips(inputs))
    x = layers.RandomContrast(0.2)(x)
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(layers.ZeroPadding2D(((0, 1), (0, 1)))(x))
    x = layers.Lambda(lambda t: ops.relu(t - 0.1) * 2)(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def transformer() -> keras.Model:
    """Patches as tokens: attention, layer normalisation, GELU; a residual around each."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Reshape((16, 8))(layers.Conv2D(8, 2, strides=2)(inputs))
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y)])
    y = layers.Dense(12, activation="gelu")(layers.LayerNormalization()(x))
    x = layers.LayerNormalization()(x + layers.Dense(8)(y))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def normalised() -> keras.Model:
    """Normalisation by groups and to unit length; exponential and smooth activations."""
    inputs = keras.Input((9, 9, 3))
    x = layers.Conv2D(8, 3, activation="elu")(inputs)
    x = layers.GroupNormalization(2)(layers.Conv2D(8, 3, activation="selu")(x))
    x = layers.Conv2D(6, 1, activation="mish")(layers.UnitNormalization()(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 1, activation="softplus")(x))
    return keras.Model(inputs, layers.LayerNormalization()(layers.Dense(5)(x)))


BUILT: dict[str, tuple[Callable[[], keras.Model], float]] = {
    "sequence": (sequence, 1.0),
    "decoder": (decoder, 1.0),
    "arithmetic": (arithmetic, 60.0),
    "twins": (twins, 1.0),
    "activations": (activations, 1.0),
    "augmented": (augmented, 60.0),
    "transformer": (transformer, 1.0),
    "normalised": (normalised, 1.0),
}


INDEPENDENT = ("both_ways_gru", "detector", "pyramid", "statistics")
"""Models with branches that TensorFlow's converter orders otherwise than Keras: other peaks."""


@pytest.mark.parametrize("name", keras_models.MODELS)
def test_models_of_each_kind_level_for_level(name: str) -> None:
    found = row(keras_models.MODELS[name], scale=keras_models.SCALE.get(name, 1.0))
    went_the_whole_way(found, profile_equal=name not in INDEPENDENT)


@pytest.mark.parametrize("name", BUILT)
def test_the_whole_way_level_for_level(name: str) -> None:
    build, scale = BUILT[name]
    found = row(build, scale=scale)
    went_the_whole_way(found)


def test_a_saved_model_with_augmentation_inside_converts() -> None:
    from deploy.convert import convert_path

    path = shared_path("cases/keras/c04d.keras")
    assert convert_path(path, calibration=path.with_suffix(".npy"))[4:8] == b"TFL3"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
