"""The start of projections of stride 2 from data.

P starts from the uncentred PCA of the windows that it sees: of all linear codes of 2×2 blocks it
loses the least energy, and for the overlapping 3×3 windows it is a good one. R is the ridge
regression of the map on the codes that the transposed convolution lets each pixel see, which is the
least squares answer to P, overlaps, borders and rounding included.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from keras_fmc.layers.fake_quant import LEVELS
from keras_fmc.model.patches import patches, scattered
from keras_fmc.start.code_start import scaled_projection, unit_code
from keras_fmc.start.initialize import (
    Batches,
    Start,
    channel_ranges,
    energy_kept,
    equal_gain,
    principal_basis,
    ridge_regression,
    second_moment,
)


def window_start(
    batches: Batches,
    projection: np.ndarray | None,
    restoration: np.ndarray | None,
    *,
    rank: int,
    window: int,
    strides: int,
    bits: int | None,
    rng: np.random.Generator,
) -> Start:
    """Returns P of shape (w, w, C, k) and R of shape (w, w, k, C), with range and energy.

    Args:
        batches: returns the calibration activations (n, H, W, C) anew at each call; they are gone
            over several times.
        projection, restoration: kernels whose directions are to stay, such as random ones; both
            None for a start from data.
        rank: k.
        window, strides: of P and R.
        bits: of the code; below 8, P is scaled for `CodeForm.UNIT`.
        rng: for the sample of positions and rotations.
    """

    def windows() -> Iterator[np.ndarray]:
        for batch in batches():
            seen = patches(batch, window, strides)
            yield seen.reshape(-1, seen[0, 0, 0].size)

    channels = next(iter(batches())).shape[-1]
    if projection is None:
        flat = principal_basis(second_moment(windows()), rank)
    else:
        flat = np.asarray(projection, np.float64).reshape(-1, rank)
    below = 0
    gain = np.ones(rank)
    if bits is not None and bits < 8:
        scaled, below = scaled_projection(
            windows, flat, bits=bits, rotate=projection is None, rng=rng
        )
        gain = np.linalg.norm(scaled, axis=0) / np.linalg.norm(flat, axis=0)
        flat = scaled
    elif projection is None:
        gain = equal_gain(*channel_ranges(windows(), flat))
        flat = flat * gain
    low, high = (float(end) for end in _ends(bits, below, *channel_ranges(windows(), flat)))

    def codes() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The map and what each of its pixels sees of the code."""
        for batch in batches():
            seen = patches(batch, window, strides)
            values = seen.reshape(*seen.shape[:3], -1).astype(np.float64) @ flat
            if bits is not None and bits < 8:
                values = unit_code(values, bits, below)
            elif bits == 8 and low < high:
                values = _eight_bits(values, low, high)
            spread = scattered(values, window, strides, batch.shape[1:3])
            yield (
                batch.reshape(-1, channels).astype(np.float64),
                spread.reshape(-1, window * window * rank),
            )

    if restoration is None:
        weights = ridge_regression(codes())
    else:
        given = np.asarray(restoration, np.float64) / gain[:, None]
        weights = given.reshape(-1, channels)
    return Start(
        flat.reshape(window, window, channels, rank).astype(np.float32),
        weights.reshape(window, window, rank, channels).astype(np.float32),
        (low, high),
        energy_kept((x, seen @ weights) for x, seen in codes()),
    )


def identity_window(channels: int, rank: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns P and R that keep the first channels of the first pixel of each block of 2×2.

    Every pixel of the block gets them; what k has left over keeps channels of the other pixels, in
    the order of rows and columns.
    """
    projection = np.zeros((window, window, channels, rank))
    restoration = np.zeros((window, window, rank, channels))
    for pixel in range(4):
        tap = divmod(pixel, 2)
        for channel in range(channels):
            own = pixel * channels + channel
            if own < rank:
                projection[(*tap, channel, own)] = 1
            kept = own if own < rank else channel
            if kept < rank:
                restoration[(*tap, kept, channel)] = 1
    return projection, restoration


def random_window(
    channels: int, rank: int, window: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns P and R with Glorot-uniform entries, U(-a, a) with a = √(6 / (w²·(C + k)))."""
    limit = np.sqrt(6 / (window**2 * (channels + rank)))
    return (
        rng.uniform(-limit, limit, (window, window, channels, rank)),
        rng.uniform(-limit, limit, (window, window, rank, channels)),
    )


def _ends(bits: int | None, below: int, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    if bits is not None and bits < 8:
        return -below / max(2**bits - 1 - below, 1), 1.0
    return min(float(low.min()), 0.0), max(float(high.max()), 0.0)


def _eight_bits(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """The code of eight bits that `FakeQuant` makes: steps of (high - low) / 255 from zero."""
    scale = (high - low) / LEVELS
    zero = np.floor(-low / scale + 0.5)
    return (np.clip(np.floor(x.astype(np.float64) / scale + zero + 0.5), 0, LEVELS) - zero) * scale
