"""The problem as the exact search sees it: who pushes whom how far, and what must share a step.

If block k lies below block j, then `offset_j >= offset_k + push[k -> j]`. A reference point is
chosen in every block (`level = offset - reference`) such that the lower of two conflicting blocks
is the one with the lower level. Rectangles have it at their first byte. Where such points exist
and no pair has a hole among its forbidden differences, the search over these pushes is complete.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploy.memory.bound import live_sets
from deploy.memory.conflicts import Conflicts, PieceArrays

ALIGNMENT, LIVE_SIZE, REFERENCE, FIRST, LAST = range(5)
"""Columns of `blocks`; the block is present in some of the sections [FIRST, LAST)."""
OTHER, PUSH, PULL = range(3)
"""Columns of `pushes`: a neighbour, how far it is pushed, how far it pushes."""
BLOCK, LOW, BYTES = range(3)
"""Columns of `members`: a block, its lowest live byte in the section, its live bytes there."""
SECTION, HOME_BYTES = range(2)
"""Columns of `homes`: a section of the block, and its live bytes there."""


@dataclass(frozen=True, slots=True)
class Instance:
    """Tables of int64 for the search.

    Attributes:
        blocks: a row for each block.
        push_first: rows `push_first[k]:push_first[k + 1]` of `pushes` belong to block k.
        member_first: likewise the rows of `members` that belong to each section.
        home_first: likewise the rows of `homes` that belong to each block.
        complete: a search that finds nothing proves that there is nothing.
        solid: every block is one rectangle, so no free byte lies below a placed one.
        priorities: static orders of the blocks, most urgent first, one a row.
    """

    blocks: np.ndarray
    push_first: np.ndarray
    pushes: np.ndarray
    member_first: np.ndarray
    members: np.ndarray
    home_first: np.ndarray
    homes: np.ndarray
    complete: bool
    solid: bool
    priorities: np.ndarray


def build_instance(pieces: PieceArrays, conflicts: Conflicts) -> Instance:
    """Pushes, reference points and sections of a problem in columns."""
    count = conflicts.count
    i, j, low, high, has_hole = _hulls(conflicts)
    reference = _reference_points(count, i, j, low, high)
    pusher, pushed = np.concatenate((i, j)), np.concatenate((j, i))
    pushes = np.stack((pushed, np.concatenate((high, -low)), np.concatenate((-low, high))), axis=1)
    present, lowest, size = _sections(pieces)
    section, member = np.nonzero(present.T)
    owner, home = np.nonzero(present)
    blocks = (
        pieces.alignment,
        pieces.live_size,
        np.zeros(count, dtype=np.int64) if reference is None else reference,
        present.argmax(axis=1),
        present.shape[1] - present[:, ::-1].argmax(axis=1),
    )
    return Instance(
        blocks=np.stack(blocks, axis=1).astype(np.int64),
        push_first=_starts(pusher, count),
        pushes=pushes[np.lexsort((pushed, pusher))].astype(np.int64),
        member_first=_starts(section, present.shape[1]),
        members=_table(member, lowest.T[section, member], size.T[section, member]),
        home_first=_starts(owner, count),
        homes=_table(home, size[owner, home]),
        complete=reference is not None and not has_hole,
        solid=len(pieces.block) == count,
        priorities=_priorities(pieces, size),
    )


def _table(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns, axis=1).astype(np.int64)


def _starts(keys: np.ndarray, count: int) -> np.ndarray:
    """Where each key's rows begin once the rows are sorted by key."""
    sizes = np.bincount(keys, minlength=count)
    return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)


def _hulls(
    conflicts: Conflicts,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    """One forbidden interval for each pair, and whether that closed a hole."""
    i, j = conflicts.first, conflicts.second
    if not len(i):
        return i, j, conflicts.low, conflicts.high, False
    begin = np.flatnonzero(np.concatenate(([True], (i[1:] != i[:-1]) | (j[1:] != j[:-1]))))
    low = np.minimum.reduceat(conflicts.low, begin)
    high = np.maximum.reduceat(conflicts.high, begin)
    return i[begin], j[begin], low, high, len(begin) < len(i)


def _reference_points(
    count: int, i: np.ndarray, j: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray | None:
    """Points r with `low < r[j] - r[i] < high` for every pair, or None if there are none.

    Bellman and Ford on the difference constraints; it begins at 0, which serves rectangles.
    """
    points = np.zeros(count, dtype=np.int64)
    for _ in range(count + 1):
        before = points.copy()
        np.minimum.at(points, j, points[i] + high - 1)
        np.minimum.at(points, i, points[j] - low - 1)
        if (points == before).all():
            return points - points.min(initial=0)
    return None


def _sections(pieces: PieceArrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`present`, `low` and `bytes` of `live_sets` at the steps that no other step covers."""
    present, low, size, top = live_sets(pieces)

    def covers(s: int, t: int) -> bool:
        """Whoever is present at step t is at step s too, in the same live bytes or more."""
        live = size[:, t] > 0
        same = (low[:, s] == low[:, t]) & (size[:, s] == size[:, t]) & (top[:, s] == top[:, t])
        contiguous = size[:, s] == top[:, s] - low[:, s]
        wider = contiguous & (low[:, s] <= low[:, t]) & (top[:, s] >= top[:, t])
        return bool((present[:, s] >= present[:, t]).all() and (same | wider)[live].all())

    kept: list[int] = []
    for step in range(present.shape[1]):
        if kept and covers(kept[-1], step):
            continue
        while kept and covers(step, kept[-1]):
            kept.pop()
        kept.append(step)
    return present[:, kept], low[:, kept], size[:, kept]


def _priorities(pieces: PieceArrays, size: np.ndarray) -> np.ndarray:
    """Six orders: by lifetime (W), bytes times lifetime (A) and largest live set (T), falling."""
    count = len(pieces.alignment)
    width, area = np.zeros(count), np.zeros(count)
    lifetime = (pieces.stop - pieces.start).astype(float)
    np.maximum.at(width, pieces.block, lifetime)
    np.add.at(area, pieces.block, lifetime * (pieces.end - pieces.offset))
    total = np.where(size > 0, size.sum(axis=0), 0).max(axis=1, initial=0)
    keys = {"W": -width, "A": -area, "T": -total}
    orders = ("WAT", "TAW", "TWA", "WTA", "ATW", "AWT")
    return np.array(
        [np.lexsort([keys[name] for name in reversed(order)]) for order in orders], dtype=np.int64
    )
