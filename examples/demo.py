"""End to end on data that ships inside scikit-learn: ``make demo``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from walk import Data, Epochs, print_table, walk


def digits() -> Data:
    """Returns the 1,797 digits of 8x8 pixels, each pixel made 4x4, as 32x32 images in [0, 1]."""
    loaded = load_digits()
    images = (loaded.images / 16).astype(np.float32)
    images = np.kron(images, np.ones((1, 4, 4), np.float32))[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    train, validation, test = np.split(order, [1100, 1400])
    y = loaded.target.astype(np.int32)
    return Data(
        "scikit-learn digits, 32x32",
        images[train],
        y[train],
        images[validation],
        y[validation],
        images[test],
        y[test],
    )


def small_cnn() -> keras.Model:
    """A small residual network whose first maps are far larger than its weights need."""

    def unit(x: keras.KerasTensor, filters: int, strides: int = 1) -> keras.KerasTensor:
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    inputs = layers.Input((32, 32, 1))
    x = unit(inputs, 16)
    x = layers.Add()([x, unit(unit(x, 16), 16)])
    x = unit(x, 32, 2)
    x = unit(x, 32)
    x = unit(x, 64, 2)
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(10, activation="softmax")(x)
    return keras.Model(inputs, outputs, name="digits_cnn")


def main() -> None:
    keras.utils.set_random_seed(0)
    data = digits()
    outcome = walk(
        small_cnn,
        data,
        ceiling=0.25,
        epochs=Epochs(float_model=8, rewritten=8, quantised=3),
        out="out/demo",
        board="nano33ble",
        batch=32,
    )
    print_table(outcome, data)


if __name__ == "__main__":
    main()
