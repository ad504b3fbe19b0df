"""Uncentred PCA and ranges of equal size, against NumPy's singular value decomposition."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from keras_fmc.start import initialize
from tests import bottleneck_reference as reference


def activations(samples: int = 30, channels: int = 8, seed: int = 0) -> np.ndarray:
    """Correlated channels after a ReLU, one of them always 0."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 5, 5, channels)) @ rng.normal(size=(channels, channels)) + 0.5
    x = np.maximum(x, 0).astype("float32")
    x[..., 3] = 0
    return x


def batches_of(x: np.ndarray, size: int = 7) -> initialize.Batches:
    return lambda: (x[first : first + size] for first in range(0, len(x), size))


def test_second_moment_over_batches_equals_that_of_the_whole():
    x = activations()
    got = initialize.second_moment(batches_of(x)())
    np.testing.assert_allclose(got, reference.second_moment(x), rtol=1e-12, atol=1e-12)
    assert got.dtype == np.float64


def test_second_moment_keeps_float64_precision_over_large_sums():
    x = np.full((1, 200_000, 2), [1.0, 1e-4], "float32") + np.float32(1e-4)
    expected = x[0, 0].astype(np.float64)
    got = initialize.second_moment([x] * 5)
    np.testing.assert_allclose(got, np.outer(expected, expected), rtol=1e-10)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_start_loses_no_more_than_the_singular_value_decomposition(rank):
    x = activations()
    start = initialize.pca_start(batches_of(x), rank)
    best = reference.principal_directions(x, rank)
    np.testing.assert_allclose(start.projection @ start.restoration, best @ best.T, atol=1e-5)
    rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
    lost = np.square(rows - rows @ best @ best.T).sum() / np.square(rows).sum()
    assert start.energy_kept == pytest.approx(1 - lost, abs=1e-6)


def test_mean_is_not_taken_out():
    x = 100 + np.random.default_rng(0).normal(size=(500, 4)).astype("float32")
    start = initialize.pca_start(batches_of(x), 1)
    direction = np.abs(start.projection[:, 0] / np.linalg.norm(start.projection))
    np.testing.assert_allclose(direction, [0.5] * 4, atol=0.01)


def test_every_code_channel_reaches_one_on_its_larger_side():
    x = activations()
    start = initialize.pca_start(batches_of(x), 6)
    code = x.reshape(-1, 8) @ start.projection
    np.testing.assert_allclose(code.max(axis=0), np.ones(6), rtol=1e-5)
    assert (code.min(axis=0) >= -1 - 1e-5).all()
    assert start.code_range == pytest.approx((code.min(), 1.0), rel=1e-5)


def test_full_rank_start_is_the_identity():
    x = activations()
    start = initialize.pca_start(batches_of(x), 8)
    np.testing.assert_allclose(start.projection @ start.restoration, np.eye(8), atol=1e-5)
    assert start.energy_kept == pytest.approx(1)


def test_map_of_zeros_has_a_finite_start():
    start = initialize.pca_start(batches_of(np.zeros((4, 3, 3, 5), "float32")), 2)
    assert np.isfinite(start.projection).all()
    assert start.code_range == (0.0, 0.0)
    assert start.energy_kept == 1


def test_directions_of_mere_noise_are_not_blown_up():
    x = np.ones((50, 3), "float32") * np.linspace(1, 2, 50, dtype="float32")[:, None]
    start = initialize.pca_start(batches_of(x), 3)
    assert np.abs(start.projection).max() <= 1
    np.testing.assert_allclose(start.projection @ start.restoration, np.eye(3), atol=1e-5)


def test_identity_keeps_the_first_channels():
    x = activations()
    start = initialize.given_start(batches_of(x), *initialize.identity_start(8, 3))
    rows = x.reshape(-1, 8)
    np.testing.assert_array_equal(rows @ start.projection, rows[:, :3])
    np.testing.assert_array_equal(
        rows @ start.projection @ start.restoration, rows * (np.arange(8) < 3)
    )
    assert start.code_range == (0.0, rows[:, :3].max())
    kept = np.square(rows[:, :3]).sum() / np.square(rows).sum()
    assert start.energy_kept == pytest.approx(kept, abs=1e-6)


def test_random_start_is_glorot_uniform_and_follows_the_seed():
    draw = [initialize.random_start(300, 200, np.random.default_rng(s)) for s in (1, 1, 2)]
    np.testing.assert_array_equal(draw[0][0], draw[1][0])
    assert not np.array_equal(draw[0][0], draw[2][0])
    for matrix, shape in zip(draw[0], [(300, 200), (200, 300)], strict=True):
        assert matrix.shape == shape
        limit = np.sqrt(6 / 500)
        assert 0.99 * limit < np.abs(matrix).max() <= limit
        assert matrix.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)


def test_batches_cover_all_samples_once():
    arrays = [np.arange(10), np.arange(10, 20)]
    got = list(initialize.in_batches(arrays, 4))
    assert [len(first) for first, _ in got] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([second for _, second in got]), arrays[1])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
