"""Random graphs of blocks that networks have, for generated C: what chains of operators leave out.

    graph = mixed_graph(seed)

Several inputs and outputs of int8, uint8 or float32, images and signals; transposed convolutions
of any stride, resizing by odd factors, skips that are brought to their reader's shape and joined,
codes with skips, attention, normalisation, masks, gates.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from deploy.graph import Activation, Graph, Operator, Options, Padding, Quantization
from tests.code_graphs import FORMS, code_map
from tests.int8_graphs import Int8GraphDrawer

_LARGEST_MAP_BYTES = 5000


def mixed_graph(seed: int) -> Graph:
    """Returns the graph of a seed."""
    return _Mixed(seed).draw()


class _Mixed(Int8GraphDrawer):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.maps: list[int] = []
        self.is_signal = self.rng.random() < 0.3

    def draw(self) -> Graph:
        for _ in range(self._any((1, 1, 2, 3))):
            self.maps.append(self._input())
        first = len(self.maps)
        blocks = (
            *(self._window, self._window, self._transposed, self._resized, self._joined),
            *(self._codes, self._attention, self._normalised, self._masked, self._gated),
            *(self._split, self._pooled),
        )
        for step in range(first + int(self.rng.integers(1, 6))):
            x = self.maps[step] if step < first else self._any(self.maps[-3:])
            before = len(self.make.graph.operators)
            y = self._any(blocks)(x)
            if math.prod(self.make.shape(y)) > _LARGEST_MAP_BYTES:
                del self.make.graph.operators[before:]
                y = self.make.pool(x, kernel=(1, 1), stride=(2, 2))
            self.maps.append(y)
        read = {t for operator in self.make.graph.operators for t in operator.inputs}
        made = [t for operator in self.make.graph.operators for t in operator.outputs]
        outputs = [self._output(t) for t in made if t not in read]
        if self.rng.random() < 0.3:
            outputs.append(self._output(self.maps[-1]))
        return self.make.build(outputs=list(dict.fromkeys(outputs)))

    def _input(self) -> int:
        make = self.make
        shape = (1, 1 if self.is_signal else self._size(3, 13), self._size(3, 13), self._size(1, 6))
        kind = self._any(("int8", "int8", "uint8", "float32"))
        q = Quantization((float(np.float32(self.rng.uniform(0.01, 0.06))),), (self._size(-40, 40),))
        x = make.input(shape, dtype="float32" if kind == "float32" else "int8")
        if kind == "float32":
            return make.operator("QUANTIZE", [x], shape, q, Options("QuantizeOptions"))
        if kind == "uint8":
            wide = dataclasses.replace(q, zero_points=(q.zero_points[0] + 128,))
            tensor = dataclasses.replace(make.graph.tensors[x], dtype="uint8", quantization=wide)
            make.graph.tensors[x] = tensor
            return make.requantize(x, q)
        return x

    def _output(self, x: int) -> int:
        make = self.make
        q, options = make.quantization(x), Options("QuantizeOptions")
        kind = self._any(("int8", "int8", "uint8", "float32"))
        if kind == "uint8":
            wide = dataclasses.replace(q, zero_points=(q.zero_points[0] + 128,))
            return make.operator("QUANTIZE", [x], make.shape(x), wide, options, dtype="uint8")
        if kind == "float32":
            options = Options("DequantizeOptions")
            return make.operator(
                "DEQUANTIZE", [x], make.shape(x), None, options, version=2, dtype="float32"
            )
        return x

    def _window(self, x: int) -> int:
        _, height, width, _ = self.make.shape(x)
        kernel = self._size(1, min(5, height)), self._size(1, min(5, width))
        stride = (1, 1) if self.rng.random() < 0.6 else (self._size(1, 3), self._size(1, 3))
        padding = self._any((Padding.SAME, Padding.SAME, Padding.VALID))
        activation = self._any((Activation.NONE, Activation.RELU, Activation.RELU6))
        options = {"kernel": kernel, "stride": stride, "padding": padding, "activation": activation}
        if self.rng.random() < 0.4:
            return self.make.depthwise(x, multiplier=self._size(1, 2), **options)
        return self.make.conv(x, channels=self._size(1, 12), **options)

    def _transposed(self, x: int) -> int:
        _, height, _, _ = self.make.shape(x)
        stride = 1 if height == 1 else self._size(1, 5), self._any((1, 2, 3, 5))
        kernel = (1 if height == 1 else stride[0] + self._size(0, 2)), stride[1] + self._size(0, 2)
        padding = self._any((Padding.SAME, Padding.VALID))
        channels = self._size(1, 6)
        return self.make.transpose_conv(
            x, channels=channels, kernel=kernel, stride=stride, padding=padding
        )

    def _resized(self, x: int) -> int:
        _, height, width, _ = self.make.shape(x)
        by = 1 if height == 1 else self._any((1, 2, 3, 5)), self._any((1, 2, 3, 7))
        size = height * by[0], width * by[1]
        if self.rng.random() < 0.3 and height > 1:
            size = self._size(1, 2 * height), self._size(1, 2 * width)
        return self.make.resize(x, size, kind=self._kind_of_resize())

    def _kind_of_resize(self) -> str:
        return self._any(("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"))

    def _like(self, y: int, x: int, *, channels: bool) -> int:
        """Another map brought to the rows, columns, scale and maybe channels of ``x``."""
        if channels and self.make.shape(y)[3] != self.make.shape(x)[3]:
            y = self.make.conv(y, channels=self.make.shape(x)[3])
        if self.make.shape(y)[1:3] != self.make.shape(x)[1:3]:
            y = self.make.resize(y, self.make.shape(x)[1:3], kind=self._kind_of_resize())
        return self.make.requantize(y, self.make.quantization(x))

    def _joined(self, x: int) -> int:
        if self.rng.random() < 0.5:
            kind = self._any(("ADD", "SUB", "MUL", "MAXIMUM"))
            return self.make.binary(kind, x, self._like(self._any(self.maps), x, channels=True))
        parts = [x, *(self._like(self._any(self.maps), x, channels=False) for _ in range(2))]
        return self.make.concatenation(parts[: self._size(2, 3)], axis=3)

    def _codes(self, x: int) -> int:
        """A code that is read at once, and again behind what was made of it."""
        bits, form = int(self._any((1, 2, 4, 6))), str(self._any(FORMS))
        code = code_map(self.make, x, channels=self._size(2, 12), bits=bits, form=form)
        y = self.make.conv(code, channels=self._size(2, 16), kernel=self._kernel(x))
        y = self.make.conv(y, channels=self.make.shape(code)[3], kernel=self._kernel(x))
        return self.make.binary("ADD", y, code)

    def _kernel(self, x: int) -> tuple[int, int]:
        return min(3, self.make.shape(x)[1]), min(3, self.make.shape(x)[2])

    def _attention(self, x: int) -> int:
        """softmax(q · kᵀ) · v over positions, in one head or two."""
        make = self.make
        _, height, width, _ = make.shape(x)
        if height * width > 48:
            return self._pooled(x)
        heads, depth, places = self._any((1, 2)), self._size(1, 4), height * width
        parts = []
        for _ in range(3):
            y = make.reshape(make.conv(x, channels=heads * depth), (1, places, heads, depth))
            options = Options("TransposeOptions")
            operands = [y, make.integers("order", (0, 2, 1, 3))]
            shape, q = (1, heads, places, depth), make.quantization(y)
            y = make.operator("TRANSPOSE", operands, shape, q, options, version=2)
            parts.append(y if heads > 1 else make.reshape(y, (1, places, depth)))
        lead = make.shape(parts[0])[:-2]
        fields = (("adj_x", False), ("adj_y", True))
        step = make.scale(parts[0]) * make.scale(parts[1]) * math.sqrt(depth) * 50
        y = make.operator(
            "BATCH_MATMUL",
            parts[:2],
            (*lead, places, places),
            Quantization((float(np.float32(step)),), (self._size(-9, 9),)),
            Options("BatchMatMulOptions", fields),
        )
        if self.rng.random() < 0.5:
            mask = make.graph.constant(
                f"mask_{y}", np.tril(np.ones((*(1,) * len(lead), places, places), np.bool_))
            )
            least = make.constant_like(y, ())
            options = Options("SelectV2Options")
            q = make.quantization(y)
            y = make.operator("SELECT_V2", [mask, y, least], make.shape(y), q, options)
        y = make.unary("SOFTMAX", y)
        y = make.operator(
            "BATCH_MATMUL",
            [y, parts[2]],
            (*lead, places, depth),
            make.quantization(parts[2]),
            Options("BatchMatMulOptions", (("adj_x", False), ("adj_y", False))),
        )
        return make.conv(make.reshape(y, (1, height, width, heads * depth)), channels=3)

    def _normalised(self, x: int) -> int:
        make = self.make
        if self.rng.random() < 0.5:
            q, options = Quantization((1 / 128,), (0,)), Options("L2NormOptions")
            return make.operator("L2_NORMALIZATION", [x], make.shape(x), q, options, version=2)
        centre = make.mean(x, axes=(3,), keep_dims=True)
        step = float(np.float32(make.scale(x) ** 2 * 60))
        squares = make.operator(
            "SQUARED_DIFFERENCE",
            [x, centre],
            make.shape(x),
            Quantization((step,), (-128,)),
            Options("SquaredDifferenceOptions"),
            version=2,
        )
        spread = make.mean(squares, axes=(3,), keep_dims=True)
        spread = make.requantize(spread, Quantization((step,), (-128,)))
        most = Quantization((float(np.float32(1 / math.sqrt(step) / 255)),), (-128,))
        root = make.operator("RSQRT", [spread], make.shape(spread), most, None, version=2)
        return make.binary("MUL", make.binary("SUB", x, centre), root)

    def _masked(self, x: int) -> int:
        make = self.make
        y = self._like(self._any(self.maps), x, channels=True)
        opcode = self._any(("LESS", "GREATER_EQUAL", "NOT_EQUAL"))
        options = Options(opcode.title().replace("_", "") + "Options")
        flags = make.operator(opcode, [x, y], make.shape(x), None, options, dtype="bool", version=2)
        options = Options("SelectV2Options")
        return make.operator(
            "SELECT_V2", [flags, x, y], make.shape(x), make.quantization(x), options
        )

    def _gated(self, x: int) -> int:
        """Squeeze and excitation."""
        gate = self.make.conv(self.make.mean(x, keep_dims=True), channels=self.make.shape(x)[3])
        return self.make.binary("MUL", x, self.make.unary("LOGISTIC", gate))

    def _split(self, x: int) -> int:
        make = self.make
        axis = int(self._any((1, 2, 3)))
        shape = list(make.shape(x))
        if shape[axis] % 2:
            return self._window(x)
        shape[axis] //= 2
        q = make.quantization(x)
        halves = [make.operator("QUANTIZE", [x], shape, q) for _ in range(2)]
        del make.graph.operators[-2:]
        inputs = (make.integers("axis", axis), x)
        options = Options("SplitOptions", (("num_splits", 2),))
        make.graph.operator(Operator("SPLIT", inputs, tuple(halves), options, 2))
        return make.binary("ADD", make.unary("RELU", halves[1]), halves[0])

    def _pooled(self, x: int) -> int:
        _, height, width, _ = self.make.shape(x)
        kernel = self._size(1, min(4, height)), self._size(1, min(4, width))
        stride = self._size(1, 3), self._size(1, 3)
        kind = self._any(("AVERAGE_POOL_2D", "MAX_POOL_2D"))
        padding = self._any((Padding.SAME, Padding.VALID))
        return self.make.pool(x, kind=kind, kernel=kernel, stride=stride, padding=padding)
