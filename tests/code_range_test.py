"""The range of a code of few bits, against brute force."""

from __future__ import annotations

import sys

import gf2_reference as reference
import numpy as np
import pytest

from keras_fmc.start.code_range import code_range


def _values(seed: int, *, signed: bool) -> np.ndarray:
    """Values with long tails; rectified ones are zero for a good part."""
    x = np.random.default_rng(seed).laplace(size=(4, 20, 20, 3)).astype(np.float32)
    return x if signed else np.maximum(x - 0.3, 0)


def _error(x: np.ndarray, bits: int, low: float, high: float) -> float:
    levels = reference.code_levels(bits, "free" if low < 0 else "unsigned", low, high)
    return float(((reference.nearest_level(x, levels) - x) ** 2).mean())


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [6, 4, 2, 1])
def test_no_other_range_loses_clearly_less(bits, signed):
    if signed and bits == 1:
        pytest.skip("there is no signed code of one bit")
    x = _values(bits, signed=signed)
    low, high = code_range(lambda: [x[:1], x[1:]], bits=bits, signed=signed)
    found = _error(x, bits, low, high)
    rng = np.random.default_rng(0)
    others = [
        _error(x, bits, float(x.min()) * a if signed else 0.0, float(x.max()) * b)
        for a, b in rng.uniform(0.03, 1, (400, 2))
    ]
    assert found <= 1.03 * min(others)
    extremes = _error(x, bits, float(x.min()) if signed else 0.0, float(x.max()))
    assert found < {6: 1.0, 4: 0.95, 2: 0.6, 1: 0.4}[bits] * extremes
    assert (low < 0) == signed
    assert float(x.min()) <= low <= 0 < high <= float(x.max())


def test_values_on_the_grid_keep_it():
    x = np.random.default_rng(0).integers(0, 16, (2, 8, 8, 3)) * np.float32(0.2)
    low, high = code_range(lambda: [x], bits=4, signed=False)
    assert (low, high) == (0.0, pytest.approx(3.0))


def test_maps_of_zeros_and_unexpected_negative_values():
    zeros = np.zeros((1, 2, 2, 3), np.float32)
    assert code_range(lambda: [zeros], bits=4, signed=False) == (0.0, 0.0)
    x = np.array([[[[-0.5, 1.0]]]], np.float32)
    # Left for the quantiser to refuse.
    assert code_range(lambda: [x], bits=4, signed=False) == (-0.5, 1.0)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
