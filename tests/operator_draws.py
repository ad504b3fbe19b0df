"""Random graphs of one operator for every row of the operator table, from a seed.

    graph = operator_draw("CONV_2D", seed)

Shapes, options and constants are drawn; the shape of the output is what the row says, so that an
independent runtime can be asked whether that is right.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from deploy import flatbuffer
from deploy.graph import Graph, Operator, Options, Quantization, Tensor
from deploy.operators import OPERATORS, Site
from tests.int8_graphs import Int8GraphMaker
from tests.stateful_graphs import STATEFUL, stateful_operator

_SCALE = Quantization((0.0625,), (0,))
_VERSIONS = {"BROADCAST_TO": 2}
"""The lowest that LiteRT's reference kernels register, where it is not 1."""
_NOT_IN_REFERENCE = {"CEIL", "ELU", "ROUND"}
"""LiteRT's reference resolver does not register these; its default one does."""
_UNIT = Quantization((1 / 256,), (-128,))

REFUSED_TYPES = frozenset({"ADD_N", "CUMSUM"})
"""Drawn with int32, which the kernels of TFLM do not take."""


def is_drawn(kind: str) -> bool:
    """Whether ``operator_draw`` knows an operator: not those that call, or keep state outside
    tensors, nor custom ones, which LiteRT has not; ``tflm_graphs`` draws these."""
    return kind in _DRAWS or kind in STATEFUL


def floats(graph: Graph) -> Graph:
    """The graph with float32 in place of int8."""
    return graph.replace(
        tensors=tuple(
            dataclasses.replace(
                t,
                dtype="float32",
                quantization=None,
                data=None if t.data is None else t.array().astype("float32").tobytes(),
            )
            if t.dtype == "int8"
            else t
            for t in graph.tensors
        )
    )


def operator_draw(opcode: str, seed: int) -> Graph:
    """Returns the graph of an operator with outputs of the shapes that its row says."""
    if opcode in STATEFUL:
        return stateful_operator(opcode, seed)
    drawing = Drawing(seed)
    draw_operator(drawing, opcode)
    return drawing.graph()


def litert_of(graph: Graph) -> Interpreter:
    """Returns LiteRT with its reference kernels, where it has one for each operator."""
    kernels = OpResolverType.BUILTIN_REF
    if any(operator.opcode in _NOT_IN_REFERENCE for operator in graph.operators):
        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    content = flatbuffer.write(graph)
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    return interpreter


def outputs_in_litert(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns what LiteRT makes of a graph's inputs."""
    interpreter = litert_of(graph)
    for details, values in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(details["index"], values)
    interpreter.invoke()
    return [
        interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()
    ]


def sample(graph: Graph, seed: int) -> list[np.ndarray]:
    """Returns random values for the inputs of a graph."""
    rng = np.random.default_rng(seed)
    tensors = (graph.tensors[t] for t in graph.inputs)
    return [rng.integers(-128, 128, t.shape).astype(t.dtype) for t in tensors]


def draw_operator(drawing: Drawing, opcode: str) -> None:
    """Adds an operator with the inputs that the drawing gives it."""
    _DRAWS[opcode](drawing, opcode)


class Drawing:
    """Where operators get their inputs: here each has inputs of its own."""

    SUMMED = "int32"
    """The type of ADD_N and CUMSUM; LiteRT's kernels know no int8, those of TFLM no int32."""

    def __init__(self, seed: int) -> None:
        self.make = Int8GraphMaker(seed)
        self.rng = self.make.rng
        self.outputs: list[int] = []

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def pick(self, options: Sequence[object]) -> object:
        return options[self.integer(0, len(options) - 1)]

    def shape(self, fewest: int = 1, most: int = 4) -> tuple[int, ...]:
        return tuple(self.integer(1, 5) for _ in range(self.integer(fewest, most)))

    def input(self, shape: Sequence[int], dtype: str = "int8") -> int:
        quantization = _SCALE if dtype == "int8" else None
        number = len(self.make.graph.tensors)
        index = self.make.graph.tensor(Tensor(f"x{number}", tuple(shape), dtype, quantization))
        self.make.inputs.append(index)
        return index

    def constant(self, values: object, dtype: str = "int32") -> int:
        number = len(self.make.graph.tensors)
        quantization = _SCALE if dtype == "int8" else None
        array = np.array(values, dtype)
        return self.make.graph.constant(f"c{number}", array, quantization=quantization)

    def weights(self, shape: Sequence[int]) -> np.ndarray:
        return self.rng.integers(-9, 10, tuple(shape)).astype(np.int8)

    def axis(self, rank: int) -> int:
        return self.integer(-rank, rank - 1)

    def add(
        self,
        opcode: str,
        inputs: Sequence[int],
        *,
        dtype: str = "int8",
        quantization: Quantization | None = _SCALE,
        outputs: int = 1,
        **fields: object,
    ) -> None:
        kind = OPERATORS[opcode].options
        self.outputs = [
            self.make.graph.tensor(
                Tensor(f"y{number}", (1,), dtype, quantization if dtype == "int8" else None)
            )
            for number in range(outputs)
        ]
        options = Options(kind, tuple(fields.items())) if kind else None
        version = _VERSIONS.get(opcode, 1)
        operator = Operator(opcode, tuple(inputs), tuple(self.outputs), options, version)
        self.make.graph.operator(operator)

    def graph(self) -> Graph:
        graph = self.make.build(outputs=self.outputs)
        tensors = list(graph.tensors)
        shapes = OPERATORS[graph.operators[0].opcode].shapes(Site(graph, 0))
        for index, shape in zip(self.outputs, shapes, strict=True):
            assert shape is not None
            tensors[index] = dataclasses.replace(tensors[index], shape=shape)
        return graph.replace(tensors=tuple(tensors))


class ImageDrawing(Drawing):
    """Maps of batch 1 with rows."""

    def shape(self, fewest: int = 1, most: int = 4) -> tuple[int, ...]:
        return (1, self.integer(2, 7), self.integer(1, 4), self.integer(1, 4))[-max(most, 1) :]


def _window(d: Drawing) -> dict[str, object]:
    return {
        "padding": d.integer(0, 1),
        "stride_h": d.integer(1, 3),
        "stride_w": d.integer(1, 3),
        "fused_activation_function": d.pick((0, 1, 3)),
    }


def _conv(d: Drawing, opcode: str) -> None:
    groups, depth, channels = d.integer(1, 2), d.integer(1, 4), d.integer(1, 4)
    if opcode == "DEPTHWISE_CONV_2D":
        groups = 1
    kernel = d.integer(1, 3), d.integer(1, 3)
    dilations = {"dilation_h_factor": d.integer(1, 3), "dilation_w_factor": d.integer(1, 3)}
    x = d.input((d.integer(1, 2), d.integer(7, 12), d.integer(7, 12), depth * groups))
    fields = {**_window(d), **dilations}
    if opcode == "CONV_2D":
        shape, axis = (channels * groups, *kernel, depth), 0
    else:
        shape, axis = (1, *kernel, depth * channels), 3
        fields["depth_multiplier"] = channels
    count = shape[axis] if d.integer(0, 1) else 1
    weights = d.make.graph.constant(
        "w", d.weights(shape), quantization=Quantization((0.01,) * count, (0,) * count, axis)
    )
    d.add(opcode, [x, weights, d.constant(d.rng.integers(-99, 99, shape[axis]))], **fields)


def _transpose_conv(d: Drawing, opcode: str) -> None:
    """Every stride and padding, and each height from which a convolution makes the rows."""
    stride, kernel = (d.integer(1, 3), d.integer(1, 3)), (d.integer(1, 4), d.integer(1, 4))
    rows, columns, depth, channels = (d.integer(1, 5) for _ in range(4))
    padding = d.integer(0, 1)
    extents = [
        (n - 1) * s + (k if padding else 1) + d.integer(0, s - 1)
        for n, s, k in zip((rows, columns), stride, kernel, strict=True)
    ]
    out = (1, *extents, channels)
    x = d.input((1, rows, columns, depth))
    weights = d.constant(d.weights((channels, *kernel, depth)), "int8")
    inputs = [d.constant(out), weights, x]
    d.add(opcode, inputs, padding=padding, stride_h=stride[0], stride_w=stride[1])


def _fully_connected(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    weights = d.constant(d.weights((d.integer(1, 5), shape[-1])), "int8")
    bias = d.make.graph.constant(
        "b",
        np.zeros(d.make.graph.tensors[weights].shape[0], np.int32),
        quantization=Quantization((_SCALE.scales[0] ** 2,), (0,)),
    )
    d.add(opcode, [d.input(shape), weights, bias], fused_activation_function=d.pick((0, 1)))


def _batch_matmul(d: Drawing, opcode: str) -> None:
    m, k, n = (d.integer(1, 5) for _ in range(3))
    batch = d.shape(0, 2)
    adj = bool(d.integer(0, 1))
    left = d.input((*batch, m, k))
    right = d.input((*batch, *((n, k) if adj else (k, n))))
    d.add(opcode, [left, right], adj_x=False, adj_y=adj)


def _pool(d: Drawing, opcode: str, dtype: str = "int8") -> None:
    x = d.input((1, d.integer(3, 9), d.integer(3, 9), d.integer(1, 4)), dtype)
    sizes = {"filter_height": d.integer(1, 3), "filter_width": d.integer(1, 3)}
    d.add(opcode, [x], dtype=dtype, **_window(d), **sizes)


def _broadcast(dtype: str = "int8", out: str | None = None) -> Callable[[Drawing, str], None]:
    def draw(d: Drawing, opcode: str) -> None:
        shape = d.shape()
        other = tuple(n if d.integer(0, 2) else 1 for n in shape)[d.integer(0, len(shape) - 1) :]
        first, second = (shape, other) if d.integer(0, 1) else (other, shape)
        inputs = [d.input(first, dtype), d.input(second, dtype)]
        d.add(opcode, inputs, dtype=out or dtype)

    return draw


def _select(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    inputs = [d.input(shape, "bool"), d.input(shape), d.input(shape[1:] or (1,))]
    d.add(opcode, inputs)


def _prelu(d: Drawing, opcode: str) -> None:
    shape = d.shape(4, 4)
    slopes = d.constant(d.weights((1, 1, shape[3])), "int8")
    d.add(opcode, [d.input(shape), slopes])


def _add_n(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    inputs = [d.input(shape, d.SUMMED) for _ in range(d.integer(2, 4))]
    d.add(opcode, inputs, dtype=d.SUMMED)


def _unary(
    dtype: str = "int8",
    out: str | None = None,
    quantization: Quantization = _SCALE,
    **fields: object,
) -> Callable[[Drawing, str], None]:
    def draw(d: Drawing, opcode: str) -> None:
        x = d.input(d.shape(), dtype)
        d.add(opcode, [x], dtype=out or dtype, quantization=quantization, **fields)

    return draw


def _reduce(dtype: str = "int8") -> Callable[[Drawing, str], None]:
    def draw(d: Drawing, opcode: str) -> None:
        shape = d.shape()
        count = d.integer(1, len(shape))
        axes = [int(a) for a in d.rng.choice(len(shape), count, replace=False)]
        axes = [a - len(shape) if d.integer(0, 1) else a for a in axes]
        inputs = [d.input(shape, dtype), d.constant(axes)]
        d.add(opcode, inputs, dtype=dtype, keep_dims=bool(d.integer(0, 1)))

    return draw


def _arg(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    inputs = [d.input(shape), d.constant(d.axis(len(shape)))]
    d.add(opcode, inputs, dtype="int32", output_type=2)


def _cumsum(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    d.add(opcode, [d.input(shape, d.SUMMED), d.constant(d.axis(len(shape)))], dtype=d.SUMMED)


def _reverse(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    d.add(opcode, [d.input(shape), d.constant([d.integer(0, len(shape) - 1)])])


def _resize(d: Drawing, opcode: str) -> None:
    size = d.constant([d.integer(1, 9), d.integer(1, 9)])
    flags = {"align_corners": False, "half_pixel_centers": bool(d.integer(0, 1))}
    d.add(opcode, [d.input(d.shape(4, 4)), size], **flags)


def _space_to_depth(d: Drawing, opcode: str) -> None:
    n, h, w, c = d.shape(4, 4)
    block = d.integer(1, 3)
    deep = opcode == "DEPTH_TO_SPACE"
    shape = (n, h, w, c * block * block) if deep else (n, h * block, w * block, c)
    d.add(opcode, [d.input(shape)], block_size=block)


def _to_batch(d: Drawing, opcode: str) -> None:
    n, h, w, c = d.shape(4, 4)
    blocks = d.integer(1, 3), d.integer(1, 3)
    before = d.integer(0, 1), d.integer(0, 1)
    if d.integer(0, 1):
        # Without padding, which the kernel of TFLM gets wrong.
        blocks, before = (math.gcd(h, blocks[0]), math.gcd(w, blocks[1])), (0, 0)
    edges = [[a, (-(size + a)) % b] for a, size, b in zip(before, (h, w), blocks, strict=True)]
    d.add(opcode, [d.input((n, h, w, c)), d.constant(blocks), d.constant(edges)])


def _from_batch(d: Drawing, opcode: str) -> None:
    n, h, w, c = d.shape(4, 4)
    blocks = d.integer(1, 3), d.integer(1, 3)
    crops = [[0, d.integer(0, b - 1)] for b in blocks]
    x = d.input((n * math.prod(blocks), h, w, c))
    d.add(opcode, [x, d.constant(blocks), d.constant(crops)])


def _reshape(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    wanted = [int(n) for n in d.rng.permutation(shape)]
    if d.integer(0, 1):
        wanted[d.integer(0, len(wanted) - 1)] = -1
    d.add(opcode, [d.input(shape), d.constant(wanted)], new_shape=tuple(wanted))


def _squeeze(d: Drawing, opcode: str) -> None:
    shape = [1 if d.integer(0, 1) else d.integer(2, 5) for _ in range(4)]
    ones = [i for i, n in enumerate(shape) if n == 1]
    named = tuple(i - 4 if d.integer(0, 1) else i for i in ones[: d.integer(0, len(ones))])
    d.add(opcode, [d.input(shape)], squeeze_dims=named)


def _expand_dims(d: Drawing, opcode: str) -> None:
    shape = d.shape(1, 3)
    d.add(opcode, [d.input(shape), d.constant(d.axis(len(shape) + 1))])


def _concatenation(d: Drawing, opcode: str) -> None:
    shape = list(d.shape())
    axis = d.axis(len(shape))
    inputs = []
    for _ in range(d.integer(1, 4)):
        shape[axis] = d.integer(1, 5)
        inputs.append(d.input(shape))
    d.add(opcode, inputs, axis=axis)


def _pack(d: Drawing, opcode: str) -> None:
    shape, count = d.shape(1, 3), d.integer(1, 4)
    inputs = [d.input(shape) for _ in range(count)]
    d.add(opcode, inputs, values_count=count, axis=d.axis(len(shape) + 1))


def _unpack(d: Drawing, opcode: str) -> None:
    shape = d.shape(2)
    axis = d.axis(len(shape))
    d.add(opcode, [d.input(shape)], outputs=shape[axis], num=shape[axis], axis=axis)


def _split(d: Drawing, opcode: str) -> None:
    shape, count = list(d.shape()), d.integer(1, 3)
    axis = d.axis(len(shape))
    shape[axis] *= count
    inputs = [d.constant(axis), d.input(shape)]
    d.add(opcode, inputs, outputs=count, num_splits=count)


def _split_v(d: Drawing, opcode: str) -> None:
    shape = list(d.shape())
    axis = d.axis(len(shape))
    sizes = [d.integer(1, 4) for _ in range(d.integer(1, 3))]
    shape[axis] = sum(sizes)
    if d.integer(0, 1):
        sizes[0] = -1
    inputs = [d.input(shape), d.constant(sizes), d.constant(axis)]
    d.add(opcode, inputs, outputs=len(sizes), num_splits=len(sizes))


def _slice(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    begin = [d.integer(0, n - 1) for n in shape]
    pairs = zip(shape, begin, strict=True)
    size = [-1 if d.integer(0, 3) == 0 else d.integer(1, n - b) for n, b in pairs]
    d.add(opcode, [d.input(shape), d.constant(begin), d.constant(size)])


def _strided_slice(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    begins, ends, strides = [], [], []
    begin_mask = end_mask = shrink = 0
    for axis, extent in enumerate(shape):
        begin = d.integer(0, extent - 1)
        end = d.integer(begin + 1, extent)
        if d.integer(0, 3) == 0:
            begin_mask |= 1 << axis
        if d.integer(0, 3) == 0:
            end_mask |= 1 << axis
        if d.integer(0, 4) == 0:
            shrink |= 1 << axis
            begin_mask &= ~(1 << axis)
        begins.append(begin - extent if d.integer(0, 3) == 0 else begin)
        ends.append(end + 7 if end == extent and d.integer(0, 1) else end)
        strides.append(1 if shrink >> axis & 1 else d.integer(1, 3))
    inputs = [d.input(shape), *(d.constant(v) for v in (begins, ends, strides))]
    masks = {"begin_mask": begin_mask, "end_mask": end_mask, "shrink_axis_mask": shrink}
    d.add(opcode, inputs, **masks)


def _pad(d: Drawing, opcode: str) -> None:
    mirrored = opcode == "MIRROR_PAD"
    shape = d.shape(2, 4)
    most = [min(n - 1, 1) if mirrored else 3 for n in shape]
    amounts = [[d.integer(0, 1) * d.integer(0, m), d.integer(0, m)] for m in most]
    if d.integer(0, 1):
        amounts[0] = [0, 0]
    inputs = [d.input(shape), d.constant(amounts)]
    if opcode == "PADV2":
        inputs.append(d.constant([5], "int8"))
    d.add(opcode, inputs, **({"mode": d.integer(0, 1)} if mirrored else {}))


def _transpose(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    d.add(opcode, [d.input(shape), d.constant(d.rng.permutation(len(shape)))])


def _gather(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    axis = d.axis(len(shape))
    places = d.rng.integers(0, shape[axis], d.shape(1, 2))
    d.add(opcode, [d.input(shape), d.constant(places)], axis=axis)


def _gather_nd(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    depth = d.integer(1, len(shape))
    rows = d.integer(1, 4)
    places = [[d.integer(0, n - 1) for n in shape[:depth]] for _ in range(rows)]
    d.add(opcode, [d.input(shape), d.constant(places)])


def _embedding(d: Drawing, opcode: str) -> None:
    table = d.constant(d.weights(d.shape(2, 3)), "int8")
    rows = d.make.graph.tensors[table].shape[0]
    d.add(opcode, [d.constant(d.rng.integers(0, rows, 3)), table])


def _broadcast_to(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    source = tuple(n if d.integer(0, 1) else 1 for n in shape)
    d.add(opcode, [d.input(source), d.constant(shape)])


def _broadcast_args(d: Drawing, opcode: str) -> None:
    inputs = [d.input((d.integer(1, 4),), "int32"), d.constant(np.ones(d.integer(1, 4)))]
    d.add(opcode, inputs, dtype="int32")


def _fill(d: Drawing, opcode: str) -> None:
    value = d.input((), "int32")
    d.add(opcode, [d.constant(d.shape()), value], dtype="int32")


def _update(d: Drawing, opcode: str) -> None:
    shape = d.shape()
    part = tuple(d.integer(1, n) for n in shape)
    d.add(opcode, [d.input(shape), d.input(part), d.constant([0] * len(shape))])


_DRAWS: dict[str, Callable[[Drawing, str], None]] = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), _conv),
    "TRANSPOSE_CONV": _transpose_conv,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _pool),
    "L2_POOL_2D": lambda d, opcode: _pool(d, opcode, "float32"),
    **dict.fromkeys(("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"), _broadcast()),
    "SQUARED_DIFFERENCE": _broadcast(),
    **dict.fromkeys(("DIV", "FLOOR_DIV", "FLOOR_MOD"), _broadcast("int32")),
    **dict.fromkeys(
        ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"),
        _broadcast("int8", "bool"),
    ),
    **dict.fromkeys(("LOGICAL_AND", "LOGICAL_OR"), _broadcast("bool")),
    "LOGICAL_NOT": _unary("bool"),
    "SELECT_V2": _select,
    "PRELU": _prelu,
    "ADD_N": _add_n,
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1", "ELU", "ABS", "NEG"), _unary()),
    **dict.fromkeys(("RELU_0_TO_1", "HARD_SWISH", "ZEROS_LIKE"), _unary()),
    **dict.fromkeys(("RSQRT", "EXP"), _unary()),
    **dict.fromkeys(
        ("CEIL", "COS", "FLOOR", "LOG", "ROUND", "SIN", "SQRT", "SQUARE"),
        _unary("float32", "float32"),
    ),
    "LOGISTIC": _unary(quantization=_UNIT),
    "TANH": _unary(quantization=Quantization((1 / 128,), (0,))),
    "LEAKY_RELU": _unary(alpha=0.25),
    "SOFTMAX": _unary(quantization=_UNIT, beta=1.0),
    "LOG_SOFTMAX": _unary(quantization=Quantization((16 / 256,), (127,))),
    "L2_NORMALIZATION": lambda d, opcode: d.add(
        opcode, [d.input(d.shape(4, 4))], quantization=Quantization((1 / 128,), (0,))
    ),
    "QUANTIZE": _unary("float32", "int8"),
    "DEQUANTIZE": _unary("int8", "float32"),
    "CAST": _unary("int8", "int32"),
    "SHAPE": _unary("int8", "int32", out_type=2),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _reduce()),
    "REDUCE_PROD": _reduce("int32"),
    **dict.fromkeys(("REDUCE_ALL", "REDUCE_ANY"), _reduce("bool")),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), _arg),
    "CUMSUM": _cumsum,
    "REVERSE_V2": _reverse,
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _resize),
    **dict.fromkeys(("SPACE_TO_DEPTH", "DEPTH_TO_SPACE"), _space_to_depth),
    "SPACE_TO_BATCH_ND": _to_batch,
    "BATCH_TO_SPACE_ND": _from_batch,
    "RESHAPE": _reshape,
    "SQUEEZE": _squeeze,
    "EXPAND_DIMS": _expand_dims,
    "CONCATENATION": _concatenation,
    "PACK": _pack,
    "UNPACK": _unpack,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), _pad),
    "TRANSPOSE": _transpose,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "EMBEDDING_LOOKUP": _embedding,
    "BROADCAST_TO": _broadcast_to,
    "BROADCAST_ARGS": _broadcast_args,
    "FILL": _fill,
    "DYNAMIC_UPDATE_SLICE": _update,
}
