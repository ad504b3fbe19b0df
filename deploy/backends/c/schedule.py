"""What happens in a region: which row is made when, and how many rows must be held at once.

A *region* is a run of steps between two cuts. Maps that live across a cut stand whole; what a
region makes and uses up exists as *line buffers*. The region asks its last maps for their rows;
a map that is asked for a row asks the maps that it reads for theirs, and then makes it. No row is
made twice. A fed image is a line buffer whose rows come from the application.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from deploy.backends.c.program import Read, RowProgram

SCRATCH = -1
"""Stands for the scratch of a region among its maps."""


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """What the schedule of every region of a program needs, worked out once."""

    program: RowProgram
    alive: tuple[tuple[int, ...], ...]
    producers: Mapping[int, int]
    windows: tuple[tuple[tuple[int, list[int], list[int]], ...], ...] = field(repr=False)
    """For each step and read: the map, and for each output row the first row of the map that is
    still read, and the row behind the last that is read; one entry more for "all done"."""

    @staticmethod
    def of(program: RowProgram) -> ScheduleFacts:
        windows = tuple(
            tuple(
                (read.map, *_windows(program, read, program.maps[step.output].rows))
                for read in step.reads
            )
            for step in program.steps
        )
        alive = tuple(program.alive())
        return ScheduleFacts(program, alive, program.producers(), windows)


def _windows(program: RowProgram, read: Read, out_rows: int) -> tuple[list[int], list[int]]:
    rows = program.maps[read.map].rows
    if read.all_rows or program.maps[read.map].sums:
        return [0] * out_rows + [rows], [rows] * out_rows
    pairs = [read.window(row) for row in range(out_rows)]
    firsts = [first for first, _ in pairs] + [rows]
    # A row stays until nothing reads it any more, even where a window is empty.
    for row in range(out_rows - 1, -1, -1):
        firsts[row] = min(firsts[row], firsts[row + 1])
    return firsts, [stop for _, stop in pairs]


@dataclass(frozen=True, slots=True)
class Behind:
    """A row is written while it is made from another map: that of a line buffer of one row, or of
    a whole map that grows into one.

    Attributes:
        event: which.
        target, source: the maps.
        begin: byte of the target at which the row begins.
        first: byte of the source at which the first row that is read begins.
        left: bytes [low, high) of the source that are still read afterwards.
        lead_bytes: how far before ``first`` the row may begin at most.
    """

    event: int
    target: int
    source: int
    begin: int
    first: int
    left: tuple[int, int]
    lead_bytes: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """One region, played through.

    Attributes:
        first, stop: its steps.
        fed: the map that the application feeds, or None.
        backwards: maps ask the last map that they read first.
        sources: whole maps that die here; ``sinks``: whole maps that are made here;
            ``passengers``: whole maps that were there before and stay.
        lines: line buffers: map -> rows held at most.
        spans: map -> for each event the bytes [low, high) of it that hold what is still read, from
            where it begins; low = high where it holds nothing.
        behind: the rows that may be written over what they are made from.
        events: the maps whose row is made, in order.
        scratch: for each event the bytes of scratch that its kernel uses.
    """

    first: int
    stop: int
    fed: int | None
    backwards: bool
    sources: tuple[int, ...]
    sinks: tuple[int, ...]
    passengers: tuple[int, ...]
    lines: Mapping[int, int]
    spans: Mapping[int, tuple[np.ndarray, np.ndarray]] = field(repr=False)
    behind: tuple[Behind, ...] = field(repr=False)
    events: tuple[int, ...] = field(repr=False)
    scratch: np.ndarray = field(repr=False)

    @property
    def scratch_bytes(self) -> int:
        """The most scratch that a kernel of the region uses."""
        return int(self.scratch.max(initial=0))

    @property
    def single(self) -> bool:
        """One step between whole maps: it needs no counters."""
        return self.stop - self.first == 1 and not self.lines and len(self.sinks) == 1


def play(
    cuts: ScheduleFacts, first: int, stop: int, *, fed: int | None, backwards: bool
) -> Schedule:
    """Plays the steps [first, stop) as one region."""
    return _Player(cuts, first, stop, fed, backwards).run()


class _Player:
    def __init__(
        self, cuts: ScheduleFacts, first: int, stop: int, fed: int | None, backwards: bool
    ) -> None:
        self.cuts, self.first, self.stop, self.fed, self.backwards = (
            cuts,
            first,
            stop,
            fed,
            backwards,
        )
        before, after = cuts.alive[first], cuts.alive[stop]
        self.sources = tuple(m for m in before if m not in after and m != fed)
        self.passengers = tuple(m for m in before if m in after and m != fed)
        self.sinks = tuple(m for m in after if m not in before)
        maps = cuts.program.maps
        self.rows = [m.rows for m in maps]
        self.made = dict.fromkeys(before, 0)
        for m in before:
            if m != fed:
                self.made[m] = maps[m].rows
        self.readers: dict[int, list[tuple[list[int], int, bool]]] = {}
        for number in range(first, stop):
            step = cuts.program.steps[number]
            self.made[step.output] = 0
            for read, (source, firsts, _) in zip(step.reads, cuts.windows[number], strict=True):
                same = read.in_place and maps[source].row_bytes == maps[step.output].row_bytes
                self.readers.setdefault(source, []).append((firsts, step.output, same))
        self.maps = maps
        self.lines: dict[int, int] = {}
        self.kept: dict[int, int] = {}
        self.last_read: dict[int, int] = {}
        self.events: list[int] = []
        self.changes: dict[int, list[tuple[int, int, int, int]]] = {}
        self.pairs: list[tuple[int, int, int, int, int, int, int, int]] = []
        self.over_scratch: list[tuple[int, int, int]] = []
        self.whole = {*self.sources, *self.passengers, *self.sinks}
        for m in (*self.sources, *self.passengers):
            self.changes[m] = [(0, 0, self.rows[m], 0)]

    def run(self) -> Schedule:
        rounds = max((self.rows[sink] for sink in self.sinks), default=0)
        for turn in range(rounds):
            for sink in self.sinks:
                while self.made[sink] < turn_rows(turn, self.rows[sink], rounds):
                    self._make(sink)
        return Schedule(
            first=self.first,
            stop=self.stop,
            fed=self.fed,
            backwards=self.backwards,
            sources=self.sources,
            sinks=self.sinks,
            passengers=self.passengers,
            lines=self.lines,
            spans={m: self._span(m) for m in self.changes},
            behind=tuple(self._behind()),
            events=tuple(self.events),
            scratch=np.array([self._scratch_bytes(m) for m in self.events], np.int64),
        )

    def _scratch_bytes(self, target: int) -> int:
        if target == self.fed:
            return 0
        return self.cuts.program.steps[self.cuts.producers[target]].scratch_bytes

    def _make(self, target: int) -> None:
        row = self.made[target]
        is_line = target not in self.whole
        if is_line:
            # Rows that nothing reads any more are given up before the inputs of the new row come.
            self.kept[target] = max(self.kept.get(target, 0), min(self._needed(target), row))
            self._note(target, len(self.events))
        step = None
        windows: tuple[tuple[int, list[int], list[int]], ...] = ()
        if target != self.fed:
            step = self.cuts.program.steps[self.cuts.producers[target]]
            windows = self.cuts.windows[self.cuts.producers[target]]
            for source, _, stops in windows[::-1] if self.backwards else windows:
                while self.made[source] < stops[row]:
                    self._make(source)
        event = len(self.events)
        self.events.append(target)
        if is_line:
            held = 1 if self.maps[target].sums else row + 1 - self.kept[target]
            self.lines[target] = max(self.lines.get(target, 0), held)
            self.last_read[target] = event
        sources = [source for source, _, _ in windows]
        if step is not None and step.inner is not None:
            if is_line and step.inner.lead_bytes is not None and not self.maps[target].sums:
                self.over_scratch.append((event, target, step.inner.lead_bytes))
        elif step is not None:
            self._note_reads(step.reads, windows, event, target, row)
        for m in sources:
            self.last_read[m] = event
            if m in self.sources:
                self._note(m, event, writing=target)
        self.made[target] = row + 1
        # A row takes its place even if nothing ever reads it.
        self._note(target, event, highest=row)
        for m in (target, *sources):
            self._note(m, event + 1)

    def _note_reads(
        self,
        reads: tuple[Read, ...],
        windows: tuple[tuple[int, list[int], list[int]], ...],
        event: int,
        target: int,
        row: int,
    ) -> None:
        """Notes where a row may be written over what it is made from: see ``Behind``."""
        if self.maps[target].sums or len(reads) != 1:
            return
        (read,), ((source, _, _),) = reads, windows
        if target in self.sinks and source not in self.sources:
            return
        first, stop = read.window(row)
        if read.lead_bytes is None or source in self.passengers or source in self.sinks:
            return
        if first < stop and not self.maps[source].sums:
            left = self._needed(source, done=target)
            kept = self.kept.get(source, 0)
            made = self.made[source]
            self.pairs.append((event, target, source, row, first, left, made, kept))

    def _behind(self) -> Iterator[Behind]:
        for event, target, lead in self.over_scratch:
            if self.lines[target] == 1:
                yield Behind(event, target, SCRATCH, 0, 0, (0, 0), lead)
        for event, target, source, row, first, left, made, kept in self.pairs:
            if target not in self.sinks and self.lines[target] != 1:
                continue
            begin = row * self.maps[target].row_bytes if target in self.sinks else 0
            (read,) = self.cuts.program.steps[self.cuts.producers[target]].reads
            assert read.lead_bytes is not None
            row_bytes = self.maps[source].row_bytes
            base, flat = self._slots(source, kept)
            low, high = (0, 0) if left >= made else (left - base, made - base)
            if flat:
                first = base = 0
                high = min(high, 1)
            yield Behind(
                event,
                target,
                source,
                begin,
                (first - base) * row_bytes,
                (max(low, 0) * row_bytes, high * row_bytes),
                read.lead_bytes,
            )

    def _needed(self, source: int, *, writing: int = -1, done: int = -1) -> int:
        """The first row that something reads, now or later.

        Of what is written in place of the row that it reads, that row counts as read; so it does
        for ``done``.
        """
        lowest = self.rows[source]
        for firsts, output, same in self.readers.get(source, ()):
            past = output == done or (same and output == writing)
            lowest = min(lowest, firsts[self.made[output] + past])
        return lowest

    def _note(self, m: int, event: int, *, writing: int = -1, highest: int | None = None) -> None:
        """Notes the rows of a map that are alive from an event on."""
        if m in self.passengers:
            return
        low = 0 if m in self.sinks else min(self._needed(m, writing=writing), self.made[m])
        if self.maps[m].sums and m not in self.sinks:
            low = 0 if self._needed(m) < self.rows[m] else self.made[m]
        low = low if highest is None else min(low, highest)
        changes = self.changes.setdefault(m, [])
        if changes and changes[-1][0] == event:
            changes.pop()
        changes.append((event, low, self.made[m], self.kept.get(m, 0)))

    def _slots(self, m: int, kept: int) -> tuple[int, bool]:
        """Which row stands first in a map's place, and whether there is one place for all rows."""
        if m in self.whole or self.lines.get(m, 0) >= self.rows[m]:
            return 0, self.maps[m].sums
        return kept, self.maps[m].sums or self.lines[m] == 1

    def _span(self, m: int) -> tuple[np.ndarray, np.ndarray]:
        count, row_bytes = len(self.events), self.maps[m].row_bytes
        low, high = np.zeros(count, np.int64), np.zeros(count, np.int64)
        changes = self.changes[m]
        ends = [change[0] for change in changes[1:]] + [count]
        for (event, first, stop, kept), end in zip(changes, ends, strict=True):
            base, flat = self._slots(m, kept)
            if first < stop and event < end:
                low[event:end] = 0 if flat else (first - base) * row_bytes
                high[event:end] = row_bytes if flat else (stop - base) * row_bytes
        if m not in self.whole:
            high[self.last_read[m] + 1 :] = low[self.last_read[m] + 1 :]
        return low, high


def turn_rows(turn: int, rows: int, rounds: int) -> int:
    """Returns how many rows a sink has after a turn: all sinks advance together."""
    return -(-((turn + 1) * rows) // rounds)
