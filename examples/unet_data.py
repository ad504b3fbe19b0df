"""Segmentation without a download: Fashion-MNIST objects on textured grounds, 96×96.

An image holds one to four tinted objects, scaled and mirrored at random, on a ground of gratings
and soft noise; where they overlap, the later one is in front. The mask has a class a pixel:

    0 ground, 1 top (shirt, T-shirt, pullover, coat), 2 trousers, 3 dress, 4 shoe, 5 bag

Nothing leaks between the splits: training and validation take objects of disjoint parts of
Fashion-MNIST's training set, the test those of its test set, and grounds are drawn for each image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fashion_mnist import DEBIAN_FOLDER, VALIDATION, read_idx

SIZE = 96
CLASSES = ("ground", "top", "trousers", "dress", "shoe", "bag")
CLASS_OF_LABEL = np.array([1, 2, 1, 3, 1, 4, 1, 4, 5, 4])
_INSIDE = 0.12
"""Grey value above which a pixel belongs to the object."""


@dataclass(frozen=True)
class Objects:
    """Grey images (n, 28, 28) in [0, 1] and the class of each."""

    images: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Split:
    """Images (n, 96, 96, 3) in [0, 1], float32, and masks (n, 96, 96), int32."""

    x: np.ndarray
    y: np.ndarray


def objects(folder: str | None = None) -> dict[str, Objects]:
    """Returns the objects of "train", "validation" and "test", which share none.

    Args:
        folder: with the four IDX files; default: where Debian's dataset-fashion-mnist puts them.
    """
    place = Path(folder) if folder else DEBIAN_FOLDER

    def read(name: str) -> Objects:
        images = read_idx(place, f"{name}-images-idx3-ubyte").astype(np.float32) / 255
        return Objects(images, CLASS_OF_LABEL[read_idx(place, f"{name}-labels-idx1-ubyte")])

    known, test = read("train"), read("t10k")
    order = np.random.default_rng(0).permutation(len(known.images))
    validation, train = order[:VALIDATION], order[VALIDATION:]
    return {
        "train": Objects(known.images[train], known.classes[train]),
        "validation": Objects(known.images[validation], known.classes[validation]),
        "test": test,
    }


def compose(source: Objects, count: int, *, seed: int) -> Split:
    """Returns `count` images with their masks; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    x = np.empty((count, SIZE, SIZE, 3), np.float32)
    y = np.zeros((count, SIZE, SIZE), np.int32)
    for image, mask in zip(x, y, strict=True):
        image[:] = _ground(rng)
        for _ in range(rng.integers(1, 5)):
            _put(image, mask, source, rng)
    noise = rng.normal(scale=0.02, size=x.shape).astype(np.float32)
    return Split(np.clip(x + noise, 0, 1), y)


def _ground(rng: np.random.Generator) -> np.ndarray:
    """Two colours mixed by gratings of random direction and by noise that is smooth."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    mix = np.zeros((SIZE, SIZE), np.float32)
    for _ in range(rng.integers(1, 4)):
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 40)
        phase = (np.cos(angle) * rows + np.sin(angle) * columns) * (2 * np.pi / period)
        mix += np.sin(phase + rng.uniform(0, 2 * np.pi)) * np.float32(rng.uniform(0.2, 1))
    cells = int(rng.integers(3, 25))
    mix += 1.5 * _resized(rng.normal(size=(cells, cells)).astype(np.float32), SIZE, SIZE)
    mix = 1 / (1 + np.exp(-mix))
    low, high = rng.uniform(0, 0.8, size=(2, 3)).astype(np.float32)
    return low + mix[..., None] * (high - low)


def _put(image: np.ndarray, mask: np.ndarray, source: Objects, rng: np.random.Generator) -> None:
    index = int(rng.integers(len(source.images)))
    height, width = (int(size) for size in rng.integers(26, 53, 2))
    grey = _resized(source.images[index], height, width)
    if rng.random() < 0.5:
        grey = grey[:, ::-1]
    # Up to a third may lie outside.
    top = int(rng.integers(-height // 3, SIZE - 2 * height // 3))
    left = int(rng.integers(-width // 3, SIZE - 2 * width // 3))
    rows = slice(max(0, top), min(SIZE, top + height))
    columns = slice(max(0, left), min(SIZE, left + width))
    grey = grey[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    inside = grey > _INSIDE
    tint = rng.uniform(0.3, 1, 3).astype(np.float32)
    image[rows, columns][inside] = (0.15 + 0.85 * grey[..., None] * tint)[inside]
    mask[rows, columns][inside] = source.classes[index]


def _resized(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, corners aligned."""
    rows = np.linspace(0, values.shape[0] - 1, height, dtype=np.float32)
    columns = np.linspace(0, values.shape[1] - 1, width, dtype=np.float32)
    return _between(_between(values, rows, 0), columns, 1)


def _between(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    low = np.minimum(places.astype(int), values.shape[axis] - 2)
    share = (places - low).reshape((-1, 1) if axis == 0 else (1, -1))
    return values.take(low, axis) * (1 - share) + values.take(low + 1, axis) * share


def mean_iou(predicted: np.ndarray, masks: np.ndarray) -> float:
    """Returns the mean over the classes of intersection by union, over all pixels together."""
    count = len(CLASSES)
    both = np.bincount(masks.ravel() * count + predicted.ravel(), minlength=count * count)
    table = both.reshape(count, count)
    hit = np.diag(table)
    return float((hit / np.maximum(table.sum(0) + table.sum(1) - hit, 1)).mean())
