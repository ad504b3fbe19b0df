"""A start for projections whose code has fewer than eight bits.

A code in UNIT form (`CodeForm.UNIT`) has levels between -1 and 1, so P has to bring each channel to
that range. The largest magnitude is a poor measure at few bits: what clips a little rounds less.
Here each channel gets the gain g of least squared error

    E(g) = mean (q(g v) / g - v)²,    v = x P,

the split of levels between negative and positive is the one that loses least over all channels,
and R is the ridge regression of the map on the rounded code, so that it makes up for the rounding
where it can. At one and two bits it also pays to rotate the channels of a code among each other,
as signs of principal directions tell less and less from the first to the last; the rotation is that
of iterative quantisation (`keras_fmc.start.gf2_start`). The better of the two is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from keras_fmc.errors import BadInputError
from keras_fmc.layers.code_quantizer import check_code_bits, sign_thresholds
from keras_fmc.start.gf2_start import rotated_principal_directions
from keras_fmc.start.initialize import energy_kept, ridge_regression

Batches = Callable[[], Iterable[np.ndarray]]

_SAMPLES = 20_000
_GAINS = np.geomspace(1.0, 1 / 16, 25)
"""Candidates, in units of the largest magnitude of a channel."""
_SPLITS = 9
_ROTATED_BITS = (1, 2)
_SIGN_DEVIATION = 0.5
"""Standard deviation that channels of one bit get: the binariser's gradient passes within ±1."""


@dataclass(frozen=True, slots=True)
class CodeStart:
    """P and R for a code in UNIT form.

    Attributes:
        projection: P, float32 C×k.
        restoration: R, float32 k×C.
        code_range: what `CodeQuantizer.set_range` needs for the split of levels.
        energy_kept: 1 - E‖x - q(x P) R‖² / E‖x‖² of the data.
    """

    projection: np.ndarray
    restoration: np.ndarray
    code_range: tuple[float, float]
    energy_kept: float


def code_start(
    batches: Batches, projection: np.ndarray, *, bits: int, refit: bool = True, seed: int = 0
) -> CodeStart:
    """Returns the start of a bottleneck from a P that is good in float, such as that of PCA.

    Args:
        batches: returns the calibration activations, arrays of shape (…, C), anew at each call;
            they are gone over twice.
        projection: C×k. Only its span matters where the code is rotated, its scale never.
        bits: 6, 4, 2 or 1.
        refit: whether R is regressed, and the code may be rotated. Otherwise R is the one that
            undoes P in the least squares sense, scaled alike, for starts that are to stay random.
        seed: of the sample of positions and of the first rotation.

    Raises:
        BadInputError: other bits.
    """
    if check_code_bits(bits) == 8:
        raise BadInputError("start of a code", "bits of 6, 4, 2 or 1", 8)
    rng = np.random.default_rng(seed)
    rows = _sample(batches, rng)
    starts = []
    for candidate in _candidates(rows, np.asarray(projection, np.float64), bits, refit, rng):
        scaled, below = _scaled(rows, candidate, bits)
        restoration = _restoration(batches, scaled, bits, below, refit)
        starts.append(_start(batches, scaled, restoration, bits, below))
    return max(starts, key=lambda start: start.energy_kept)


def scaled_projection(
    batches: Batches,
    projection: np.ndarray,
    *,
    bits: int,
    rotate: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, int]:
    """Returns P with the gain of each channel for a code in UNIT form, and its levels below zero.

    Args:
        batches: as for `code_start`.
        projection: C×k.
        bits: 6, 4, 2 or 1.
        rotate: whether channels may be rotated among each other; the rotation is taken if a linear
            R makes more of it.
        rng: for the sample of positions and the first rotation.
    """
    rows = _sample(batches, rng)
    best: tuple[float, np.ndarray, int] | None = None
    for candidate in _candidates(rows, np.asarray(projection, np.float64), bits, rotate, rng):
        scaled, below = _scaled(rows, candidate, bits)
        code = unit_code(rows @ scaled, bits, below)
        # Energy of the rows that a linear map of the code explains.
        solution = np.linalg.lstsq(code, rows, rcond=None)[0]
        lost = float(((rows - code @ solution) ** 2).sum())
        if best is None or lost < best[0]:
            best = lost, scaled, below
    assert best is not None
    return best[1], best[2]


def unit_code(values: np.ndarray, bits: int, below: int) -> np.ndarray:
    """Returns values (…, k) rounded to the levels of a code in UNIT form with `below` negative."""
    if bits == 1:
        return np.where(values >= sign_thresholds(values.shape[-1]), 1.0, -1.0)
    n = 2**bits - 1
    steps = max(below, n - below)
    return np.clip(np.floor(values * steps + 0.5), -below, n - below) / steps


def _candidates(
    rows: np.ndarray, projection: np.ndarray, bits: int, rotate: bool, rng: np.random.Generator
) -> list[np.ndarray]:
    """P as it is and, where that may pay, with its channels rotated."""
    if not rotate or bits not in _ROTATED_BITS or projection.shape[1] == 1:
        return [projection]
    basis = np.linalg.qr(projection)[0]
    scores = rows @ basis
    return [projection, basis @ rotated_principal_directions(scores, basis.shape[1], rng)]


def _sample(batches: Batches, rng: np.random.Generator) -> np.ndarray:
    """Rows of the data, n×C in float64."""
    parts = [batch.reshape(-1, batch.shape[-1]) for batch in batches()]
    total = sum(len(part) for part in parts)
    chosen = [
        part[np.sort(rng.permutation(len(part))[: -(-_SAMPLES * len(part) // total)])]
        for part in parts
    ]
    return np.concatenate(chosen).astype(np.float64)


def _scaled(rows: np.ndarray, projection: np.ndarray, bits: int) -> tuple[np.ndarray, int]:
    """P with the gain of each channel, longer sides positive, and z."""
    values = rows @ projection
    if bits == 1:
        deviation = np.maximum(np.sqrt((values**2).mean(axis=0)), 1e-12)
        return projection * (_SIGN_DEVIATION / deviation), 1
    extreme = np.where(values.max(axis=0) >= -values.min(axis=0), 1.0, -1.0)
    values = values * extreme
    largest = np.maximum(np.abs(values).max(axis=0), 1e-12)
    # Channels count by what they carry, which is their energy once R has undone their scale.
    weight = np.linalg.norm(projection, axis=0) ** -2.0
    best: tuple[float, int, np.ndarray] | None = None
    n = 2**bits - 1
    for below in sorted({round(z) for z in np.linspace(0, n // 2, min(_SPLITS, n // 2 + 1))}):
        errors = np.stack(
            [
                ((unit_code(values / (g * largest), bits, below) * g * largest - values) ** 2).mean(
                    axis=0
                )
                for g in _GAINS
            ]
        )
        total = float((errors.min(axis=0) * weight).sum())
        if best is None or total < best[0]:
            best = total, below, extreme / (_GAINS[errors.argmin(axis=0)] * largest)
    assert best is not None
    return projection * best[2], best[1]


def _restoration(
    batches: Batches, projection: np.ndarray, bits: int, below: int, refit: bool
) -> np.ndarray:
    """R, k×C."""
    if not refit:
        return np.linalg.pinv(projection)
    return ridge_regression(_coded(batches, projection, bits, below))


def _coded(
    batches: Batches, projection: np.ndarray, bits: int, below: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of the data, and their codes."""
    for batch in batches():
        rows = batch.reshape(-1, batch.shape[-1]).astype(np.float64)
        yield rows, unit_code(rows @ projection, bits, below)


def _start(
    batches: Batches, projection: np.ndarray, restoration: np.ndarray, bits: int, below: int
) -> CodeStart:
    coded = _coded(batches, projection, bits, below)
    n = 2**bits - 1
    return CodeStart(
        projection.astype(np.float32),
        restoration.astype(np.float32),
        (-below / max(n - below, 1), 1.0),
        energy_kept((rows, code @ restoration) for rows, code in coded),
    )
