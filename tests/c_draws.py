"""Operators of random shapes, for generated C and TFLM to run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from int8_graphs import Int8GraphMaker

from deploy.graph import Activation, Operator, Options, Padding, Quantization

Draw = Callable[[Int8GraphMaker, np.random.Generator], "int | list[int]"]


def pick(rng: np.random.Generator, *options: object) -> object:
    return options[int(rng.integers(len(options)))]


def image(make: Int8GraphMaker, rng: np.random.Generator, least: int = 1) -> int:
    shape = (1, *(int(v) for v in rng.integers(least, 9, 2)), int(rng.integers(1, 10)))
    if rng.integers(4) == 0:
        shape = (1, 1, *shape[2:])
    return make.input(shape)


def window(make: Int8GraphMaker, rng: np.random.Generator, x: int, *, dilated: bool) -> dict:
    _, height, width, _ = make.shape(x)
    padding = pick(rng, Padding.SAME, Padding.VALID)
    limits = (5, 5) if padding == Padding.SAME else (min(5, height), min(5, width))
    kernel = tuple(int(rng.integers(1, n + 1)) for n in limits)
    stride = tuple(int(v) for v in rng.integers(1, 4, 2))
    chosen = {"kernel": kernel, "stride": stride, "padding": padding}
    if dilated:
        wide = padding == Padding.SAME and rng.integers(3) == 0
        chosen |= {"dilation": (2, 3) if wide else (1, 1)}
        chosen |= {"stride": (1, 1)} if wide else {}
    return chosen


def conv(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    act = pick(rng, *(a for a in Activation if a <= Activation.RELU6))
    channels = int(rng.integers(1, 12))
    return make.conv(x, channels=channels, activation=act, **window(make, rng, x, dilated=True))


def padded(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    """A PAD, up to wider than the kernel, so that windows lie beside the map."""
    x = image(make, rng)
    amounts = [(0, 0), *(tuple(int(v) for v in rng.integers(0, 5, 2)) for _ in range(2)), (0, 0)]
    x = make.pad(x, amounts)
    _, height, width, _ = make.shape(x)
    kernel = int(rng.integers(1, min(4, height + 1))), int(rng.integers(1, min(4, width + 1)))
    stride = tuple(int(v) for v in rng.integers(1, 4, 2))
    options = {"kernel": kernel, "stride": stride, "padding": Padding.VALID}
    if rng.integers(3) == 0:
        return make.depthwise(x, multiplier=int(rng.integers(1, 3)), **options)
    return make.conv(x, channels=int(rng.integers(1, 12)), **options)


def depthwise(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    options = window(make, rng, x, dilated=True)
    bias = bool(rng.integers(2))
    return make.depthwise(x, multiplier=int(rng.integers(1, 4)), bias=bias, **options)


def transpose_conv(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    stride = tuple(int(v) for v in rng.integers(1, 4, 2))
    kernel = tuple(int(s + rng.integers(0, 3)) for s in stride)
    padding = pick(rng, Padding.SAME, Padding.VALID)
    channels = int(rng.integers(1, 6))
    return make.transpose_conv(x, channels=channels, kernel=kernel, stride=stride, padding=padding)


def dense(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    x = make.reshape(x, (int(np.prod(make.shape(x)[:3])), make.shape(x)[3]))
    act = pick(rng, Activation.NONE, Activation.RELU)
    return make.fully_connected(x, units=int(rng.integers(1, 9)), activation=act)


def pool(kind: str) -> Draw:
    def draw(make: Int8GraphMaker, rng: np.random.Generator) -> int:
        x = image(make, rng)
        if rng.integers(4) == 0:
            shape = make.shape(x)[1:3]
            return make.pool(x, kind=kind, kernel=shape, stride=shape)
        return make.pool(x, kind=kind, **window(make, rng, x, dilated=False))

    return draw


def binary(kind: str) -> Draw:
    def draw(make: Int8GraphMaker, rng: np.random.Generator) -> int:
        x = image(make, rng)
        shape = make.shape(x)
        other = tuple(n if rng.integers(3) else 1 for n in shape)
        if kind in ("MAXIMUM", "MINIMUM"):
            y = make.constant_like(x, other)
        else:
            y = make.input(other) if rng.integers(2) else make.constant_like(x, other)
        pair = (x, y) if rng.integers(2) else (y, x)
        return make.binary(kind, *pair)

    return draw


def unary(kind: str) -> Draw:
    return lambda make, rng: make.unary(kind, image(make, rng))


def divide(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    """Quotients of which none is so small that the kernel shifts by more than 31 bits."""
    x = image(make, rng)
    y = make.input(tuple(n if rng.integers(3) else 1 for n in make.shape(x)))
    step = make.scale(x) / make.scale(y) / rng.uniform(64.1, 200)
    q = Quantization((float(np.float32(step)),), (int(rng.integers(-20, 20)),))
    activation = (("fused_activation_function", int(pick(rng, Activation.NONE, Activation.RELU))),)
    return make.operator("DIV", [x, y], make.shape(x), q, Options("DivOptions", activation))


def compared(opcode: str) -> Draw:
    """A comparison, and what it selects: the operands themselves, maps or constants."""

    def draw(make: Int8GraphMaker, rng: np.random.Generator) -> int:
        x = image(make, rng)
        shape = make.shape(x)
        y = _other(make, rng, x)
        options = Options(opcode.title().replace("_", "") + "Options")
        pair = [x, y] if rng.integers(2) else [y, x]
        flags = make.operator(opcode, pair, shape, None, options, dtype="bool", version=2)
        if rng.integers(2):
            more = make.operator(
                "LESS",
                [_other(make, rng, x), x],
                shape,
                None,
                Options("LessOptions"),
                dtype="bool",
                version=2,
            )
            logic = str(pick(rng, "LOGICAL_AND", "LOGICAL_OR"))
            options = Options(logic.title().replace("_", "") + "Options")
            flags = make.operator(logic, [flags, more], shape, None, options, dtype="bool")
        if rng.integers(2):
            flags = make.operator(
                "LOGICAL_NOT", [flags], shape, None, Options("LogicalNotOptions"), dtype="bool"
            )
        chosen = [flags, x, make.constant_like(x, (1,) * int(rng.integers(1, 5)))]
        if rng.integers(2):
            chosen[1:] = [_of_scale(make, _other(make, rng, x), x), x]
        options = Options("SelectV2Options")
        return make.operator("SELECT_V2", chosen, shape, make.quantization(x), options)

    return draw


def _other(make: Int8GraphMaker, rng: np.random.Generator, x: int) -> int:
    shape = tuple(n if rng.integers(3) else 1 for n in make.shape(x))
    return make.input(shape) if rng.integers(2) else make.constant_like(x, shape)


def select_by_mask(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    """A constant mask that broadcasts over what it selects from, as attention has it."""
    x = image(make, rng)
    shape = tuple(n if rng.integers(2) else 1 for n in make.shape(x))
    mask = make.graph.constant(f"mask_{x}", rng.integers(0, 2, shape).astype(np.bool_))
    least = make.constant_like(x, ())
    operands = [mask, x, least]
    return make.operator(
        "SELECT_V2", operands, make.shape(x), make.quantization(x), Options("SelectV2Options")
    )


def matrices(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    """Batches of matrices that broadcast, turned or not, of maps or constants."""
    rank = int(rng.integers(2, 6))
    rows, depth, columns = (int(v) for v in rng.integers(1, 7, 3))
    batch = [1, *(int(v) for v in rng.integers(1, 4, 3))][: max(rank - 2, 0)]
    turned = bool(rng.integers(2)), bool(rng.integers(2))
    shapes = [
        [n if rng.integers(4) else 1 for n in batch] + ([b, a] if turn else [a, b])
        for turn, (a, b) in zip(turned, ((rows, depth), (depth, columns)), strict=True)
    ]
    out = [*np.broadcast_shapes(*(s[:-2] for s in shapes)), rows, columns]
    x = make.input(shapes[0])
    y = make.input(shapes[1]) if rng.integers(3) else make.constant_like(x, shapes[1])
    step = make.scale(x) * make.scale(y) * np.sqrt(depth) * 60
    q = Quantization((float(np.float32(step)),), (int(rng.integers(-20, 20)),))
    options = Options("BatchMatMulOptions", (("adj_x", turned[0]), ("adj_y", turned[1])))
    return make.operator("BATCH_MATMUL", [x, y], out, q, options, version=2)


def log_softmax(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    x = make.requantize(x, Quantization((float(np.float32(2.0 ** rng.uniform(-12, 3))),), (3,)))
    q, options = Quantization((1 / 16,), (127,)), Options("LogSoftmaxOptions")
    return make.operator("LOG_SOFTMAX", [x], make.shape(x), q, options)


def unit_length(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    q, options = Quantization((1 / 128,), (0,)), Options("L2NormOptions")
    return make.operator("L2_NORMALIZATION", [x], make.shape(x), q, options, version=2)


def real_numbers(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    """float32 at both ends."""
    shape = (1, *(int(v) for v in rng.integers(1, 9, 3)))
    q = Quantization((float(np.float32(rng.uniform(0.001, 0.1))),), (int(rng.integers(-128, 128)),))
    x = make.input(shape, dtype="float32")
    x = make.operator("QUANTIZE", [x], shape, q, Options("QuantizeOptions"))
    x = make.conv(x, channels=3, kernel=(3, 1))
    return make.operator(
        "DEQUANTIZE",
        [x],
        make.shape(x),
        None,
        Options("DequantizeOptions"),
        dtype="float32",
        version=2,
    )


def concatenation(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    axis = int(rng.integers(1, 4))
    parts = [x]
    for _ in range(int(rng.integers(1, 4))):
        shape = list(make.shape(x))
        shape[axis] = int(rng.integers(1, 5))
        y = make.constant_like(x, shape) if rng.integers(3) == 0 else make.input(shape)
        parts.append(_of_scale(make, y, x))
    return make.concatenation(parts, axis=axis)


def _of_scale(make: Int8GraphMaker, y: int, x: int) -> int:
    if make.graph.tensors[y].is_constant:
        return y
    return make.requantize(y, make.quantization(x))


def slices(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    begin = [int(rng.integers(n)) for n in make.shape(x)]
    size = [int(rng.integers(1, n - b + 1)) for n, b in zip(make.shape(x), begin, strict=True)]
    if rng.integers(2):
        return make.slice(x, begin, size)
    end = [b + s for b, s in zip(begin, size, strict=True)]
    return make.strided_slice(x, begin, end, [int(v) for v in rng.integers(1, 3, 4)])


def pad(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    amounts = [(0, 0), *(tuple(int(v) for v in rng.integers(0, 3, 2)) for _ in range(3))]
    return make.pad(x, amounts)


def resize(kind: str) -> Draw:
    def draw(make: Int8GraphMaker, rng: np.random.Generator) -> int:
        x = image(make, rng)
        size = tuple(int(v) for v in rng.integers(1, 12, 2))
        corners, centres = [(False, False), (True, False), (False, True)][int(rng.integers(3))]
        options = Options(
            "ResizeBilinearOptions"
            if kind == "RESIZE_BILINEAR"
            else "ResizeNearestNeighborOptions",
            (("align_corners", corners), ("half_pixel_centers", centres)),
        )
        out = (1, *size, make.shape(x)[3])
        operands = [x, make.integers("size", size)]
        return make.operator(kind, operands, out, make.quantization(x), options, version=3)

    return draw


def reduction(kind: str) -> Draw:
    def draw(make: Int8GraphMaker, rng: np.random.Generator) -> int:
        x = image(make, rng)
        axes = sorted({int(v) for v in rng.integers(1, 4, int(rng.integers(1, 4)))})
        if kind in ("REDUCE_MAX", "REDUCE_MIN"):
            q = make.quantization(x)
        else:
            q = Quantization((float(np.float32(make.scale(x) * rng.uniform(0.5, 4))),), (5,))
        out = [1 if i in axes else n for i, n in enumerate(make.shape(x))]
        options = Options("ReducerOptions", (("keep_dims", True),))
        return make.operator(kind, [x, make.integers("axes", axes)], out, q, options, version=2)

    return draw


def transpose(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    order = [0, *(int(v) for v in rng.permutation([1, 2, 3]))]
    out = [make.shape(x)[i] for i in order]
    operands = [x, make.integers("order", order)]
    options = Options("TransposeOptions")
    return make.operator("TRANSPOSE", operands, out, make.quantization(x), options, version=2)


def blocks(kind: str) -> Draw:
    def draw(make: Int8GraphMaker, rng: np.random.Generator) -> int:
        b, h, w, c = (int(v) for v in (rng.integers(2, 4), *rng.integers(1, 4, 3)))
        wide, deep = (1, h * b, w * b, c), (1, h, w, c * b * b)
        source, out = (wide, deep) if kind == "SPACE_TO_DEPTH" else (deep, wide)
        x = make.input(source)
        name = "SpaceToDepthOptions" if kind == "SPACE_TO_DEPTH" else "DepthToSpaceOptions"
        options = Options(name, (("block_size", b),))
        return make.operator(kind, [x], out, make.quantization(x), options)

    return draw


def split(make: Int8GraphMaker, rng: np.random.Generator) -> list[int]:
    shape = [1, *(int(v) for v in rng.integers(1, 6, 3))]
    axis = int(rng.integers(1, 4))
    parts = int(rng.integers(2, 4))
    size, shape[axis] = shape[axis], shape[axis] * parts
    x = make.input(shape)
    out = list(shape)
    out[axis] = size
    outputs = [make.operator("QUANTIZE", [x], out, make.quantization(x)) for _ in range(parts)]
    del make.graph.operators[-parts:]
    inputs = (make.integers("axis", axis), x)
    options = Options("SplitOptions", (("num_splits", parts),))
    make.graph.operator(Operator("SPLIT", inputs, tuple(outputs), options, 2))
    return outputs


def gather(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    axis = int(rng.integers(1, 4))
    places = [int(v) for v in rng.integers(0, make.shape(x)[axis], 3)]
    out = list(make.shape(x))
    out[axis] = 3
    options = Options("GatherOptions", (("axis", axis),))
    operands = [x, make.integers("places", places)]
    return make.operator("GATHER", operands, out, make.quantization(x), options, version=2)


def plain(opcode: str, kind: str | None = None) -> Draw:
    def draw(make: Int8GraphMaker, rng: np.random.Generator) -> int:
        x = image(make, rng)
        q = Quantization((float(np.float32(make.scale(x) * rng.uniform(0.5, 2))),), (7,))
        options = None if kind is None else Options(kind)
        return make.operator(opcode, [x], make.shape(x), q, options, version=2)

    return draw


def rsqrt(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    scales = rng.uniform(0.002, 0.2, 2).astype(np.float32)
    source, target = (Quantization((float(s),), (-128,)) for s in scales)
    x = make.requantize(x, source)
    return make.operator("RSQRT", [x], make.shape(x), target, None, version=2)


PLAIN = {"ABS": "AbsOptions", "ELU": None}


def squared_difference(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    y = make.input(tuple(n if rng.integers(3) else 1 for n in make.shape(x)))
    q = Quantization((float(np.float32(make.scale(x) ** 2 * rng.uniform(20, 200))),), (-128,))
    options = Options("SquaredDifferenceOptions")
    pair = [x, y] if rng.integers(2) else [y, x]
    return make.operator("SQUARED_DIFFERENCE", pair, make.shape(x), q, options, version=2)


def arg(opcode: str) -> Draw:
    def draw(make: Int8GraphMaker, rng: np.random.Generator) -> int:
        x = image(make, rng)
        axis = int(rng.integers(1, 4))
        out = [n for i, n in enumerate(make.shape(x)) if i != axis]
        kind = "ArgMaxOptions" if opcode == "ARG_MAX" else "ArgMinOptions"
        options = Options(kind, (("output_type", 2),))
        operands = [x, make.integers("axis", axis)]
        return make.operator(opcode, operands, out, None, options, dtype="int32", version=2)

    return draw


def reverse(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng)
    axes = [a for a in range(1, 4) if rng.integers(2)] or [1]
    # TFLM reverses neighbouring axes only.
    axes = list(range(axes[0], axes[0] + int(rng.integers(1, 5 - axes[0]))))
    options = Options("ReverseV2Options")
    operands = [x, make.integers("axes", axes)]
    return make.operator("REVERSE_V2", operands, make.shape(x), make.quantization(x), options)


def broadcast_to(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    shape = [1, *(int(v) for v in rng.integers(1, 5, 3))]
    x = make.input(tuple(n if rng.integers(2) else 1 for n in shape))
    operands = [x, make.integers("shape", shape)]
    options = Options("BroadcastToOptions")
    return make.operator("BROADCAST_TO", operands, shape, make.quantization(x), options, version=2)


def mirror_pad(make: Int8GraphMaker, rng: np.random.Generator) -> int:
    x = image(make, rng, least=2)
    mode = int(rng.integers(2))
    shape = make.shape(x)
    most = [0, *(n - 1 + mode for n in shape[1:3]), 0]
    amounts = [[int(v) for v in rng.integers(0, n + 1, 2)] for n in most]
    out = [n + sum(pair) for n, pair in zip(shape, amounts, strict=True)]
    operands = [x, make.graph.constant(f"amounts_{x}", np.array(amounts, np.int32))]
    options = Options("MirrorPadOptions", (("mode", mode),))
    return make.operator("MIRROR_PAD", operands, out, make.quantization(x), options, version=2)


DRAWS: dict[str, Draw] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "PAD and a window": padded,
    "TRANSPOSE_CONV": transpose_conv,
    "FULLY_CONNECTED": dense,
    **{kind: pool(kind) for kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D")},
    **{kind: binary(kind) for kind in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM")},
    **{
        kind: unary(kind)
        for kind in (
            *("RELU", "RELU6", "LEAKY_RELU", "LOGISTIC", "TANH", "HARD_SWISH"),
            *("QUANTIZE", "SOFTMAX"),
        )
    },
    "PRELU": lambda make, rng: make.prelu(image(make, rng)),
    "CONCATENATION": concatenation,
    "SLICE and STRIDED_SLICE": slices,
    "SPLIT": split,
    "PAD": pad,
    **{kind: resize(kind) for kind in ("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR")},
    **{kind: reduction(kind) for kind in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")},
    "TRANSPOSE": transpose,
    **{kind: blocks(kind) for kind in ("SPACE_TO_DEPTH", "DEPTH_TO_SPACE")},
    "GATHER": gather,
    **{kind: plain(kind, options) for kind, options in PLAIN.items()},
    "SQUARED_DIFFERENCE": squared_difference,
    "RSQRT": rsqrt,
    "DIV": divide,
    **{
        kind: compared(kind)
        for kind in ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")
    },
    "SELECT_V2": select_by_mask,
    "BATCH_MATMUL": matrices,
    "LOG_SOFTMAX": log_softmax,
    "L2_NORMALIZATION": unit_length,
    "QUANTIZE and DEQUANTIZE": real_numbers,
    **{kind: arg(kind) for kind in ("ARG_MAX", "ARG_MIN")},
    "REVERSE_V2": reverse,
    "BROADCAST_TO": broadcast_to,
    "MIRROR_PAD": mirror_pad,
}
