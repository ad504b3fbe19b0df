"""Rows made again for each row of their reader, where that saves memory.

    source → map → reader        source → reader, which makes the rows of map that it reads itself

A wide map between two narrow ones (an expansion) is held in a line buffer while everything else of
its region comes and goes. Where its rows are made anew for each row of the reader, in scratch, they
take room only while the reader's kernel runs; the price is their multiply-accumulates. That is done
for convolutions of one pixel, whose rows are made of the row of the same number.

Other convolutions are not tried: the rows that make up all windows of one row of the reader would
have to be held together in place of the map's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from deploy.backends.c.assign import RowLayout
from deploy.backends.c.layout import place_region
from deploy.backends.c.names import static_bytes
from deploy.backends.c.program import SAME_ROW, Inner, Read, RowProgram, Scratch, Step
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
    if source.rows != SAME_ROW or source.all_rows or read.all_rows or maker.inner:
        return None
    rows = program.maps[reader.output].rows
    windows = [stop - begin for begin, stop in map(read.window, range(rows))]
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


def _fused(program: RowProgram, maker: Step, reader: Step, inner: Inner, most_rows: int) -> Step:
    """The step that makes the rows of a window in scratch, and then a row of them."""
    (source,), (read,) = maker.reads, reader.reads
    make = maker.call.replace("{out}", "{scratch}").replace("{out_rows}", "{rows0}")
    use = reader.call.replace("{in0}", "{scratch}")
    return dataclasses.replace(
        reader,
        label=f"{reader.label}, with rows of {maker.label}",
        reads=(Read(source.map, read.rows, source.view_rows, source.view_row_bytes),),
        call=f"{make.replace('{above0}', '0')}\n{use}",
        many_rows=False,
        scratch=Scratch(most_rows * program.maps[maker.output].row_bytes, ()),
        inner=inner,
    )
