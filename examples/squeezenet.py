"""SqueezeNet 1.1 in Keras, with a place to compress what its first two fire modules squeeze.

The maps after the squeeze layers are what fusion leaves stored (Gudovskiy et al. 2018, §3.2): at
227×227 they are 56×56×16 twice, 28×28×32 twice, 14×14×48 and 14×14×64 twice each, 189.9 KB in
int8.

Source: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", arXiv
1602.07360, and the authors' version 1.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

Store = Callable[[Any, str], Any]
"""(squeezed map, name of its fire module) → what its expand layers read."""

SQUEEZED = {
    "fire2": 16, "fire3": 16, "fire4": 32, "fire5": 32,
    "fire6": 48, "fire7": 48, "fire8": 64, "fire9": 64,
}  # fmt: skip
"""Channels of each squeeze layer; the expand layers have four times as many, each."""

COMPRESSED = ("fire2", "fire3")
"""The modules whose squeezed maps the paper compresses."""


def squeezenet(size: int = 227, classes: int = 1000, *, store: Store | None = None) -> keras.Model:
    """Returns the classifier with random weights. Its pooling rounds up, as Caffe's does."""
    image = keras.Input((size, size, 3), name="image")
    x = fires(image, store=store, padding="valid")
    x = conv(classes, 1, name="conv10")(x)
    x = layers.GlobalAveragePooling2D(name="pool10")(x)
    return keras.Model(image, layers.Softmax(name="softmax")(x), name="squeezenet")


def fires(image: Any, *, store: Store | None, padding: str) -> Any:
    """Returns the map after fire9.

    Args:
        padding: of the first convolution and pooling: "valid" as in version 1.1, or "same".
    """
    x = conv(64, 3, strides=2, padding=padding, name="conv1")(image)
    x = layers.MaxPooling2D(3, 2, padding=padding, name="pool1")(x)
    for name, channels in SQUEEZED.items():
        if name in ("fire4", "fire6"):
            x = layers.MaxPooling2D(3, 2, padding="same", name=f"{name}_pool")(x)
        x = fire(x, channels, name, store if name in COMPRESSED else None)
    return x


def fire(x: Any, channels: int, name: str, store: Store | None) -> Any:
    """A fire module: squeeze to `channels`, expand by 1×1 and by 3×3, side by side."""
    x = conv(channels, 1, name=f"{name}_squeeze")(x)
    if store is not None:
        x = store(x, name)
    sides = [
        conv(4 * channels, window, padding="same", name=f"{name}_expand{window}")(x)
        for window in (1, 3)
    ]
    return layers.Concatenate(name=f"{name}_concat")(sides)


def conv(filters: int, window: int, **arguments: Any) -> layers.Layer:
    """A convolution with a ReLU, of random weights that keep the size of the values."""
    return layers.Conv2D(
        filters, window, activation="relu", kernel_initializer="he_uniform", **arguments
    )
