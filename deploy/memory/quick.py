"""First fit as compiled code, for walks that compare thousands of orders."""

from __future__ import annotations

import numpy as np

from deploy.memory.compiled import compiled
from deploy.memory.conflicts import PieceArrays


def hull_table(pieces: PieceArrays) -> np.ndarray:
    """Forbidden open interval (low, high) of `offset_j - offset_i` at [i, j], holes closed.

    Not rounded to the alignments; low >= high where the two may lie anywhere.
    """
    first = pieces.first[:-1]
    return _hulls(
        pieces.first,
        pieces.offset,
        pieces.end,
        pieces.start,
        pieces.stop,
        pieces.reserved,
        pieces.scratch[first],
        np.minimum.reduceat(pieces.start, first),
        np.maximum.reduceat(pieces.stop, first),
    )


@compiled
def _hulls(first, offset, end, start, stop, reserved, scratch, begin, until):
    """The table of `hull_table`; block i is live in steps [begin[i], until[i])."""
    count = len(begin)
    table = np.zeros((count, count, 2), np.int64)
    for i in range(count):
        for j in range(i + 1, count):
            if begin[i] >= until[j] or begin[j] >= until[i]:
                continue
            low, high = 1 << 60, -(1 << 60)
            for p in range(first[i], first[i + 1]):
                if start[p] >= until[j] or begin[j] >= stop[p] or (reserved[p] and not scratch[j]):
                    continue
                for q in range(first[j], first[j + 1]):
                    if start[p] >= stop[q] or start[q] >= stop[p]:
                        continue
                    if reserved[q] and not scratch[i]:
                        continue
                    low = min(low, offset[p] - end[q])
                    high = max(high, end[p] - offset[q])
            if low < high:
                table[i, j, 0], table[i, j, 1] = low, high
                table[j, i, 0], table[j, i, 1] = -high, -low
    return table


@compiled
def first_fit_compiled(table, alignment, order, offsets):
    """Places each block of `order` at the lowest offset that is free for it."""
    for place in range(len(order)):
        block = order[place]
        at, step = np.int64(0), alignment[block]
        moved = True
        while moved:
            moved = False
            for earlier in range(place):
                other = order[earlier]
                low = offsets[other] - table[block, other, 1]
                high = offsets[other] - table[block, other, 0]
                if low < at and at < high:
                    at = -(-high // step) * step
                    moved = True
        offsets[block] = at
