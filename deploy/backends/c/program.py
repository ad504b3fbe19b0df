"""A row program before it is laid out: maps, and the steps that make their rows.

A *map* is bytes that hold a value of the graph, seen as rows. A *step* makes one map, a row at a
time; a *read* says which rows of another map a row is made from. What has no rows is one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows [first, stop) that row r of an output is made from, before they are clipped.

    first(r) = floor((r · step + begin) / divisor), stop(r) = floor((r · step + end) / divisor);
    or what ``table`` lists, where it is set.
    """

    step: int = 1
    begin: int = 0
    end: int = 1
    divisor: int = 1
    table: tuple[tuple[int, int], ...] | None = None
    table_name: str = ""

    def first(self, row: int) -> int:
        if self.table is not None:
            return self.table[row][0]
        return (row * self.step + self.begin) // self.divisor

    def stop(self, row: int) -> int:
        if self.table is not None:
            return self.table[row][1]
        return (row * self.step + self.end) // self.divisor


SAME_ROW = Rows()


def whole(rows: int) -> Rows:
    """Returns the rule of what reads all rows for each row that it makes."""
    return Rows(step=0, begin=0, end=rows)


@dataclass(frozen=True, slots=True)
class Grid:
    """A tensor of batch 1 as an operator sees it; ``item`` bytes a value."""

    rows: int
    columns: int
    channels: int
    item: int = 1

    @property
    def row_bytes(self) -> int:
        return self.columns * self.channels * self.item

    @property
    def view(self) -> tuple[int, int]:
        return self.rows, self.row_bytes


@dataclass(frozen=True, slots=True)
class Map:
    """Bytes that hold a value.

    Attributes:
        rows: how many; ``size_bytes`` is rows · row_bytes.
        sums: the rows are added up in one place of ``row_bytes``: the rows count progress only.
        tensor: the tensor of the graph that it is, -1 for sums.
    """

    name: str
    rows: int
    row_bytes: int
    tensor: int
    sums: bool = False

    @property
    def size_bytes(self) -> int:
        return self.row_bytes if self.sums else self.rows * self.row_bytes


@dataclass(frozen=True, slots=True)
class Read:
    """What a step reads of a map.

    Attributes:
        rows: the rule, in rows of the operator's view of the map.
        view_rows, view_row_bytes: that view.
        all_rows: the view is not the map's own, so that the whole map has to be there.
        lead_bytes: how far before the first row that it reads a row of the output may begin, so
            that its kernel writes behind what it reads; 0: at the same address. None: unknown.
    """

    map: int
    rows: Rows
    view_rows: int
    view_row_bytes: int
    all_rows: bool = False
    lead_bytes: int | None = None

    @property
    def in_place(self) -> bool:
        return self.lead_bytes == 0

    def window(self, row: int) -> tuple[int, int]:
        """Rows [first, stop) of the view that exist."""
        first = min(max(self.rows.first(row), 0), self.view_rows)
        return first, min(max(self.rows.stop(row), first), self.view_rows)


@dataclass(frozen=True, slots=True)
class Scratch:
    """Memory that a kernel of a library uses while it makes a row.

    Attributes:
        asked: C expressions of what the library itself says that it needs, for each window.
    """

    size_bytes: int
    asked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inner:
    """An operator whose rows a step makes itself, in scratch, as often as it reads them.

    Attributes:
        source: the file of its kernel.
        rows: how many are made in all; ``map_rows``: how many its map has.
        lead_bytes: how far before them the row that is made of them may begin; None: apart.
    """

    operator: int
    source: str
    rows: int
    map_rows: int
    lead_bytes: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """One operator, or a part of one, as a kernel call that makes a row of ``output``.

    Attributes:
        call: C statement with the places {out}, {row}, {out_rows}, {scratch}, {scratch_bytes} and,
            for each read k, {in<k>} (its first given row), {rows<k>} (how many are given),
            {above<k>} (how many are missing above), {first<k>} (the number of the first).
        many_rows: the kernel makes any number of rows in one call, in order.
        source: the file of the kernel.
        any_order: it does so in an order of its own, so only where what it writes stands apart
            from all that it reads.
        scratch: of a kernel of a library that asks for some, even if that is none; of rows that
            the step makes itself, which are those of ``inner``.
    """

    label: str
    operator: int
    output: int
    reads: tuple[Read, ...]
    call: str
    source: str
    many_rows: bool = False
    any_order: bool = False
    scratch: Scratch | None = None
    inner: Inner | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The files of all kernels that it calls."""
        return (self.source,) if self.inner is None else (self.inner.source, self.source)

    @property
    def scratch_bytes(self) -> int:
        return 0 if self.scratch is None else self.scratch.size_bytes


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant in flash: a C definition without its storage class, and its bytes."""

    name: str
    declaration: str
    value: str = field(repr=False)
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RowProgram:
    """Maps and steps in an order in which they can run; ``aliases``: tensor -> map."""

    maps: tuple[Map, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: tuple[Constant, ...] = field(repr=False)
    aliases: dict[int, int] = field(repr=False)

    def producers(self) -> dict[int, int]:
        """Returns map -> the step that makes it."""
        return {step.output: number for number, step in enumerate(self.steps)}

    def alive(self) -> list[tuple[int, ...]]:
        """Returns for each place between steps the maps that hold something still needed."""
        last = dict.fromkeys(self.outputs, len(self.steps))
        for number, step in enumerate(self.steps):
            for read in step.reads:
                last[read.map] = max(last.get(read.map, -1), number)
        born = dict.fromkeys(self.inputs, -1) | self.producers()
        return [
            tuple(m for m in sorted(born) if born[m] < cut and last.get(m, -1) >= cut)
            for cut in range(len(self.steps) + 1)
        ]


def pixels(shape: Sequence[int]) -> tuple[int, int, int]:
    """Returns (rows, columns, channels) of a tensor of batch 1; a single row lies on its side."""
    if len(shape) == 4 and shape[0] == 1:
        _, height, width, channels = shape
        return (height, width, channels) if height > 1 else (width, 1, channels)
    if len(shape) == 3 and shape[0] == 1:
        return shape[1], 1, shape[2]
    count = 1
    for extent in shape:
        count *= extent
    return 1, 1, count


def row_axis(shape: Sequence[int]) -> int | None:
    """Returns the axis whose steps are the rows of ``pixels(shape)``; None: there is one row."""
    if len(shape) == 4 and shape[0] == 1:
        return 1 if shape[1] > 1 else 2
    return 1 if len(shape) == 3 and shape[0] == 1 else None
