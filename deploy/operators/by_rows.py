"""Operators that can run strip by strip: along which axis, how, and why others cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from deploy.graph import Graph, Operator, Options
from deploy.operators.rows import RowRule, Rows, Sliding


class Uncut(Enum):
    """Why an operator is left whole and so ends a region."""

    OPERATOR = "no row dependence is known for this operator"
    BATCH = "its batch is not 1"
    RANK = "its map has no rows (fewer than three dimensions)"
    SINGLE_ROW = "its map has a single row"
    ROWS_REDUCED = "it reduces over the rows, and partial results would be rounded"
    ROWS_MOVED = "its rows are not rows of its input in their order"
    MIXED_ROWS = "its inputs have different numbers of rows"
    PARAMETERS = "its parameters are not constants"
    ALIGNED_CORNERS = "aligned corners, or no whole scale factor, make every row depend on the size"
    TYPE = "the runtime cannot slice maps of its type"
    CONTROL = "it has several outputs, or none, that are not rows"


@dataclass(frozen=True, slots=True)
class RowOperator:
    """An operator that can run strip by strip.

    Attributes:
        index: its place in the graph.
        rule: how rows of its outputs depend on rows of its inputs.
        axis: the dimension that rows run along, in its row inputs and outputs.
        row_inputs: positions among its inputs that are read row by row.
        row_constants: positions of constants that have one row for each row of the output.
        pads_with_zeros: SAME padding does what zeros put around a strip do.
        pads_columns: SAME padding puts columns beside the rows (then a strip without wrong
            rows needs a PAD of its own).
    """

    index: int
    rule: RowRule
    axis: int
    row_inputs: tuple[int, ...]
    row_constants: tuple[int, ...] = ()
    pads_with_zeros: bool = False
    pads_columns: bool = False


@dataclass(frozen=True, slots=True)
class RowSite:
    """An operator whose output has rows along ``axis``, as row functions see it."""

    graph: Graph
    index: int
    axis: int

    @property
    def operator(self) -> Operator:
        return self.graph.operators[self.index]

    def shape(self, position: int) -> tuple[int, ...]:
        return self.graph.tensors[self.operator.inputs[position]].shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.graph.tensors[self.operator.outputs[0]].shape

    @property
    def out_rows(self) -> int:
        return self.out_shape[self.axis]

    def constant(self, position: int) -> np.ndarray | None:
        """Values of a constant input; None where it is computed or absent."""
        inputs = self.operator.inputs
        if position >= len(inputs) or inputs[position] < 0:
            return None
        tensor = self.graph.tensors[inputs[position]]
        return tensor.array() if tensor.is_constant else None

    def is_row_map(self, position: int) -> Uncut | None:
        """Whether rows of that input lie along the rows of the output; why not."""
        if self.graph.tensors[self.operator.inputs[position]].is_constant:
            return Uncut.PARAMETERS
        axis = row_axis(self.shape(position))
        if isinstance(axis, Uncut):
            return axis
        return None if axis == self.axis else Uncut.ROWS_MOVED

    def build(self, rule: RowRule, position: int = 0, **fields: object) -> RowOperator | Uncut:
        """What is made from the rows of one input, if those are rows of the output."""
        problem = self.is_row_map(position)
        if problem is not None:
            return problem
        return RowOperator(self.index, rule, self.axis, (position,), **fields)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Strip:
    """A strip of an operator that can run by rows.

    Attributes:
        shape: of the first output.
        padding: rows of explicit padding (before, after), or None.
        window_rows: rows of the input.
        single: the window is all that the kernel has to see: it makes one row.
    """

    graph: Graph
    operator: Operator
    axis: int
    shape: tuple[int, ...]
    window_rows: int
    padding: Rows | None = None
    single: bool = False

    def constant(self, position: int) -> list[object]:
        values: list[object] = self.graph.tensors[self.operator.inputs[position]].array().tolist()
        return values


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a strip has other than the whole: position of an input -> (purpose, int32 values)."""

    options: Options | None
    inputs: Mapping[int, tuple[str, object]] = field(default_factory=dict)


RowsOf = Callable[[RowSite], RowOperator | Uncut]
"""How rows of the outputs depend on rows of the inputs, or why nothing can be said."""

ParametersOf = Callable[[Strip], Parameters]


def unchanged(strip: Strip) -> Parameters:
    """The parameters of the whole."""
    return Parameters(strip.operator.options)


@dataclass(frozen=True, slots=True)
class ByRows:
    """How an operator runs strip by strip.

    Attributes:
        rows: which rows it needs.
        parameters: what it is given for a strip.
        reduces: it can take all rows of a map together.
    """

    rows: RowsOf
    parameters: ParametersOf = unchanged
    reduces: bool = False


def row_axis(shape: tuple[int, ...]) -> int | Uncut:
    """The dimension rows run along: the outermost one longer than 1, but not the last."""
    if len(shape) < 3:
        return Uncut.RANK
    if shape[0] != 1:
        return Uncut.BATCH
    for axis in range(1, len(shape) - 1):
        if shape[axis] > 1:
            return axis
    return Uncut.SINGLE_ROW


def same_row(site: RowSite, position: int = 0) -> RowOperator | Uncut:
    """One output row from the same row of the input."""
    problem = site.is_row_map(position)
    if problem is not None:
        return problem
    rows = site.shape(position)[site.axis]
    if rows != site.out_rows:
        return Uncut.MIXED_ROWS
    return site.build(Sliding(rows, rows), position)


def side_by_side(site: RowSite, moving: list[int], constants: list[int]) -> RowOperator | Uncut:
    """One output row from the same rows of several inputs and constants."""
    if not moving:
        return Uncut.SINGLE_ROW
    rule = Sliding(site.out_rows, site.out_rows)
    return RowOperator(site.index, rule, site.axis, tuple(moving), tuple(constants))
