"""A quick placement of blocks, to judge thousands of programs; the planner does better later.

Asks of one capacity after the other whether the blocks fit. Large blocks come first, each at the
lowest free offset, or at the highest if its low rows die first (a consumed map leaves room below
itself, into which a produced map grows from the bottom). A block that finds no room is placed
earlier the next time (squeaky-wheel optimisation, Joslin & Clements, JAIR 10, 1999).
"""

from __future__ import annotations

from collections.abc import Sequence

from deploy.backends.tflm.strips.blocks import LiveRows
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES, round_up

_ALIGNMENT = HEIGHT_ALIGNMENT_BYTES
_STEPS = 50
"""Capacities grow by one part in this."""

Blocks = Sequence[Sequence[LiveRows]]
_Neighbour = tuple[int, int, int]


def quick_height(blocks: Blocks, *, bound: int, ceiling: int, rounds: int = 10) -> int:
    """Returns the height in bytes of a good placement, or ``ceiling`` if none is found below it.

    Args:
        bound: no placement is lower.
        rounds: orders that are tried for one capacity.
    """
    bound = round_up(bound, _ALIGNMENT)
    if not blocks or bound >= ceiling:
        return min(bound, ceiling)
    neighbours = _neighbours(blocks)
    tops = [max(row.stop for row in block) for block in blocks]
    high = [_dies_upwards(block) for block in blocks]
    area = [sum((r.stop - r.start) * (r.until - r.first) for r in block) for block in blocks]
    largest_first = sorted(range(len(blocks)), key=lambda b: (-tops[b], -area[b], b))
    # Everything as low as it goes: right for bands that climb side by side.
    by_area = sorted(range(len(blocks)), key=lambda b: (-area[b], -tops[b], b))
    for order in (largest_first, by_area):
        ceiling = min(ceiling, _first_fit(order, neighbours, tops))
        if ceiling <= bound:
            return bound
    step = max(_ALIGNMENT, bound // _STEPS // _ALIGNMENT * _ALIGNMENT)

    def fits(capacity: int) -> bool:
        order = list(largest_first)
        for attempt in range(rounds):
            stuck = _fit(order, neighbours, tops, high, capacity)
            if stuck is None:
                return True
            place = order.index(stuck)
            if place == 0:
                return False
            order.pop(place)
            order.insert(place // 2 if attempt % 2 else max(0, place - 1 - place // 3), stuck)
        return False

    # Strides that double until the blocks fit, then halving back.
    low, capacity = bound - step, bound
    while not fits(capacity):
        if capacity >= ceiling:
            return ceiling
        low, capacity = capacity, min(capacity + max(step, (capacity - bound)), ceiling)
    while capacity - low > step:
        # A ceiling may lie between two multiples of the alignment.
        middle = max((low + capacity) // 2 // _ALIGNMENT * _ALIGNMENT, low + _ALIGNMENT)
        low, capacity = (low, middle) if fits(middle) else (middle, capacity)
    return capacity


def _dies_upwards(block: Sequence[LiveRows]) -> bool:
    """Whether, going up in the block, rows die later more than they are born later."""
    first, last = min(block), max(block)
    return last.until - first.until > last.first - first.first


def _neighbours(blocks: Blocks) -> list[list[_Neighbour]]:
    """For each block b: (c, low, high), offset(b) - offset(c) must not lie in (low, high)."""
    pieces = sorted(
        (r.first, r.until, r.start, r.stop, b) for b, block in enumerate(blocks) for r in block
    )
    neighbours: list[list[_Neighbour]] = [[] for _ in blocks]
    active: list[tuple[int, int, int, int, int]] = []
    for piece in pieces:
        first, _, start, stop, b = piece
        active = [other for other in active if other[1] > first]
        for _, _, other_start, other_stop, c in active:
            if b != c:
                neighbours[b].append((c, other_start - stop, other_stop - start))
                neighbours[c].append((b, start - other_stop, stop - other_start))
        active.append(piece)
    return [_merged(entries) for entries in neighbours]


def _merged(entries: list[_Neighbour]) -> list[_Neighbour]:
    """Puts overlapping intervals of the same block together."""
    entries.sort()
    merged: list[_Neighbour] = []
    for entry in entries:
        if merged and merged[-1][0] == entry[0] and merged[-1][2] > entry[1]:
            block, low, high = merged[-1]
            merged[-1] = block, low, max(high, entry[2])
        else:
            merged.append(entry)
    return merged


def _fit(
    order: Sequence[int],
    neighbours: list[list[_Neighbour]],
    tops: Sequence[int],
    high: Sequence[bool],
    capacity: int,
) -> int | None:
    """Places blocks in order; returns the first one that finds no room, None if all do."""
    offsets: dict[int, int] = {}
    for block in order:
        last = capacity - tops[block]
        if last < 0:
            return block
        taken = [
            (offsets[c] + low, offsets[c] + above)
            for c, low, above in neighbours[block]
            if c in offsets
        ]
        # The intervals are open: an offset that equals an end is allowed.
        if high[block]:
            offset = last // _ALIGNMENT * _ALIGNMENT
            taken.sort(key=_by_end, reverse=True)
            for low, above in taken:
                if low < offset < above:
                    offset = low // _ALIGNMENT * _ALIGNMENT
            if offset < 0:
                return block
        else:
            offset = 0
            taken.sort()
            for low, above in taken:
                if low < offset < above:
                    offset = -(-above // _ALIGNMENT) * _ALIGNMENT
            if offset > last:
                return block
        offsets[block] = offset
    return None


def _first_fit(
    order: Sequence[int], neighbours: list[list[_Neighbour]], tops: Sequence[int]
) -> int:
    """Height if every block is placed at the lowest free offset."""
    offsets: dict[int, int] = {}
    height = 0
    for block in order:
        offset = 0
        for low, above in sorted(
            (offsets[c] + low, offsets[c] + above)
            for c, low, above in neighbours[block]
            if c in offsets
        ):
            if low < offset < above:
                offset = -(-above // _ALIGNMENT) * _ALIGNMENT
        offsets[block] = offset
        height = max(height, offset + tops[block])
    return round_up(height, _ALIGNMENT)


def _by_end(interval: tuple[int, int]) -> int:
    return interval[1]
