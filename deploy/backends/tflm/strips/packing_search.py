"""The inner loop of ``packing``: blocks of rows in good orders, as machine code.

Importing this costs the import of the compiler, so ``packing`` does so when there is something to
pack.
"""

from __future__ import annotations

import numpy as np

from deploy.memory.compiled import compiled

# Columns of `pieces`: what bytes of which block are live when; sorted by the first step.
FIRST, UNTIL, START, STOP, BLOCK = range(5)


@compiled
def pack(pieces, count, bound, ceiling, alignment, rounds, swaps):
    """Returns the least height found, or `ceiling` if none is below it.

    1. First fit, largest blocks first, and with the largest areas first.
    2. Both orders are changed a little, and a change stays unless it makes things worse.
    3. One capacity after the other: blocks at the top or at the bottom, as their rows die, and
       those that find no room earlier the next time.
    """
    tops, areas = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for p in range(len(pieces)):
        piece = pieces[p]
        block, start, stop = piece[BLOCK], piece[START], piece[STOP]
        tops[block] = max(tops[block], stop)
        areas[block] += (stop - start) * (piece[UNTIL] - piece[FIRST])
    high = _dying_upwards(pieces, count)
    table, ends = _neighbours(pieces, count)
    offsets = np.zeros(count, np.int64)
    best = ceiling
    largest = _order(tops, areas)
    for number in range(2):
        order = largest.copy() if number == 0 else _order(areas, tops)
        height, top = _first_fit(order, table, ends, tops, alignment, offsets)
        best = min(best, height)
        if best <= bound:
            return bound
        state = np.int64(12345 + number)
        for _ in range(swaps):
            # The block that stands at the top goes before one that is drawn, or any does.
            state = (state * 1103515245 + 12345) % 2147483648
            to = (state >> 8) % count
            place = np.int64(0)
            state = (state * 1103515245 + 12345) % 2147483648
            if (state >> 8) % 4 < 3:
                while order[place] != top:
                    place += 1
                to = to % (place + 1)
            else:
                place = (state >> 10) % count
            _move(order, place, to)
            tried, its_top = _first_fit(order, table, ends, tops, alignment, offsets)
            if tried <= height:
                height, top = tried, its_top
                best = min(best, height)
                if best <= bound:
                    return bound
            else:
                _move(order, to, place)
    step = max(alignment, bound // 50 // alignment * alignment)
    low, capacity = bound - step, bound
    while not _fits(largest, table, ends, tops, high, alignment, capacity, rounds, offsets):
        if capacity >= best:
            return best
        low, capacity = capacity, min(capacity + max(step, capacity - bound), best)
    while capacity - low > step:
        middle = max((low + capacity) // 2 // alignment * alignment, low + alignment)
        if _fits(largest, table, ends, tops, high, alignment, middle, rounds, offsets):
            capacity = middle
        else:
            low = middle
    return min(best, capacity)


@compiled
def _dying_upwards(pieces, count):
    """Whether, going up in a block, rows die later more than they are born later."""
    found = np.zeros(count, np.bool_)
    for block in range(count):
        lowest, highest = np.int64(-1), np.int64(-1)
        for p in range(len(pieces)):
            if pieces[p, BLOCK] != block:
                continue
            if lowest < 0 or _key(pieces[p]) < _key(pieces[lowest]):
                lowest = np.int64(p)
            if highest < 0 or _key(pieces[p]) > _key(pieces[highest]):
                highest = np.int64(p)
        first, last = pieces[lowest], pieces[highest]
        found[block] = last[UNTIL] - first[UNTIL] > last[FIRST] - first[FIRST]
    return found


@compiled
def _key(piece):
    return piece[START], piece[STOP], piece[FIRST], piece[UNTIL]


@compiled
def _order(first, second):
    """Blocks by falling numbers, then by other falling numbers, then as they come."""
    order = np.arange(len(first))
    for i in range(1, len(first)):
        block, j = order[i], i
        while j > 0 and (
            first[order[j - 1]] < first[block]
            or (first[order[j - 1]] == first[block] and second[order[j - 1]] < second[block])
        ):
            order[j] = order[j - 1]
            j -= 1
        order[j] = block
    return order


@compiled
def _neighbours(pieces, count):
    """Rows (c, low, high) for each block b: offset(b) - offset(c) must not lie in (low, high)."""
    sizes = np.zeros(count + 1, np.int64)
    for p in range(len(pieces)):
        for q in range(p):
            if _meet(pieces[p], pieces[q]):
                sizes[pieces[p, BLOCK] + 1] += 1
                sizes[pieces[q, BLOCK] + 1] += 1
    ends = np.cumsum(sizes)
    table, at = np.empty((ends[-1], 3), np.int64), ends[:-1].copy()
    for p in range(len(pieces)):
        for q in range(p):
            if _meet(pieces[p], pieces[q]):
                one, other = pieces[p], pieces[q]
                row = table[at[one[BLOCK]]]
                row[0], row[1] = other[BLOCK], other[START] - one[STOP]
                row[2] = other[STOP] - one[START]
                at[one[BLOCK]] += 1
                row = table[at[other[BLOCK]]]
                row[0], row[1] = one[BLOCK], one[START] - other[STOP]
                row[2] = one[STOP] - other[START]
                at[other[BLOCK]] += 1
    return table, ends


@compiled
def _meet(one, other):
    return one[BLOCK] != other[BLOCK] and one[FIRST] < other[UNTIL] and other[FIRST] < one[UNTIL]


@compiled
def _move(order, place, to):
    """Moves the block at a place of an order to another place."""
    block = order[place]
    while place > to:
        order[place] = order[place - 1]
        place -= 1
    while place < to:
        order[place] = order[place + 1]
        place += 1
    order[to] = block


@compiled
def _first_fit(order, table, ends, tops, alignment, offsets):
    """Places every block at its lowest free offset; returns the height and who stands there."""
    offsets[:] = -1
    height, top = np.int64(-1), np.int64(0)
    for block in order:
        at, moved = np.int64(0), True
        while moved:
            moved = False
            for n in range(ends[block], ends[block + 1]):
                other = offsets[table[n, 0]]
                if other >= 0 and other + table[n, 1] < at < other + table[n, 2]:
                    at = -(-(other + table[n, 2]) // alignment) * alignment
                    moved = True
        offsets[block] = at
        if at + tops[block] > height:
            height, top = at + tops[block], block
    return -(-height // alignment) * alignment, top


@compiled
def _fits(largest, table, ends, tops, high, alignment, capacity, rounds, offsets):
    """Whether the blocks find room below a capacity, in one of some orders."""
    order = largest.copy()
    for attempt in range(rounds):
        stuck = np.int64(-1)
        offsets[:] = -1
        for place in range(len(order)):
            block = order[place]
            last = capacity - tops[block]
            at = last // alignment * alignment if high[block] else np.int64(0)
            moved = last >= 0
            while moved:
                moved = False
                for n in range(ends[block], ends[block + 1]):
                    other = offsets[table[n, 0]]
                    if other >= 0 and other + table[n, 1] < at < other + table[n, 2]:
                        if high[block]:
                            at = (other + table[n, 1]) // alignment * alignment
                        else:
                            at = -(-(other + table[n, 2]) // alignment) * alignment
                        moved = True
            if last < 0 or at < 0 or at > last:
                stuck = np.int64(place)
                break
            offsets[block] = at
        if stuck < 0:
            return True
        if stuck == 0:
            return False
        _move(order, stuck, stuck // 2 if attempt % 2 else max(0, stuck - 1 - stuck // 3))
    return False
