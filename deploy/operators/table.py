"""The operator table: one row for each operator that TensorFlow Lite Micro registers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from deploy.graph import CUSTOM, Activation
from deploy.operators import (
    convolutions,
    elementwise,
    intervals,
    recurrent,
    reductions,
    resizes,
    shapes,
    signal,
    state,
    types,
)
from deploy.operators.row import OperatorRow, ShapeRule, TypeRule

_MANY = 1 << 16


def _row(
    opcode: str, inputs: int | tuple[int, int], shape: ShapeRule, kind: TypeRule, **columns: object
) -> OperatorRow:
    between = (inputs, inputs) if isinstance(inputs, int) else inputs
    return OperatorRow(
        opcode=opcode,
        inputs=between,
        shapes=shape,
        types=kind,
        **columns,  # type: ignore[arg-type]
    )


def _rows() -> Iterable[OperatorRow]:
    first = types.alike(0)

    # Convolutions and matrix products: weights of one scale or one for each channel.
    sums = {"needs_options": True, "has_scale": True}
    yield _row(
        "CONV_2D",
        (2, 3),
        convolutions.conv_2d,
        types.weighted(0, 1, 2),
        options="Conv2DOptions",
        optional=(2,),
        weights=(1, 0),
        **sums,
        products=convolutions.output_products,
        interval=intervals.fused,
    )
    yield _row(
        "DEPTHWISE_CONV_2D",
        (2, 3),
        convolutions.depthwise_conv_2d,
        types.weighted(0, 1, 2),
        options="DepthwiseConv2DOptions",
        optional=(2,),
        weights=(1, 3),
        **sums,
        products=convolutions.output_products,
        interval=intervals.fused,
    )
    yield _row(
        "TRANSPOSE_CONV",
        (3, 4),
        convolutions.transpose_conv,
        types.weighted(2, 1, 3),
        options="TransposeConvOptions",
        optional=(3,),
        weights=(1, 0),
        **sums,
        products=convolutions.input_products,
    )
    yield _row(
        "FULLY_CONNECTED",
        (2, 3),
        convolutions.fully_connected,
        types.weighted(0, 1, 2),
        options="FullyConnectedOptions",
        optional=(2,),
        weights=(1, 0),
        has_scale=True,
        products=convolutions.output_products,
        interval=intervals.fused,
    )
    yield _row(
        "BATCH_MATMUL",
        2,
        convolutions.batch_matmul,
        types.all_alike,
        options="BatchMatMulOptions",
        has_scale=True,
        products=convolutions.matrix_products,
    )
    for opcode in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        yield _row(
            opcode,
            1,
            convolutions.pool_2d,
            first,
            options="Pool2DOptions",
            interval=intervals.pool,
            **sums,
        )

    yield _row(
        "L2_POOL_2D", 1, convolutions.pool_2d, first, options="Pool2DOptions", needs_options=True
    )

    # Two operands that broadcast.
    for opcode, options, in_place, interval in (
        ("ADD", "AddOptions", True, intervals.fused),
        ("SUB", "SubOptions", True, intervals.fused),
        ("MUL", "MulOptions", True, intervals.fused),
        ("DIV", "DivOptions", False, intervals.whole),
        ("SQUARED_DIFFERENCE", "SquaredDifferenceOptions", False, intervals.whole),
    ):
        yield _row(
            opcode,
            2,
            elementwise.broadcast,
            types.all_alike,
            options=options,
            has_scale=True,
            in_place=in_place,
            interval=interval,
        )
    for opcode, interval in (("MAXIMUM", intervals.maximum), ("MINIMUM", intervals.minimum)):
        yield _row(
            opcode,
            2,
            elementwise.broadcast,
            types.all_alike,
            options="MaximumMinimumOptions",
            in_place=True,
            interval=interval,
        )
    for opcode, options in (("FLOOR_DIV", "FloorDivOptions"), ("FLOOR_MOD", "FloorModOptions")):
        yield _row(opcode, 2, elementwise.broadcast, types.all_alike, options=options)
    for opcode, options in (
        ("EQUAL", "EqualOptions"),
        ("NOT_EQUAL", "NotEqualOptions"),
        ("GREATER", "GreaterOptions"),
        ("GREATER_EQUAL", "GreaterEqualOptions"),
        ("LESS", "LessOptions"),
        ("LESS_EQUAL", "LessEqualOptions"),
    ):
        yield _row(
            opcode, 2, elementwise.broadcast, types.compared, options=options, has_scale=True
        )
    for opcode, options in (
        ("LOGICAL_AND", "LogicalAndOptions"),
        ("LOGICAL_OR", "LogicalOrOptions"),
    ):
        yield _row(opcode, 2, elementwise.broadcast, types.logical, options=options)
    yield _row("PRELU", 2, elementwise.prelu, types.all_alike, has_scale=True, in_place=True)
    yield _row("SELECT_V2", 3, elementwise.broadcast, types.selected, options="SelectV2Options")
    yield _row(
        "ADD_N",
        (2, _MANY),
        elementwise.equal_shapes,
        types.all_alike,
        options="AddNOptions",
        has_scale=True,
    )

    # One operand, one value from each.
    for opcode, activation in (
        ("RELU", Activation.RELU),
        ("RELU6", Activation.RELU6),
        ("RELU_N1_TO_1", Activation.RELU_N1_TO_1),
    ):
        yield _row(
            opcode,
            1,
            elementwise.same,
            first,
            has_scale=True,
            in_place=True,
            interval=intervals.own_activation(activation),
        )
    for opcode, options, in_place in (
        ("RELU_0_TO_1", "", True),
        ("ELU", "", False),
        ("LOGISTIC", "", True),
        ("TANH", "", True),
        ("HARD_SWISH", "HardSwishOptions", True),
        ("ABS", "AbsOptions", False),
        ("NEG", "NegOptions", False),
        ("RSQRT", "", False),
        ("EXP", "ExpOptions", False),
        ("CEIL", "", False),
        ("COS", "CosOptions", False),
        ("FLOOR", "", False),
        ("LOG", "", False),
        ("ROUND", "", False),
        ("SIN", "", False),
        ("SQRT", "", False),
        ("SQUARE", "SquareOptions", False),
    ):
        yield _row(
            opcode, 1, elementwise.same, first, options=options, has_scale=True, in_place=in_place
        )
    yield _row(
        "LEAKY_RELU",
        1,
        elementwise.leaky_relu,
        first,
        options="LeakyReluOptions",
        has_scale=True,
        in_place=True,
    )
    yield _row("LOGICAL_NOT", 1, elementwise.same, types.logical, options="LogicalNotOptions")
    yield _row("ZEROS_LIKE", 1, elementwise.same, first, options="ZerosLikeOptions")
    yield _row(
        "QUANTIZE",
        1,
        elementwise.same,
        types.anything,
        options="QuantizeOptions",
        has_scale=True,
        in_place=True,
    )
    yield _row(
        "DEQUANTIZE",
        1,
        elementwise.same,
        types.anything,
        options="DequantizeOptions",
        has_scale=True,
    )
    yield _row("CAST", 1, elementwise.same, types.anything, options="CastOptions")

    # Normalised over the last dimension.
    yield _row(
        "SOFTMAX",
        1,
        elementwise.softmax,
        types.anything,
        options="SoftmaxOptions",
        needs_options=True,
        has_scale=True,
        in_place=True,
    )
    yield _row(
        "LOG_SOFTMAX",
        1,
        elementwise.normalised,
        first,
        options="LogSoftmaxOptions",
        has_scale=True,
    )
    yield _row(
        "L2_NORMALIZATION",
        1,
        elementwise.normalised,
        first,
        options="L2NormOptions",
        has_scale=True,
    )

    # Operators that keep state in variables.
    yield _row(
        "SVDF",
        5,
        recurrent.svdf,
        recurrent.svdf_types,
        options="SVDFOptions",
        needs_options=True,
        optional=(3,),
        has_scale=True,
        products=recurrent.svdf_products,
    )
    yield _row(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        24,
        recurrent.lstm,
        recurrent.lstm_types,
        options="UnidirectionalSequenceLSTMOptions",
        needs_options=True,
        optional=recurrent.LSTM_ABSENT,
        has_scale=True,
        products=recurrent.lstm_products,
    )

    # Reductions.
    for opcode in ("MEAN", "SUM"):
        yield _row(opcode, 2, reductions.reduce, first, options="ReducerOptions", has_scale=True)
    for opcode in ("REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ALL", "REDUCE_ANY"):
        yield _row(opcode, 2, reductions.reduce, first, options="ReducerOptions")
    yield _row("ARG_MAX", 2, reductions.arg, types.indices, options="ArgMaxOptions")
    yield _row("ARG_MIN", 2, reductions.arg, types.indices, options="ArgMinOptions")
    yield _row("CUMSUM", 2, reductions.along, first, options="CumsumOptions", has_scale=True)
    yield _row("REVERSE_V2", 2, reductions.along, first, options="ReverseV2Options")

    # Resizes, and pixels between space, depth and batch.
    yield _row("RESIZE_BILINEAR", 2, resizes.resize, first, options="ResizeBilinearOptions")
    yield _row(
        "RESIZE_NEAREST_NEIGHBOR",
        2,
        resizes.resize,
        first,
        options="ResizeNearestNeighborOptions",
        interval=intervals.hull,
    )
    yield _row(
        "SPACE_TO_DEPTH",
        1,
        resizes.space_to_depth,
        first,
        options="SpaceToDepthOptions",
        needs_options=True,
        interval=intervals.hull,
    )
    yield _row(
        "DEPTH_TO_SPACE",
        1,
        resizes.depth_to_space,
        first,
        options="DepthToSpaceOptions",
        needs_options=True,
        interval=intervals.hull,
    )
    yield _row(
        "SPACE_TO_BATCH_ND", 3, resizes.space_to_batch_nd, first, options="SpaceToBatchNDOptions"
    )
    yield _row(
        "BATCH_TO_SPACE_ND", 3, resizes.batch_to_space_nd, first, options="BatchToSpaceNDOptions"
    )

    # Copies.
    yield _row(
        "RESHAPE",
        (1, 2),
        shapes.reshape,
        first,
        options="ReshapeOptions",
        optional=(1,),
        same_bytes=True,
        interval=intervals.hull,
    )
    yield _row(
        "SQUEEZE",
        1,
        shapes.squeeze,
        first,
        options="SqueezeOptions",
        same_bytes=True,
        interval=intervals.hull,
    )
    yield _row(
        "EXPAND_DIMS",
        2,
        shapes.expand_dims,
        first,
        options="ExpandDimsOptions",
        same_bytes=True,
        interval=intervals.hull,
    )
    yield _row(
        "CONCATENATION",
        (1, _MANY),
        shapes.concatenation,
        types.all_alike,
        options="ConcatenationOptions",
        needs_options=True,
        interval=intervals.hull,
    )
    yield _row(
        "PACK",
        (1, _MANY),
        shapes.pack,
        types.all_alike,
        options="PackOptions",
        needs_options=True,
        interval=intervals.hull,
    )
    many = {"outputs": (1, _MANY), "needs_options": True}
    yield _row(
        "UNPACK", 1, shapes.unpack, first, options="UnpackOptions", **many, interval=intervals.hull
    )
    yield _row(
        "SPLIT",
        2,
        shapes.split,
        types.alike(1),
        options="SplitOptions",
        **many,
        interval=intervals.hull,
    )
    yield _row("SPLIT_V", 3, shapes.split_v, first, options="SplitVOptions", **many)
    yield _row("SLICE", 3, shapes.slice_, first, options="SliceOptions", interval=intervals.hull)
    yield _row(
        "STRIDED_SLICE",
        4,
        shapes.strided_slice,
        first,
        options="StridedSliceOptions",
        interval=intervals.hull,
    )
    yield _row("PAD", 2, shapes.pad, first, options="PadOptions", interval=intervals.pad)
    yield _row(
        "PADV2", 3, shapes.pad, types.alike(0, 2), options="PadV2Options", interval=intervals.pad
    )
    yield _row("MIRROR_PAD", 2, shapes.mirror_pad, first, options="MirrorPadOptions")
    yield _row(
        "TRANSPOSE", 2, shapes.transpose, first, options="TransposeOptions", interval=intervals.hull
    )
    yield _row("GATHER", 2, shapes.gather, first, options="GatherOptions", interval=intervals.hull)
    yield _row("GATHER_ND", 2, shapes.gather_nd, first, options="GatherNdOptions")
    yield _row("EMBEDDING_LOOKUP", 2, shapes.embedding_lookup, types.alike(1))
    yield _row("BROADCAST_TO", 2, shapes.broadcast_to, first, options="BroadcastToOptions")
    yield _row("BROADCAST_ARGS", 2, shapes.broadcast_args, types.all_alike)
    yield _row("FILL", 2, shapes.fill, types.alike(1), options="FillOptions")
    yield _row("SHAPE", 1, shapes.shape_of, types.indices, options="ShapeOptions")
    yield _row(
        "DYNAMIC_UPDATE_SLICE",
        3,
        shapes.update,
        types.alike(0, 1),
        options="DynamicUpdateSliceOptions",
    )

    # Resource variables, and calls of other subgraphs.
    yield _row(
        "VAR_HANDLE",
        0,
        state.handle,
        types.anything,
        options="VarHandleOptions",
        needs_options=True,
    )
    yield _row(
        "READ_VARIABLE", 1, state.open_shapes, state.takes_handle, options="ReadVariableOptions"
    )
    none = {"outputs": (0, 0)}
    yield _row(
        "ASSIGN_VARIABLE",
        2,
        state.open_shapes,
        state.takes_handle,
        options="AssignVariableOptions",
        **none,
    )
    yield _row(
        "CALL_ONCE",
        0,
        state.open_shapes,
        types.anything,
        options="CallOnceOptions",
        needs_options=True,
        **none,
    )
    many = {"outputs": (0, _MANY), "needs_options": True}
    yield _row("IF", (1, _MANY), state.open_shapes, state.condition, options="IfOptions", **many)
    yield _row(
        "WHILE", (1, _MANY), state.open_shapes, types.anything, options="WhileOptions", **many
    )

    # Custom operators of TensorFlow Lite Micro itself.
    for code, shape, taken, made in signal.CUSTOM_ROWS:
        yield _row(
            f"{CUSTOM} {code}",
            len(taken),
            shape,
            signal.types(taken, made),
            outputs=(len(made), len(made)),
        )


OPERATORS: Mapping[str, OperatorRow] = MappingProxyType({row.opcode: row for row in _rows()})
"""Opcode -> row. An operator that is not here is refused by name."""
