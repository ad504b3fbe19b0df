"""Graphs with maps of few codes, for tests of packing."""

from __future__ import annotations

import dataclasses

import numpy as np

from deploy.graph import Activation, Graph, Options, Quantization
from tests.int8_graphs import Int8GraphMaker

FORMS = ("unit", "unsigned", "top", "minimum")
"""How the codes of `code_map` are clipped; see `keras_fmc.layers.code_quantizer.CodeForm`.

"top" is "unit" with more levels below zero than above. The bits of a GF(2) bottleneck are
"threshold", see `keras_fmc.layers.bit_planes.threshold_sums`.
"""


def code_map(
    make: Int8GraphMaker,
    x: int,
    *,
    channels: int,
    bits: int,
    form: str = "unit",
    kernel: tuple[int, int] = (1, 1),
    stride: tuple[int, int] = (1, 1),
) -> int:
    """Appends a convolution that makes codes, as `CodeQuantizer` leaves them."""
    n = 2**bits - 1
    activation = {
        "unit": Activation.RELU_N1_TO_1,
        "top": Activation.RELU_N1_TO_1,
        "unsigned": Activation.RELU,
        "threshold": Activation.RELU,
        "minimum": Activation.NONE,
    }[form]
    y = make.conv(x, channels=channels, kernel=kernel, stride=stride, activation=activation)
    below = n // 3 if form in ("unit", "minimum") else n - n // 3
    scale, zero_point = {
        "unit": (1 / max(n - below, 1), -128 + below),
        "top": (1 / max(below, 1), 127 - (n - below)),
        "unsigned": (2 / n, 127 - n),
        "threshold": (2.0**-8, 127 - n),
        "minimum": (2 / n, -128 + below),
    }[form]
    quantization = Quantization((float(np.float32(scale)),), (zero_point,))
    make.graph.tensors[y] = dataclasses.replace(make.graph.tensors[y], quantization=quantization)
    if form != "minimum":
        return y
    ceiling = make.graph.constant(
        f"ceiling_{len(make.graph.tensors)}",
        np.array(-128 + n, np.int8),
        quantization=quantization,
    )
    return make.operator("MINIMUM", [y, ceiling], make.shape(y), quantization)


def skip_graph(*, bits: int, size: int = 16, channels: int = 32, wide: int = 64) -> Graph:
    """A code that is read at once, and again behind wide maps."""
    make = Int8GraphMaker(1)
    x = make.input((1, size, size, 4))
    x = make.conv(x, channels=16, kernel=(3, 3), activation=Activation.RELU)
    code = code_map(make, x, channels=channels, bits=bits)
    y = make.conv(code, channels=wide, kernel=(3, 3), activation=Activation.RELU)
    y = make.conv(y, channels=wide, kernel=(3, 3), activation=Activation.RELU)
    y = make.binary("ADD", make.conv(y, channels=channels, kernel=(3, 3)), code)
    return make.build(outputs=[make.mean(y)])


def gate_graph(*, bits: int, size: int = 12, channels: int = 16) -> tuple[Graph, str]:
    """A code that is read at both ends of squeeze and excitation, and its name."""
    make = Int8GraphMaker(5)
    x = make.conv(make.input((1, size, size, 4)), channels=8, kernel=(3, 3))
    code = code_map(make, x, channels=channels, bits=bits)
    wide = make.conv(code, channels=3 * channels, kernel=(3, 3), activation=Activation.RELU)
    mean = make.mean(make.conv(wide, channels=16), keep_dims=True)
    y = make.binary("MUL", code, make.conv(mean, channels=channels))
    graph = make.build(outputs=[make.conv(y, channels=4, kernel=(3, 3), stride=(2, 2))])
    return graph, graph.tensors[code].name


def random_code_graph(seed: int) -> tuple[Graph, dict[int, int]]:
    """Returns a graph with one to three code maps between other operators, and tensor → bits."""
    make = Int8GraphMaker(seed)
    rng = make.rng
    size = int(rng.integers(3, 10)), int(rng.integers(3, 10))
    x = make.input((1, *size, int(rng.integers(1, 9))))
    x = make.conv(x, channels=int(rng.integers(2, 12)), kernel=(3, 3), activation=Activation.RELU)
    maps = {}
    for _ in range(int(rng.integers(1, 4))):
        bits = int(rng.choice([6, 4, 2, 1]))
        stride = (2, 2) if rng.random() < 0.3 else (1, 1)
        kernel = (3, 3) if rng.random() < 0.5 else stride
        code = code_map(
            make,
            x,
            channels=int(rng.integers(1, 20)),
            bits=bits,
            form=str(rng.choice(FORMS)),
            kernel=kernel,
            stride=stride,
        )
        maps[code] = bits
        x = make.conv(code, channels=int(rng.integers(1, 12)), kernel=(3, 3))
        if rng.random() < 0.5:
            other = make.conv(code, channels=make.shape(x)[3])
            x = make.binary("ADD", x, other)
        if rng.random() < 0.3:
            x = make.unary("RELU", x)
    return make.build(outputs=[x]), maps


def bit_planes(make: Int8GraphMaker, x: int, bits: int) -> int:
    """Appends the planes of a map whose zero point is -128, as `bit_planes` converts.

    ⌊c / 2^i⌋ = round(c / 2^i - (2^i - 1) / 2^(i + 1)); plane i is ⌊c / 2^i⌋ - 2 ⌊c / 2^(i + 1)⌋.
    """
    graph, (_, height, width, channels) = make.graph, make.shape(x)
    shape = (1, height, width, channels * bits)

    def halved(shifts: range, gain: int) -> int:
        powers = np.tile(2.0 ** np.array(shifts), channels)
        scales = tuple(np.float32(gain / powers / 64 / make.scale(x)).astype(float).tolist())
        name = f"halved_{len(graph.tensors)}"
        weights = graph.constant(
            f"{name}_weights",
            np.full((1, 1, 1, len(powers)), 64, np.int8),
            quantization=Quantization(scales, (0,) * len(scales), axis=3),
        )
        bias = graph.constant(f"{name}_bias", (-32 * (powers - 1)).astype(np.int32))
        options = Options(
            "DepthwiseConv2DOptions",
            (
                *(("padding", 1), ("stride_w", 1), ("stride_h", 1), ("depth_multiplier", bits)),
                *(("fused_activation_function", 0), ("dilation_w_factor", 1)),
                ("dilation_h_factor", 1),
            ),
        )
        operands = [x, weights, bias]
        quantization = Quantization((float(gain),), (-128,))
        return make.operator("DEPTHWISE_CONV_2D", operands, shape, quantization, options, version=3)

    floors, doubled = halved(range(bits), 1), halved(range(1, bits + 1), 2)
    options = Options("SubOptions", (("fused_activation_function", 0),))
    quantization = Quantization((1.0,), (-128,))
    return make.operator("SUB", [floors, doubled], shape, quantization, options, version=2)


def gf2_graph(
    seed: int,
    *,
    bits: int = 8,
    stored: int = 12,
    window: int = 1,
    hidden: int = 0,
    pad: bool = True,
) -> Graph:
    """A bottleneck of stored bits between convolutions; window 2 stores 2×2 pixels at a time.

    As a GF(2) bottleneck converts: planes, P, R, DEPTH_TO_SPACE for windows, and planes weighed.
    """
    make = Int8GraphMaker(seed)
    rng = make.rng
    size = window * int(rng.integers(2, 6)), window * int(rng.integers(2, 6))
    channels = 8 if window > 1 else int(rng.integers(1, 9))
    x = make.input((1, *size, 3))
    x = make.conv(x, channels=channels, kernel=(3, 3), activation=Activation.RELU)
    span = Quantization((make.scale(x),), (-128 if bits == 8 else 128 - 2**bits,))
    make.graph.tensors[x] = dataclasses.replace(make.graph.tensors[x], quantization=span)
    if bits == 8:
        x = bit_planes(make, x, bits)
    else:
        x = code_map(make, x, channels=channels * bits, bits=1, form="threshold")

    def threshold(x: int, count: int, step: int = 1) -> int:
        square = (step, step)
        return code_map(
            make, x, channels=count, bits=1, form="threshold", kernel=square, stride=square
        )

    for count in [hidden] * (hidden > 0):
        x = threshold(x, count)
    x = threshold(x, stored, window)
    if pad and window > 1:
        x = make.pad(x, [(0, 0), (0, 1), (1, 0), (0, 0)])
    for count in [hidden] * (hidden > 0):
        x = threshold(x, count)
    x = threshold(x, channels * bits * window**2)
    if window > 1:
        options = Options("DepthToSpaceOptions", (("block_size", window),))
        _, height, width, count = make.shape(x)
        shape = (1, window * height, window * width, count // window**2)
        x = make.operator("DEPTH_TO_SPACE", [x], shape, make.quantization(x), options)
        if pad:
            x = make.strided_slice(x, [0, 1, 0, 0], [1, *shape[1:]], [1, 1, 1, 1])
    x = weighed_planes(make, x, channels, bits)
    return make.build(outputs=[make.conv(x, channels=5, kernel=(3, 3))])


def weighed_planes(make: Int8GraphMaker, x: int, channels: int, bits: int) -> int:
    """Appends the 1×1 convolution Σ 2^i · plane i, each channel of planes of its own."""
    powers = np.minimum(2 ** np.arange(bits), 64)
    weights = np.zeros((channels, 1, 1, channels * bits), np.int8)
    for channel in range(channels):
        weights[channel, 0, 0, channel * bits : (channel + 1) * bits] = powers
    y = make.conv(x, channels=channels)
    operator = make.graph.operators[-1]
    tensors = make.graph.tensors
    same = Quantization((float(1 / make.scale(x) / 2),) * channels, (0,) * channels)
    tensors[operator.inputs[1]] = dataclasses.replace(
        tensors[operator.inputs[1]], data=weights.tobytes(), quantization=same
    )
    bias = np.full(channels, 3, np.int32)
    tensors[operator.inputs[2]] = dataclasses.replace(
        tensors[operator.inputs[2]], data=bias.tobytes()
    )
    tensors[y] = dataclasses.replace(tensors[y], quantization=Quantization((1.0,), (-128,)))
    return y
