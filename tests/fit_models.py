"""Small models of many kinds, each with an arena that rows of generated C alone do not reach."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers


def _conv(x, filters: int, size: int = 3, strides: int = 1, activation: str = "relu"):
    x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return x if activation == "linear" else layers.Activation(activation)(x)


def _depthwise(x, strides: int = 1, activation: str = "relu"):
    x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
    return layers.Activation(activation)(layers.BatchNormalization(momentum=0.9)(x))


def _inverted(x, filters: int, *, strides: int = 1, squeeze: bool = False, activation="relu6"):
    """An inverted residual, with squeeze and excitation where asked for."""
    before = x
    y = _conv(x, 4 * x.shape[-1], 1, activation=activation)
    y = _depthwise(y, strides, activation)
    if squeeze:
        wide = y.shape[-1]
        s = layers.GlobalAveragePooling2D(keepdims=True)(y)
        s = layers.Conv2D(wide // 4, 1, activation="relu")(s)
        s = layers.Conv2D(wide, 1, activation="sigmoid")(s)
        y = layers.Multiply()([y, s])
    y = _conv(y, filters, 1, activation="linear")
    return layers.Add()([before, y]) if strides == 1 and before.shape[-1] == filters else y


def _classes(x, count: int = 4):
    return layers.Dense(count)(layers.GlobalAveragePooling2D()(x))


def classifier() -> keras.Model:
    """Squeeze and excitation over a plain stem: the map waits until its means are known."""
    inputs = keras.Input((16, 16, 3))
    x = _conv(inputs, 16)
    s = layers.Dense(16, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 16))(s)])
    return keras.Model(inputs, _classes(_conv(x, 16, strides=2)), name="classifier")


def ds_cnn() -> keras.Model:
    inputs = keras.Input((25, 10, 1))
    x = layers.Conv2D(24, (10, 4), strides=(1, 2), padding="same", activation="relu")(inputs)
    for _ in range(2):
        x = _conv(_depthwise(x), 24, 1)
    wide = layers.Dense(4)(layers.Flatten()(x))
    return keras.Model(inputs, wide, name="ds_cnn")


def mobilenet_v2() -> keras.Model:
    inputs = keras.Input((24, 24, 3))
    x = _inverted(_conv(inputs, 8, activation="relu6"), 8)
    x = layers.Concatenate()([_inverted(x, 8), layers.UpSampling2D(4)(_conv(x, 8, strides=4))])
    return keras.Model(inputs, _classes(_inverted(x, 16, strides=2)), name="mobilenet_v2")


def mobilenet_v3() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    x = _conv(inputs, 8, activation="relu")
    x = _inverted(x, 8, squeeze=True, activation="relu")
    return keras.Model(inputs, _classes(_conv(x, 16, strides=2)), name="mobilenet_v3")


def unet() -> keras.Model:
    inputs = keras.Input((24, 24, 1))
    skips, x = [], inputs
    for filters in (8, 12):
        x = _conv(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = _conv(x, 16)
    for skip in reversed(skips):
        x = layers.Concatenate()([layers.UpSampling2D()(x), skip])
        x = _conv(x, skip.shape[-1])
    return keras.Model(inputs, layers.Conv2D(2, 1)(x), name="unet")


def fpn_detector() -> keras.Model:
    """Two scales joined from the top down, heads for boxes and classes at each."""
    inputs = keras.Input((24, 24, 3))
    fine = _conv(_conv(inputs, 8), 16)
    middle = _conv(fine, 16, strides=2)
    coarse = _conv(middle, 24, strides=2)
    top = _conv(coarse, 16, 1)
    down = layers.Add()([_conv(middle, 16, 1), layers.UpSampling2D()(top)])
    finest = layers.Add()([_conv(fine, 16, 1), layers.UpSampling2D()(down)])
    outputs = [
        layers.Conv2D(6, 3, padding="same", strides=s)(m) for m, s in ((top, 1), (finest, 4))
    ]
    return keras.Model(inputs, outputs, name="fpn_detector")


def autoencoder() -> keras.Model:
    """With a bypass around its middle."""
    inputs = keras.Input((16, 16, 1))
    first = _conv(inputs, 12)
    x = _conv(_conv(first, 12, strides=2), 16, strides=2)
    x = layers.Conv2DTranspose(12, 2, strides=2, activation="relu")(x)
    x = layers.Conv2DTranspose(12, 2, strides=2, activation="relu")(x)
    x = layers.Add()([x, first])
    return keras.Model(inputs, layers.Conv2D(1, 3, padding="same")(x), name="autoencoder")


def one_dimension() -> keras.Model:
    inputs = keras.Input((64, 3))
    first = layers.Conv1D(16, 5, padding="same", activation="relu")(inputs)
    x = layers.Conv1D(16, 5, padding="same", strides=4, activation="relu")(first)
    x = layers.Conv1D(16, 3, padding="same", activation="relu")(x)
    x = layers.Concatenate()([layers.UpSampling1D(4)(x), first])
    x = layers.Conv1D(8, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Conv1D(2, 1)(x), name="one_dimension")


def two_inputs() -> keras.Model:
    left, right = keras.Input((16, 16, 1), name="left"), keras.Input((16, 16, 1), name="right")
    one, other = _conv(left, 8), _conv(right, 8)
    deep = layers.UpSampling2D(4)(_conv(_conv(other, 16, strides=2), 8, strides=2))
    x = layers.Concatenate()([one, deep])
    return keras.Model([left, right], _classes(_conv(x, 8, strides=2)), name="two_inputs")


def resnet() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    x = _conv(inputs, 16)
    for _ in range(2):
        mean = layers.GlobalAveragePooling2D(keepdims=True)(x)
        y = layers.Multiply()([_conv(x, 16), layers.Conv2D(16, 1, activation="sigmoid")(mean)])
        x = layers.Activation("relu")(layers.Add()([x, y]))
    return keras.Model(inputs, _classes(x), name="resnet")


def fire() -> keras.Model:
    """Squeeze and expand, and a global mean that is added to every place."""
    inputs = keras.Input((16, 16, 3))
    x = _conv(inputs, 16)
    for _ in range(2):
        s = _conv(x, 8, 1)
        x = layers.Concatenate()([_conv(s, 8, 1), _conv(s, 8)])
        x = layers.Add()([x, layers.GlobalAveragePooling2D(keepdims=True)(x)])
    return keras.Model(inputs, _classes(x), name="fire")


def heads() -> keras.Model:
    """A class from the whole, then a mask that starts from the first map."""
    inputs = keras.Input((16, 16, 3))
    x = _conv(inputs, 16)
    deep = _conv(_conv(x, 16, strides=2), 16, strides=2)
    label = layers.Dense(3, name="label")(layers.Flatten()(deep))
    mask = layers.Conv2D(1, 1)(layers.Add()([x, layers.UpSampling2D(4)(deep)]))
    return keras.Model(inputs, [label, mask], name="heads")


MODELS: dict[str, tuple[Callable[[], keras.Model], float]] = {
    make.__name__: (make, share)
    for make, share in (
        (classifier, 0.7),
        (ds_cnn, 0.7),
        (mobilenet_v2, 0.8),
        (mobilenet_v3, 0.8),
        (unet, 0.7),
        (fpn_detector, 0.7),
        (autoencoder, 0.7),
        (one_dimension, 0.8),
        (two_inputs, 0.8),
        (resnet, 0.8),
        (fire, 0.8),
        (heads, 0.8),
    )
}
"""Name → maker, and the arena to ask for as a part of what rows alone need."""


def samples(model: keras.Model, count: int, *, seed: int = 0) -> list[np.ndarray]:
    """Smooth noise for each input."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(count, *tensor.shape[1:])).cumsum(axis=1).astype(np.float32) / 2
        for tensor in model.inputs
    ]
