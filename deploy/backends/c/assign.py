"""From regions that were laid out one by one to addresses for the whole run.

A map stands where the region that makes it puts it, and the next region takes it from there; where
no layout within the arena allows that, it is moved between the two.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.backends.c.layout import Placed, place_region, sizes
from deploy.backends.c.program import RowProgram
from deploy.backends.c.search import BestProgram

_EFFORT = 400


@dataclass(frozen=True, slots=True)
class Move:
    """A whole map that is moved before a region."""

    map: int
    origin: int
    target: int


@dataclass(frozen=True, slots=True)
class AddressedRegion:
    """A region with its addresses, and what is moved before it, in an order that is safe."""

    placed: Placed
    moves: tuple[Move, ...]

    @property
    def offsets(self) -> Mapping[int, int]:
        return self.placed.offsets

    def at_once(self, program: RowProgram) -> bool:
        """Whether a step whose kernel has an order of its own makes all rows in one call.

        Its output, its input and its scratch are apart then.
        """
        schedule = self.placed.schedule
        step = program.steps[schedule.first]
        if not (schedule.single and step.any_order):
            return False
        boxes = [
            (self.offsets[m], program.maps[m].size_bytes)
            for m in (step.output, *(read.map for read in step.reads))
        ]
        boxes.append((self.placed.scratch, step.scratch_bytes))
        return all(
            a + size <= b or b + other <= a
            for (a, size), (b, other) in itertools.combinations(boxes, 2)
            if size and other
        )


@dataclass(frozen=True, slots=True)
class RowLayout:
    """A program with all its addresses.

    Attributes:
        arena_bytes: all that maps, line buffers and sums take.
        lower_bound_bytes: no program of rows made once, in the orders that are tried, needs less.
        fed: the map that the application feeds row by row, or None.
    """

    program: RowProgram
    regions: tuple[AddressedRegion, ...]
    arena_bytes: int
    lower_bound_bytes: int
    fed: int | None


def assign(program: RowProgram, found: BestProgram, *, fed: int | None) -> RowLayout:
    """Returns the program with one address for each map in each region."""
    regions: list[AddressedRegion] = []
    where: dict[int, int] = {}
    for number, placed in enumerate(found.regions):
        here = {m: at for m, at in where.items() if m in sizes(program, placed.schedule)}
        region = AddressedRegion(placed, ()) if not number else _next(program, placed, here, found)
        regions.append(region)
        schedule = region.placed.schedule
        for m in (*schedule.sinks, *schedule.passengers):
            where[m] = region.offsets[m]
    height = max((r.placed.height_bytes for r in regions), default=0)
    return RowLayout(program, tuple(regions), height, found.lower_bound_bytes, fed)


def _next(
    program: RowProgram, placed: Placed, here: Mapping[int, int], found: BestProgram
) -> AddressedRegion:
    """The region with its maps where they are, or moved to where it wants them."""
    schedule = placed.schedule
    limit = found.height_bytes
    still = place_region(program, schedule, fixed=here, limit_bytes=limit, effort=_EFFORT)
    if still is not None:
        return AddressedRegion(still, ())
    moves = safe_moves(program, here, placed.offsets)
    if moves is not None:
        return AddressedRegion(placed, moves)
    # Maps that would have to pass each other stay where they are, at the price of the height.
    higher = place_region(program, schedule, fixed=here, effort=_EFFORT)
    assert higher is not None
    return AddressedRegion(higher, ())


def safe_moves(
    program: RowProgram, origin: Mapping[int, int], target: Mapping[int, int]
) -> tuple[Move, ...] | None:
    """Returns moves, one map at a time, that overwrite none of the others; None if none do."""
    at = dict(origin)
    waiting = [m for m in sorted(at) if at[m] != target[m]]
    moves = []

    def free(m: int) -> bool:
        end = target[m] + program.maps[m].size_bytes
        return all(
            end <= at[other] or at[other] + program.maps[other].size_bytes <= target[m]
            for other in at
            if other != m
        )

    while waiting:
        ready = next((m for m in waiting if free(m)), None)
        if ready is None:
            return None
        moves.append(Move(ready, at[ready], target[ready]))
        at[ready] = target[ready]
        waiting.remove(ready)
    return tuple(moves)
