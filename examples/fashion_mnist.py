"""A small MobileNet-like network on Fashion-MNIST under a ceiling on its feature maps.

The images come from a folder with the four IDX files (Debian's dataset-fashion-mnist puts them
under /usr/share/datasets/fashion-mnist), or else from Keras' own loader.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import keras
import numpy as np
from keras import layers
from walk import Data, Epochs, print_table, walk

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
VALIDATION = 5000


def read_idx(folder: Path, name: str) -> np.ndarray:
    """Reads an IDX file of unsigned bytes, gzipped or not: images [N, H, W] or labels [N]."""
    packed, plain = folder / f"{name}.gz", folder / name
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes()
    rank = content[3]
    shape = np.frombuffer(content, ">i4", rank, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(folder: str | None, *, train_images: int) -> Data:
    """Returns Fashion-MNIST padded to 32x32 in [0, 1], with a validation split."""
    place = Path(folder) if folder else DEBIAN_FOLDER
    if folder or place.exists():
        x = read_idx(place, "train-images-idx3-ubyte")
        y = read_idx(place, "train-labels-idx1-ubyte")
        x_test = read_idx(place, "t10k-images-idx3-ubyte")
        y_test = read_idx(place, "t10k-labels-idx1-ubyte")
    else:
        (x, y), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()

    def prepare(images: np.ndarray) -> np.ndarray:
        padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
        return (padded[..., None] / 255).astype(np.float32)

    order = np.random.default_rng(0).permutation(len(x))
    validation, train = order[:VALIDATION], order[VALIDATION : VALIDATION + train_images]
    return Data(
        "Fashion-MNIST, 32x32",
        prepare(x[train]),
        y[train].astype(np.int32),
        prepare(x[validation]),
        y[validation].astype(np.int32),
        prepare(x_test),
        y_test.astype(np.int32),
    )


def small_mobilenet() -> keras.Model:
    """Depthwise separable units; most of its memory is in the first maps."""

    def unit(x: keras.KerasTensor, filters: int, strides: int = 1) -> keras.KerasTensor:
        x = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 1, use_bias=False)(x)
        return layers.ReLU(6.0)(layers.BatchNormalization()(x))

    inputs = layers.Input((32, 32, 1))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = unit(x, 24)
    for filters, strides in ((32, 2), (32, 1), (64, 2), (64, 1)):
        x = unit(x, filters, strides)
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(10, activation="softmax")(x)
    return keras.Model(inputs, outputs, name="fashion_mobilenet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of the IDX files; default: Debian's, else Keras'")
    parser.add_argument("--ceiling", type=float, default=0.5, help="part of the largest map")
    parser.add_argument("--epochs", type=int, nargs=3, default=[6, 4, 1])
    parser.add_argument("--train-images", type=int, default=55_000)
    parser.add_argument("--board", default="nano33ble")
    parser.add_argument("--out", default="out/fashion")
    parser.add_argument("--resume", action="store_true", help="load the stages that are in --out")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    data = load(arguments.data, train_images=arguments.train_images)
    outcome = walk(
        small_mobilenet,
        data,
        ceiling=arguments.ceiling,
        epochs=Epochs(*arguments.epochs),
        out=arguments.out,
        board=arguments.board,
        resume=arguments.resume,
        batch=128,
    )
    print_table(outcome, data)


if __name__ == "__main__":
    main()
