"""The operator table: one row for each operator of TensorFlow Lite Micro that works on integers.

Operators that branch or keep state outside tensors (IF, VAR_HANDLE …) and those that are float
only have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Flag, auto
from types import MappingProxyType
from typing import Any

from deploy.graph import CUSTOM, Activation
from deploy.memory.plan import AliasReason
from deploy.operators import convolutions as conv
from deploy.operators import (
    copies,
    intervals,
    recurrent,
    reductions,
    resizes,
    shapes,
    signal,
    state,
    types,
)
from deploy.operators import elementwise as each
from deploy.operators.by_rows import ByRows
from deploy.operators.row import InC, OperatorRow, ShapeRule, TypeRule

_Columns = dict[str, Any]
_MANY = 1 << 16
_FIRST, _ALL, _ANY = types.alike(0), types.all_alike, types.anything
_KERNEL, _TFLM = InC.KERNEL, InC.TFLM
_WHOLE = None
"""It stays whole."""


class _Is(Flag):
    """Columns that are true or false."""

    NOTHING = 0
    SCALED = auto()
    IN_PLACE = auto()
    STATEFUL = auto()
    BARE = auto()
    """It makes no sense without its options."""


_SCALED, _IN_PLACE, _BARE = _Is.SCALED, _Is.IN_PLACE, _Is.BARE
_NUMBERS = _SCALED | _IN_PLACE
_SUMS = _SCALED | _BARE


def _row(
    opcode: str,
    inputs: int | tuple[int, int],
    shape: ShapeRule,
    kind: TypeRule,
    options: str,
    by_rows: ByRows | None,
    in_c: InC,
    flags: _Is = _Is.NOTHING,
    **columns: Any,
) -> OperatorRow:
    return OperatorRow(
        opcode=opcode,
        inputs=(inputs, inputs) if isinstance(inputs, int) else inputs,
        shapes=shape,
        types=kind,
        options=f"{options}Options" if options else "",
        by_rows=by_rows,
        in_c=in_c,
        has_scale=_SCALED in flags,
        in_place=_IN_PLACE in flags,
        needs_options=_BARE in flags,
        keeps_state=_Is.STATEFUL in flags,
        **columns,
    )


def _convolutions() -> Iterable[OperatorRow]:
    """Convolutions and matrix products: weights of one scale or one for each channel; pools."""
    weighted, rows = types.weighted(0, 1, 2), conv.CONV_ROWS
    same: _Columns = {"products": conv.output_products, "interval": intervals.fused}
    own: _Columns = {"optional": (2,), "weights": (1, 0), "window": conv.weights_window, **same}
    shape, options = conv.conv_2d, "Conv2D"
    yield _row("CONV_2D", (2, 3), shape, weighted, options, rows, _KERNEL, _SUMS, **own)
    own["weights"] = (1, 3)
    opcode, shape, options = "DEPTHWISE_CONV_2D", conv.depthwise_conv_2d, "DepthwiseConv2D"
    yield _row(opcode, (2, 3), shape, weighted, options, rows, _KERNEL, _SUMS, **own)
    own = {"optional": (2,), "weights": (1, 0), "window": conv.dense_window, **same}
    opcode, shape, options = "FULLY_CONNECTED", conv.fully_connected, "FullyConnected"
    yield _row(opcode, (2, 3), shape, weighted, options, _WHOLE, _KERNEL, _SCALED, **own)

    weighted, rows = types.weighted(2, 1, 3), conv.TRANSPOSE_CONV_ROWS
    own = {"optional": (3,), "weights": (1, 0), "data": 2, "window": conv.transposed_window}
    own["products"] = conv.input_products
    opcode, shape, options = "TRANSPOSE_CONV", conv.transpose_conv, "TransposeConv"
    yield _row(opcode, (3, 4), shape, weighted, options, rows, _KERNEL, _SUMS, **own)
    own = {"products": conv.matrix_products}
    opcode, shape = "BATCH_MATMUL", conv.batch_matmul
    yield _row(opcode, 2, shape, _ALL, "BatchMatMul", _WHOLE, _KERNEL, _SCALED, **own)

    pool: _Columns = {"window": conv.pool_window, "interval": intervals.pool}
    rows, shape = conv.POOL_ROWS, conv.pool_2d
    for opcode in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        yield _row(opcode, 1, shape, _FIRST, "Pool2D", rows, _KERNEL, _SUMS, **pool)
    own = {"window": conv.pool_window}
    yield _row("L2_POOL_2D", 1, shape, _FIRST, "Pool2D", _WHOLE, _TFLM, _BARE, **own)


def _pairs() -> Iterable[OperatorRow]:
    """Two operands or more that broadcast."""
    shape, rows, scaled = each.broadcast, each.BROADCAST_ROWS, _SCALED
    within: _Columns = {"interval": intervals.fused}
    yield _row("ADD", 2, shape, _ALL, "Add", rows, _KERNEL, _NUMBERS, **within)
    yield _row("SUB", 2, shape, _ALL, "Sub", rows, _KERNEL, _NUMBERS, **within)
    yield _row("MUL", 2, shape, _ALL, "Mul", rows, _KERNEL, _NUMBERS, **within)
    yield _row("DIV", 2, shape, _ALL, "Div", _WHOLE, _KERNEL, scaled)
    difference = "SquaredDifference"
    yield _row("SQUARED_DIFFERENCE", 2, shape, _ALL, difference, rows, _KERNEL, scaled)
    for opcode, interval in (("MAXIMUM", intervals.maximum), ("MINIMUM", intervals.minimum)):
        own: _Columns = {"interval": interval}
        yield _row(opcode, 2, shape, _ALL, "MaximumMinimum", rows, _KERNEL, _IN_PLACE, **own)
    yield _row("FLOOR_DIV", 2, shape, _ALL, "FloorDiv", _WHOLE, _TFLM)
    yield _row("FLOOR_MOD", 2, shape, _ALL, "FloorMod", _WHOLE, _TFLM)
    compared = types.compared
    yield _row("EQUAL", 2, shape, compared, "Equal", _WHOLE, _KERNEL, scaled)
    yield _row("NOT_EQUAL", 2, shape, compared, "NotEqual", _WHOLE, _KERNEL, scaled)
    yield _row("GREATER", 2, shape, compared, "Greater", _WHOLE, _KERNEL, scaled)
    yield _row("GREATER_EQUAL", 2, shape, compared, "GreaterEqual", _WHOLE, _KERNEL, scaled)
    yield _row("LESS", 2, shape, compared, "Less", _WHOLE, _KERNEL, scaled)
    yield _row("LESS_EQUAL", 2, shape, compared, "LessEqual", _WHOLE, _KERNEL, scaled)
    yield _row("LOGICAL_AND", 2, shape, types.logical, "LogicalAnd", _WHOLE, _KERNEL)
    yield _row("LOGICAL_OR", 2, shape, types.logical, "LogicalOr", _WHOLE, _KERNEL)
    yield _row("PRELU", 2, each.prelu, _ALL, "", rows, _KERNEL, _NUMBERS)
    yield _row("SELECT_V2", 3, shape, types.selected, "SelectV2", _WHOLE, _KERNEL)
    yield _row("ADD_N", (2, _MANY), each.equal_shapes, _ALL, "AddN", _WHOLE, _TFLM, scaled)


def _units() -> Iterable[OperatorRow]:
    """One operand, one value from each; and what is normalised over the last dimension."""
    same, rows, scaled = each.same, each.SAME_ROW, _SCALED
    for opcode, activation, in_c in (
        ("RELU", Activation.RELU, _KERNEL),
        ("RELU6", Activation.RELU6, _KERNEL),
        ("RELU_N1_TO_1", Activation.RELU_N1_TO_1, _TFLM),
    ):
        interval = intervals.own_activation(activation)
        yield _row(opcode, 1, same, _FIRST, "", rows, in_c, _NUMBERS, interval=interval)
    yield _row("RELU_0_TO_1", 1, same, _FIRST, "", rows, _TFLM, _NUMBERS)
    yield _row("ELU", 1, same, _FIRST, "", rows, _KERNEL, scaled)
    yield _row("LOGISTIC", 1, same, _FIRST, "", rows, _KERNEL, _NUMBERS)
    yield _row("TANH", 1, same, _FIRST, "", rows, _KERNEL, _NUMBERS)
    yield _row("HARD_SWISH", 1, same, _FIRST, "HardSwish", rows, _KERNEL, _NUMBERS)
    yield _row("LEAKY_RELU", 1, each.leaky_relu, _FIRST, "LeakyRelu", rows, _KERNEL, _NUMBERS)
    yield _row("ABS", 1, same, _FIRST, "Abs", rows, _KERNEL, scaled)
    yield _row("NEG", 1, same, _FIRST, "Neg", rows, _TFLM, scaled)
    yield _row("RSQRT", 1, same, _FIRST, "", _WHOLE, _KERNEL, scaled)
    yield _row("EXP", 1, same, _FIRST, "Exp", _WHOLE, _TFLM, scaled)
    for opcode, options in (("COS", "Cos"), ("SQUARE", "Square")):
        yield _row(opcode, 1, same, _FIRST, options, _WHOLE, _TFLM)
    for opcode in ("CEIL", "FLOOR", "LOG", "ROUND", "SIN", "SQRT"):
        yield _row(opcode, 1, same, _FIRST, "", _WHOLE, _TFLM)
    yield _row("LOGICAL_NOT", 1, same, types.logical, "LogicalNot", _WHOLE, _KERNEL)
    yield _row("ZEROS_LIKE", 1, same, _FIRST, "ZerosLike", _WHOLE, _TFLM)
    yield _row("QUANTIZE", 1, same, _ANY, "Quantize", rows, _KERNEL, _NUMBERS)
    yield _row("DEQUANTIZE", 1, same, _ANY, "Dequantize", rows, _KERNEL, scaled)
    yield _row("CAST", 1, same, _ANY, "Cast", rows, _KERNEL)

    flags = _NUMBERS | _BARE
    yield _row("SOFTMAX", 1, each.softmax, _ANY, "Softmax", rows, _KERNEL, flags)
    yield _row("LOG_SOFTMAX", 1, each.normalised, _FIRST, "LogSoftmax", _WHOLE, _KERNEL, scaled)
    yield _row("L2_NORMALIZATION", 1, each.normalised, _FIRST, "L2Norm", _WHOLE, _KERNEL, scaled)


def _recurrent() -> Iterable[OperatorRow]:
    """Operators that keep state in variables."""
    flags = _SUMS | _Is.STATEFUL
    own: _Columns = {"optional": (3,), "products": recurrent.svdf_products}
    kind = recurrent.svdf_types
    yield _row("SVDF", 5, recurrent.svdf, kind, "SVDF", _WHOLE, _TFLM, flags, **own)
    own = {"optional": recurrent.LSTM_ABSENT, "products": recurrent.lstm_products}
    kind, options = recurrent.lstm_types, "UnidirectionalSequenceLSTM"
    opcode = "UNIDIRECTIONAL_SEQUENCE_LSTM"
    yield _row(opcode, 24, recurrent.lstm, kind, options, _WHOLE, _TFLM, flags, **own)


def _reductions() -> Iterable[OperatorRow]:
    """Operators that reduce over dimensions, or walk along one."""
    shape, rows, over = reductions.reduce, reductions.REDUCED_ROWS, "Reducer"
    yield _row("MEAN", 2, shape, _FIRST, over, rows, _KERNEL, _SCALED)
    yield _row("SUM", 2, shape, _FIRST, over, rows, _KERNEL, _SCALED)
    yield _row("REDUCE_MAX", 2, shape, _FIRST, over, rows, _KERNEL)
    yield _row("REDUCE_MIN", 2, shape, _FIRST, over, rows, _KERNEL)
    for opcode in ("REDUCE_PROD", "REDUCE_ALL", "REDUCE_ANY"):
        yield _row(opcode, 2, shape, _FIRST, over, _WHOLE, _TFLM)
    yield _row("ARG_MAX", 2, reductions.arg, types.indices, "ArgMax", _WHOLE, _KERNEL)
    yield _row("ARG_MIN", 2, reductions.arg, types.indices, "ArgMin", _WHOLE, _KERNEL)
    yield _row("CUMSUM", 2, reductions.along, _FIRST, "Cumsum", _WHOLE, _TFLM, _SCALED)


def _pixels() -> Iterable[OperatorRow]:
    """Resizes, and pixels between space, depth and batch."""
    shape, rows = resizes.resize, resizes.RESIZED_ROWS
    hull: _Columns = {"interval": intervals.hull}
    yield _row("RESIZE_BILINEAR", 2, shape, _FIRST, "ResizeBilinear", rows, _KERNEL)
    nearest = "ResizeNearestNeighbor"
    yield _row("RESIZE_NEAREST_NEIGHBOR", 2, shape, _FIRST, nearest, rows, _KERNEL, **hull)
    rows, shape = resizes.BLOCKS_OF_ROWS, resizes.space_to_depth
    yield _row("SPACE_TO_DEPTH", 1, shape, _FIRST, "SpaceToDepth", rows, _KERNEL, _BARE, **hull)
    rows, shape = resizes.ROWS_OF_BLOCKS, resizes.depth_to_space
    yield _row("DEPTH_TO_SPACE", 1, shape, _FIRST, "DepthToSpace", rows, _KERNEL, _BARE, **hull)
    shape, options = resizes.space_to_batch_nd, "SpaceToBatchND"
    yield _row("SPACE_TO_BATCH_ND", 3, shape, _FIRST, options, _WHOLE, _TFLM)
    shape, options = resizes.batch_to_space_nd, "BatchToSpaceND"
    yield _row("BATCH_TO_SPACE_ND", 3, shape, _FIRST, options, _WHOLE, _TFLM)


def _copies() -> Iterable[OperatorRow]:
    """Operators that hand values on."""
    hull: _Columns = {"interval": intervals.hull}
    same: _Columns = {**hull, "copies": copies.renamed, "view": AliasReason.RESHAPE_VIEW}
    renamed = InC.RENAMED
    rows = copies.RESHAPED_ROWS
    shape, one = shapes.reshape, (1, 2)
    yield _row("RESHAPE", one, shape, _FIRST, "Reshape", rows, renamed, optional=(1,), **same)
    yield _row("SQUEEZE", 1, shapes.squeeze, _FIRST, "Squeeze", _WHOLE, renamed, **same)
    yield _row("EXPAND_DIMS", 2, shapes.expand_dims, _FIRST, "ExpandDims", _WHOLE, renamed, **same)

    many = (1, _MANY)
    joined: _Columns = {**hull, "copies": copies.joined, "view": AliasReason.CONCATENATION_VIEW}
    rows, options = copies.JOINED_ROWS, "Concatenation"
    joins = shapes.concatenation
    yield _row("CONCATENATION", many, joins, _ALL, options, rows, _KERNEL, _BARE, **joined)
    yield _row("PACK", many, shapes.pack, _ALL, "Pack", _WHOLE, _KERNEL, _BARE, **hull)

    copy = InC.COPY
    parts: _Columns = {"outputs": many}
    own: _Columns = {**hull, **parts, "copies": copies.unpacked}
    yield _row("UNPACK", 1, shapes.unpack, _FIRST, "Unpack", _WHOLE, copy, _BARE, **own)
    own = {**hull, **parts, "copies": copies.split, "data": 1}
    rows, kind = copies.SPLIT_ROWS, types.alike(1)
    yield _row("SPLIT", 2, shapes.split, kind, "Split", rows, copy, _BARE, **own)
    own = {**parts, "copies": copies.split_v}
    yield _row("SPLIT_V", 3, shapes.split_v, _FIRST, "SplitV", _WHOLE, copy, _BARE, **own)
    own = {**hull, "copies": copies.sliced, "view": AliasReason.SLICE_VIEW}
    rows = copies.SLICED_ROWS
    yield _row("SLICE", 3, shapes.slice_, _FIRST, "Slice", rows, copy, **own)
    own["copies"] = copies.strided_sliced
    shape, options = shapes.strided_slice, "StridedSlice"
    yield _row("STRIDED_SLICE", 4, shape, _FIRST, options, _WHOLE, copy, **own)
    own = {**hull, "copies": copies.transposed}
    yield _row("TRANSPOSE", 2, shapes.transpose, _FIRST, "Transpose", _WHOLE, copy, **own)
    own = {**hull, "copies": copies.reversed_}
    rows = copies.REVERSED_ROWS
    yield _row("REVERSE_V2", 2, reductions.along, _FIRST, "ReverseV2", rows, copy, **own)

    padded: _Columns = {"interval": intervals.pad}
    rows = copies.PADDED_ROWS
    yield _row("PAD", 2, shapes.pad, _FIRST, "Pad", rows, _KERNEL, **padded)
    yield _row("PADV2", 3, shapes.pad, types.alike(0, 2), "PadV2", rows, _KERNEL, **padded)
    yield _row("MIRROR_PAD", 2, shapes.mirror_pad, _FIRST, "MirrorPad", _WHOLE, _KERNEL)

    rows = copies.GATHERED_ROWS
    yield _row("GATHER", 2, shapes.gather, _FIRST, "Gather", rows, _KERNEL, **hull)
    yield _row("GATHER_ND", 2, shapes.gather_nd, _FIRST, "GatherNd", _WHOLE, _TFLM)
    embedding = shapes.embedding_lookup
    yield _row("EMBEDDING_LOOKUP", 2, embedding, types.alike(1), "", _WHOLE, _TFLM)
    yield _row("BROADCAST_TO", 2, shapes.broadcast_to, _FIRST, "BroadcastTo", _WHOLE, _KERNEL)
    yield _row("BROADCAST_ARGS", 2, shapes.broadcast_args, _ALL, "", _WHOLE, _TFLM)
    yield _row("FILL", 2, shapes.fill, types.alike(1), "Fill", _WHOLE, _TFLM)
    yield _row("SHAPE", 1, shapes.shape_of, types.indices, "Shape", _WHOLE, _TFLM)
    update, kind = "DynamicUpdateSlice", types.alike(0, 1)
    yield _row("DYNAMIC_UPDATE_SLICE", 3, shapes.update, kind, update, _WHOLE, _TFLM)


def _subgraphs() -> Iterable[OperatorRow]:
    """Resource variables, and calls of other subgraphs."""
    none: _Columns = {"outputs": (0, 0)}
    many: _Columns = {"outputs": (0, _MANY)}
    shape, kind = state.open_shapes, state.takes_handle
    yield _row("VAR_HANDLE", 0, state.handle, _ANY, "VarHandle", _WHOLE, _TFLM, _BARE)
    yield _row("READ_VARIABLE", 1, shape, kind, "ReadVariable", _WHOLE, _TFLM)
    yield _row("ASSIGN_VARIABLE", 2, shape, kind, "AssignVariable", _WHOLE, _TFLM, **none)
    yield _row("CALL_ONCE", 0, shape, _ANY, "CallOnce", _WHOLE, _TFLM, _BARE, **none)
    some = (1, _MANY)
    yield _row("IF", some, shape, state.condition, "If", _WHOLE, _TFLM, _BARE, **many)
    yield _row("WHILE", some, shape, _ANY, "While", _WHOLE, _TFLM, _BARE, **many)


def _customs() -> Iterable[OperatorRow]:
    """Custom operators of TensorFlow Lite Micro itself."""
    for code, shape, taken, made in signal.CUSTOM_ROWS:
        own: _Columns = {"outputs": (len(made), len(made))}
        flags = _Is.STATEFUL if code == "CIRCULAR_BUFFER" else _Is.NOTHING
        kind = signal.types(taken, made)
        yield _row(f"{CUSTOM} {code}", len(taken), shape, kind, "", _WHOLE, _TFLM, flags, **own)


_FAMILIES = (
    *(_convolutions, _pairs, _units, _recurrent, _reductions, _pixels, _copies),
    *(_subgraphs, _customs),
)

OPERATORS: Mapping[str, OperatorRow] = MappingProxyType(
    {row.opcode: row for family in _FAMILIES for row in family()}
)
"""Opcode -> row. An operator that is not here is refused by name."""
