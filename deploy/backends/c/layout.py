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

from deploy.backends.c.program import Program
from deploy.backends.c.schedule import Schedule

ALIGNMENT = 4
_RANDOM_ORDERS = 60
_PAIRS_TRIED = 6000
_ALL_ORDERS_OF = 5

Forbidden = dict[tuple[int, int], tuple[int, int]]
"""(a, b) -> open interval of b's address less a's address, a < b."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A region with an address for each of its maps; ``height_bytes`` is the end of the last."""

    schedule: Schedule
    offsets: Mapping[int, int]
    height_bytes: int
    floor_bytes: int


def sizes(program: Program, schedule: Schedule) -> dict[int, int]:
    """Returns the bytes of each map of a region: whole, or of its line buffer."""
    found = {
        m: program.maps[m].size_bytes
        for m in (*schedule.sources, *schedule.sinks, *schedule.passengers)
    }
    for m, rows in schedule.lines.items():
        found[m] = rows * program.maps[m].row_bytes
    return found


def place_region(
    program: Program,
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
    return Placed(schedule, best, _rounded(height), _rounded(floor))


def live_floor(program: Program, schedule: Schedule, size: Mapping[int, int]) -> int:
    """Returns the most bytes that are alive at once: no layout of the schedule is lower."""
    base = sum(size[m] for m in schedule.passengers)
    rows = {m: program.maps[m] for m in (*schedule.sources, *schedule.sinks)}
    most = base + sum(size[m] for m in schedule.sources)
    filled = dict.fromkeys(schedule.lines, 0)
    fills: dict[int, list[int]] = {}
    for m in schedule.lines:
        for event in schedule.born[m]:
            fills.setdefault(event, []).append(m)
    for event in range(len(schedule.events)):
        for m in fills.get(event, ()):
            filled[m] += program.maps[m].row_bytes
        total = base + sum(n for m, n in filled.items() if schedule.busy[m] >> event & 1)
        for m in schedule.sources:
            left = (rows[m].rows - schedule.needed[m][event]) * rows[m].row_bytes
            total += min(left, size[m])
        for m in schedule.sinks:
            total += min(schedule.made[m][event] * rows[m].row_bytes, size[m])
        most = max(most, total)
    return max(most, base + sum(size[m] for m in schedule.sinks))


def _forbidden(program: Program, schedule: Schedule, size: Mapping[int, int]) -> Forbidden:
    found: Forbidden = {}
    # Sums have no rows that could be born or die by themselves.
    sources = {m for m in schedule.sources if not program.maps[m].sums}
    sinks = {m for m in schedule.sinks if not program.maps[m].sums}
    for a, b in itertools.combinations(sorted(size), 2):
        interval: tuple[int, int] | None = (-size[b], size[a])
        for x, y, flip in ((a, b, False), (b, a, True)):
            if x in sources and y in sinks:
                events = [e for e, m in enumerate(schedule.events) if m == y]
                interval = _grows(program, schedule, x, y, events)
            elif x in sources and y in schedule.lines:
                interval = _grows(program, schedule, x, y, schedule.born[y])
            elif x in sinks and y in schedule.lines:
                done = schedule.made[x][schedule.died[y]] * program.maps[x].row_bytes
                interval = (-size[y], min(done, size[x])) if done else None
            else:
                continue
            if interval is not None and flip:
                interval = (-interval[1], -interval[0])
            break
        else:
            if a in schedule.lines and b in schedule.lines:
                interval = interval if schedule.busy[a] & schedule.busy[b] else None
        if interval is not None:
            found[a, b] = interval
    return found


def _grows(
    program: Program, schedule: Schedule, source: int, target: int, born: Sequence[int]
) -> tuple[int, int] | None:
    """Forbidden distances of the target's address less the source's.

    Row r of the target is filled by event ``born[r]`` and stays.
    """
    in_row, out_row = program.maps[source].row_bytes, program.maps[target].row_bytes
    in_size = program.maps[source].size_bytes
    highest = lowest = None
    for row, event in enumerate(born):
        needed = schedule.needed[source][event] * in_row
        if needed < in_size:
            # The row may end where the source is still needed, or begin behind the source.
            low, high = needed - (row + 1) * out_row, in_size - row * out_row
            lowest = low if lowest is None else min(lowest, low)
            highest = high if highest is None else max(highest, high)
    return None if lowest is None or highest is None else (lowest, highest)


def _orders(
    schedule: Schedule, size: Mapping[int, int], effort: int
) -> itertools.chain[tuple[int, ...]]:
    lines = sorted(schedule.lines, key=lambda m: (-size[m], m))
    born = sorted(schedule.lines, key=lambda m: (schedule.born[m][0], m))
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
