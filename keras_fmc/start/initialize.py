"""The start of P and R: uncentred PCA of calibration data, with code channels of equal range.

Of all linear codes of k channels, the k leading eigenvectors B of the second-moment matrix
M = E[x xᵀ] lose the least energy: x̂ = B Bᵀ x minimises E‖x - x̂‖². M is not centred, because a
mean would need a bias in R, and a bias cannot be folded under zero padding.

int8 gives all channels of a code one scale. R P stays the same when P becomes G P and R becomes
R G⁻¹; the diagonal G that gives every channel the largest magnitude 1 wastes no levels. Signs are
chosen so that 1 is reached on the positive side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Batches = Callable[[], Iterable[np.ndarray]]

_NOISE = 1e-6
_RIDGE = 1e-4


@dataclass(frozen=True, slots=True)
class Start:
    """Where a bottleneck starts.

    Attributes:
        projection: P, float32 C×k.
        restoration: R, float32 k×C.
        code_range: smallest and largest code value over the data, widened to contain 0.
        energy_kept: 1 - E‖x - x P R‖² / E‖x‖² of the data; below 0 for a start that adds energy.
    """

    projection: np.ndarray
    restoration: np.ndarray
    code_range: tuple[float, float]
    energy_kept: float


def pca_start(batches: Batches, rank: int) -> Start:
    """Returns the start from uncentred PCA with equal ranges.

    Args:
        batches: returns the calibration activations, arrays of shape (…, C), anew at each call;
            they are gone over twice.
        rank: k ≤ C.
    """
    moment = second_moment(batches())
    basis = principal_basis(moment, rank)
    low, high = channel_ranges(batches(), basis)
    gain = equal_gain(low, high)
    ends = np.stack([low * gain, high * gain])
    return _start(moment, basis * gain, basis.T / gain[:, None], ends)


def given_start(batches: Batches, projection: np.ndarray, restoration: np.ndarray) -> Start:
    """Returns a start with P and R as they are, and the code range and energy of the data."""
    ends = np.stack(channel_ranges(batches(), projection))
    return _start(second_moment(batches()), projection, restoration, ends)


def second_moment(batches: Iterable[np.ndarray]) -> np.ndarray:
    """Returns M = Σ xᵀx / n over all positions of all batches, C×C in float64."""
    total: np.ndarray | float = 0.0
    positions = 0
    for batch in batches:
        rows = batch.reshape(-1, batch.shape[-1]).astype(np.float64)
        total = total + rows.T @ rows
        positions += len(rows)
    return np.asarray(total) / positions


def principal_basis(moment: np.ndarray, rank: int) -> np.ndarray:
    """Returns the `rank` leading eigenvectors of M as columns, C×k, largest eigenvalue first."""
    _, vectors = np.linalg.eigh(moment)
    return vectors[:, ::-1][:, :rank]


def channel_ranges(
    batches: Iterable[np.ndarray], projection: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the smallest and the largest value of each channel of x P, each of shape (k,)."""
    low = np.full(projection.shape[1], np.inf)
    high = np.full(projection.shape[1], -np.inf)
    for batch in batches:
        code = batch.reshape(-1, batch.shape[-1]).astype(np.float64) @ projection
        low = np.minimum(low, code.min(axis=0))
        high = np.maximum(high, code.max(axis=0))
    return low, high


def equal_gain(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns the diagonal of G, shape (k,), that brings every code channel to magnitude 1.

    The side of larger magnitude becomes the positive one. Channels below the float32 noise of the
    largest one hold nothing; they take its gain.

    Args:
        low, high: smallest and largest value of each channel.
    """
    extreme = np.where(high >= -low, high, low)
    largest = np.abs(extreme).max()
    if largest == 0:
        return np.ones_like(extreme)
    return 1 / np.where(np.abs(extreme) < _NOISE * largest, largest, extreme)


def random_start(
    channels: int, rank: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns P and R with Glorot-uniform entries, U(-a, a) with a = √(6 / (C + k))."""
    limit = np.sqrt(6 / (channels + rank))
    return (
        rng.uniform(-limit, limit, (channels, rank)),
        rng.uniform(-limit, limit, (rank, channels)),
    )


def identity_start(channels: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns P and R that keep the first k channels and drop the others."""
    return np.eye(channels, rank), np.eye(rank, channels)


def energy_kept(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns 1 - Σ‖x - y‖² / Σ‖x‖² over pairs (x, y) of equal shapes; 1 if all x are 0."""
    lost = energy = 0.0
    for x, y in pairs:
        x = x.astype(np.float64)
        lost += float(((x - y) ** 2).sum())
        energy += float((x**2).sum())
    return 1 - lost / energy if energy > 0 else 1.0


def ridge_regression(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Returns the k×C weights W of least Σ‖x - c W‖² + λ n ‖W‖² over pairs (x: n×C, c: n×k).

    λ is 1e-4 of the mean square of the columns of c.
    """
    moment: np.ndarray | float = 0.0
    target: np.ndarray | float = 0.0
    count = 0
    for x, code in pairs:
        moment = moment + code.T @ code
        target = target + code.T @ x
        count += len(x)
    moment = np.asarray(moment) / count
    ridge = _RIDGE * max(float(np.trace(moment)) / len(moment), 1e-12)
    return np.linalg.solve(moment + ridge * np.eye(len(moment)), np.asarray(target) / count)


def in_batches(arrays: Sequence[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    """Yields slices of at most `size` samples of all arrays."""
    for first in range(0, len(arrays[0]), size):
        yield [array[first : first + size] for array in arrays]


def _start(
    moment: np.ndarray, projection: np.ndarray, restoration: np.ndarray, ends: np.ndarray
) -> Start:
    error = np.eye(len(moment)) - projection @ restoration
    energy = np.trace(moment)
    lost = np.trace(error.T @ moment @ error) / energy if energy > 0 else 0.0
    return Start(
        projection.astype(np.float32),
        restoration.astype(np.float32),
        (min(float(ends.min()), 0.0), max(float(ends.max()), 0.0)),
        float(1 - lost),
    )
