"""From blocks of pieces to pairs: which differences of two offsets are forbidden.

Pieces p of block i and q of block j that are live together forbid an open interval of differences

    d = offset_j - offset_i,   p.offset - q.end < d < p.end - q.offset

The union over their pieces is all that the packing of two blocks depends on, whether they are
plain rectangles (one interval around 0) or interlocking staircases (any interval, perhaps with
holes in it). Everything after this module works on these intervals only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import gcd

import numpy as np

from deploy.memory.problem import Problem


@dataclass(frozen=True, slots=True)
class PieceArrays:
    """The pieces of a problem as columns, in the order of the blocks.

    Attributes:
        block: index of the piece's block; `first[b]:first[b + 1]` are the pieces of block b.
        scratch: whether the piece belongs to a scratch block.
    """

    block: np.ndarray
    offset: np.ndarray
    end: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    reserved: np.ndarray
    scratch: np.ndarray
    first: np.ndarray
    alignment: np.ndarray
    live_size: np.ndarray
    height: np.ndarray
    unit: int


def piece_arrays(problem: Problem) -> PieceArrays:
    """Columns of all pieces; `height[b]` is the live size of block b rounded up to `unit`."""
    rows = [
        (b, p.offset, p.offset + p.size_bytes, p.start, p.stop, p.reserved, block.scratch)
        for b, block in enumerate(problem.blocks)
        for p in block.pieces
    ]
    table = np.array(rows, dtype=np.int64).reshape(-1, 7)
    counts = [len(block.pieces) for block in problem.blocks]
    first = np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64)
    live_end = np.where(table[:, 5] > 0, 0, table[:, 2])
    live_size = np.maximum.reduceat(live_end, first[:-1]) if counts else first[:0]
    return PieceArrays(
        block=table[:, 0].copy(),
        offset=table[:, 1].copy(),
        end=table[:, 2].copy(),
        start=table[:, 3].copy(),
        stop=table[:, 4].copy(),
        reserved=table[:, 5].astype(bool),
        scratch=table[:, 6].astype(bool),
        first=first,
        alignment=np.array([b.alignment for b in problem.blocks], dtype=np.int64),
        live_size=live_size,
        height=-(-live_size // problem.alignment_bytes) * problem.alignment_bytes,
        unit=problem.alignment_bytes,
    )


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Forbidden open intervals (low, high) of `offset[second] - offset[first]`, first < second.

    Rows are sorted by (first, second, low); the intervals of one pair do not overlap. `low` is
    rounded down and `high` up to the differences that the two alignments allow.
    """

    count: int
    first: np.ndarray
    second: np.ndarray
    low: np.ndarray
    high: np.ndarray
    alignment: np.ndarray
    live_size: np.ndarray
    height: np.ndarray
    unit: int

    @property
    def granularity_bytes(self) -> int:
        """A divisor of the height of some lowest placement, a multiple of `unit`.

        Pushed down until nothing moves, alone or together, every block hangs by a chain of
        contacts from address 0, so its offset is a sum of interval ends. With equal alignments
        no rounding intervenes; mixed ones join the greatest common divisor.
        """
        if not self.count or any(a % self.unit for a in self.alignment.tolist()):
            return self.unit
        columns = [self.low, self.high, self.height]
        if len(set(self.alignment.tolist())) > 1:
            columns.append(self.alignment)
        common = reduce(gcd, (int(v) for column in columns for v in np.unique(column)), 0)
        return common or self.unit

    def neighbours(self) -> list[list[tuple[int, int, int]]]:
        """For block j the rows (i, low, high): `offset_j - offset_i` outside (low, high)."""
        rows: list[list[tuple[int, int, int]]] = [[] for _ in range(self.count)]
        for i, j, low, high in zip(
            self.first.tolist(),
            self.second.tolist(),
            self.low.tolist(),
            self.high.tolist(),
            strict=True,
        ):
            rows[j].append((i, low, high))
            rows[i].append((j, -high, -low))
        return rows


def find_conflicts(pieces: PieceArrays) -> Conflicts:
    """Forbidden intervals of all pairs of blocks, merged."""
    count = len(pieces.alignment)
    columns: list[tuple[np.ndarray, ...]] = []
    for i in range(count - 1):
        columns.extend(_rows_of_block(pieces, i))
    if columns:
        first, second, low, high = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    else:
        first = second = low = high = np.zeros(0, dtype=np.int64)
    return Conflicts(
        *(count, first, second, low, high),
        *(pieces.alignment, pieces.live_size, pieces.height, pieces.unit),
    )


def _rows_of_block(pieces: PieceArrays, i: int) -> list[tuple[np.ndarray, ...]]:
    """The merged rows (first, second, low, high) of block i with all later blocks."""
    own = np.arange(pieces.first[i], pieces.first[i + 1])
    rest = np.arange(pieces.first[i + 1], len(pieces.block))
    live_own, live_rest = own[~pieces.reserved[own]], rest[~pieces.reserved[rest]]
    parts = [
        _live_together(pieces, live_own, live_rest),
        _live_together(pieces, own[pieces.reserved[own]], rest[pieces.scratch[rest]]),
    ]
    if pieces.scratch[own[0]]:
        parts.append(_live_together(pieces, live_own, rest[pieces.reserved[rest]]))
    p, q = (np.concatenate(side) for side in zip(*parts, strict=True))
    if not len(p):
        return []
    second = pieces.block[q]
    step = np.gcd(pieces.alignment[i], pieces.alignment[second])
    low = (pieces.offset[p] - pieces.end[q]) // step * step
    high = -((pieces.offset[q] - pieces.end[p]) // step) * step
    by_pair = np.lexsort((low, second))
    second, low, high = second[by_pair], low[by_pair], high[by_pair]
    # Later pairs are lifted above all earlier ones, so that one running maximum serves them all.
    span = int(high.max() - low.min()) + 1
    lifted_low, lifted_high = low + second * span, high + second * span
    reach = np.maximum.accumulate(lifted_high)
    is_new = np.concatenate(([True], lifted_low[1:] >= reach[:-1]))
    begin = np.flatnonzero(is_new)
    second, low = second[begin], low[begin]
    high = np.maximum.reduceat(lifted_high, begin) - second * span
    return [(np.full(len(second), i, dtype=np.int64), second, low, high)]


def _live_together(
    pieces: PieceArrays, own: np.ndarray, rest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of pieces whose lifetimes overlap."""
    p, q = np.nonzero(
        (pieces.start[own, None] < pieces.stop[None, rest])
        & (pieces.start[None, rest] < pieces.stop[own, None])
    )
    return own[p], rest[q]
