"""Ranges of activations from calibration data.

The samples run through the float model; each tensor that will be rounded is recorded, and its
range is the one with the least mean squared error of rounding and clipping together,

    E(low, high) = Σ inside scale² / 12 + Σ below (low - x)² + Σ above (x - high)²,
    scale = (high - low) / 255,

over a grid of ranges no wider than the data's. Exact zeros cost nothing, as zero is on every grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_fmc.layers.fake_quant import LEVELS

BINS = 2048
STEPS = 64
"""Candidates for each end of a range, from nothing to the extreme of the data."""

_SAMPLE = 1 << 18
"""Values of one tensor and batch that enter its histogram; extremes are taken of all of them."""


class TensorRecord:
    """What calibration saw of one tensor: extremes first, then a histogram between them."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0
        self.counts = np.zeros(BINS)
        self.zeros = 0.0

    def widen(self, x: np.ndarray) -> None:
        self.low = min(self.low, float(x.min()))
        self.high = max(self.high, float(x.max()))

    def count(self, x: np.ndarray) -> None:
        if self.low == self.high:
            return
        flat = x.reshape(-1)
        step = -(-flat.size // _SAMPLE)
        flat = flat[::step]
        self.counts += step * np.histogram(flat, BINS, (self.low, self.high))[0]
        self.zeros += step * np.count_nonzero(flat == 0)


def record(
    model: keras.Model, owners: Sequence[int], arrays: Sequence[np.ndarray], *, batch_size: int = 32
) -> dict[int, TensorRecord]:
    """Returns one record for each distinct owner of the outputs of `model`.

    Args:
        model: one output for each tensor to record.
        owners: for each output, whose record it belongs to.
        arrays: samples for each input.
    """
    records = {owner: TensorRecord() for owner in owners}
    passes: tuple[Callable[[TensorRecord, np.ndarray], None], ...] = (
        TensorRecord.widen,
        TensorRecord.count,
    )
    for note in passes:
        for start in range(0, len(arrays[0]), batch_size):
            batch = [array[start : start + batch_size] for array in arrays]
            outputs = model.predict_on_batch(batch if len(batch) > 1 else batch[0])
            for owner, output in zip(owners, keras.tree.flatten(outputs), strict=True):
                note(records[owner], np.asarray(output))
    return records


def best_range(seen: TensorRecord) -> tuple[float, float]:
    """Returns the range [low, high] ∋ 0 of least squared error; (0, 0) for a tensor of zeros."""
    if seen.low == seen.high:
        return 0.0, 0.0
    width = (seen.high - seen.low) / BINS
    centres = seen.low + width * (np.arange(BINS) + 0.5)
    lows = seen.low * np.arange(STEPS + 1) / STEPS if seen.low < 0 else np.zeros(1)
    highs = seen.high * np.arange(STEPS + 1) / STEPS if seen.high > 0 else np.zeros(1)
    clipped_low = _clipping(centres, seen.counts, lows)
    clipped_high = _clipping(-centres[::-1], seen.counts[::-1], -highs)
    below = np.searchsorted(centres, lows)
    above = np.searchsorted(centres, highs)
    total = np.concatenate([[0.0], np.cumsum(seen.counts)])
    inside = total[above][None, :] - total[below][:, None] - seen.zeros
    scale = (highs[None, :] - lows[:, None]) / LEVELS
    errors = np.maximum(inside, 0) * scale**2 / 12 + clipped_low[:, None] + clipped_high[None, :]
    low, high = np.unravel_index(int(np.argmin(errors)), errors.shape)
    return float(lows[low]), float(highs[high])


def _clipping(centres: np.ndarray, counts: np.ndarray, lows: np.ndarray) -> Any:
    """Σ (low - x)² over the bins below each of `lows`, by prefix sums; `centres` ascend."""
    zero, one, two = (
        np.concatenate([[0.0], np.cumsum(counts * centres**power)]) for power in (0, 1, 2)
    )
    below = np.searchsorted(centres, lows)
    return lows**2 * zero[below] - 2 * lows * one[below] + two[below]
