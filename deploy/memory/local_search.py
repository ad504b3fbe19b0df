"""A walk through orders of first fit, for problems with many interlocking blocks.

Moves a block, most often one that reaches the present height, to an earlier place, and keeps the
new order if the height does not grow. Some thousand orders a second at 100 blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploy.memory.compiled import compiled
from deploy.memory.conflicts import PieceArrays
from deploy.memory.quick import first_fit_compiled, hull_table


class OrderWalk:
    """A walk that can be continued.

    Args:
        pieces: the problem in columns.
        order: where it begins.
        seed: of the moves.
    """

    def __init__(
        self, pieces: PieceArrays, order: Sequence[int], *, seed: int | tuple[int, ...]
    ) -> None:
        self._table = hull_table(pieces)
        self._alignment = pieces.alignment
        self._live_size = pieces.live_size
        self._order = np.array(order, dtype=np.int64)
        self._generator = np.random.default_rng(seed)

    def go(self, moves: int, goal_bytes: int, stop: np.ndarray) -> tuple[int, ...]:
        """Offsets after so many moves, or at the goal; the height is never above the last one."""
        offsets = np.zeros(len(self._order), dtype=np.int64)
        draws = self._generator.integers(0, 1 << 40, size=(moves, 3))
        _walk(
            self._table,
            self._alignment,
            self._live_size,
            self._order,
            offsets,
            draws,
            goal_bytes,
            stop,
        )
        return tuple(offsets.tolist())


@compiled
def _walk(table, alignment, live_size, order, offsets, draws, goal, stop):
    """Takes a move for each row of `draws`; `order` and `offsets` are brought up to date."""
    count = len(order)
    first_fit_compiled(table, alignment, order, offsets)
    height = _top(live_size, offsets)
    trial, trial_offsets = np.zeros(count, np.int64), np.zeros(count, np.int64)
    highest = np.zeros(count, np.int64)
    for row in range(len(draws)):
        if height <= goal or stop[0] != 0:
            return
        place = draws[row, 1] % count
        if draws[row, 0] % 2 == 0:
            found = 0
            for other in range(count):
                block = order[other]
                if live_size[block] > 0 and offsets[block] + live_size[block] == height:
                    highest[found] = other
                    found += 1
            place = highest[draws[row, 1] % found]
        if place == 0:
            continue
        target = draws[row, 2] % place
        for other in range(count):
            trial[other] = order[other]
        if draws[row, 0] % 8 == 1:
            trial[place], trial[target] = trial[target], trial[place]
        else:
            for other in range(place, target, -1):
                trial[other] = trial[other - 1]
            trial[target] = order[place]
        first_fit_compiled(table, alignment, trial, trial_offsets)
        top = _top(live_size, trial_offsets)
        if top <= height:
            height = top
            for other in range(count):
                order[other] = trial[other]
                offsets[other] = trial_offsets[other]


@compiled
def _top(live_size, offsets):
    """End of the last live byte."""
    top = 0
    for block in range(len(offsets)):
        if live_size[block] > 0:
            top = max(top, offsets[block] + live_size[block])
    return top
