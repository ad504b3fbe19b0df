"""What the positions of strided convolutions see, in NumPy, for fitting their kernels to data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from keras_fmc.padding import same_padding


def patches(x: np.ndarray, window: int, strides: int) -> np.ndarray:
    """Returns what each output of a SAME convolution sees, shape (n, H', W', w, w, C)."""
    n, *size, channels = x.shape
    narrow = [-(-length // strides) for length in size]
    out = np.zeros((n, *narrow, window, window, channels), x.dtype)
    for dy, dx, wide, own in _overlaps(size, window, strides):
        out[:, own[0], own[1], dy, dx] = x[:, wide[0], wide[1]]
    return out


def scattered(x: np.ndarray, window: int, strides: int, size: tuple[int, int]) -> np.ndarray:
    """Returns what each output of a transposed convolution of x (n, H', W', k) sees.

    Shape (n, *size, w, w, k), 0 where a kernel element meets no input.
    """
    out = np.zeros((len(x), *size, window, window, x.shape[-1]), x.dtype)
    for dy, dx, wide, own in _overlaps(size, window, strides):
        out[:, wide[0], wide[1], dy, dx] = x[:, own[0], own[1]]
    return out


def _overlaps(
    size: tuple[int, int] | list[int], window: int, strides: int
) -> Iterator[tuple[int, int, list[slice], list[slice]]]:
    """Kernel element → the rows and columns of the wide map and of the narrow one that it joins."""
    for dy in range(window):
        for dx in range(window):
            wide, own = [], []
            for tap, length in zip((dy, dx), size, strict=True):
                offset = tap - same_padding(length, window, strides)[0]
                rows = np.arange(-(-length // strides))
                rows = rows[(rows * strides + offset >= 0) & (rows * strides + offset < length)]
                first, stop = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
                own.append(slice(first, stop))
                start = max(first * strides + offset, 0)
                wide.append(slice(start, start + (stop - first) * strides, strides))
            yield dy, dx, wide, own
