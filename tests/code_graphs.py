"""Graphs with maps of few codes, for tests of packing."""

from __future__ import annotations

import dataclasses

import numpy as np

from deploy.graph import Activation, Graph, Quantization
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
