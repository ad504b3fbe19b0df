"""The start of low-bit codes: gains, split of levels, rotation and the regressed R."""

from __future__ import annotations

import sys

import gf2_reference as reference
import numpy as np
import pytest

from keras_fmc.errors import BadInputError
from keras_fmc.layers.code_quantizer import CodeQuantizer
from keras_fmc.start.code_start import code_start, unit_code

BITS = (6, 4, 2, 1)


def _maps(seed: int, *, samples: int = 40, channels: int = 8) -> np.ndarray:
    """Rectified mixtures of a few sources with long tails, as feature maps have them."""
    rng = np.random.default_rng(seed)
    mixture = np.random.default_rng(0).normal(size=(5, channels))
    sources = rng.laplace(size=(samples, 6, 6, 5))
    return np.maximum(sources @ mixture + 0.3, 0).astype(np.float32)


def _pca(x: np.ndarray, rank: int) -> np.ndarray:
    rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
    return np.linalg.svd(rows, full_matrices=False)[2][:rank].T


def _energy(x: np.ndarray, y: np.ndarray) -> float:
    return 1 - float(((x - y) ** 2).sum() / (x**2).sum())


@pytest.mark.parametrize("bits", BITS)
def test_the_layer_restores_as_much_as_is_said(bits):
    x = _maps(1)
    start = code_start(lambda: [x[:15], x[15:]], _pca(x, 4), bits=bits)
    layer = CodeQuantizer(bits)
    layer.build((None, 6, 6, 4))
    layer.set_range(*start.code_range)
    code = np.asarray(layer(x @ start.projection))
    assert _energy(x, code @ start.restoration) == pytest.approx(start.energy_kept, abs=2e-4)
    # Each channel uses its levels, and the longer side is the positive one.
    used = [len(np.unique(np.rint(code[..., c] / layer.scale))) for c in range(4)]
    assert min(used) >= {6: 24, 4: 8, 2: 3, 1: 2}[bits]


@pytest.mark.parametrize("bits", BITS)
def test_it_restores_more_than_the_largest_magnitude_and_the_inverse(bits):
    x, unseen = _maps(1), _maps(2)
    directions = _pca(x, 4)
    start = code_start(lambda: [x], directions, bits=bits)
    values = x @ directions
    naive = directions / np.abs(values).max(axis=(0, 1, 2))
    below = 1 if bits == 1 else (2**bits - 1) // 2
    plain = unit_code(x @ naive, bits, below) @ np.linalg.pinv(naive)
    assert start.energy_kept > _energy(x, plain) + {6: 0.0, 4: 0.001, 2: 0.1, 1: 0.3}[bits]
    n = 2**bits - 1
    low, high = start.code_range
    split = 1 if bits == 1 else round(-low / (high - low) * n)
    y = unit_code(unseen @ start.projection, bits, split) @ start.restoration
    assert _energy(unseen, y) == pytest.approx(start.energy_kept, abs=0.02)


def test_few_bits_lose_more():
    x = _maps(1)
    kept = [code_start(lambda: [x], _pca(x, 4), bits=bits).energy_kept for bits in BITS]
    floats = _energy(x, x @ _pca(x, 4) @ _pca(x, 4).T)
    assert floats > kept[0] > kept[1] > kept[2] > kept[3] > 0.3
    assert floats - kept[0] < 0.005


@pytest.mark.parametrize("bits", [4, 1])
def test_r_is_the_regression_on_the_rounded_code(bits):
    x = _maps(1)
    start = code_start(lambda: [x], _pca(x, 4), bits=bits)
    low, high = start.code_range
    below = 1 if bits == 1 else round(-low / (high - low) * (2**bits - 1))
    rows = x.reshape(-1, 8)
    code = unit_code(rows @ start.projection, bits, below)
    wanted = np.linalg.lstsq(code, rows, rcond=None)[0]
    np.testing.assert_allclose(start.restoration, wanted, atol=2e-3)


def test_without_a_regression_directions_stay_and_r_undoes_p():
    x = _maps(1)
    given = np.random.default_rng(3).normal(size=(8, 3))
    for bits in BITS:
        start = code_start(lambda: [x], given, bits=bits, refit=False)
        cosine = (start.projection * given).sum(0) / (
            np.linalg.norm(start.projection, axis=0) * np.linalg.norm(given, axis=0)
        )
        np.testing.assert_allclose(np.abs(cosine), 1, atol=1e-5)
        np.testing.assert_allclose(start.projection.T @ start.restoration.T, np.eye(3), atol=1e-4)


def test_rectified_channels_get_no_negative_levels():
    x = _maps(1)
    start = code_start(lambda: [x], np.eye(8, 3), bits=4)
    assert start.code_range == (0.0, 1.0)


def test_scale_and_sign_of_p_do_not_matter():
    x = _maps(1)
    directions = _pca(x, 4)
    one = code_start(lambda: [x], directions, bits=4)
    other = code_start(lambda: [x], directions * np.array([1, -3, 0.01, -20]), bits=4)
    assert other.energy_kept == pytest.approx(one.energy_kept, abs=1e-3)
    np.testing.assert_allclose(np.abs(other.projection), np.abs(one.projection), rtol=1e-4)


def test_seeds():
    x = _maps(1)
    starts = [code_start(lambda: [x], _pca(x, 4), bits=1, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(starts[0].projection, starts[1].projection)
    assert np.abs(starts[0].projection - starts[2].projection).max() > 1e-3


def test_maps_of_zeros():
    zeros = np.zeros((2, 4, 4, 8), np.float32)
    for bits in BITS:
        start = code_start(lambda: [zeros], np.eye(8, 4), bits=bits)
        assert start.energy_kept == 1.0
        assert np.isfinite(start.projection).all()
        np.testing.assert_array_equal(start.restoration, 0)


@pytest.mark.parametrize(("bits", "below"), [(6, 20), (4, 7), (4, 0), (2, 1), (1, 1)])
def test_codes_are_those_of_the_reference(bits, below):
    values = np.random.default_rng(0).uniform(-1.3, 1.3, (500, 3))
    n = 2**bits - 1
    levels = reference.code_levels(bits, "unit", -below / max(n - below, 1), 1.0)
    wanted = reference.nearest_level(values, levels)
    found = unit_code(values, bits, below)
    # The sign turns a little below 0.
    settled = np.abs(values) > (1 / 200 if bits == 1 else 0)
    np.testing.assert_allclose(found[settled], wanted[settled], atol=1e-12)
    assert settled.mean() > 0.99


@pytest.mark.parametrize("bits", [8, 3])
def test_other_widths_are_refused(bits):
    with pytest.raises(BadInputError, match="bits of"):
        code_start(lambda: [np.zeros((1, 2))], np.eye(2), bits=bits)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
