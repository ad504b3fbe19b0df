"""Exact search for blocks that interlock, complete for any forbidden differences.

Where two blocks can lie in a hole of each other, or no reference points order them by level,
`search.py` finds placements but proves nothing. Here a node holds a range of offsets for every
block and, for every pair, the gaps between its forbidden differences that are still open. All
blocks at the low ends of their ranges is a placement unless some difference is forbidden; the
search branches on the one that pushes furthest: the gaps below it, or those above it.
"""

from __future__ import annotations

import numpy as np

from deploy.memory.compiled import compiled
from deploy.memory.conflicts import Conflicts
from deploy.memory.problem import round_up
from deploy.memory.search import FOUND, IMPOSSIBLE, UNKNOWN

_DEPTHS = 600
_FAR = 1 << 60


def search_gaps(
    conflicts: Conflicts, capacity_bytes: int, *, node_limit: int, stop: np.ndarray
) -> tuple[int, np.ndarray, int]:
    """Looks for a placement of at most `capacity_bytes`; IMPOSSIBLE is a proof.

    Args and result are those of `deploy.memory.search.search`.
    """
    alignment, live_size = conflicts.alignment, conflicts.live_size
    count = conflicts.count
    if np.any(live_size > capacity_bytes):
        return IMPOSSIBLE, np.zeros(count, dtype=np.int64), 0
    # A block of reserved pieces may lie above everything: it adds nothing to the height.
    reserved_top = round_up(capacity_bytes, int(np.lcm.reduce(alignment))) if count else 0
    top = np.where(live_size > 0, capacity_bytes - live_size, reserved_top)
    first, second = conflicts.first, conflicts.second
    begin = np.flatnonzero(
        np.concatenate(([True], (first[1:] != first[:-1]) | (second[1:] != second[:-1])))
        if len(first)
        else np.zeros(0, dtype=bool)
    )
    interval_first = np.concatenate((begin, [len(first)])).astype(np.int64)
    depths = min(_DEPTHS, len(first) + 2)
    low = np.zeros((depths, count), dtype=np.int64)
    high = np.zeros((depths, count), dtype=np.int64)
    high[0] = top // alignment * alignment
    gaps = np.zeros((depths, len(begin), 2), dtype=np.int32)
    gaps[0, :, 1] = np.diff(interval_first)
    outcome, depth, nodes = _search(
        np.stack((first[begin], second[begin]), axis=1),
        interval_first,
        np.stack((conflicts.low, conflicts.high), axis=1),
        alignment,
        node_limit,
        stop,
        low,
        high,
        gaps,
        np.zeros((depths, 4), dtype=np.int64),
    )
    return int(outcome), low[depth].copy(), int(nodes)


@compiled
def _search(pairs, interval_first, intervals, alignment, node_limit, stop, low, high, gaps, steps):
    """The loop of `search_gaps`. Columns of `steps`: pair, interval, first branch, branches taken.

    Returns the outcome, the depth reached and the number of nodes.
    """
    depth, nodes = 0, 0
    possible = _propagate(
        pairs, interval_first, intervals, alignment, stop, low[0], high[0], gaps[0]
    )
    if not possible:
        return IMPOSSIBLE, 0, 0
    entering = True
    while True:
        if entering:
            nodes += 1
            if nodes > node_limit or depth + 2 > len(steps):
                return UNKNOWN, depth, nodes
            if stop[0] != 0:
                return UNKNOWN, depth, nodes
            pair, interval, above = _worst(pairs, interval_first, intervals, low[depth])
            if pair < 0:
                return FOUND, depth, nodes
            steps[depth, 0], steps[depth, 1] = pair, interval
            steps[depth, 2], steps[depth, 3] = above, 0
            entering = False
        if steps[depth, 3] == 2:
            if depth == 0:
                return IMPOSSIBLE, 0, nodes
            depth -= 1
            continue
        pair = steps[depth, 0]
        gap = steps[depth, 1] - interval_first[pair]
        above = steps[depth, 2] != steps[depth, 3]
        steps[depth, 3] += 1
        if depth + 1 == len(steps):
            return UNKNOWN, depth, nodes
        for block in range(low.shape[1]):
            low[depth + 1, block] = low[depth, block]
            high[depth + 1, block] = high[depth, block]
        for other in range(len(pairs)):
            gaps[depth + 1, other, 0] = gaps[depth, other, 0]
            gaps[depth + 1, other, 1] = gaps[depth, other, 1]
        if above:
            gaps[depth + 1, pair, 0] = max(gaps[depth, pair, 0], gap + 1)
        else:
            gaps[depth + 1, pair, 1] = min(gaps[depth, pair, 1], gap)
        if _propagate(
            pairs, interval_first, intervals, alignment, stop,
            low[depth + 1], high[depth + 1], gaps[depth + 1],
        ):  # fmt: skip
            depth += 1
            entering = True


@compiled
def _worst(pairs, interval_first, intervals, low):
    """The forbidden difference at the low ends whose cheaper way out is the dearest.

    Returns its pair (-1 if nothing is forbidden), its interval, and 1 if above is cheaper.
    """
    worst, where, above, dearest = -1, -1, 0, 0
    for pair in range(len(pairs)):
        difference = low[pairs[pair, 1]] - low[pairs[pair, 0]]
        for row in range(interval_first[pair], interval_first[pair + 1]):
            down, up = difference - intervals[row, 0], intervals[row, 1] - difference
            if down > 0 and up > 0 and min(down, up) > dearest:
                worst, where, dearest = pair, row, min(down, up)
                above = 1 if up <= down else 0
    return worst, where, above


@compiled
def _propagate(pairs, interval_first, intervals, alignment, stop, low, high, gaps):
    """Narrows ranges and gaps until nothing changes; False if some range or pair is empty.

    Pairs that push each other around in a circle narrow slowly, so this too ends early on `stop`.
    """
    for block in range(len(low)):
        if low[block] > high[block]:
            return False
    changed = True
    while changed and stop[0] == 0:
        changed = False
        for pair in range(len(pairs)):
            i, j = pairs[pair, 0], pairs[pair, 1]
            begin = interval_first[pair]
            last_gap = interval_first[pair + 1] - begin
            least, most = low[j] - high[i], high[j] - low[i]
            while gaps[pair, 0] < last_gap and intervals[begin + gaps[pair, 0], 0] < least:
                gaps[pair, 0] += 1
            while gaps[pair, 1] > 0 and intervals[begin + gaps[pair, 1] - 1, 1] > most:
                gaps[pair, 1] -= 1
            if gaps[pair, 0] > gaps[pair, 1]:
                return False
            if gaps[pair, 0] > 0:
                least = intervals[begin + gaps[pair, 0] - 1, 1]
                if low[i] + least > low[j]:
                    low[j] = -(-(low[i] + least) // alignment[j]) * alignment[j]
                    changed = True
                if high[j] - least < high[i]:
                    high[i] = (high[j] - least) // alignment[i] * alignment[i]
                    changed = True
            if gaps[pair, 1] < last_gap:
                most = intervals[begin + gaps[pair, 1], 0]
                if low[j] - most > low[i]:
                    low[i] = -(-(low[j] - most) // alignment[i]) * alignment[i]
                    changed = True
                if high[i] + most < high[j]:
                    high[j] = (high[i] + most) // alignment[j] * alignment[j]
                    changed = True
            if low[i] > high[i] or low[j] > high[j]:
                return False
    return True
