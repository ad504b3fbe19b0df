"""``arena_plan.c`` of a row program: why its memory is right, as static assertions.

The statements are over the numbers of arena_plan.h, which the code uses. What they take for
granted, which row is read until when, was seen by the replay.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

from deploy.backends.c.assign import Layout, Region
from deploy.backends.c.names import Names
from deploy.backends.c.replay import Event, RegionTrace
from deploy.proof.names import c_comment

_TEMPLATES = Path(__file__).with_name("templates")


def plan_source(layout: Layout, traces: Sequence[RegionTrace], *, model_name: str) -> str:
    """Returns arena_plan.c."""
    names = Names.of(model_name)
    statements = [*_maps(layout, names)]
    for number, (region, trace) in enumerate(zip(layout.regions, traces, strict=True)):
        statements.append(f"\n/* Region {number}. */")
        statements += _Region(layout, number, region, trace, names).statements()
    return Template((_TEMPLATES / "arena_plan.c").read_text()).substitute(
        model=c_comment(model_name), statements="\n".join(statements)
    )


def _maps(layout: Layout, names: Names) -> Iterator[str]:
    yield f"FMC_IS({names.macro}_ARENA_BYTES, {layout.arena_bytes})"
    for m, entry in enumerate(layout.program.maps):
        yield f"FMC_IS({names.rows(m)}, {entry.rows})"
        yield f"FMC_IS({names.row_bytes(m)}, {entry.row_bytes})"
        factor = "1" if entry.sums else names.rows(m)
        yield f"FMC_SIZE({names.size_bytes(m)}, {factor}, {names.row_bytes(m)})"


class _Region:
    """The statements of one region."""

    def __init__(
        self, layout: Layout, number: int, region: Region, trace: RegionTrace, names: Names
    ) -> None:
        self.layout, self.number, self.region, self.names = layout, number, region, names
        self.schedule, self.maps = region.placed.schedule, layout.program.maps
        self.trace = trace
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
        sources, sinks, lines = self.schedule.sources, self.schedule.sinks, self.schedule.lines
        for x, y in ((a, b), (b, a)):
            if x in sources and not self.maps[x].sums:
                if y in sinks and not self.maps[y].sums:
                    yield from self._grows(x, y, self.written.get(y, []))
                    return
                if y in lines:
                    yield from self._grows(x, y, self.written.get(y, [])[: lines[y]])
                    return
            if x in sinks and y in lines and not self.maps[x].sums:
                last = max(self.last_read.get(y, {0: 0}).values())
                last = max(last, *self.written.get(y, [0]))
                done = sum(event <= last for event in self.written.get(x, []))
                if done:
                    yield (
                        f"FMC_AFTER_ROWS({self._offset(y)}, {self._bytes(y)}, {self._offset(x)}, "
                        f"{done}, {self.names.row_bytes(x)})"
                    )
                return
        if a in lines and b in lines and not self._together(a, b):
            return
        yield self._apart_text(self._offset(a), self._bytes(a), self._offset(b), self._bytes(b))

    def _grows(self, source: int, target: int, written: Sequence[int]) -> Iterator[str]:
        """Each row of the target ends before what is still read of the source, or is behind it."""
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

    def _reads(self, entry: Event, source: int, row: int) -> bool:
        """Whether an event reads a row that it must not write over."""
        same = self.maps[source].row_bytes == self.maps[entry.map].row_bytes
        return any(
            read.map == source and read.first <= row < read.stop and not (read.in_place and same)
            for read in entry.reads
        )

    def _together(self, a: int, b: int) -> bool:
        """Whether two line buffers hold rows that are read later, at once."""
        return bool(self._busy(a) & self._busy(b))

    def _busy(self, m: int) -> int:
        mask = 0
        rows = self.last_read.get(m, {})
        for row, event in enumerate(self.written.get(m, [])):
            last = rows.get(self.maps[m].rows - 1, event) if self.maps[m].sums else 0
            last = max(last, rows.get(row, event), event)
            mask |= (2 << last) - (1 << event)
        return mask

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
