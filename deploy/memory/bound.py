"""Lower bounds of the memory that any placement needs."""

from __future__ import annotations

from functools import reduce
from math import gcd

import numpy as np

from deploy.memory.conflicts import Conflicts, PieceArrays, find_conflicts, piece_arrays
from deploy.memory.problem import Problem, round_up


def lower_bound(problem: Problem) -> int:
    """Bytes that every placement of the problem needs; the largest of three bounds.

    1. The largest live set: bytes live at one step, summed over the blocks.
    2. The tallest block.
    3. The best of all ways to place two blocks that are in each other's way: the difference of
       their offsets is one of the ends of a forbidden interval, or 0 where that is allowed.

    The result is rounded up to what a height can be: a multiple of the alignment, and of the common
    divisor of all interval ends, since some lowest placement has all its offsets there.
    """
    pieces = piece_arrays(problem)
    return bound_of(pieces, find_conflicts(pieces))


def bound_of(pieces: PieceArrays, conflicts: Conflicts) -> int:
    """`lower_bound` of a problem that is already in columns."""
    if not conflicts.count:
        return 0
    live = live_sets(pieces)[2].sum(axis=0)
    tallest = int(conflicts.height.max())
    bound = max(int(live.max(initial=0)), tallest, _pair_bound(conflicts))
    return round_up(bound, conflicts.granularity_bytes)


def live_sets(pieces: PieceArrays) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What every block occupies at every step at which some lifetime begins.

    Returns:
        Four arrays [blocks, steps]: `present` (some piece, reserved or not, is there), `low` (first
        live byte within the block), `bytes` (live bytes) and `top` (end of the last live byte).
        Where a block has no live byte, `bytes` is 0. Bytes are rounded up to the alignment that
        all blocks share at steps where every live piece begins at a multiple of it: no piece of
        another block can begin in the rest of such a cell.
    """
    steps = np.unique(pieces.start)
    count = len(pieces.alignment)
    shape = (count, len(steps))
    present = np.zeros(shape, dtype=bool)
    low, size, top = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    cell = reduce(gcd, pieces.alignment.tolist(), pieces.unit)
    alive = (pieces.start[:, None] <= steps) & (steps < pieces.stop[:, None])
    misplaced = (pieces.offset % cell != 0) & ~pieces.reserved
    exact = (alive & misplaced[:, None]).any(axis=0)
    for block in range(count):
        own = np.arange(pieces.first[block], pieces.first[block + 1])
        present[block] = alive[own].any(axis=0)
        own = own[~pieces.reserved[own]]
        if not len(own):
            continue
        own = own[np.argsort(pieces.offset[own], kind="stable")]
        shown = alive[own]
        begin = pieces.offset[own, None]
        end = np.where(exact, pieces.end[own, None], -(-pieces.end[own, None] // cell) * cell)
        end = np.where(shown, end, 0)
        reach = np.maximum.accumulate(end, axis=0)
        before = np.vstack([np.zeros_like(reach[:1]), reach[:-1]])
        size[block] = np.where(shown, np.maximum(end - np.maximum(begin, before), 0), 0).sum(axis=0)
        top[block] = reach[-1]
        nothing = np.iinfo(np.int64).max
        lowest = np.where(shown, begin, nothing).min(axis=0)
        low[block] = np.where(lowest == nothing, 0, lowest)
    return present, low, size, top


def _pair_bound(conflicts: Conflicts) -> int:
    """Largest over the pairs of the smallest height of the two blocks alone."""
    solid = (conflicts.live_size[conflicts.first] > 0) & (conflicts.live_size[conflicts.second] > 0)
    i, j = conflicts.first[solid], conflicts.second[solid]
    low, high = conflicts.low[solid], conflicts.high[solid]
    if not len(i):
        return 0
    first, second = conflicts.live_size[i], conflicts.live_size[j]
    begin = np.flatnonzero(np.concatenate(([True], (i[1:] != i[:-1]) | (j[1:] != j[:-1]))))

    def height(difference: np.ndarray) -> np.ndarray:
        return np.maximum(first + np.maximum(-difference, 0), second + np.maximum(difference, 0))

    ends = np.minimum(height(low), height(high))
    level_is_forbidden = np.logical_or.reduceat((low < 0) & (high > 0), begin)
    level = height(np.zeros_like(low))[begin]
    best = np.minimum.reduceat(ends, begin)
    return int(np.where(level_is_forbidden, best, level).max())
