"""NumPy oracles of codes and of the GF(2) representation: float64 and integers, no Keras.

Tests compare the layers and the packed bytes with these. Equations are those of Gudovskiy,
Hodgkinson and Rigazio, "DNN Feature Map Compression using Learned Representation over GF(2)",
ECCV workshops 2018, §3.3. Maps are channels last; the B planes of channel c are the channels
c·B … c·B + B - 1, least significant first.
"""

from __future__ import annotations

import numpy as np


def code_levels(bits: int, form: str, low: float, high: float) -> np.ndarray:
    """Returns the 2^bits values of a code over [low, high], ascending (`CodeForm`)."""
    n = 2**bits - 1
    if form == "unsigned":
        return np.arange(n + 1) * (high / n)
    if form == "unit" and bits == 1:
        return np.array([-1.0, 1.0])
    below = int(np.floor(-low / (high - low) * n + 0.5))
    scale = 1 / max(below, n - below) if form == "unit" else (high - low) / n
    return (np.arange(n + 1) - below) * scale


def nearest_level(x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Returns the nearest of evenly spaced levels, the upper one of two equally near."""
    x = np.asarray(x, np.float64)
    step = levels[1] - levels[0]
    index = np.floor((x - levels[0]) / step + 0.5)
    return levels[np.clip(index, 0, len(levels) - 1).astype(int)]


def bit_planes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Eq. 3: (…, C) integers of 0 … 2^bits - 1 to (…, C·bits) zeros and ones."""
    planes = np.asarray(codes)[..., None] >> np.arange(bits) & 1
    return planes.reshape(*codes.shape[:-1], -1)


def weigh_planes(planes: np.ndarray, bits: int) -> np.ndarray:
    """Eq. 4: (…, C·bits) zeros and ones to (…, C) integers."""
    planes = np.asarray(planes).reshape(*planes.shape[:-1], -1, bits)
    return (planes * 2 ** np.arange(bits)).sum(-1)


def weigh_planes_gradient(gradient: np.ndarray, planes: np.ndarray, bits: int) -> np.ndarray:
    """Eq. 5: a plane gets the gradient of its channel where its bit is 1, and 0 elsewhere."""
    return np.repeat(gradient, bits, axis=-1) * (planes > 0)


def bit_planes_gradient(gradient: np.ndarray, bits: int, scale: float) -> np.ndarray:
    """Eq. 6: a channel gets the sum of the gradients of its planes, times a static scale."""
    return scale * gradient.reshape(*gradient.shape[:-1], -1, bits).sum(-1)


def binarize(x: np.ndarray) -> np.ndarray:
    """Returns 1 where x ≥ ½, else 0."""
    return (np.asarray(x) >= 0.5).astype(np.int64)


def binarize_gradient(gradient: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The straight-through estimator of a bit: the gradient passes where |x - ½| ≤ 1."""
    return gradient * (np.abs(np.asarray(x) - 0.5) <= 1)


def convolve(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Convolution of a (N, H, W, C) map with (h, w, C, K), zeros beyond the lower right edge.

    Output row i sees the input rows i·stride … i·stride + h - 1; there are ⌈H / stride⌉.
    """
    n, height, width, _ = x.shape
    h, w, _, k = kernel.shape
    rows, columns = -(-height // stride), -(-width // stride)
    padded = np.pad(x, ((0, 0), (0, h + stride), (0, w + stride), (0, 0)))
    out = np.zeros((n, rows, columns, k))
    for dy in range(h):
        for dx in range(w):
            seen = padded[:, dy : dy + rows * stride : stride, dx : dx + columns * stride : stride]
            out += seen[:, :rows, :columns] @ kernel[dy, dx]
    return out


def spread(y: np.ndarray, kernel: np.ndarray, stride: int, height: int, width: int) -> np.ndarray:
    """The transposed convolution: (N, H', W', K) with (h, w, K, C) to (N, height, width, C).

    Input row i adds to the output rows i·stride … i·stride + h - 1.
    """
    n, rows, columns, _ = y.shape
    h, w, _, c = kernel.shape
    out = np.zeros((n, rows * stride + h, columns * stride + w, c))
    for dy in range(h):
        for dx in range(w):
            target = out[:, dy : dy + rows * stride : stride, dx : dx + columns * stride : stride]
            target[:, :rows, :columns] += y @ kernel[dy, dx]
    return out[:, :height, :width]


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Returns the stored bytes of (…, k) codes, uint8 of shape (…, ⌈k·bits / 8⌉).

    Codes of 4, 2 and 1 bits fill a byte from its low end on. Of four codes of 6 bits, the first
    three are the low six bits of three bytes, and the fourth lies in their high two bits, least
    significant first. What is left of the last byte is 0.
    """
    codes = np.asarray(codes, np.int64)
    *outer, k = codes.shape
    if bits == 8:
        return codes.astype(np.uint8)
    if bits == 6:
        groups = []
        for first in range(0, k, 4):
            group = codes[..., first : first + 4]
            stored = group[..., :3].copy()
            if group.shape[-1] == 4:
                stored += (group[..., 3:] >> np.array([0, 2, 4]) & 3) << 6
            groups.append(stored)
        return np.concatenate(groups, axis=-1).astype(np.uint8)
    per_byte = 8 // bits
    fill = -k % per_byte
    codes = np.concatenate([codes, np.zeros((*outer, fill), np.int64)], axis=-1)
    grouped = codes.reshape(*outer, -1, per_byte)
    return (grouped << bits * np.arange(per_byte)).sum(-1).astype(np.uint8)
