"""Which operators can run strip by strip, along which axis, and why others cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from deploy.backends.tflm.strips.rows import (
    Resampling,
    RowRule,
    Scattering,
    Shifting,
    Sliding,
    same_padding,
)
from deploy.graph import Graph, Operator, Padding

_SLICED = frozenset({"int8", "int16", "int32"})
"""Types that SLICE, CONCATENATION and PAD of the runtime all take."""


class Uncut(Enum):
    """Why an operator is left whole and so ends a region."""

    OPERATOR = "no row dependence is known for this operator"
    BATCH = "its batch is not 1"
    RANK = "its map has no rows (fewer than three dimensions)"
    SINGLE_ROW = "its map has a single row"
    ROWS_REDUCED = "it reduces over the rows, and partial results would be rounded"
    ROWS_MOVED = "rows of its input and of its output lie along different axes"
    MIXED_ROWS = "its inputs have different numbers of rows"
    PARAMETERS = "its parameters are not constants"
    NORMALISED_ROWS = "it normalises over the rows"
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
        pads_columns: SAME padding puts columns beside the rows (then a strip without garbage
            rows needs a PAD of its own).
    """

    index: int
    rule: RowRule
    axis: int
    row_inputs: tuple[int, ...]
    row_constants: tuple[int, ...] = ()
    pads_columns: bool = False


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


def row_operator(graph: Graph, index: int) -> RowOperator | Uncut:
    """Describes how operator ``index`` can be cut, or says why it cannot."""
    operator = graph.operators[index]
    describe = _RULES.get(operator.opcode)
    if describe is None or operator.custom_code:
        return Uncut.OPERATOR
    if not operator.outputs:
        return Uncut.CONTROL
    axes = {row_axis(graph.tensors[t].shape) for t in operator.outputs}
    rows = {graph.tensors[t].shape[1:3] for t in operator.outputs}
    if len(axes) != 1 or (len(operator.outputs) > 1 and len(rows) != 1):
        return Uncut.CONTROL
    axis = axes.pop()
    if isinstance(axis, Uncut):
        reduces = operator.opcode in _REDUCING and axis is not Uncut.BATCH
        had_rows = isinstance(row_axis(graph.tensors[operator.inputs[0]].shape), int)
        return Uncut.ROWS_REDUCED if reduces and had_rows else axis
    found = describe(_Site(graph, operator, index, axis))
    if isinstance(found, RowOperator):
        rowwise = [*(operator.inputs[i] for i in found.row_inputs), *operator.outputs]
        if any(graph.tensors[t].dtype not in _SLICED for t in rowwise):
            return Uncut.TYPE
    return found


@dataclass(frozen=True, slots=True)
class _Site:
    graph: Graph
    operator: Operator
    index: int
    axis: int

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
        problem = self.is_row_map(position)
        if problem is not None:
            return problem
        return RowOperator(self.index, rule, self.axis, (position,), **fields)  # type: ignore[arg-type]


def _sliding(site: _Site, kernel: tuple[int, int]) -> RowOperator | Uncut:
    """A window of (height, width) kernel elements, strides and dilations from the options."""
    if len(site.out_shape) != 4:
        return Uncut.RANK
    if site.is_row_map(0) is not None:
        return site.is_row_map(0) or Uncut.ROWS_MOVED
    operator, source = site.operator, site.shape(0)
    strides = operator.integer("stride_h", 1), operator.integer("stride_w", 1)
    dilations = (
        operator.integer("dilation_h_factor", 1),
        operator.integer("dilation_w_factor", 1),
    )
    extents = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    same = operator.integer("padding") == Padding.SAME
    along, across = site.axis - 1, 2 - site.axis
    rule = Sliding(
        in_rows=source[site.axis],
        out_rows=site.out_rows,
        kernel_extent=extents[along],
        stride=strides[along],
        same=same,
    )
    columns = same_padding(source[1 + across], extents[across], strides[across])
    return site.build(rule, pads_columns=same and any(columns))


def same_paddings(graph: Graph, index: int) -> list[tuple[int, int]]:
    """(before, after) of every dimension that SAME padding of a convolution puts around a map."""
    operator = graph.operators[index]
    shape = graph.tensors[operator.inputs[0]].shape
    kernel = graph.tensors[operator.inputs[1]].shape
    paddings = [(0, 0)] * len(shape)
    for axis, letter in ((1, "h"), (2, "w")):
        dilation = operator.integer(f"dilation_{letter}_factor", 1)
        extent = (kernel[axis] - 1) * dilation + 1
        stride = operator.integer(f"stride_{letter}", 1)
        paddings[axis] = same_padding(shape[axis], extent, stride)
    return paddings


def _convolution(site: _Site) -> RowOperator | Uncut:
    if site.constant(1) is None:
        return Uncut.PARAMETERS
    _, height, width, _ = site.shape(1)
    return _sliding(site, (height, width))


def _pool(site: _Site) -> RowOperator | Uncut:
    options = site.operator
    return _sliding(site, (options.integer("filter_height"), options.integer("filter_width")))


def _transpose_conv(site: _Site) -> RowOperator | Uncut:
    weights = site.constant(1)
    if site.constant(0) is None or weights is None:
        return Uncut.PARAMETERS
    problem = site.is_row_map(2)
    if problem is not None:
        return problem
    along = site.axis - 1
    name = ("stride_h", "stride_w")[along]
    rule = Scattering(
        in_rows=site.shape(2)[site.axis],
        out_rows=site.out_rows,
        kernel_extent=weights.shape[1 + along],
        stride=site.operator.integer(name, 1),
        same=site.operator.integer("padding") == Padding.SAME,
    )
    if rule.run_height(rule.in_rows) != rule.out_rows:
        return Uncut.ALIGNED_CORNERS
    return site.build(rule, 2)


def _rowwise(site: _Site, position: int = 0) -> RowOperator | Uncut:
    """One output row from the same row of the input."""
    problem = site.is_row_map(position)
    if problem is not None:
        return problem
    rows = site.shape(position)[site.axis]
    if rows != site.out_rows:
        return Uncut.MIXED_ROWS
    return site.build(Sliding(rows, rows), position)


def _elementwise(site: _Site) -> RowOperator | Uncut:
    """Any number of operands that broadcast over rows, or have as many as the output."""
    moving: list[int] = []
    constants: list[int] = []
    for position, tensor in enumerate(site.operator.inputs):
        if tensor < 0:
            continue
        shape = site.shape(position)
        # Operands of lower rank broadcast over the leading dimensions.
        axis = site.axis - (len(site.out_shape) - len(shape))
        if axis < 0 or shape[axis] == 1:
            continue
        if len(shape) != len(site.out_shape) or shape[axis] != site.out_rows:
            return Uncut.MIXED_ROWS
        is_constant = site.graph.tensors[tensor].is_constant
        (constants if is_constant else moving).append(position)
    if not moving:
        return Uncut.SINGLE_ROW
    return RowOperator(
        site.index,
        Sliding(site.out_rows, site.out_rows),
        site.axis,
        tuple(moving),
        tuple(constants),
    )


def _softmax(site: _Site) -> RowOperator | Uncut:
    # Normalises over the last dimension, which rows never run along.
    return _rowwise(site)


def _concatenation(site: _Site) -> RowOperator | Uncut:
    axis = site.operator.integer("axis") % len(site.out_shape)
    if axis <= site.axis:
        return Uncut.ROWS_MOVED
    moving: list[int] = []
    constants: list[int] = []
    for position, tensor in enumerate(site.operator.inputs):
        is_constant = site.graph.tensors[tensor].is_constant
        (constants if is_constant else moving).append(position)
    if not moving:
        return Uncut.SINGLE_ROW
    for position in moving:
        # Concatenation along columns may widen a map of one row and one column.
        if site.shape(position)[site.axis] != site.out_rows:
            return Uncut.MIXED_ROWS
        if row_axis(site.shape(position)) != site.axis:
            return Uncut.ROWS_MOVED
    return RowOperator(
        site.index,
        Sliding(site.out_rows, site.out_rows),
        site.axis,
        tuple(moving),
        tuple(constants),
    )


def _split(site: _Site) -> RowOperator | Uncut:
    axis = site.constant(0)
    if axis is None:
        return Uncut.PARAMETERS
    if int(axis.ravel()[0]) % len(site.out_shape) <= site.axis:
        return Uncut.ROWS_MOVED
    return _rowwise(site, 1)


def _gather(site: _Site) -> RowOperator | Uncut:
    """A constant table looked up element by element: each index adds dimensions at the end."""
    if site.constant(0) is None:
        return Uncut.PARAMETERS
    if site.operator.integer("axis") or site.operator.integer("batch_dims"):
        return Uncut.ROWS_MOVED
    return _rowwise(site, 1)


def _reshape(site: _Site) -> RowOperator | Uncut:
    """Keeps rows if all dimensions up to the rows stay: only what a row holds is rearranged."""
    if len(site.operator.inputs) > 1 and site.constant(1) is None:
        return Uncut.PARAMETERS
    source = site.shape(0)
    if len(source) <= site.axis or source[: site.axis + 1] != site.out_shape[: site.axis + 1]:
        return Uncut.ROWS_MOVED
    return _rowwise(site)


def _pad(site: _Site) -> RowOperator | Uncut:
    paddings = site.constant(1)
    if paddings is None or (len(site.operator.inputs) > 2 and site.constant(2) is None):
        return Uncut.PARAMETERS
    if any(int(v) for v in paddings[: site.axis].ravel()):
        return Uncut.ROWS_MOVED
    before = int(paddings[site.axis][0])
    problem = site.is_row_map(0)
    if problem is not None:
        return problem
    return site.build(Shifting(site.shape(0)[site.axis], site.out_rows, before))


def _slice(site: _Site) -> RowOperator | Uncut:
    begin = site.constant(1)
    if begin is None or site.constant(2) is None:
        return Uncut.PARAMETERS
    problem = site.is_row_map(0)
    if problem is not None:
        return problem
    start = int(begin.ravel()[site.axis])
    return site.build(Shifting(site.shape(0)[site.axis], site.out_rows, -start))


def _resize(site: _Site) -> RowOperator | Uncut:
    if site.constant(1) is None:
        return Uncut.PARAMETERS
    problem = site.is_row_map(0)
    if problem is not None:
        return problem
    rows = site.shape(0)[site.axis]
    if site.operator.option("align_corners") or site.out_rows % rows:
        return Uncut.ALIGNED_CORNERS
    half = bool(site.operator.option("half_pixel_centers"))
    return site.build(Resampling(rows, site.out_rows, site.operator.opcode, half))


def _reduction(site: _Site) -> RowOperator | Uncut:
    axes = site.constant(1)
    if axes is None:
        return Uncut.PARAMETERS
    rank = len(site.shape(0))
    if any(int(a) % rank <= site.axis for a in axes.ravel()):
        return Uncut.ROWS_REDUCED
    return _rowwise(site)


def _space_to_depth(site: _Site) -> RowOperator | Uncut:
    block = site.operator.integer("block_size")
    problem = site.is_row_map(0)
    if problem is not None:
        return problem
    rows = site.shape(0)[site.axis]
    return site.build(Sliding(rows, site.out_rows, block, block, whole_blocks=True))


def _depth_to_space(site: _Site) -> RowOperator | Uncut:
    block = site.operator.integer("block_size")
    problem = site.is_row_map(0)
    if problem is not None:
        return problem
    return site.build(Scattering(site.shape(0)[site.axis], site.out_rows, block, block, False))


_REDUCING = frozenset({"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "AVERAGE_POOL_2D", "MAX_POOL_2D"})

_RULES: dict[str, Callable[[_Site], RowOperator | Uncut]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "TRANSPOSE_CONV": _transpose_conv,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    **dict.fromkeys(
        ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "PRELU"), _elementwise
    ),
    **dict.fromkeys(
        (
            *("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "ELU", "LOGISTIC"),
            *("TANH", "HARD_SWISH", "QUANTIZE", "DEQUANTIZE", "CAST", "ABS", "NEG"),
        ),
        _rowwise,
    ),
    "SOFTMAX": _softmax,
    "CONCATENATION": _concatenation,
    "SPLIT": _split,
    "GATHER": _gather,
    "RESHAPE": _reshape,
    "PAD": _pad,
    "PADV2": _pad,
    "SLICE": _slice,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "RESIZE_BILINEAR": _resize,
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _reduction),
    "SPACE_TO_DEPTH": _space_to_depth,
    "DEPTH_TO_SPACE": _depth_to_space,
}


def cut_opcodes() -> frozenset[str]:
    """Returns the opcodes that can run strip by strip, where their parameters allow it."""
    return frozenset(_RULES)
