"""Where the maps of a region stand: a packing whose boxes are staircases.

Rows of a source die one after the other, rows of a sink are born one after the other, a line
buffer lives from its first row to its last read. So what keeps two of them apart is one interval
of forbidden distances. Addresses are multiples of 4.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deploy.backends.c.program import RowProgram
from deploy.backends.c.schedule import SCRATCH, Behind, Schedule

ALIGNMENT = 4
_RANDOM_ORDERS = 60
_PAIRS_TRIED = 6000
_ALL_ORDERS_OF = 5

Forbidden = dict[tuple[int, int], tuple[int, int]]
"""(a, b) -> open interval of b's address less a's address, a < b."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A region with an address for each of its maps; ``height_bytes`` is the end of the last.

    ``scratch``: where the scratch of its kernels begins.
    """

    schedule: Schedule
    offsets: Mapping[int, int]
    height_bytes: int
    floor_bytes: int
    scratch: int = 0


def sizes(program: RowProgram, schedule: Schedule) -> dict[int, int]:
    """Returns the bytes of each map of a region: whole, or of its line buffer."""
    found = {
        m: program.maps[m].size_bytes
        for m in (*schedule.sources, *schedule.sinks, *schedule.passengers)
    }
    for m, rows in schedule.lines.items():
        found[m] = rows * program.maps[m].row_bytes
    return found


def place_region(
    program: RowProgram,
    schedule: Schedule,
    *,
    fixed: Mapping[int, int] | None = None,
    limit_bytes: int | None = None,
    effort: int = _RANDOM_ORDERS,
) -> Placed | None:
    """Returns the lowest layout found, or None where it is higher than ``limit_bytes``.

    ``fixed`` gives addresses that must stay as they are.
    """
    size = sizes(program, schedule)
    if schedule.scratch_bytes:
        size[SCRATCH] = schedule.scratch_bytes
    forbidden = _forbidden(program, schedule, size)
    floor = live_floor(program, schedule, size)
    best: dict[int, int] | None = None
    height = 1 << 62
    goal = floor if limit_bytes is None else max(limit_bytes, floor)
    for order in _orders(schedule, size, effort):
        found = _first_fit(order, size, forbidden, fixed or {}, height)
        if found is None:
            continue
        top = max((found[m] + size[m] for m in found), default=0)
        if top < height:
            best, height = found, top
            if top <= _rounded(goal):
                break
    if best is None or (limit_bytes is not None and height > limit_bytes):
        return None
    scratch = best.pop(SCRATCH, 0)
    return Placed(schedule, best, _rounded(height), _rounded(floor), scratch)


def live_floor(program: RowProgram, schedule: Schedule, size: Mapping[int, int]) -> int:
    """Returns the most bytes that are alive at once: no layout of the schedule is lower."""
    before = sum(size[m] for m in (*schedule.sources, *schedule.passengers))
    after = sum(size[m] for m in (*schedule.sinks, *schedule.passengers))
    if not schedule.events:
        return max(before, after)
    alive = np.sum([high - low for low, high in schedule.spans.values()], axis=0)
    alive = alive + schedule.scratch
    for entry in schedule.behind:
        low, high = _span(schedule, entry.source)
        ends = high[entry.event] - low[entry.event] - (entry.left[1] - entry.left[0])
        # A row over others that end with it.
        alive[entry.event] -= min(ends, program.maps[entry.target].row_bytes)
    return max(before, after, int(np.max(alive)))


def _forbidden(program: RowProgram, schedule: Schedule, size: Mapping[int, int]) -> Forbidden:
    found: Forbidden = {}
    behind: dict[tuple[int, int], list[Behind]] = {}
    for entry in schedule.behind:
        behind.setdefault((entry.source, entry.target), []).append(entry)
    for a, b in itertools.combinations(sorted(size), 2):
        interval: tuple[int, int] | None = None
        if {a, b} <= {*schedule.sources, *schedule.passengers} or {a, b} <= {
            *schedule.sinks,
            *schedule.passengers,
        }:
            interval = (-size[b], size[a])
        elif (a, b) in behind:
            interval = _apart(schedule, a, b, behind[a, b])
        elif (b, a) in behind:
            turned = _apart(schedule, b, a, behind[b, a])
            interval = None if turned is None else (-turned[1], -turned[0])
        else:
            interval = _apart(schedule, a, b, ())
        if interval is not None:
            found[a, b] = interval
    return found


def _apart(schedule: Schedule, a: int, b: int, behind: Sequence[Behind]) -> tuple[int, int] | None:
    """Forbidden distances of b's address less a's: where what both hold would meet."""
    (a_low, a_high), (b_low, b_high) = _span(schedule, a), _span(schedule, b)
    both = (a_low < a_high) & (b_low < b_high)
    # b is made from a there: its row may stand over rows that end with it.
    both[[entry.event for entry in behind]] = False
    bounds = []
    if both.any():
        bounds.append((int((a_low - b_high)[both].min()), int((a_high - b_low)[both].max())))
    for entry in behind:
        over = entry.first - entry.lead_bytes - entry.begin
        low, high = entry.left
        row = int(b_high[entry.event])
        if low < high:
            over = min(over, low - row)
        bounds.append((over, int(a_high[entry.event])))
    if not bounds:
        return None
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _span(schedule: Schedule, m: int) -> tuple[np.ndarray, np.ndarray]:
    if m == SCRATCH:
        return np.zeros_like(schedule.scratch), schedule.scratch
    return schedule.spans[m]


def _orders(
    schedule: Schedule, size: Mapping[int, int], effort: int
) -> itertools.chain[tuple[int, ...]]:
    born_at = {m: event for event, m in reversed(list(enumerate(schedule.events)))}
    lines = sorted(schedule.lines, key=lambda m: (-size[m], m))
    born = sorted(schedule.lines, key=lambda m: (born_at[m], m))
    whole = [*schedule.passengers, *schedule.sinks, *schedule.sources]
    turned = [*schedule.passengers, *schedule.sources, *schedule.sinks]
    first = [
        (*whole, *lines),
        (*turned, *lines),
        (*whole, *born),
        (*whole, *born[::-1]),
        (*lines, *whole),
        (*born, *whole),
    ]
    if SCRATCH in size:
        first = [(*order, SCRATCH) for order in first] + [(SCRATCH, *order) for order in first]
    if len(size) <= _ALL_ORDERS_OF:
        return itertools.chain(first, itertools.permutations(sorted(size)))
    # Many maps at once are mostly maps that wait: a few orders do.
    tried = min(effort, _PAIRS_TRIED // len(size) ** 2 + 1)
    return itertools.chain(first, _shuffled(list(first[0]), tried))


def _shuffled(order: list[int], count: int) -> list[tuple[int, ...]]:
    generator = random.Random(len(order))
    found = []
    for _ in range(count):
        generator.shuffle(order)
        found.append(tuple(order))
    return found


def _first_fit(
    order: Sequence[int],
    size: Mapping[int, int],
    forbidden: Forbidden,
    fixed: Mapping[int, int],
    height: int,
) -> dict[int, int] | None:
    """Each in turn at the lowest address that is allowed; None above ``height``."""
    placed: dict[int, int] = {}
    for m in [*(m for m in order if m in fixed), *(m for m in order if m not in fixed)]:
        bars = []
        for other, at in placed.items():
            pair = (other, m) if other < m else (m, other)
            if pair in forbidden:
                low, high = forbidden[pair]
                if other > m:
                    low, high = -high, -low
                bars.append((at + low, at + high))
        address = fixed.get(m, 0)
        for low, high in sorted(bars):
            if low < address < high:
                if m in fixed:
                    return None
                address = _rounded(high)
        if address + size[m] >= height:
            return None
        placed[m] = address
    return placed


def _rounded(value: int) -> int:
    return -(-value // ALIGNMENT) * ALIGNMENT
