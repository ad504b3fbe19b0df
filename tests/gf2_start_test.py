"""The start of GF(2) bottlenecks from data."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from keras_fmc.errors import BadInputError
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.start.code_range import code_range
from keras_fmc.start.gf2_start import (
    GF2Start,
    rotated_principal_directions,
    start_from_data,
)


def _maps(seed: int, *, channels: int = 6, sources: int = 2, size: int = 8) -> np.ndarray:
    """Maps whose channels are rectified mixtures of a few smooth sources."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(24, size // 2, size // 2, sources))
    smooth = np.repeat(np.repeat(coarse, 2, axis=1), 2, axis=2)
    mixture = np.random.default_rng(0).normal(size=(sources, channels))
    return np.maximum(smooth @ mixture, 0).astype(np.float32)


def _layer(x: np.ndarray, **arguments) -> GF2Bottleneck:
    layer = GF2Bottleneck(**{"stored_channels": 12, "bits": 4, **arguments})
    layer.build(x.shape)
    return layer


def _energy_kept(layer: GF2Bottleneck, x: np.ndarray) -> float:
    return 1 - float(((np.asarray(layer(x)) - x) ** 2).sum() / (x**2).sum())


@pytest.mark.parametrize(("kernel_size", "strides"), [(1, 1), (2, 2), (3, 2)])
def test_few_bits_are_better_spent_on_directions_than_on_planes(kernel_size, strides):
    x, unseen = _maps(1), _maps(2)
    layer = _layer(x, stored_channels=6, kernel_size=kernel_size, strides=strides)
    result = start_from_data(layer, lambda: [x[:10], x[10:]])
    assert result.start is GF2Start.ROTATED_PCA
    assert {start for start, _ in result.others} == {
        GF2Start.IDENTITY, GF2Start.IDENTITY_REGRESSED
    }  # fmt: skip
    assert result.energy_kept == pytest.approx(_energy_kept(layer, x), abs=1e-5)
    identity = dict(result.others)[GF2Start.IDENTITY]
    assert result.energy_kept > identity + 0.1
    assert _energy_kept(layer, unseen) > identity + 0.1
    assert layer.quantizer.range == pytest.approx(code_range(lambda: [x], bits=4, signed=False))


def test_with_all_planes_the_identity_is_kept():
    x = _maps(1)
    layer = _layer(x, stored_channels=6 * 4)
    result = start_from_data(layer, lambda: [x])
    assert result.start is GF2Start.IDENTITY
    step = x.max() / 15
    assert 1 - result.energy_kept < step**2 / 12 / (x**2).mean()


def test_the_start_repeats_itself_and_depends_on_the_seed():
    x = _maps(1)
    kernels = []
    for seed in (0, 0, 1):
        layer = _layer(x)
        start_from_data(layer, lambda: [x], seed=seed)
        kernels.append(np.array(layer.compression[0][0]))
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0.1


@pytest.mark.parametrize("start", ["identity", "random"])
def test_a_given_start_stays(start):
    x = _maps(1)
    layer = _layer(x, start=start)
    before = [np.array(weight) for weight in layer.trainable_weights]
    result = start_from_data(layer, lambda: [x], refit=False)
    assert result.start is GF2Start.GIVEN
    assert result.energy_kept == pytest.approx(_energy_kept(layer, x), abs=1e-5)
    assert layer.quantizer.range == pytest.approx(code_range(lambda: [x], bits=4, signed=False))
    for old, new in zip(before, layer.trainable_weights, strict=True):
        np.testing.assert_array_equal(old, np.array(new))


def test_hidden_layers_start_as_the_identity():
    x = _maps(1)
    layer = _layer(x, stored_channels=24, hidden=(24,))
    result = start_from_data(layer, lambda: [x])
    assert result.start is GF2Start.IDENTITY
    assert result.others == ()
    assert result.energy_kept > 0.95


def test_signed_maps():
    x = _maps(1) - _maps(3)
    layer = _layer(x, signed=True)
    result = start_from_data(layer, lambda: [x])
    assert result.energy_kept == pytest.approx(_energy_kept(layer, x), abs=1e-5)
    assert result.energy_kept > 0.5
    assert layer.quantizer.range == pytest.approx(code_range(lambda: [x], bits=4, signed=True))


def test_negative_values_are_refused_without_a_sign():
    x = _maps(1) - 1
    with pytest.raises(BadInputError, match="map with negative values"):
        start_from_data(_layer(x), lambda: [x])


def test_maps_of_zeros_and_of_one_row():
    zeros = np.zeros((2, 1, 5, 6), np.float32)
    layer = _layer(zeros, kernel_size=3, strides=2)
    assert start_from_data(layer, lambda: [zeros]).energy_kept == 1.0
    np.testing.assert_array_equal(layer(zeros), 0.0)


def test_rotated_directions_are_an_orthonormal_basis_of_the_principal_subspace():
    rng = np.random.default_rng(0)
    scales = np.array([5, 4, 3, 0.1, 0.1, 0.1])
    z = rng.normal(size=(2000, 6)) * scales
    directions = rotated_principal_directions(z, 3, rng)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-9)
    assert np.abs(directions[3:]).max() < 0.05
    # The rotation evens out the variances, so that every sign tells as much.
    variances = (z @ directions).var(axis=0)
    assert variances.max() / variances.min() < 25 / 9 * 0.9
    more = rotated_principal_directions(z, 8, rng)
    assert more.shape == (6, 8)
    np.testing.assert_allclose(more[:, :6].T @ more[:, :6], np.eye(6), atol=1e-9)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
