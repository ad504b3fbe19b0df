"""Which bytes of the arena are in use at every operator, and who makes the peak."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deploy.report.report import ReportPiece, ReportTensor


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the plane of time and address: operators [start, stop), bytes [low, high)."""

    name: str
    low: int
    high: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Peak:
    """The first operator at which most bytes hold a value, and whose values they are."""

    operator: int
    live_bytes: int
    tensors: tuple[str, ...]


def boxes(tensors: Iterable[ReportTensor], pieces: Iterable[ReportPiece]) -> tuple[Box, ...]:
    """Returns what occupies the arena: the pieces, or the tensors of a plan without pieces."""
    found = [Box(p.tensor, p.offset, p.offset + p.size_bytes, p.start, p.stop) for p in pieces]
    if not found:
        found = [
            Box(t.name, t.offset, t.offset + t.size_bytes, t.first, t.last + 1) for t in tensors
        ]
    return tuple(sorted(found, key=lambda b: (b.start, b.low, b.stop, b.high, b.name)))


def live_bytes(occupied: Sequence[Box], operators: int) -> tuple[int, ...]:
    """Returns the number of bytes that hold a value at each operator; shared ones count once."""
    alive: list[list[tuple[int, int]]] = [[] for _ in range(operators)]
    for box in occupied:
        for step in range(max(box.start, 0), min(box.stop, operators)):
            alive[step].append((box.low, box.high))
    return tuple(_union_bytes(intervals) for intervals in alive)


def peak(occupied: Sequence[Box], operators: int) -> Peak:
    """Returns the peak of a plan; tensors are named from the largest to the smallest."""
    if not occupied or not operators:
        return Peak(0, 0, ())
    live = live_bytes(occupied, operators)
    step = max(range(operators), key=lambda i: (live[i], -i))
    held: dict[str, int] = {}
    for box in occupied:
        if box.start <= step < box.stop:
            held[box.name] = held.get(box.name, 0) + box.high - box.low
    names = sorted(held, key=lambda name: (-held[name], name))
    return Peak(step, live[step], tuple(names))


def _union_bytes(intervals: list[tuple[int, int]]) -> int:
    total, end = 0, 0
    for low, high in sorted(intervals):
        total += max(0, high - max(low, end))
        end = max(end, high)
    return total
