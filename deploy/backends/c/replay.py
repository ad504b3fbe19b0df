"""A run of the generated code on labels: an independent check of a row program's memory.

Every byte of every map has a label of its own. The replay does what the generated code does (ask
for rows, slide line buffers, move whole maps), writes labels where the kernels write values, and
checks wherever a kernel reads that the labels are those of the rows it ought to read. It shares
nothing with the schedule and the layout but the addresses that it judges. What it saw is the base
of the proof in C.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from deploy.backends.c.assign import AddressedRegion, RowLayout
from deploy.backends.c.program import Read, Step
from keras_fmc.errors import VerificationError

_NOTHING = -1


@dataclass(frozen=True, slots=True)
class ReadEvent:
    """A step read rows [first, stop) of a map, in the map's own rows."""

    map: int
    first: int
    stop: int
    lead_bytes: int | None


@dataclass(frozen=True, slots=True)
class Event:
    """A row of a map was made (or fed), after its step read what it needs.

    ``kept``: line buffer -> the row that stood first in it.
    """

    map: int
    row: int
    reads: tuple[ReadEvent, ...]
    kept: dict[int, int]


@dataclass(frozen=True, slots=True)
class RegionTrace:
    """What happened in a region, and the most rows that each of its line buffers held."""

    events: tuple[Event, ...] = field(repr=False)
    held: dict[int, int]


def replay(layout: RowLayout) -> tuple[RegionTrace, ...]:
    """Returns what happened in each region.

    Raises:
        VerificationError: a kernel reads bytes that are not those it ought to read, or a row is
            written outside of the arena, its buffer, or over bytes that its kernel still reads.
    """
    return _RowReplay(layout).run()


class _RowReplay:
    def __init__(self, layout: RowLayout) -> None:
        self.layout, self.maps = layout, layout.program.maps
        self.arena = np.full(layout.arena_bytes, _NOTHING, np.int64)
        self.base = np.cumsum([0, *(m.rows * m.row_bytes for m in self.maps)]).tolist()
        self.producers = {s.output: s for s in layout.program.steps}
        self.readers: dict[int, list[tuple[Step, Read]]] = {}
        for step in layout.program.steps:
            for read in step.reads:
                self.readers.setdefault(read.map, []).append((step, read))
        self.made: dict[int, int] = {}
        self.kept: dict[int, int] = {}
        self.region: AddressedRegion | None = None
        self.events: list[Event] = []
        self.held: dict[int, int] = {}

    def run(self) -> tuple[RegionTrace, ...]:
        first = self.layout.regions[0]
        for m in set(self.layout.program.inputs):
            if m != self.layout.fed and m in first.offsets:
                self._write(first.offsets[m], self._labels(m, 0, self.maps[m].rows))
        traces = []
        for region in self.layout.regions:
            for move in region.moves:
                size = self.maps[move.map].size_bytes
                held = self.arena[move.origin : move.origin + size].copy()
                self._write(move.target, held)
            traces.append(self._play(region))
        last = self.layout.regions[-1].offsets
        for m in set(self.layout.program.outputs):
            self._expect(last[m], self._whole(m), f"the output {self.maps[m].name}")
        return tuple(traces)

    def _play(self, region: AddressedRegion) -> RegionTrace:
        schedule = region.placed.schedule
        self.region, self.events, self.held = region, [], {}
        self.made = {s.output: 0 for s in self._steps(region)}
        self.made |= {schedule.fed: 0} if schedule.fed is not None else {}
        self.kept = dict.fromkeys(schedule.lines, 0)
        rounds = max((self.maps[m].rows for m in schedule.sinks), default=0)
        for turn in range(1, rounds + 1):
            for m in schedule.sinks:
                while self.made[m] * rounds < turn * self.maps[m].rows:
                    self._make(m)
        return RegionTrace(tuple(self.events), self.held)

    def _steps(self, region: AddressedRegion) -> tuple[Step, ...]:
        schedule = region.placed.schedule
        return self.layout.program.steps[schedule.first : schedule.stop]

    def _make(self, m: int) -> None:
        assert self.region is not None
        row, entry = self.made[m], self.maps[m]
        fed = m == self.region.placed.schedule.fed
        step = None if fed else self.producers[m]
        reads = () if step is None else step.reads
        if m in self.kept and not entry.sums:
            self._slide(m, row)
        asked = reads[::-1] if self.region.placed.schedule.backwards else reads
        for read in asked:
            while read.map in self.made and self.made[read.map] < self._rows(read, row)[1]:
                self._make(read.map)
        target = self._place(m, row)
        if row >= entry.rows or target < 0 or target + entry.row_bytes > self.arena.size:
            raise _wrong(f"row {row} of {entry.name} stands outside of the arena")
        self._scribble(step, target, entry.row_bytes)
        seen = []
        for read in reads:
            place, labels = self._read(read, row)
            self._expect(place, labels, f"{step.label if step else ''}, row {row}")
            apart = place + len(labels) <= target or target + entry.row_bytes <= place
            behind = read.lead_bytes is not None and target + read.lead_bytes <= place
            if len(labels) and not apart and not behind:
                raise _wrong(f"row {row} of {entry.name} overwrites what it is made from")
            first, stop = self._rows(read, row)
            seen.append(ReadEvent(read.map, first, stop, read.lead_bytes))
        if entry.sums and row > 0:
            self._expect(target, self._labels(m, row - 1, row), f"sums for {entry.name}")
        self._write(target, self._labels(m, row, row + 1))
        self.made[m] = row + 1
        self.events.append(Event(m, row, tuple(seen), dict(self.kept)))

    def _scribble(self, step: Step | None, target: int, row_bytes: int) -> None:
        """Writes what a library's kernel writes into its scratch before it has read its input."""
        assert self.region is not None
        if step is None or not step.scratch_bytes:
            return
        begin, size = self.region.placed.scratch, step.scratch_bytes
        lead = None if step.inner is None else step.inner.lead_bytes
        behind = lead is not None and target + lead <= begin
        if begin < target + row_bytes and target < begin + size and not behind:
            raise _wrong(f"{step.label} writes its output over its scratch")
        self._write(begin, np.full(size, _NOTHING, np.int64))

    def _slide(self, m: int, row: int) -> None:
        """Makes room for a row; every row that is still read stays."""
        assert self.region is not None
        room = self.region.placed.schedule.lines[m]
        needed = min(self._first_needed(m), row)
        self.held[m] = max(self.held.get(m, 0), row + 1 - needed)
        if row - needed >= room:
            raise _wrong(f"the line buffer of {self.maps[m].name} has no room for row {row}")
        # One row needs no sliding, it is overwritten where it stands; nor does a whole map.
        if 1 < room < self.maps[m].rows and needed > self.kept[m]:
            place, row_bytes = self.region.offsets[m], self.maps[m].row_bytes
            start = place + (needed - self.kept[m]) * row_bytes
            self._write(place, self.arena[start : start + (row - needed) * row_bytes].copy())
            self.kept[m] = needed

    def _first_needed(self, m: int) -> int:
        needed = self.maps[m].rows
        for step, read in self.readers.get(m, ()):
            if step.output not in self.made:
                continue
            for row in range(self.made[step.output], self.maps[step.output].rows):
                first, stop = self._rows(read, row)
                if first < stop:
                    needed = min(needed, first)
                    break
        return needed

    def _rows(self, read: Read, row: int) -> tuple[int, int]:
        """What is read, in the map's own rows."""
        if read.all_rows or self.maps[read.map].sums:
            return 0, self.maps[read.map].rows
        return read.window(row)

    def _read(self, read: Read, row: int) -> tuple[int, np.ndarray]:
        """Where a kernel reads, and what ought to be there."""
        entry = self.maps[read.map]
        if entry.sums:
            return self._place(read.map, 0), self._labels(read.map, entry.rows - 1, entry.rows)
        first, stop = read.window(row)
        if not read.all_rows:
            return self._place(read.map, first), self._labels(read.map, first, stop)
        start = self.base[read.map] + first * read.view_row_bytes
        length = (stop - first) * read.view_row_bytes
        labels = np.arange(start, start + length)
        return self._place(read.map, 0) + first * read.view_row_bytes, labels

    def _place(self, m: int, row: int) -> int:
        assert self.region is not None
        offset, entry = self.region.offsets[m], self.maps[m]
        lines = self.region.placed.schedule.lines
        if entry.sums or (m in lines and lines[m] == 1):
            return offset
        return offset + (row - self.kept.get(m, 0)) * entry.row_bytes

    def _labels(self, m: int, first: int, stop: int) -> np.ndarray:
        row_bytes = self.maps[m].row_bytes
        return np.arange(self.base[m] + first * row_bytes, self.base[m] + stop * row_bytes)

    def _whole(self, m: int) -> np.ndarray:
        rows = self.maps[m].rows
        return self._labels(m, rows - 1 if self.maps[m].sums else 0, rows)

    def _write(self, place: int, labels: np.ndarray) -> None:
        if place < 0 or place + len(labels) > self.arena.size:
            raise _wrong(f"bytes {place} to {place + len(labels)} are outside of the arena")
        self.arena[place : place + len(labels)] = labels

    def _expect(self, place: int, labels: np.ndarray, reader: str) -> None:
        there = self.arena[max(place, 0) : place + len(labels)]
        if len(there) != len(labels) or not np.array_equal(there, labels):
            raise _wrong(f"{reader} reads bytes that are not there any more, at {place}")


def _wrong(what: str) -> VerificationError:
    return VerificationError(
        what, remedy="This is a defect of the generator; please report it with the model"
    )
