"""Row rules against convolutions by definition: which input rows change which output rows."""

from __future__ import annotations

import dataclasses
import itertools
import random
import sys

import numpy as np
import pytest

from deploy.backends.tflm.strips.operators import row_operator
from deploy.graph import Padding
from deploy.operators.by_rows import Uncut
from deploy.operators.rows import Resampling, Scattering, Sliding, resize_weights
from tests.int8_graphs import Int8GraphMaker


def _sliding_rows(rows: int, extent: int, stride: int, same: bool, taps: int) -> list[set[int]]:
    """Input rows of every output row, by the definition of SAME and VALID padding."""
    if same:
        count = -(-rows // stride)
        before = max(0, (count - 1) * stride + extent - rows) // 2
    else:
        count, before = (rows - extent) // stride + 1, 0
    dilation = (extent - 1) // max(taps - 1, 1)
    return [
        {row for tap in range(taps) if 0 <= (row := r * stride - before + tap * dilation) < rows}
        for r in range(count)
    ]


def _cases(count: int) -> list[tuple[int, int, int, int, bool]]:
    generator = random.Random(5)
    cases = []
    while len(cases) < count:
        rows, taps = generator.randint(1, 14), generator.randint(1, 5)
        dilation, stride = generator.choice((1, 1, 2, 3)), generator.choice((1, 1, 2, 3))
        same = generator.random() < 0.6
        if same or (taps - 1) * dilation < rows:
            cases.append((rows, taps, (taps - 1) * dilation + 1, stride, same))
    return cases


@pytest.mark.parametrize(("rows", "taps", "extent", "stride", "same"), _cases(60))
def test_sliding_window_needs_exactly_the_rows_of_the_definition(rows, taps, extent, stride, same):
    truth = _sliding_rows(rows, extent, stride, same, taps)
    rule = Sliding(rows, len(truth), extent, stride, same)
    for a, b in itertools.combinations(range(len(truth) + 1), 2):
        used = set().union(*truth[a:b])
        start, stop = rule.needed((a, b))
        assert used <= set(range(start, stop))
        if used and taps in (1, 2, 3) and extent == taps and stride <= taps:
            assert (start, stop) == (min(used), max(used) + 1)


@pytest.mark.parametrize(("rows", "taps", "extent", "stride", "same"), _cases(60))
def test_rows_called_exact_are_computed_from_the_same_rows(rows, taps, extent, stride, same):
    """In a window the operator pads anew; a row is exact if it still reads the same rows."""
    truth = _sliding_rows(rows, extent, stride, same, taps)
    rule = Sliding(rows, len(truth), extent, stride, same)
    seen = 0
    for lo, hi in itertools.combinations(range(rows + 1), 2):
        out = rule.run((lo, hi))
        if out is None or (not same and hi - lo < extent):
            continue
        strip = _sliding_rows(hi - lo, extent, stride, same, taps)
        assert out[1] - out[0] == len(strip)
        start, stop = rule.exact((lo, hi), (lo, hi))
        for r in range(start, stop):
            assert {row + lo for row in strip[r - out[0]]} == truth[r]
            seen += 1
    assert seen >= len(truth)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 2), (3, 1), (3, 2), (4, 2), (2, 1)])
def test_scattered_rows_follow_the_definition(kernel, stride, same):
    rows = 7
    out_rows = rows * stride if same else (rows - 1) * stride + kernel
    before = max(0, (rows - 1) * stride + kernel - out_rows) // 2 if same else 0
    rule = Scattering(rows, out_rows, kernel, stride, same)
    truth = [
        {i for i in range(rows) if 0 <= r + before - i * stride < kernel} for r in range(out_rows)
    ]
    for a, b in itertools.combinations(range(out_rows + 1), 2):
        start, stop = rule.needed((a, b))
        assert set().union(*truth[a:b]) <= set(range(start, stop))
    for lo, hi in itertools.combinations(range(rows + 1), 2):
        start, stop = rule.exact((lo, hi), (lo, hi))
        assert all(truth[r] <= set(range(lo, hi)) for r in range(start, stop))


def test_resize_weights_of_nearest_neighbours_are_integer_division():
    for factor in (1, 2, 3, 5):
        for row in range(6 * factor):
            weights = resize_weights(
                "RESIZE_NEAREST_NEIGHBOR", row, 6, 6 * factor, half_pixel=False
            )
            assert weights == ((row // factor, 1024),)


def test_bilinear_rows_are_exact_only_where_the_rounding_is_the_same():
    half = Resampling(8, 16, "RESIZE_BILINEAR", half_pixel=True)
    # Rows 2 and 9 mix rows 0|1 and 4|5; their neighbours outside the window are missing.
    assert half.exact((1, 5), (1, 5)) == (3, 9)
    # 1024 / 3 is no whole number, so rows far from the top drift apart in the fixed point; the
    # last two are beyond the last input row and copy it.
    third = Resampling(8, 24, "RESIZE_BILINEAR", half_pixel=False)
    assert third.exact((0, 8), (0, 8)) == (0, 24)
    assert third.exact((5, 8), (5, 8)) == (22, 24)


def test_the_same_row_of_a_map_of_height_one_runs_along_its_width():
    make = Int8GraphMaker(1)
    x = make.input((1, 1, 12, 4))
    graph = make.build(outputs=[make.conv(x, channels=8, kernel=(1, 3))])
    found = row_operator(graph, 0)
    assert found.axis == 2
    assert found.rule == Sliding(12, 12, 3, 1, True)


def _reason(shape, build) -> Uncut:
    make = Int8GraphMaker(2)
    out = build(make, make.input(shape))
    return row_operator(make.build(outputs=[out]), 0)


@pytest.mark.parametrize(
    ("shape", "build", "reason"),
    [
        ((1, 8, 8, 4), lambda m, x: m.mean(x), Uncut.ROWS_REDUCED),
        ((1, 8, 8, 4), lambda m, x: m.pool(x, kernel=(8, 8), stride=(8, 8)), Uncut.ROWS_REDUCED),
        ((2, 8, 8, 4), lambda m, x: m.unary("RELU", x), Uncut.BATCH),
        ((1, 1, 1, 4), lambda m, x: m.unary("RELU", x), Uncut.SINGLE_ROW),
        ((1, 16), lambda m, x: m.unary("RELU", x), Uncut.RANK),
        ((1, 8, 4, 4), lambda m, x: m.reshape(x, (1, 4, 8, 4)), Uncut.ROWS_MOVED),
        ((1, 5, 8, 4), lambda m, x: m.resize(x, (7, 8)), Uncut.ALIGNED_CORNERS),
        (
            (1, 4, 4, 1),
            lambda m, x: m.strided_slice(x, (0,) * 4, (1, 4, 4, 1), (1,) * 4),
            Uncut.OPERATOR,
        ),
    ],
)
def test_what_cannot_be_cut_says_why(shape, build, reason):
    assert _reason(shape, build) is reason
    assert reason.value


def test_reductions_beside_the_rows_can_be_cut():
    found = _reason((1, 6, 5, 4), lambda m, x: m.mean(x, axes=(2,), keep_dims=True))
    assert found.rule == Sliding(6, 6)


def test_padding_and_dilation_reach_the_rule():
    make = Int8GraphMaker(3)
    x = make.input((1, 11, 9, 2))
    y = make.conv(x, channels=2, kernel=(3, 3), dilation=(2, 1), padding=Padding.VALID)
    found = row_operator(make.build(outputs=[y]), 0)
    assert found.rule == Sliding(11, 7, 5, 1, False)
    assert np.prod(make.shape(y)) == 7 * 7 * 2


def test_blocks_are_whole_where_the_operator_asks_for_it():
    rule = Sliding(in_rows=9, out_rows=3, kernel_extent=3, stride=3, whole_blocks=True)
    assert rule.run((3, 9)) == (1, 3)
    assert rule.run((3, 8)) is None
    # Pools leave the rows out that fill no window, and windows that begin elsewhere are no use.
    assert dataclasses.replace(rule, whole_blocks=False).run((3, 8)) == (1, 2)
    assert rule.run((1, 7)) is None


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
