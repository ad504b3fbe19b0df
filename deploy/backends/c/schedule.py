"""What happens in a region: which row is made when, and how many rows must be held at once.

A *region* is a run of steps between two cuts. Maps that live across a cut stand whole; what a
region makes and uses up exists as *line buffers*. The region asks its last maps for their rows;
a map that is asked for a row asks the maps that it reads for theirs, and then makes it. No row is
made twice. A fed image is a line buffer whose rows come from the application.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deploy.backends.c.program import Program, Read


@dataclass(frozen=True, slots=True)
class Cuts:
    """What the schedule of every region of a program needs, worked out once."""

    program: Program
    alive: tuple[tuple[int, ...], ...]
    producers: Mapping[int, int]
    windows: tuple[tuple[tuple[int, list[int], list[int]], ...], ...] = field(repr=False)
    """For each step and read: the map, and for each output row the first row of the map that is
    still read, and the row behind the last that is read; one entry more for "all done"."""

    @staticmethod
    def of(program: Program) -> Cuts:
        windows = tuple(
            tuple(
                (read.map, *_windows(program, read, program.maps[step.output].rows))
                for read in step.reads
            )
            for step in program.steps
        )
        alive = tuple(program.alive())
        return Cuts(program, alive, program.producers(), windows)


def _windows(program: Program, read: Read, out_rows: int) -> tuple[list[int], list[int]]:
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
class Schedule:
    """One region, played through.

    Attributes:
        first, stop: its steps.
        fed: the map that the application feeds, or None.
        backwards: maps ask the last map that they read first.
        sources: whole maps that die here; ``sinks``: whole maps that are made here;
            ``passengers``: whole maps that were there before and stay.
        lines: line buffers: map -> rows held at most.
        born: line buffer -> for each row that it has room for, the event that first fills it.
        died: line buffer -> the event that reads its last row.
        busy: line buffer -> a bit for each event during which it holds a row that is still read.
        events: the maps whose row is made, in order.
        needed: source -> for each event the first of its rows that is still read then or later.
        made: sink -> for each event how many of its rows are there after it.
    """

    first: int
    stop: int
    fed: int | None
    backwards: bool
    sources: tuple[int, ...]
    sinks: tuple[int, ...]
    passengers: tuple[int, ...]
    lines: Mapping[int, int]
    born: Mapping[int, list[int]]
    died: Mapping[int, int]
    busy: Mapping[int, int] = field(repr=False)
    events: tuple[int, ...] = field(repr=False)
    needed: Mapping[int, list[int]] = field(repr=False)
    made: Mapping[int, list[int]] = field(repr=False)

    @property
    def single(self) -> bool:
        """One step between whole maps: it needs no counters."""
        return self.stop - self.first == 1 and not self.lines and len(self.sinks) == 1


def play(cuts: Cuts, first: int, stop: int, *, fed: int | None, backwards: bool) -> Schedule:
    """Plays the steps [first, stop) as one region."""
    return _Player(cuts, first, stop, fed, backwards).run()


class _Player:
    def __init__(self, cuts: Cuts, first: int, stop: int, fed: int | None, backwards: bool) -> None:
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
        self.lines: dict[int, int] = {}
        self.born: dict[int, list[int]] = {}
        self.died: dict[int, int] = {}
        self.busy: dict[int, int] = {}
        self.busy_since: dict[int, int] = {}
        self.events: list[int] = []
        self.needed: dict[int, list[int]] = {m: [] for m in self.sources}
        self.sink_rows: dict[int, list[int]] = {m: [] for m in self.sinks}
        self.whole = {*self.sources, *self.passengers, *self.sinks}

    def run(self) -> Schedule:
        rounds = max((self.rows[sink] for sink in self.sinks), default=0)
        for turn in range(rounds):
            for sink in self.sinks:
                while self.made[sink] < turn_rows(turn, self.rows[sink], rounds):
                    self._make(sink)
        for m, since in self.busy_since.items():
            # Rows that would be read by rows that nobody asks for.
            self.busy[m] = self.busy.get(m, 0) | ((2 << self.died[m]) - (1 << since))
        return Schedule(
            first=self.first,
            stop=self.stop,
            fed=self.fed,
            backwards=self.backwards,
            sources=self.sources,
            sinks=self.sinks,
            passengers=self.passengers,
            lines=self.lines,
            born={m: events[: self.lines[m]] for m, events in self.born.items()},
            died=self.died,
            busy=self.busy,
            events=tuple(self.events),
            needed=self.needed,
            made=self.sink_rows,
        )

    def _make(self, target: int) -> None:
        row = self.made[target]
        windows: tuple[tuple[int, list[int], list[int]], ...] = ()
        if target != self.fed:
            windows = self.cuts.windows[self.cuts.producers[target]]
            for source, _, stops in windows[::-1] if self.backwards else windows:
                while self.made[source] < stops[row]:
                    self._make(source)
        event = len(self.events)
        self.events.append(target)
        for source, _, _ in windows:
            if source not in self.whole:
                self.died[source] = event
        if target not in self.whole:
            self.born.setdefault(target, []).append(event)
            self.died.setdefault(target, event)
            held = 1
            if not self.cuts.program.maps[target].sums:
                held = row + 1 - min(self._still_needed(target), row)
            self.lines[target] = max(self.lines.get(target, 0), held)
            self.busy_since.setdefault(target, event)
        for source in self.sources:
            self.needed[source].append(self._still_needed(source, writing=target))
        self.made[target] = row + 1
        for sink in self.sinks:
            self.sink_rows[sink].append(self.made[sink])
        for m in (target, *(source for source, _, _ in windows)):
            if m in self.busy_since and self._still_needed(m) >= self.made[m]:
                since = self.busy_since.pop(m)
                self.busy[m] = self.busy.get(m, 0) | ((2 << event) - (1 << since))

    def _still_needed(self, source: int, *, writing: int = -1) -> int:
        """The first row that something reads, now or later.

        Of what is written in place of the row that it reads, that row counts as read.
        """
        lowest = self.rows[source]
        for firsts, output, same in self.readers.get(source, ()):
            lowest = min(lowest, firsts[self.made[output] + (same and output == writing)])
        return lowest


def turn_rows(turn: int, rows: int, rounds: int) -> int:
    """Returns how many rows a sink has after a turn: all sinks advance together."""
    return -(-((turn + 1) * rows) // rounds)
