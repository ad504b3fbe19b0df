"""Which maps stand whole: the path of least height from the first cut to the last.

Every place between two steps is a cut, every run of steps between two cuts a region whose height
does not depend on the others. So the least arena is a bottleneck shortest path, found exactly
(Dijkstra, with bounds in place of heights until a height is needed). Among the paths of that
height the one with the least work between kernels is taken.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from deploy.backends.c.layout import Placed, place_region
from deploy.backends.c.program import RowProgram
from deploy.backends.c.schedule import ScheduleFacts, play

_LONGEST_REGION = 160


@dataclass(frozen=True, slots=True)
class BestProgram:
    """The regions of the best program, in order, its height and what no other goes below."""

    regions: tuple[Placed, ...]
    height_bytes: int
    lower_bound_bytes: int


def search(program: RowProgram, *, fed: int | None) -> BestProgram | None:
    """Returns the program of least height; None where ``fed`` cannot be fed at all."""
    return _Search(program, fed).run()


class _Search:
    def __init__(self, program: RowProgram, fed: int | None) -> None:
        self.program, self.fed = program, fed
        self.cuts = ScheduleFacts.of(program)
        self.last = len(program.steps)
        self.regions: dict[tuple[int, int], Placed] = {}

    def run(self) -> BestProgram | None:
        height = self._least_height()
        if height is None:
            return None
        for cut in range(self.last):
            self._region(cut, cut + 1)
        path = self._least_work(height)
        return BestProgram(path, height, min(height, self._bound()))

    def _least_height(self) -> int | None:
        settled: set[int] = set()
        queue: list[tuple[int, int, int, int, bool]] = [(0, 0, 0, 0, True)]
        while queue:
            height, _, start, cut, known = heapq.heappop(queue)
            if cut in settled:
                continue
            if not known:
                region = self._region(start, cut)
                if region is not None:
                    tall = max(height, region.height_bytes)
                    heapq.heappush(queue, (tall, -cut, start, cut, True))
                continue
            settled.add(cut)
            if cut == self.last:
                return height
            for stop in range(cut + 1, min(self.last, cut + _LONGEST_REGION) + 1):
                if stop not in settled:
                    bound = max(height, self._least(cut), self._least(stop))
                    heapq.heappush(queue, (bound, -stop, cut, stop, False))
        return None

    def _least(self, cut: int) -> int:
        """The bytes that stand whole at a cut."""
        return sum(
            self.program.maps[m].size_bytes
            for m in self.cuts.alive[cut]
            if cut > 0 or m != self.fed
        )

    def _region(self, start: int, stop: int) -> Placed | None:
        if (start, stop) in self.regions:
            return self.regions[start, stop]
        fed = self.fed if start == 0 else None
        if self.fed is not None and self.fed in self.cuts.alive[stop]:
            return None
        found: Placed | None = None
        for backwards in (False, True):
            schedule = play(self.cuts, start, stop, fed=fed, backwards=backwards)
            placed = place_region(self.program, schedule)
            assert placed is not None
            if found is None or placed.height_bytes < found.height_bytes:
                found = placed
            if stop - start == 1:
                break
        assert found is not None
        self.regions[start, stop] = found
        return found

    def _least_work(self, height: int) -> tuple[Placed, ...]:
        """The path within a height that makes the fewest rows one by one, then the shortest."""
        cost: list[tuple[int, int] | None] = [None] * (self.last + 1)
        back: list[Placed | None] = [None] * (self.last + 1)
        cost[0] = (0, 0)
        for stop in range(1, self.last + 1):
            for start in range(stop):
                before, placed = cost[start], self.regions.get((start, stop))
                if before is None or placed is None or placed.height_bytes > height:
                    continue
                work = 0 if placed.schedule.single else len(placed.schedule.events)
                total = (before[0] + work, before[1] + 1)
                if cost[stop] is None or total < cost[stop]:  # type: ignore[operator]
                    cost[stop], back[stop] = total, placed
        path: list[Placed] = []
        cut = self.last
        while cut > 0:
            region = back[cut]
            assert region is not None
            path.append(region)
            cut = region.schedule.first
        return tuple(path[::-1])

    def _bound(self) -> int:
        """The least height if every region could be as low as what is alive in it."""
        least = [0] + [1 << 62] * self.last
        for stop in range(1, self.last + 1):
            for start in range(max(0, stop - _LONGEST_REGION), stop):
                if self.fed is not None and self.fed in self.cuts.alive[stop]:
                    continue
                region = self.regions.get((start, stop))
                floor = max(self._least(start), self._least(stop))
                if region is not None:
                    floor = region.floor_bytes
                least[stop] = min(least[stop], max(least[start], floor))
        return least[self.last]
