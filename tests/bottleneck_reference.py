"""NumPy oracles: the formulas of the project in their plainest form, float64, without Keras.

Tests compare the layers and the initialisation with these.
"""

from __future__ import annotations

import numpy as np


def second_moment(x: np.ndarray) -> np.ndarray:
    """Returns M = Σ xᵀx / n over all positions, C×C, not centred. `x` has channels last."""
    rows = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    return rows.T @ rows / len(rows)


def principal_directions(x: np.ndarray, rank: int) -> np.ndarray:
    """Returns the C×k orthonormal basis B that minimises ‖X - X B Bᵀ‖ over all n×C rows X of `x`.

    Its columns are the right singular vectors of X, largest singular value first (Eckart and
    Young); signs are arbitrary.
    """
    rows = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    return np.linalg.svd(rows, full_matrices=False)[2][:rank].T


def fake_quant(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns `x` rounded to the 256 levels of [low, high] shifted so that zero is a level.

    scale = (high - low) / 255; the zero code is -low / scale rounded half up.
    """
    scale = (high - low) / 255
    zero = np.clip(np.floor(-low / scale + 0.5), 0, 255)
    codes = np.clip(np.floor(np.asarray(x, np.float64) / scale + zero + 0.5), 0, 255)
    return (codes - zero) * scale


def projection_bottleneck(
    x: np.ndarray,
    projection: np.ndarray,
    restoration: np.ndarray,
    code_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Returns q(x P) R over the last axis; `code_range` None leaves the code in float."""
    code = np.asarray(x, np.float64) @ np.asarray(projection, np.float64)
    if code_range is not None:
        code = fake_quant(code, *code_range)
    return code @ np.asarray(restoration, np.float64)
