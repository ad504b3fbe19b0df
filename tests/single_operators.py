"""A graph of one operator for every opcode whose memory is predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from deploy.graph import Graph, Operator, Options, Quantization
from tests.int8_graphs import Int8GraphMaker

SHAPE = (1, 6, 5, 4)
_Build = Callable[[Int8GraphMaker, int], int | Sequence[int]]


def single_operator(name: str) -> Graph:
    """Returns the graph of a name in ``NAMES``."""
    build, shape, dtype = _CASES[name]
    make = Int8GraphMaker(0)
    made = build(make, make.input(shape, dtype=dtype))
    return make.build(outputs=[made] if isinstance(made, int) else list(made))


def _same(opcode: str, kind: str | None = None, **fields: object) -> _Build:
    options = None if kind is None else Options(kind, tuple(fields.items()))

    def build(make: Int8GraphMaker, x: int) -> int:
        return make.operator(opcode, [x], make.shape(x), make.quantization(x), options, version=2)

    return build


def _shaped(
    opcode: str, shape: Sequence[int], kind: str, *operands: object, **fields: object
) -> _Build:
    """An operator with int32 operands after its input."""

    def build(make: Int8GraphMaker, x: int) -> int:
        rest = [make.integers("operand", value) for value in operands]  # type: ignore[arg-type]
        options = Options(kind, tuple(fields.items()))
        inputs = [x, *rest]
        return make.operator(opcode, inputs, shape, make.quantization(x), options, version=2)

    return build


def _split(opcode: str, kind: str, *, sizes: Sequence[int] | None = None) -> _Build:
    def build(make: Int8GraphMaker, x: int) -> list[int]:
        axis = make.integers("axis", 1)
        rows = sizes or (3, 3)
        outputs = [make.operator("QUANTIZE", [x], (1, r, 5, 4), make.quantization(x)) for r in rows]
        del make.graph.operators[:]
        inputs = (axis, x) if sizes is None else (x, make.integers("sizes", sizes), axis)
        options = Options(kind, (("num_splits", len(rows)),))
        make.graph.operator(Operator(opcode, inputs, tuple(outputs), options, 2))
        return outputs

    return build


def _compare(opcode: str, kind: str) -> _Build:
    def build(make: Int8GraphMaker, x: int) -> int:
        inputs = [x, make.constant_like(x, SHAPE)]
        return make.operator(opcode, inputs, SHAPE, None, Options(kind), version=2, dtype="bool")

    return build


def _binary(opcode: str, kind: str | None = None) -> _Build:
    def build(make: Int8GraphMaker, x: int) -> int:
        y = make.constant_like(x, (1, 1, 1, 4))
        if kind is None:
            return make.binary(opcode, x, y)
        quantization = make.quantization(x)
        return make.operator(opcode, [x, y], SHAPE, quantization, Options(kind), version=2)

    return build


def _select(make: Int8GraphMaker, x: int) -> int:
    flags = make.graph.constant("flags", np.ones(SHAPE, np.bool_))
    inputs = [flags, x, make.constant_like(x, SHAPE)]
    return make.operator(
        "SELECT_V2", inputs, SHAPE, make.quantization(x), Options("SelectV2Options")
    )


def _divide(make: Int8GraphMaker, x: int) -> int:
    y = make.constant_like(x, (1, 1, 1, 4))
    fine = Quantization((1 / 256,), (0,))
    return make.operator("DIV", [x, y], SHAPE, fine, Options("DivOptions"), version=2)


def _matrices(make: Int8GraphMaker, x: int) -> int:
    options = Options("BatchMatMulOptions", (("adj_y", True),))
    return make.operator("BATCH_MATMUL", [x, x], (1, 6, 5, 5), make.quantization(x), options)


def _logic(opcode: str, kind: str) -> _Build:
    """Two comparisons, what is made of them, and what that selects."""

    def build(make: Int8GraphMaker, x: int) -> int:
        flags = [_compare(name, options)(make, x) for name, options in _COMPARED]
        count = 1 if opcode == "LOGICAL_NOT" else 2
        made = make.operator(opcode, flags[:count], SHAPE, None, Options(kind), dtype="bool")
        inputs = [made, x, make.constant_like(x, SHAPE)]
        options = Options("SelectV2Options")
        return make.operator("SELECT_V2", inputs, SHAPE, make.quantization(x), options)

    return build


_COMPARED = (("LESS", "LessOptions"), ("EQUAL", "EqualOptions"))


def _per_channel(make: Int8GraphMaker, x: int) -> int:
    scales = Quantization((0.01,) * 9, (0,) * 9)
    weights = make.graph.constant("weights", np.ones((9, 4), np.int8), quantization=scales)
    bias = make.graph.constant("bias", np.ones(9, np.int32), quantization=scales)
    options = Options("FullyConnectedOptions")
    quantization = make.quantization(x)
    return make.operator(
        "FULLY_CONNECTED", [x, weights, bias], (30, 9), quantization, options, version=12
    )


def _to(opcode: str, kind: str, dtype: str, shape: Sequence[int] = SHAPE) -> _Build:
    def build(make: Int8GraphMaker, x: int) -> int:
        return make.operator(opcode, [x], shape, None, Options(kind), version=2, dtype=dtype)

    return build


def _arg(opcode: str, kind: str) -> _Build:
    def build(make: Int8GraphMaker, x: int) -> int:
        options = Options(kind, (("output_type", 2),))
        inputs = [x, make.integers("axis", 3)]
        return make.operator(opcode, inputs, (1, 6, 5), None, options, version=2, dtype="int32")

    return build


_PADS = ((0, 0), (1, 1), (1, 1), (0, 0))
_PADDED = (1, 8, 7, 4)
_REDUCED = (1, 1, 1, 4)


def _padv2(make: Int8GraphMaker, x: int) -> int:
    inputs = [x, make.integers("pads", _PADS), make.constant_like(x, (1,))]  # type: ignore[arg-type]
    options = Options("PadV2Options")
    return make.operator("PADV2", inputs, _PADDED, make.quantization(x), options, version=2)


def _unary(kind: str) -> _Build:
    return lambda make, x: make.unary(kind, x)


_POSITIVE = Quantization((0.03125,), (-128,))
"""Of what is never negative: RSQRT ends the run for what is."""

_UNARY = ("SOFTMAX", "RELU", "RELU6", "LEAKY_RELU", "LOGISTIC", "TANH", "HARD_SWISH", "QUANTIZE")
_BUILDS: dict[str, _Build] = {
    **{kind: _unary(kind) for kind in _UNARY},
    **{kind: _binary(kind) for kind in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM")},
    "DIV": _divide,
    "BATCH_MATMUL": _matrices,
    "LOGICAL_AND": _logic("LOGICAL_AND", "LogicalAndOptions"),
    "LOGICAL_OR": _logic("LOGICAL_OR", "LogicalOrOptions"),
    "LOGICAL_NOT": _logic("LOGICAL_NOT", "LogicalNotOptions"),
    "SQUARED_DIFFERENCE": _binary("SQUARED_DIFFERENCE", "SquaredDifferenceOptions"),
    "EQUAL": _compare("EQUAL", "EqualOptions"),
    "NOT_EQUAL": _compare("NOT_EQUAL", "NotEqualOptions"),
    "GREATER": _compare("GREATER", "GreaterOptions"),
    "GREATER_EQUAL": _compare("GREATER_EQUAL", "GreaterEqualOptions"),
    "LESS": _compare("LESS", "LessOptions"),
    "LESS_EQUAL": _compare("LESS_EQUAL", "LessEqualOptions"),
    "ABS": _same("ABS", "AbsOptions"),
    "ELU": _same("ELU"),
    "NEG": _same("NEG", "NegOptions"),
    "RSQRT": lambda m, x: m.operator(
        "RSQRT", [m.requantize(x, _POSITIVE)], m.shape(x), _POSITIVE, None, version=2
    ),
    "L2_NORMALIZATION": _same("L2_NORMALIZATION", "L2NormOptions"),
    "ZEROS_LIKE": _same("ZEROS_LIKE", "ZerosLikeOptions"),
    "LOG_SOFTMAX": lambda m, x: m.operator(
        "LOG_SOFTMAX",
        [x],
        SHAPE,
        Quantization((16 / 256,), (127,)),
        Options("LogSoftmaxOptions"),
        version=2,
    ),
    "CONV_2D": lambda m, x: m.conv(x, channels=7, kernel=(3, 3)),
    "CONV_2D of 300 channels": lambda m, x: m.conv(x, channels=300),
    "CONV_2D without bias": lambda m, x: m.conv(x, channels=6, bias=False),
    "DEPTHWISE_CONV_2D": lambda m, x: m.depthwise(x, multiplier=3),
    "TRANSPOSE_CONV": lambda m, x: m.transpose_conv(x, channels=7),
    "FULLY_CONNECTED": lambda m, x: m.fully_connected(x, units=9),
    "FULLY_CONNECTED without bias": lambda m, x: m.fully_connected(x, units=9, bias=False),
    "FULLY_CONNECTED per channel": _per_channel,
    "AVERAGE_POOL_2D": lambda m, x: m.pool(x),
    "MAX_POOL_2D": lambda m, x: m.pool(x, kind="MAX_POOL_2D"),
    "CONCATENATION": lambda m, x: m.concatenation([x] * 10),
    "SLICE": lambda m, x: m.slice(x, (0, 1, 0, 0), (1, 3, 5, 4)),
    "STRIDED_SLICE": lambda m, x: m.strided_slice(x, (0, 1, 0, 0), (1, 3, 5, 4), (1, 2, 1, 1)),
    "PAD": lambda m, x: m.pad(x, _PADS),
    "PADV2": _padv2,
    "MIRROR_PAD": _shaped("MIRROR_PAD", _PADDED, "MirrorPadOptions", _PADS, mode=0),
    "MEAN": lambda m, x: m.mean(x),
    "MEAN over channels": lambda m, x: m.mean(x, axes=(3,), keep_dims=True),
    "SUM": _shaped("SUM", _REDUCED, "ReducerOptions", (1, 2), keep_dims=True),
    "REDUCE_MAX": _shaped("REDUCE_MAX", _REDUCED, "ReducerOptions", (1, 2), keep_dims=True),
    "REDUCE_MIN": _shaped("REDUCE_MIN", _REDUCED, "ReducerOptions", (1, 2), keep_dims=True),
    "RESHAPE": lambda m, x: m.reshape(x, (1, 120)),
    "SQUEEZE": _shaped("SQUEEZE", (6, 5, 4), "SqueezeOptions", squeeze_dims=(0,)),
    "EXPAND_DIMS": _shaped("EXPAND_DIMS", (1, *SHAPE), "ExpandDimsOptions", 0),
    "PRELU": lambda m, x: m.prelu(x),
    "RESIZE_NEAREST_NEIGHBOR": lambda m, x: m.resize(x, (7, 9)),
    "RESIZE_BILINEAR": lambda m, x: m.resize(x, (7, 9), kind="RESIZE_BILINEAR"),
    "GATHER": _shaped("GATHER", (1, 2, 5, 4), "GatherOptions", (0, 2), axis=1),
    "GATHER_ND": _shaped("GATHER_ND", (1, 5, 4), "GatherNdOptions", ((0, 2),)),
    "CAST and the rest of unpacking": lambda m, x: m.unpack_codes(x),
    "CAST": _to("CAST", "CastOptions", "int32"),
    "DEQUANTIZE": _to("DEQUANTIZE", "DequantizeOptions", "float32"),
    "SHAPE": lambda m, x: m.operator(
        "SHAPE", [x], (4,), None, Options("ShapeOptions", (("out_type", 2),)), dtype="int32"
    ),
    "ARG_MAX": _arg("ARG_MAX", "ArgMaxOptions"),
    "ARG_MIN": _arg("ARG_MIN", "ArgMinOptions"),
    "TRANSPOSE": _shaped("TRANSPOSE", (1, 5, 6, 4), "TransposeOptions", (0, 2, 1, 3)),
    "REVERSE_V2": _shaped("REVERSE_V2", SHAPE, "ReverseV2Options", (1,)),
    "CUMSUM": _shaped("CUMSUM", SHAPE, "CumsumOptions", 1),
    "DEPTH_TO_SPACE": _shaped(
        "DEPTH_TO_SPACE", (1, 12, 10, 1), "DepthToSpaceOptions", block_size=2
    ),
    "SPLIT": _split("SPLIT", "SplitOptions"),
    "SPLIT_V": _split("SPLIT_V", "SplitVOptions", sizes=(2, 4)),
    "PACK": lambda m, x: m.operator(
        "PACK",
        [x, x],
        (2, *SHAPE),
        m.quantization(x),
        Options("PackOptions", (("values_count", 2),)),
        version=2,
    ),
    "SPACE_TO_BATCH_ND": _shaped(
        "SPACE_TO_BATCH_ND", (2, 3, 5, 4), "SpaceToBatchNDOptions", (2, 1), ((0, 0), (0, 0))
    ),
    "SELECT_V2": _select,
}
_CASES: dict[str, tuple[_Build, tuple[int, ...], str]] = {
    **{name: (build, SHAPE, "int8") for name, build in _BUILDS.items()},
    "BROADCAST_TO": (
        _shaped("BROADCAST_TO", SHAPE, "BroadcastToOptions", SHAPE),
        (1, 1, 1, 4),
        "int8",
    ),
    "BATCH_TO_SPACE_ND": (
        _shaped("BATCH_TO_SPACE_ND", SHAPE, "BatchToSpaceNDOptions", (2, 1), ((0, 0), (0, 0))),
        (2, 3, 5, 4),
        "int8",
    ),
    "SPACE_TO_DEPTH": (
        _shaped("SPACE_TO_DEPTH", (1, 3, 3, 16), "SpaceToDepthOptions", block_size=2),
        (1, 6, 6, 4),
        "int8",
    ),
    "UNPACK": (
        lambda m, x: _unpacked(m, x),
        (2, 3, 5, 4),
        "int8",
    ),
    "QUANTIZE from float": (
        lambda m, x: m.operator(
            "QUANTIZE", [x], SHAPE, Quantization((0.1,), (0,)), Options("QuantizeOptions")
        ),
        SHAPE,
        "float32",
    ),
}


def _unpacked(make: Int8GraphMaker, x: int) -> list[int]:
    shape = make.shape(x)[1:]
    outputs = [make.operator("QUANTIZE", [x], shape, make.quantization(x)) for _ in range(2)]
    del make.graph.operators[:]
    options = Options("UnpackOptions", (("num", 2), ("axis", 0)))
    make.graph.operator(Operator("UNPACK", (x,), tuple(outputs), options, 2))
    return outputs


NAMES: tuple[str, ...] = tuple(sorted(_CASES))
