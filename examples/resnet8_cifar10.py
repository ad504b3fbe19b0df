"""MLPerf Tiny's ResNet-8 on CIFAR-10 under a ceiling on its feature maps.

The images come from a folder with ``cifar10_jpeg.npz`` (CIFAR-10 stored as JPEG, which costs some
points of accuracy), or else from Keras' own loader. The reference weights are used where
``pretrainedResnet.h5`` is given.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import itertools

import keras
import numpy as np
from keras import layers, regularizers
from walk import Data, Epochs, print_table, walk

VALIDATION = 5000


def cifar10_jpeg(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Decodes the JPEG archive: (train images, labels, test images, labels), images 0..255."""
    import tensorflow as tf

    with np.load(path) as archive:
        parts = []
        for split in ("train", "test"):
            content = archive[f"{split}_jpeg"].tobytes()
            offsets = archive[f"{split}_offsets"]
            images = [
                tf.io.decode_jpeg(content[a:b]).numpy() for a, b in itertools.pairwise(offsets)
            ]
            parts += [np.stack(images), archive[f"{split}_labels"].astype(np.int32).ravel()]
    return parts[0], parts[1], parts[2], parts[3]


def load(path: str | None, *, train_images: int) -> Data:
    """Returns CIFAR-10 with a validation split from the training set, pixels 0..255 as float."""
    if path:
        x, y, x_test, y_test = cifar10_jpeg(Path(path))
        name = "CIFAR-10 (JPEG)"
    else:
        (x, y), (x_test, y_test) = keras.datasets.cifar10.load_data()
        y, y_test, name = y.ravel(), y_test.ravel(), "CIFAR-10"
    order = np.random.default_rng(0).permutation(len(x))
    validation, train = order[:VALIDATION], order[VALIDATION : VALIDATION + train_images]
    return Data(
        name,
        x[train].astype(np.float32),
        y[train],
        x[validation].astype(np.float32),
        y[validation],
        x_test.astype(np.float32),
        y_test,
    )


def resnet8() -> keras.Model:
    """The ResNet-8 of the MLPerf Tiny benchmark, pixels 0..255 in, probabilities out."""

    def convolution(x: keras.KerasTensor, filters: int, size: int, strides: int = 1):
        return layers.Conv2D(
            filters,
            size,
            strides,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=regularizers.L2(1e-4),
        )(x)

    inputs = layers.Input((32, 32, 3))
    x = layers.ReLU()(layers.BatchNormalization()(convolution(inputs, 16, 3)))
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        y = layers.ReLU()(layers.BatchNormalization()(convolution(x, filters, 3, strides)))
        y = layers.BatchNormalization()(convolution(y, filters, 3))
        if strides != 1:
            x = convolution(x, filters, 1, strides)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    outputs = layers.Dense(10, activation="softmax")(x)
    return keras.Model(inputs, outputs, name="resnet8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="cifar10_jpeg.npz; default: Keras' loader")
    parser.add_argument("--weights", help="pretrainedResnet.h5 of MLPerf Tiny")
    parser.add_argument("--ceiling", type=float, default=0.5, help="part of the largest map")
    parser.add_argument("--epochs", type=int, nargs=3, default=[2, 4, 1])
    parser.add_argument("--train-images", type=int, default=45_000)
    parser.add_argument("--board", default="nano33ble")
    parser.add_argument("--out", default="out/resnet8")
    parser.add_argument("--resume", action="store_true", help="load the stages that are in --out")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    data = load(arguments.data, train_images=arguments.train_images)

    def build() -> keras.Model:
        if arguments.weights:
            from keras_fmc.model.loading import load_model

            return load_model(arguments.weights)
        return resnet8()

    outcome = walk(
        build,
        data,
        ceiling=arguments.ceiling,
        epochs=Epochs(*arguments.epochs),
        out=arguments.out,
        board=arguments.board,
        resume=arguments.resume,
        float_rate=3e-4 if arguments.weights else 2e-3,
    )
    print_table(outcome, data)


if __name__ == "__main__":
    main()
