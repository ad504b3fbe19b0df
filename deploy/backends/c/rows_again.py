"""Rows made again for each row of their reader, where that saves memory.

    source → map → reader        source → reader, which makes the rows of map that it reads itself

A wide map between two narrow ones (an expansion) is held in a line buffer while everything else of
its region comes and goes. Where its rows are made anew for each row of the reader, in scratch, they
take room only while the reader's kernel runs; the price is their multiply-accumulates. Where the
map's own rows have windows of several rows, the reader reads all rows of the source that the rows
of its window are made from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from deploy.backends.c.assign import RowLayout
from deploy.backends.c.layout import place_region
from deploy.backends.c.names import static_bytes
from deploy.backends.c.program import Inner, Read, RowProgram, Rows, Scratch, Step
from deploy.backends.c.rows_text import above_text, first_text, stop_text
from deploy.backends.c.schedule import ScheduleFacts, play
from deploy.graph import Graph
from deploy.macs import operator_macs

_MOST_ROUNDS = 4
_WORK = 100_000
"""Steps times rows that the layouts of one search make; about three seconds."""


def inner_macs(graph: Graph, program: RowProgram) -> int:
    """Returns the multiply-accumulates of rows that are made again, beyond the graph's own."""
    return sum(
        operator_macs(graph, step.inner.operator) * step.inner.rows // step.inner.map_rows
        - operator_macs(graph, step.inner.operator)
        for step in program.steps
        if step.inner is not None
    )


def with_rows_made_again(
    graph: Graph,
    layout: RowLayout,
    *,
    most_macs: float,
    work: int,
    lay_out: Callable[[RowProgram], RowLayout],
) -> RowLayout:
    """Returns the layout of least memory within a limit of additional multiply-accumulates.

    Args:
        graph: what ``layout`` computes.
        most_macs: the limit.
        work: steps times rows of the program, which a layout costs about.
        lay_out: program -> its layout.
    """
    best = layout
    for _ in range(max(1, min(_MOST_ROUNDS, _WORK // max(work, 1)))):
        program = _lowest(graph, best, most_macs)
        if program is None:
            return best
        found = lay_out(program)
        if static_bytes(found) >= static_bytes(best):
            return best
        best = found
    return best


def _lowest(graph: Graph, layout: RowLayout, most_macs: float) -> RowProgram | None:
    """One map more made again: that with which the tallest region is lowest."""
    region = max(layout.regions, key=lambda r: r.placed.height_bytes)
    schedule = region.placed.schedule
    best, height = None, region.placed.height_bytes
    for m in sorted(schedule.lines):
        program = made_by_its_reader(layout.program, m)
        if program is None or inner_macs(graph, program) > most_macs:
            continue
        cuts = ScheduleFacts.of(program)
        for backwards in (False, True):
            tried = play(
                cuts, schedule.first, schedule.stop - 1, fed=schedule.fed, backwards=backwards
            )
            placed = place_region(program, tried)
            if placed is not None and placed.height_bytes < height:
                best, height = program, placed.height_bytes
    return best


def made_by_its_reader(program: RowProgram, m: int) -> RowProgram | None:
    """Returns the program in which the reader of a map makes its rows; None where it cannot."""
    first = program.producers().get(m)
    readers = [n for n, step in enumerate(program.steps) if any(r.map == m for r in step.reads)]
    if first is None or m in program.outputs or len(readers) != 1:
        return None
    maker, reader = program.steps[first], program.steps[readers[0]]
    fits = maker.many_rows and len(maker.reads) == len(reader.reads) == 1
    if not fits or maker.scratch is not None or reader.scratch is not None or reader.inner:
        return None
    (source,), (read,) = maker.reads, reader.reads
    if source.all_rows or read.all_rows or maker.inner or not _can_be_joined(source, read):
        return None
    rows = program.maps[reader.output].rows
    windows = [stop - begin for begin, stop in map(read.window, range(rows))]
    if min(windows) < 1:
        return None
    fused = _fused(
        program,
        maker,
        reader,
        Inner(maker.operator, maker.source, sum(windows), program.maps[m].rows, read.lead_bytes),
        max(windows),
    )
    steps = list(program.steps)
    steps[readers[0]] = fused
    del steps[first]
    return dataclasses.replace(program, steps=tuple(steps))


def _can_be_joined(source: Read, read: Read) -> bool:
    """Whether the windows of all rows of a window are one window that a rule describes."""
    plain = all(r.rows.table is None and r.rows.divisor == 1 for r in (source, read))
    return plain and source.rows.begin <= 0


def _joined(source: Rows, read: Rows) -> Rows:
    """The rows of the source that make up the rows [first, stop) of the map between.

    first(first_read(r)) and stop(stop_read(r) - 1); rows that the map between does not have only
    make it reach further below, where ``source.begin`` is not above 0.
    """
    return Rows(
        step=read.step * source.step,
        begin=read.begin * source.step + source.begin,
        end=(read.end - 1) * source.step + source.end,
    )


def _fused(program: RowProgram, maker: Step, reader: Step, inner: Inner, most_rows: int) -> Step:
    """The step that makes the rows of a window in scratch, and then a row of them."""
    (source,), (read,) = maker.reads, reader.reads
    out_rows = program.maps[reader.output].rows
    first, stop = (text(read, "{row}", out_rows) for text in (first_text, stop_text))
    count = stop if first == "0" else f"{stop} - ({first})"
    above = _rows_above(source, first)
    make = maker.call.replace("{out}", "{scratch}").replace("{out_rows}", count)
    use = reader.call.replace("{in0}", "{scratch}").replace("{rows0}", count)
    use = use.replace("{above0}", above_text(read, "{row}", out_rows)).replace("{first0}", first)
    return dataclasses.replace(
        reader,
        label=f"{reader.label}, with rows of {maker.label}",
        reads=(
            Read(
                source.map, _joined(source.rows, read.rows), source.view_rows, source.view_row_bytes
            ),
        ),
        call=f"{make.replace('{above0}', above)}\n{use}",
        many_rows=False,
        scratch=Scratch(most_rows * program.maps[maker.output].row_bytes, ()),
        inner=inner,
    )


def _rows_above(source: Read, first: str) -> str:
    """How many rows of the window of a row, whose number is a C expression, lie above the map."""
    if source.rows.begin == 0:
        return "0"
    if first.isdigit():
        return str(max(-source.rows.first(int(first)), 0))
    return f"fmc_at_least({-source.rows.begin} - ({first}) * {source.rows.step}, 0)"
