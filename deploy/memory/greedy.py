"""First fit in many orders, in plain Python: enough for most models, and in a few milliseconds."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence

import numpy as np

from deploy.memory.conflicts import PieceArrays


def first_fit(
    neighbours: Sequence[Sequence[tuple[int, int, int]]],
    alignment: Sequence[int],
    order: Sequence[int],
) -> list[int]:
    """Places the blocks in the given order, each at its lowest free offset.

    Args:
        neighbours: `Conflicts.neighbours()`.
        alignment: alignment of each block in bytes.
        order: all block indices.
    """
    offsets = [-1] * len(alignment)
    for block in order:
        taken = sorted(
            (offsets[other] + low, offsets[other] + high)
            for other, low, high in neighbours[block]
            if offsets[other] >= 0
        )
        at, step = 0, alignment[block]
        for low, high in taken:
            if low >= at:
                break
            if high > at:
                at = -(-high // step) * step
        offsets[block] = at
    return offsets


def static_orders(pieces: PieceArrays) -> list[list[int]]:
    """Orders that usually pack well; ties are broken by the blocks' positions.

    By size, bytes times lifetime, lifetime and the largest live set met, all falling; by time.
    """
    count = len(pieces.alignment)
    first = pieces.first[:-1]
    if not count:
        return []
    start = np.minimum.reduceat(pieces.start, first)
    stop = np.maximum.reduceat(pieces.stop, first)
    size = pieces.end - pieces.offset
    area = np.add.reduceat(size * (pieces.stop - pieces.start), first)
    steps = np.unique(pieces.start)
    begin, end = np.searchsorted(steps, pieces.start), np.searchsorted(steps, pieces.stop)
    change = np.zeros(len(steps) + 1, dtype=np.int64)
    live_size = np.where(pieces.reserved, 0, size)
    np.add.at(change, begin, live_size)
    np.subtract.at(change, end, live_size)
    load = np.cumsum(change)
    low, high = np.minimum.reduceat(begin, first), np.maximum.reduceat(end, first)
    pressure = np.array([load[a:b].max() for a, b in zip(low, high, strict=True)])
    height, width = pieces.height, stop - start
    keys = [
        (-height, -width),
        (-area, -height),
        (-pressure, -height),
        (-pressure, -area),
        (-width, -height),
        (start, -height),
        (-stop, -height),
    ]
    return [np.lexsort(key[::-1]).tolist() for key in keys]


def improved_orders(order: Sequence[int], seed: int) -> Generator[list[int], bool | None, None]:
    """Endless neighbours of an order; send True to go on from the one just received.

    Each moves one block to an earlier place, or swaps two.
    """
    generator = random.Random(seed)
    current = list(order)
    while True:
        trial = list(current)
        a, b = sorted(generator.sample(range(len(trial)), 2))
        if generator.random() < 0.5:
            trial.insert(a, trial.pop(b))
        else:
            trial[a], trial[b] = trial[b], trial[a]
        if (yield trial):
            current = trial
