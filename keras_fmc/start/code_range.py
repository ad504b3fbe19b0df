"""The range of a code of few bits, from data.

At few bits the extremes of the data are a poor range: what clips a little rounds less. The range
taken is the one of least squared error over a histogram of the values x,

    E(low, high) = Σ (q(x) - x)²,

where q rounds to the levels of the code, rounding and clipping together.
"""

from __future__ import annotations

import numpy as np

from keras_fmc.model.ranges import BINS, STEPS, TensorRecord
from keras_fmc.start.initialize import Batches

_LOWEST = 1 / 32
"""Candidates for each end go down to this part of the extreme."""


def code_range(batches: Batches, *, bits: int, signed: bool) -> tuple[float, float]:
    """Returns [low, high] ∋ 0 of least squared error for a code of UNSIGNED or FREE form.

    Args:
        batches: returns the calibration activations anew at each call; they are gone over twice.
        bits: of the code.
        signed: whether low may be below 0; otherwise it is 0, or the data's extreme where that is
            negative, for the quantiser to refuse.
    """
    seen = TensorRecord()
    for batch in batches():
        seen.widen(batch)
    for batch in batches():
        seen.count(batch)
    if seen.low == seen.high or (seen.low < 0 and not signed):
        return seen.low, seen.high
    centres = seen.low + (seen.high - seen.low) / BINS * (np.arange(BINS) + 0.5)
    fractions = np.linspace(_LOWEST, 1, STEPS)
    highs = seen.high * fractions if seen.high > 0 else np.zeros(1)
    lows = seen.low * fractions if seen.low < 0 else np.zeros(1)
    best = (np.inf, seen.low, seen.high)
    n = 2**bits - 1
    for low in lows:
        spread = highs - low
        below = np.clip(np.floor(-low / spread * n + 0.5), 0, n)[:, None]
        scale = spread[:, None] / n
        rounded = np.clip(np.floor(centres / scale + 0.5), -below, n - below) * scale
        errors = (seen.counts * (rounded - centres) ** 2).sum(axis=1)
        place = int(errors.argmin())
        if errors[place] < best[0]:
            best = (float(errors[place]), float(low), float(highs[place]))
    return best[1], best[2]
