"""A height that can be reached, fast: for searches that compare thousands of candidates."""

from __future__ import annotations

import numpy as np

from deploy.memory.compiled import compiled


@compiled
def hulls(first, offset, end, start, stop, ghost, scratch):
    """Forbidden open interval of `offset_j - offset_i` for each pair, holes closed.

    Returns an int64 table [blocks, blocks, 2]; low >= high where the two may lie anywhere.
    """
    count = len(first) - 1
    table = np.zeros((count, count, 2), np.int64)
    begin, until = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for block in range(count):
        begin[block] = start[first[block] : first[block + 1]].min()
        until[block] = stop[first[block] : first[block + 1]].max()
    for i in range(count):
        for j in range(i + 1, count):
            if begin[i] >= until[j] or begin[j] >= until[i]:
                continue
            low, high = 1 << 60, -(1 << 60)
            for p in range(first[i], first[i + 1]):
                if start[p] >= until[j] or begin[j] >= stop[p]:
                    continue
                if ghost[p] and not scratch[j]:
                    continue
                for q in range(first[j], first[j + 1]):
                    if start[p] >= stop[q] or start[q] >= stop[p]:
                        continue
                    if ghost[q] and not scratch[i]:
                        continue
                    low = min(low, offset[p] - end[q])
                    high = max(high, end[p] - offset[q])
            if low < high:
                table[i, j, 0], table[i, j, 1] = low, high
                table[j, i, 0], table[j, i, 1] = -high, -low
    return table


@compiled
def first_fit_offsets(table, alignment, order):
    """Offsets after placing each block of `order` at the lowest offset that is free for it."""
    count = len(alignment)
    offsets = np.zeros(count, np.int64)
    low, high = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for place in range(count):
        block = order[place]
        taken = 0
        for earlier in range(place):
            other = order[earlier]
            if table[other, block, 0] < table[other, block, 1]:
                low[taken] = offsets[other] + table[other, block, 0]
                high[taken] = offsets[other] + table[other, block, 1]
                taken += 1
        by_low = np.argsort(low[:taken])
        at, step = 0, alignment[block]
        for row in by_low:
            if low[row] >= at:
                break
            if high[row] > at:
                at = -(-high[row] // step) * step
        offsets[block] = at
    return offsets
