"""``arena_plan.c`` of a row program: why its memory is right, as static assertions.

The statements are over the numbers of arena_plan.h, which the code uses. What they take for
granted, which row is read until when, was seen by the replay.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

from deploy.backends.c.assign import AddressedRegion, RowLayout
from deploy.backends.c.names import Names
from deploy.backends.c.program import Step
from deploy.backends.c.replay import Event, RegionTrace
from deploy.proof.names import c_comment

_TEMPLATES = Path(__file__).with_name("templates")


def plan_source(layout: RowLayout, traces: Sequence[RegionTrace], *, model_name: str) -> str:
    """Returns arena_plan.c."""
    names = Names.of(model_name)
    statements = [*_maps(layout, names)]
    for number, (region, trace) in enumerate(zip(layout.regions, traces, strict=True)):
        statements.append(f"\n/* Region {number}. */")
        statements += _Region(layout, number, region, trace, names).statements()
    return Template((_TEMPLATES / "arena_plan.c").read_text()).substitute(
        model=c_comment(model_name), statements="\n".join(statements)
    )


def _maps(layout: RowLayout, names: Names) -> Iterator[str]:
    yield f"FMC_IS({names.macro}_ARENA_BYTES, {layout.arena_bytes})"
    for m, entry in enumerate(layout.program.maps):
        yield f"FMC_IS({names.rows(m)}, {entry.rows})"
        yield f"FMC_IS({names.row_bytes(m)}, {entry.row_bytes})"
        factor = "1" if entry.sums else names.rows(m)
        yield f"FMC_SIZE({names.size_bytes(m)}, {factor}, {names.row_bytes(m)})"


class _Region:
    """The statements of one region."""

    def __init__(
        self,
        layout: RowLayout,
        number: int,
        region: AddressedRegion,
        trace: RegionTrace,
        names: Names,
    ) -> None:
        self.layout, self.number, self.region, self.names = layout, number, region, names
        self.schedule, self.maps = region.placed.schedule, layout.program.maps
        self.trace = trace
        self._alive_rows: dict[int, list[tuple[int, int]]] = {}
        self.last_read: dict[int, dict[int, int]] = {}
        self.written: dict[int, list[int]] = {}
        for event, entry in enumerate(trace.events):
            self.written.setdefault(entry.map, []).append(event)
            for read in entry.reads:
                rows = self.last_read.setdefault(read.map, {})
                rows.update(dict.fromkeys(range(read.first, read.stop), event))

    def statements(self) -> Iterator[str]:
        lines = self.schedule.lines
        for m in sorted(self.region.offsets):
            yield f"FMC_IS({self._offset(m)}, {self.region.offsets[m]})"
            if m in lines:
                yield f"FMC_IS({self._held(m)}, {lines[m]})"
                seen = self.trace.held.get(m, 1)
                yield f"FMC_AT_LEAST({self._held(m)}, {seen})"
            yield f"FMC_INSIDE({self._offset(m)}, {self._bytes(m)}, {self.names.macro})"
        yield from self._arrivals()
        for a, b in itertools.combinations(sorted(self.region.offsets), 2):
            yield from self._pair(a, b)
        yield from self._scratch()

    def _scratch(self) -> Iterator[str]:
        """Scratch is inside the arena, and apart from all that is held while a kernel uses it."""
        steps = self.layout.program.steps
        here = [
            number
            for number in range(self.schedule.first, self.schedule.stop)
            if steps[number].scratch is not None
        ]
        place = self.names.scratch(self.number)
        for number in here:
            size = self.names.scratch_bytes(number)
            yield f"FMC_IS({size}, {steps[number].scratch_bytes})"
            yield f"FMC_INSIDE({place}, {size}, {self.names.macro})"
        if here:
            yield f"FMC_IS({place}, {self.region.placed.scratch})"
        if self.region.at_once(self.layout.program):
            yield from self._at_once(steps[self.schedule.first])
        uses = {steps[number].output: steps[number] for number in here}
        for m in sorted(self.region.offsets):
            bounds = [
                (span[0] - step.scratch_bytes, self._over_scratch(step, m, span[1]))
                for event, entry in enumerate(self.trace.events)
                if (step := uses.get(entry.map)) is not None
                and step.scratch_bytes
                and (span := self._span(m, event)) is not None
            ]
            for low, high in _united(bounds):
                yield f"FMC_CLEAR({self._offset(m)}, {place}, {low}, {high})"

    def _over_scratch(self, step: Step, m: int, end: int) -> int:
        """How far in front of the scratch of a step a map has to begin that ends at ``end``.

        A row that is made of rows in scratch may stand over them, behind what is read.
        """
        lead = None if step.inner is None or step.output != m else step.inner.lead_bytes
        one_row = self.schedule.lines.get(m) == 1
        return end if lead is None or not one_row else min(end, lead)

    def _at_once(self, step: Step) -> Iterator[str]:
        """A call that makes all rows in an order of its own: all that it touches is apart."""
        boxes = [(self._offset(m), self._bytes(m)) for m in (step.output, step.reads[0].map)]
        if step.scratch_bytes:
            size = self.names.scratch_bytes(self.schedule.first)
            boxes.append((self.names.scratch(self.number), size))
        for (a, size), (b, other) in itertools.combinations(boxes, 2):
            yield self._apart_text(a, size, b, other)

    def _arrivals(self) -> Iterator[str]:
        """Whole maps stand where the region before left them, or are moved there safely."""
        if self.number == 0:
            return
        before = self.layout.regions[self.number - 1]
        after = {*before.placed.schedule.sinks, *before.placed.schedule.passengers}
        moved = {move.map for move in self.region.moves}
        for m in sorted(after - moved):
            if m in self.region.offsets:
                yield f"FMC_SAME({self._offset(m)}, {self.names.offset(self.number - 1, m)})"
        at = {m: self.names.offset(self.number - 1, m) for m in after}
        for move in self.region.moves:
            for other in sorted(after - {move.map}):
                yield self._apart_text(
                    self._offset(move.map),
                    self.names.size_bytes(move.map),
                    at[other],
                    self.names.size_bytes(other),
                )
            at[move.map] = self._offset(move.map)

    def _pair(self, a: int, b: int) -> Iterator[str]:
        """What keeps two maps of a region apart, as far as both hold what is still read."""
        sources, sinks = self.schedule.sources, self.schedule.sinks
        for x, y in ((a, b), (b, a)):
            if x in sources and y in sinks and not self.maps[x].sums and not self.maps[y].sums:
                yield from self._grows(x, y, self.written.get(y, []))
                return
        stays = set(self.schedule.passengers)
        if {a, b} <= {*sources, *stays} or {a, b} <= {*sinks, *stays}:
            yield self._apart_text(self._offset(a), self._bytes(a), self._offset(b), self._bytes(b))
            return
        bounds = [
            bound
            for event in range(len(self.trace.events))
            if (bound := self._meeting(a, b, event)) is not None
        ]
        for low, high in _united(bounds):
            yield f"FMC_CLEAR({self._offset(a)}, {self._offset(b)}, {low}, {high})"

    def _meeting(self, a: int, b: int, event: int) -> tuple[int, int] | None:
        """Distances of b less a, exclusive, at which what both hold during an event would meet."""
        entry = self.trace.events[event]
        for x, y, turned in ((a, b, False), (b, a, True)):
            lead = self._lead(entry, x, y)
            if lead is None:
                continue
            # The row of y may stand over rows of x that end with it, behind what is read.
            read, held = self._span(x, event), self._span(y, event)
            left = self._span(x, event + 1, until=event)
            assert read is not None
            assert held is not None
            low = self._slot(x, entry, entry.reads[0].first) - lead
            if left is not None:
                low = min(low, left[0] - held[1])
            return (-read[1], -low) if turned else (low, read[1])
        one, other = self._span(a, event), self._span(b, event)
        if one is None or other is None:
            return None
        for x, y, turned in ((a, b, False), (b, a, True)):
            if self._in_place(entry, x, y):
                # The row of y takes the place of the one that it is made from, or stands before.
                left, held = self._span(x, event + 1, until=event), self._span(y, event)
                assert held is not None
                row = self._slot(x, entry, entry.row)
                low = row - self._slot(y, entry, entry.row)
                high = low + self.maps[x].row_bytes
                if left is not None:
                    low, high = min(low, left[0] - held[1]), max(high, left[1] - held[0])
                return (-high, -low) if turned else (low, high)
        return one[0] - other[1], one[1] - other[0]

    def _in_place(self, entry: Event, source: int, target: int) -> bool:
        """Whether an event makes a row of a map value by value from the same row of a source."""
        if entry.map != target or source not in self.schedule.sources or self.maps[target].sums:
            return False
        reads = [read for read in entry.reads if read.map == source]
        sizes = {self.maps[m].row_bytes for m in (source, target)}
        return (
            bool(reads)
            and len(sizes) == 1
            and all(
                r.lead_bytes == 0 and (r.first, r.stop) == (entry.row, entry.row + 1) for r in reads
            )
        )

    def _lead(self, entry: Event, source: int, target: int) -> int | None:
        """The lead with which an event writes a buffer of one row behind what it reads."""
        one_row = target in self.schedule.lines and self.schedule.lines[target] == 1
        if entry.map != target or not one_row or self.maps[target].sums or len(entry.reads) != 1:
            return None
        read = entry.reads[0]
        if read.map != source or read.first == read.stop or self.maps[source].sums:
            return None
        stays = source in self.schedule.passengers or source in self.schedule.sinks
        return None if stays else read.lead_bytes

    def _slot(self, m: int, entry: Event, row: int) -> int:
        """Where a row of a map stands during an event, from where the map begins."""
        if m in self.schedule.lines:
            if self.schedule.lines[m] == 1:
                return 0
            row -= entry.kept.get(m, 0)
        return row * self.maps[m].row_bytes

    def _span(self, m: int, event: int, *, until: int | None = None) -> tuple[int, int] | None:
        """The bytes of a map that are written or still read at an event; None for none.

        ``until``: as it stands during that event, without what is written after it.
        """
        there = event if until is None else until
        if m in self.schedule.passengers:
            return 0, self.maps[m].size_bytes
        first, last = self._alive(m)[event] if event < len(self.trace.events) else (0, 0)
        if until is not None:
            rows = self.last_read.get(m, {})
            alive = [
                row
                for row, end in rows.items()
                if end > until and self._written_at(m, row) <= until
            ]
            first, last = (min(alive), max(alive) + 1) if alive else (0, 0)
        if first >= last:
            return None
        if self.maps[m].sums:
            return 0, self.maps[m].row_bytes
        entry = self.trace.events[there]
        low = self._slot(m, entry, first)
        if m in self.schedule.lines and self.schedule.lines[m] == 1:
            return 0, self.maps[m].row_bytes
        return low, low + (last - first) * self.maps[m].row_bytes

    def _written_at(self, m: int, row: int) -> int:
        if m in self.schedule.sources:
            return -1
        return self.written[m][row]

    def _alive(self, m: int) -> list[tuple[int, int]]:
        """For each event the rows [first, stop) of a map that are written or still read."""
        if m not in self._alive_rows:
            count = len(self.trace.events)
            first, stop = [1 << 30] * count, [0] * count
            rows = self.last_read.get(m, {})
            total = self.maps[m].rows if m in self.schedule.sources else len(self.written[m])
            for row in range(total):
                born = max(self._written_at(m, row), 0)
                last = count - 1 if m in self.schedule.sinks else rows.get(row, born)
                if self.maps[m].sums and rows and m not in self.schedule.sinks:
                    last = max(rows.values())
                if m in self.schedule.sources and row not in rows:
                    continue
                for event in range(born, last + 1):
                    first[event] = min(first[event], row)
                    stop[event] = max(stop[event], row + 1)
            self._alive_rows[m] = list(zip(first, stop, strict=True))
        return self._alive_rows[m]

    def _grows(self, source: int, target: int, written: Sequence[int]) -> Iterator[str]:
        """Each row of the target ends before what is still read of the source, or is behind it.

        While a row is made, its kernel may write behind what it reads.
        """
        rows = self.last_read.get(source, {})
        row_count = self.maps[source].rows
        for row, event in enumerate(written):
            entry = self.trace.events[event]
            needed = min(
                (r for r, last in rows.items() if last > event or self._reads(entry, source, r)),
                default=row_count,
            )
            if needed < row_count:
                yield (
                    f"FMC_GROWS({self._offset(target)}, {row}, {self.names.row_bytes(target)}, "
                    f"{self._offset(source)}, {needed}, {self.names.row_bytes(source)}, "
                    f"{self.names.size_bytes(source)})"
                )
            for read in entry.reads if self._writes_behind(entry, source) else ():
                yield (
                    f"FMC_BEHIND({self._offset(target)}, {row}, {self.names.row_bytes(target)}, "
                    f"{read.lead_bytes}, {self._offset(source)}, {read.first}, "
                    f"{self.names.row_bytes(source)}, {self.names.size_bytes(source)})"
                )

    def _reads(self, entry: Event, source: int, row: int) -> bool:
        """Whether an event reads a row that it must not write over."""
        if self._writes_behind(entry, source):
            return False
        same = self.maps[source].row_bytes == self.maps[entry.map].row_bytes
        return any(
            read.map == source
            and read.first <= row < read.stop
            and not (read.lead_bytes == 0 and same)
            for read in entry.reads
        )

    def _writes_behind(self, entry: Event, source: int) -> bool:
        """Whether an event reads one map alone, and its kernel writes behind what it reads."""
        if len(entry.reads) != 1:
            return False
        read = entry.reads[0]
        return read.map == source and read.first < read.stop and read.lead_bytes is not None

    def _offset(self, m: int) -> str:
        return self.names.offset(self.number, m)

    def _held(self, m: int) -> str:
        return self.names.held(self.number, m)

    def _bytes(self, m: int) -> str:
        if m in self.schedule.lines:
            return f"({self._held(m)} * {self.names.row_bytes(m)})"
        return self.names.size_bytes(m)

    def _apart_text(self, a: str, a_bytes: str, b: str, b_bytes: str) -> str:
        return f"FMC_APART({a}, {a_bytes}, {b}, {b_bytes})"


def _united(bounds: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yields the open intervals that hold a distance which one of the given ones holds.

    Between two that do not meet there is room: rows of one map that die while the other moves on.
    """
    united: tuple[int, int] | None = None
    for low, high in sorted(bounds):
        if united is not None and low >= united[1]:
            yield united
            united = None
        united = (low, high) if united is None else (united[0], max(united[1], high))
    if united is not None:
        yield united
