"""Small models that quantisation and conversion have to get through, trained on digits."""

from __future__ import annotations

import functools

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from keras_fmc import ProjectionBottleneck

MODELS = ("small_cnn", "residual_bottlenecks", "mobile", "nested_concat")


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test digits, 16×16×1 float32 in [0, 1], and their labels."""
    data = load_digits()
    x = np.kron(data.images / 16, np.ones((1, 2, 2)))[..., None].astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], data.target[order].astype(np.int32)
    return x[:1200], y[:1200], x[1200:], y[1200:]


@functools.cache
def trained(name: str) -> keras.Model:
    """One of `MODELS` after a few epochs; codes of its bottlenecks follow the batches."""
    x, y, _, _ = digits()
    keras.utils.set_random_seed(3)
    model = globals()[name]()
    return fit(model, x, y, epochs=9 if name == "residual_bottlenecks" else 6, rate=5e-3)


def fit(
    model: keras.Model, x: np.ndarray, y: np.ndarray, *, epochs: int, rate: float
) -> keras.Model:
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    model.optimizer.learning_rate = rate
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


def _unit(
    x: keras.KerasTensor, filters: int, window: int = 3, strides: int = 1, relu: bool = True
) -> keras.KerasTensor:
    x = layers.Conv2D(filters, window, strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.8)(x)
    return layers.ReLU()(x) if relu else x


def small_cnn() -> keras.Model:
    inputs = keras.Input((16, 16, 1))
    x = _unit(inputs, 8)
    x = layers.MaxPooling2D()(x)
    x = _unit(x, 16)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Dropout(0.1)(layers.Flatten()(x))
    x = layers.Dense(24, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="small_cnn")


def residual_bottlenecks() -> keras.Model:
    """Bottlenecks whose codes are read by a convolution and by an addition, and by two."""
    inputs = keras.Input((16, 16, 1))
    x = _unit(inputs, 12)
    x = ProjectionBottleneck(8, momentum=0.9, name="first")(x)
    y = _unit(_unit(x, 12), 12, relu=False)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = ProjectionBottleneck(8, momentum=0.9, name="second")(x)
    y = _unit(x, 16, strides=2)
    z = _unit(x, 16, window=1, strides=2)
    x = layers.Add()([y, z])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="residual")


def mobile() -> keras.Model:
    """Inverted residuals with ReLU6, depthwise convolutions and linear projections."""
    inputs = keras.Input((16, 16, 1))
    x = _unit(inputs, 8, strides=2)
    for filters, strides in ((8, 1), (12, 2)):
        y = layers.Conv2D(3 * x.shape[-1], 1, use_bias=False)(x)
        y = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.8)(y))
        if strides == 2:
            y = layers.ZeroPadding2D(((0, 1), (0, 1)))(y)
        y = layers.DepthwiseConv2D(
            3, strides, padding="valid" if strides == 2 else "same", use_bias=False
        )(y)
        y = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.8)(y))
        y = _unit(y, filters, window=1, relu=False)
        x = layers.Add()([x, y]) if x.shape == y.shape else y
    x = layers.GlobalAveragePooling2D()(_unit(x, 32, window=1))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="mobile")


def nested_concat() -> keras.Model:
    """A nested model whose branches are concatenated, each with a range of its own."""
    stem_in = keras.Input((16, 16, 1))
    stem = keras.Model(stem_in, layers.MaxPooling2D()(_unit(stem_in, 8)), name="stem")
    inputs = keras.Input((16, 16, 1))
    x = stem(inputs)
    branches = [_unit(x, 8, window=1), _unit(x, 8, relu=False), _unit(x, 4, window=5)]
    x = layers.Concatenate()(branches)
    x = layers.ReLU()(layers.MaxPooling2D()(x))
    x = layers.Flatten()(_unit(x, 8))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="nested")
