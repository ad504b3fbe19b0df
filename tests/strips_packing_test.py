"""The quick packing of strips: never below what is possible, and close to it."""

import itertools
import random
import sys

import numpy as np
import pytest

from deploy.backends.tflm.strips import packing_search
from deploy.backends.tflm.strips.blocks import LiveRows
from deploy.backends.tflm.strips.packing import packed_height

_ALIGNMENT = 16


def drawn(generator: random.Random, blocks: int) -> list[tuple[LiveRows, ...]]:
    """Blocks of one piece each: their best packing is some order's first fit."""
    found = []
    for _ in range(blocks):
        first = generator.randrange(6)
        size = generator.randrange(1, 12) * _ALIGNMENT
        found.append((LiveRows(0, size, first, first + generator.randint(1, 4)),))
    return found


def first_fit(blocks: list[tuple[LiveRows, ...]]) -> int:
    """The height of a packing, each block at the lowest place that is free for all its rows."""
    placed: list[tuple[int, tuple[LiveRows, ...]]] = []
    for block in blocks:
        at = 0
        while any(_meet(at, block, other_at, other) for other_at, other in placed):
            at += _ALIGNMENT
        placed.append((at, block))
    return max(at + max(r.stop for r in block) for at, block in placed)


def _meet(at: int, one: tuple[LiveRows, ...], other_at: int, other: tuple[LiveRows, ...]) -> bool:
    return any(
        a.first < b.until
        and b.first < a.until
        and at + a.start < other_at + b.stop
        and other_at + b.start < at + a.stop
        for a in one
        for b in other
    )


def load(blocks: list[tuple[LiveRows, ...]]) -> int:
    rows = [r for block in blocks for r in block]
    steps = range(max(r.until for r in rows))
    return max(sum(r.stop - r.start for r in rows if r.first <= s < r.until) for s in steps)


def test_no_height_is_below_the_best_and_nearly_all_are_the_best():
    generator = random.Random(5)
    above = 0
    for _ in range(60):
        blocks = drawn(generator, generator.randint(1, 6))
        best = min(first_fit(list(order)) for order in itertools.permutations(blocks))
        found = packed_height(blocks, bound=load(blocks), ceiling=10**9)
        assert best <= found
        above += found > best
    assert above <= 2


def test_blocks_whose_rows_die_one_after_the_other_interlock():
    """A map that is consumed from the top, and one that grows from the bottom, share their room."""
    rows = range(8)
    consumed = tuple(LiveRows(16 * r, 16 * r + 16, 0, r + 2) for r in rows)
    grown = tuple(LiveRows(16 * r, 16 * r + 16, r + 1, 10) for r in rows)
    # At step r + 1 rows r.. of the one and rows ..r of the other are live: one row above a map.
    assert load([consumed, grown]) == 9 * 16
    assert packed_height([consumed, grown], bound=9 * 16, ceiling=10**9) == 9 * 16


def test_what_is_not_found_below_the_ceiling_is_the_ceiling():
    blocks = [(LiveRows(0, 64, 0, 1),), (LiveRows(0, 48, 0, 1),)]
    assert packed_height(blocks, bound=112, ceiling=200) == 112
    assert packed_height(blocks, bound=100, ceiling=112) == 112
    assert packed_height(blocks, bound=120, ceiling=100) == 100
    assert packed_height([], bound=0, ceiling=64) == 0


def test_compiled_and_plain_code_agree():
    """The wheel runs where there is no compiler, with the same plans."""
    plain = getattr(packing_search.pack, "py_func", None)
    if plain is None:
        pytest.skip("numba is not installed, so there is one way only")
    generator = random.Random(8)
    for _ in range(6):
        blocks = []
        for number in range(8):
            first = generator.randrange(5)
            pieces = generator.randint(1, 3)
            blocks += [
                (16 * p + first, first + p, 16 * p, 16 * p + 16, number) for p in range(pieces)
            ]
        table = sorted((first, first + 3, start, stop, b) for _, first, start, stop, b in blocks)
        arguments = (np.array(table, np.int64), 8, 16, 10**6, _ALIGNMENT, 10, 40)
        assert packing_search.pack(*arguments) == plain(*arguments)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
