"""The algebra of folding against convolutions written out in NumPy."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_fmc.fold.algebra import (
    Kind,
    Linear,
    fold_affine_after,
    fold_affine_before,
    fold_map_after,
    fold_map_before,
    ungrouped,
)

BOUND = 1e-10


def reference(linear: Linear, x: np.ndarray) -> np.ndarray:
    """The layer by its definition, one output position at a time; x is (H, W, C), or (C,) and
    (positions·C,) for a dense layer."""
    bias = 0.0 if linear.bias is None else linear.bias
    if linear.kind is Kind.DENSE:
        return x @ linear.kernel + bias
    if linear.kind is Kind.TRANSPOSED:
        return _transposed(linear, x) + bias
    rows, columns = linear.kernel.shape[:2]
    reach = [(k - 1) * d + 1 for k, d in zip((rows, columns), linear.dilation, strict=True)]
    sizes, before = [], []
    for size, r, stride in zip(x.shape[:2], reach, linear.strides, strict=True):
        if linear.padding == "same":
            count = -(-size // stride)
            before.append(max((count - 1) * stride + r - size, 0) // 2)
        else:
            count = (size - r) // stride + 1
            before.append(0)
        sizes.append(count)
    out = np.zeros((*sizes, linear.out_channels))
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            for a in range(rows):
                for b in range(columns):
                    y = i * linear.strides[0] - before[0] + a * linear.dilation[0]
                    z = j * linear.strides[1] - before[1] + b * linear.dilation[1]
                    if 0 <= y < x.shape[0] and 0 <= z < x.shape[1]:
                        out[i, j] += _tap(linear, linear.kernel[a, b], x[y, z])
    return out + bias


def _tap(linear: Linear, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    if linear.kind is Kind.DEPTHWISE:
        return (x[:, None] * weights).reshape(-1)
    each_in = linear.in_channels // linear.groups
    each_out = linear.out_channels // linear.groups
    return np.concatenate(
        [
            x[g * each_in : (g + 1) * each_in] @ weights[:, g * each_out : (g + 1) * each_out]
            for g in range(linear.groups)
        ]
    )


def _transposed(linear: Linear, x: np.ndarray) -> np.ndarray:
    """Scatters every input over its window; "valid", so that nothing is cropped."""
    rows, columns = linear.kernel.shape[:2]
    out = np.zeros(
        (
            (x.shape[0] - 1) * linear.strides[0] + rows,
            (x.shape[1] - 1) * linear.strides[1] + columns,
            linear.out_channels,
        )
    )
    for i, j in np.ndindex(x.shape[:2]):
        for a in range(rows):
            for b in range(columns):
                out[i * linear.strides[0] + a, j * linear.strides[1] + b] += (
                    linear.kernel[a, b] @ x[i, j]
                )
    return out


@st.composite
def linears(draw: st.DrawFn) -> tuple[Linear, np.random.Generator]:
    """A random layer with random weights."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(list(Kind)))
    channels = draw(st.sampled_from([1, 2, 4, 6]))
    outputs = draw(st.sampled_from([1, 2, 4, 6]))
    window = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.sampled_from(["same", "valid"]))
    dilation, groups = (1, 1), 1
    if kind is Kind.DENSE:
        kernel = rng.normal(size=(channels, outputs))
        stride, padding = (1, 1), "valid"
    elif kind is Kind.TRANSPOSED:
        kernel = rng.normal(size=(*window, outputs, channels))
        padding = "valid"
    elif kind is Kind.DEPTHWISE:
        kernel = rng.normal(size=(*window, channels, draw(st.integers(1, 3))))
        outputs = channels * kernel.shape[3]
    else:
        groups = draw(st.sampled_from([g for g in (1, 2) if channels % g == outputs % g == 0]))
        kernel = rng.normal(size=(*window, channels // groups, outputs))
    if kind in (Kind.CONV, Kind.DEPTHWISE) and stride == (1, 1):
        dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    bias = rng.normal(size=outputs) if draw(st.booleans()) else None
    return Linear(kind, kernel, bias, stride, padding, dilation, groups), rng


def _map(linear: Linear, rng: np.random.Generator, channels: int | None = None) -> np.ndarray:
    channels = channels or linear.in_channels
    return rng.normal(size=(channels,) if linear.kind is Kind.DENSE else (6, 7, channels))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(linears())
def test_affine_after(case: tuple[Linear, np.random.Generator]) -> None:
    linear, rng = case
    scale, shift = rng.normal(size=(2, linear.out_channels))
    x = _map(linear, rng)
    want = scale * reference(linear, x) + shift
    got = reference(fold_affine_after(linear, scale, shift), x)
    np.testing.assert_allclose(got, want, rtol=0, atol=BOUND)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(linears(), st.booleans())
def test_affine_before_is_exact_where_nothing_is_padded(
    case: tuple[Linear, np.random.Generator], constant: bool
) -> None:
    linear, rng = case
    scale, shift = rng.normal(size=(2, linear.in_channels))
    shift = shift if constant else np.zeros_like(shift)
    x = _map(linear, rng)
    want = reference(linear, scale * x + shift)
    got = reference(fold_affine_before(linear, scale, shift), x)
    padded = linear.kind is not Kind.DENSE and linear.pads(*x.shape[:2])
    if not (padded and constant):
        np.testing.assert_allclose(got, want, rtol=0, atol=BOUND)
    elif linear.kind is not Kind.TRANSPOSED:
        assert np.abs(got - want).max() > 1e-6, "pads() claims a border that is not there"


@settings(derandomize=True, max_examples=60, deadline=None)
@given(linears(), st.integers(1, 4))
def test_map_before(case: tuple[Linear, np.random.Generator], rank: int) -> None:
    linear, rng = case
    restoration = rng.normal(size=(rank, linear.in_channels))
    if linear.kind is Kind.DEPTHWISE:
        with pytest.raises(ValueError, match="dense map in front"):
            fold_map_before(linear, restoration)
        return
    code = _map(linear, rng, rank)
    merged = fold_map_before(linear, restoration)
    assert merged.in_channels == rank
    np.testing.assert_allclose(
        reference(merged, code), reference(linear, code @ restoration), rtol=0, atol=BOUND
    )


@settings(derandomize=True, max_examples=60, deadline=None)
@given(linears(), st.integers(1, 4), st.booleans())
def test_map_after(case: tuple[Linear, np.random.Generator], rank: int, bias: bool) -> None:
    linear, rng = case
    pointwise = Linear(
        Kind.CONV,
        rng.normal(size=(1, 1, linear.out_channels, rank)),
        rng.normal(size=rank) if bias else None,
    )
    if linear.kind is Kind.DEPTHWISE or linear.groups > 1:
        with pytest.raises(ValueError, match="dense map behind"):
            fold_map_after(linear, pointwise)
        return
    x = _map(linear, rng)
    between = reference(linear, x)
    want = between @ pointwise.kernel[0, 0] + (pointwise.bias if bias else 0)
    np.testing.assert_allclose(
        reference(fold_map_after(linear, pointwise), x), want, rtol=0, atol=BOUND
    )


@pytest.mark.parametrize("positions", [1, 4])
def test_dense_behind_a_flattened_map(positions: int) -> None:
    rng = np.random.default_rng(5)
    dense = Linear(Kind.DENSE, rng.normal(size=(positions * 3, 2)), rng.normal(size=2))
    scale, shift = rng.normal(size=(2, 3))
    restoration = rng.normal(size=(2, 3))
    x, code = rng.normal(size=(positions, 3)), rng.normal(size=(positions, 2))
    np.testing.assert_allclose(
        reference(fold_affine_before(dense, scale, shift, positions=positions), x.reshape(-1)),
        reference(dense, (scale * x + shift).reshape(-1)),
        atol=BOUND,
    )
    np.testing.assert_allclose(
        reference(fold_map_before(dense, restoration, positions=positions), code.reshape(-1)),
        reference(dense, (code @ restoration).reshape(-1)),
        atol=BOUND,
    )


def test_a_map_after_needs_to_be_pointwise() -> None:
    conv = Linear(Kind.CONV, np.ones((3, 3, 2, 2)))
    with pytest.raises(ValueError, match="only a 1×1 convolution"):
        fold_map_after(conv, conv)


def test_ungrouped_keeps_the_function() -> None:
    rng = np.random.default_rng(3)
    grouped = Linear(Kind.CONV, rng.normal(size=(3, 3, 2, 6)), padding="same", groups=3)
    x = rng.normal(size=(5, 4, 6))
    plain = ungrouped(grouped)
    assert plain.kernel.shape == (3, 3, 2 * 3, 6)
    np.testing.assert_allclose(reference(plain, x), reference(grouped, x), atol=BOUND)


@pytest.mark.parametrize(
    ("window", "stride", "dilation", "size", "pads"),
    [
        (1, 1, 1, 8, False),
        (1, 2, 1, 7, False),
        (2, 2, 1, 8, False),  # 4 windows of 2 cover 8 exactly
        (2, 2, 1, 7, True),
        (3, 2, 1, 7, True),
        (3, 3, 1, 9, False),
        (2, 1, 2, 8, True),
        (3, 1, 1, None, True),
        (1, 1, 1, None, False),
    ],
)
def test_pads(window: int, stride: int, dilation: int, size: int | None, pads: bool) -> None:
    linear = Linear(
        Kind.CONV,
        np.zeros((window, window, 1, 1)),
        strides=(stride, stride),
        padding="same",
        dilation=(dilation, dilation),
    )
    assert linear.pads(size, size) is pads


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
