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


def threshold_gradient(gradient: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """The straight-through estimator of [sums > 0]: the gradient passes where |sums| ≤ 1."""
    return gradient * (np.abs(sums) <= 1)


def int8_kernel(kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns integers q and n and steps s, such that Σ q·bit + n > 0 is the device's decision.

    w ≈ s·q with |q| ≤ 127 and b - ½ ≈ s·n, for each output channel, the last axis; 127 s is the
    largest weight of the channel, or 2^-11 if that is more.
    """
    step = np.maximum(np.abs(kernel).max(axis=(0, 1, 2)), 2.0**-11) / 127
    return np.floor(kernel / step + 0.5), np.rint((bias - 0.5) / step), step


def convolve(x: np.ndarray, kernel: np.ndarray, strides: int) -> np.ndarray:
    """SAME convolution of a (N, H, W, C) map with a (w, w, C, K) kernel."""
    taps, size = _taps(x.shape[1:3], kernel.shape[0], strides)
    out = np.zeros((len(x), *size, kernel.shape[3]))
    for dy, dx, source, target in taps:
        out[:, target[0], target[1]] += x[:, source[0], source[1]] @ kernel[dy, dx]
    return out


def spread(y: np.ndarray, kernel: np.ndarray, strides: int, size: tuple[int, int]) -> np.ndarray:
    """The transposed convolution: (N, H', W', K) with a (w, w, K, C) kernel to (N, *size, C).

    Its matrix is the transpose of that of `convolve` on a map of `size`, but for the channels.
    """
    taps, _ = _taps(size, kernel.shape[0], strides)
    out = np.zeros((len(y), *size, kernel.shape[3]))
    for dy, dx, target, source in taps:
        out[:, target[0], target[1]] += y[:, source[0], source[1]] @ kernel[dy, dx]
    return out


def kernel_gradient(wide: np.ndarray, narrow: np.ndarray, window: int, strides: int) -> np.ndarray:
    """Σ over all positions of wide ⊗ narrow, (w, w, C, K): the gradient of `convolve` by its kernel
    for the input `wide` and the upstream gradient `narrow`."""
    taps, _ = _taps(wide.shape[1:3], window, strides)
    out = np.zeros((window, window, wide.shape[3], narrow.shape[3]))
    for dy, dx, source, target in taps:
        out[dy, dx] = np.einsum(
            "nhwc,nhwk->ck", wide[:, source[0], source[1]], narrow[:, target[0], target[1]]
        )
    return out


class GF2Oracle:
    """A GF(2) bottleneck of one P and one R, step by step, with its gradients.

    Args:
        compression, restoration: kernel (w, w, C·B, k) of P and (w, w, k, C·B) of R, with biases.
        levels: the 2^bits values of the code, ascending.
        gradient_scale: of eq. 6.
    """

    def __init__(
        self,
        compression: tuple[np.ndarray, np.ndarray],
        restoration: tuple[np.ndarray, np.ndarray],
        *,
        bits: int,
        strides: int,
        levels: np.ndarray,
        gradient_scale: float,
    ) -> None:
        self.bits, self.strides, self.levels = bits, strides, levels
        self.gradient_scale = gradient_scale
        self.window = compression[0].shape[0]
        self.p = int8_kernel(*compression)
        # R makes each pixel of a block with weights of its own, which have their own step.
        self.r = [int8_kernel(*part) for part in self._phases(*restoration)]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Returns the restored map; intermediate results stay in attributes."""
        step = self.levels[1] - self.levels[0]
        self.inside = (x >= self.levels[0]) & (x <= self.levels[-1])
        self.codes = np.rint((nearest_level(x, self.levels) - self.levels[0]) / step).astype(int)
        self.planes = bit_planes(self.codes, self.bits)
        q, n, self.p_step = self.p
        self.p_sums = convolve(self.planes, q, self.strides) + n
        self.stored = (self.p_sums > 0).astype(int)
        self.r_sums, self.r_step = self._restore(self.stored)
        self.restored = (self.r_sums > 0).astype(int)
        return self.levels[weigh_planes(self.restored, self.bits)]

    def backward(self, upstream: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the gradients by x, P, p, R and r of the last `forward`."""
        by_planes = weigh_planes_gradient(upstream, self.restored, self.bits)
        by_r_sums = threshold_gradient(by_planes, self.r_sums * self.r_step)
        weights = self._kernel_of_r()
        by_stored = convolve(by_r_sums, weights.transpose(0, 1, 3, 2), self.strides)
        by_p_sums = threshold_gradient(by_stored, self.p_sums * self.p_step)
        kernel = (self.p[0] * self.p_step).transpose(0, 1, 3, 2)
        by_bits = spread(by_p_sums, kernel, self.strides, self.planes.shape[1:3])
        by_codes = bit_planes_gradient(by_bits, self.bits, self.gradient_scale)
        by_r = kernel_gradient(by_r_sums, self.stored, self.window, self.strides)
        return {
            "x": by_codes * self.inside,
            "P": kernel_gradient(self.planes, by_p_sums, self.window, self.strides),
            "p": by_p_sums.sum(axis=(0, 1, 2)),
            "R": by_r.transpose(0, 1, 3, 2),
            "r": by_r_sums.sum(axis=(0, 1, 2)),
        }

    def _phases(self, kernel: np.ndarray, bias: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        parts = []
        for row in range(self.strides):
            for column in range(self.strides):
                part = np.zeros_like(kernel)
                own = slice(row, None, self.strides), slice(column, None, self.strides)
                part[own] = kernel[own]
                parts.append((part, bias))
        return parts

    def _restore(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(integer sums, their steps) of every plane of every pixel."""
        size = self.planes.shape[1:3]
        sums = np.zeros(self.planes.shape)
        steps = np.zeros(self.planes.shape)
        for phase, (q, n, step) in enumerate(self.r):
            own = self._pixels(phase, size)
            sums[own] = (spread(stored, q, self.strides, size) + n)[own]
            steps[own] = step
        return sums, steps

    def _pixels(self, phase: int, size: tuple[int, int]) -> tuple[slice, ...]:
        before = [_padding_before(length, self.window, self.strides) for length in size]
        row, column = divmod(phase, self.strides)
        first = (row - before[0]) % self.strides, (column - before[1]) % self.strides
        return (
            slice(None), slice(first[0], None, self.strides), slice(first[1], None, self.strides)
        )  # fmt: skip

    def _kernel_of_r(self) -> np.ndarray:
        return sum(q * step for q, _, step in self.r)


def _taps(
    size: tuple[int, ...], window: int, strides: int
) -> tuple[list[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]], tuple[int, int]]:
    """For each kernel element: the rows and columns of the wide map and of the narrow one."""
    narrow = -(-size[0] // strides), -(-size[1] // strides)
    taps = []
    for dy in range(window):
        for dx in range(window):
            pairs = []
            for delta, length, count in zip((dy, dx), size, narrow, strict=True):
                offset = delta - _padding_before(length, window, strides)
                first = max(0, -(offset // strides))
                stop = min(count, (length - 1 - offset) // strides + 1)
                start = first * strides + offset
                pairs.append(
                    (slice(start, start + (stop - first) * strides, strides), slice(first, stop))
                )
            taps.append((dy, dx, (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])))
    return taps, narrow


def _padding_before(length: int, window: int, strides: int) -> int:
    return max((-(-length // strides) - 1) * strides + window - length, 0) // 2


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
