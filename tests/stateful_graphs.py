"""Random graphs of operators that keep state in variables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from flatbuffers import flexbuffers

from deploy.graph import CUSTOM, Graph, Operator, Options, Quantization, Tensor
from tests.int8_graphs import Int8GraphMaker

STATEFUL = {"SVDF": 2, "UNIDIRECTIONAL_SEQUENCE_LSTM": 5}
"""Opcode -> the first seed of ``stateful`` that makes one of float32; every sixth does."""


class Maker(Int8GraphMaker):
    """Makes graphs with variables."""

    def variable(self, shape: tuple[int, ...], dtype: str, scale: float = 0.05) -> int:
        kept = Quantization((scale,), (0,)) if dtype != "float32" else None
        name = f"state_{len(self.graph.tensors)}"
        return self.graph.tensor(Tensor(name, shape, dtype, kept, is_variable=True))

    def weights(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> int:
        if dtype == "float32":
            return self.graph.constant("weights", rng.normal(size=shape).astype("float32"))
        values = rng.integers(-60, 60, shape).astype(dtype)
        scale = Quantization((0.02,), (0,))
        return self.graph.constant("weights", values, quantization=scale)

    def svdf(self, rng: np.random.Generator, x: int, dtype: str, state: str) -> int:
        batch, depth = self.shape(x)
        rank, units, memory = (int(rng.integers(*span)) for span in ((1, 3), (1, 9), (1, 7)))
        filters = rank * units
        kinds = ("float32", "float32") if dtype == "float32" else (dtype, state)
        features = self.weights(rng, (filters, depth), kinds[0])
        time = self.weights(rng, (filters, memory), kinds[1])
        bias: np.ndarray = rng.integers(-500, 500, units).astype("int32")
        scale = Quantization((0.02 * 0.05,), (0,))
        if dtype == "float32":
            kept = self.graph.constant("bias", bias.astype("float32"))
        else:
            kept = self.graph.constant("bias", bias, quantization=scale)
        state_of = self.variable((batch, memory * filters), kinds[1])
        made = None if dtype == "float32" else Quantization((0.1,), (3,))
        fields = (("rank", rank), ("fused_activation_function", 1))
        inputs = [x, features, time, kept, state_of]
        options = Options("SVDFOptions", fields)
        return self.operator("SVDF", inputs, (batch, units), made, options, dtype=dtype)

    def lstm(self, rng: np.random.Generator, x: int, dtype: str) -> int:
        batch, steps, depth = self.shape(x)
        units = int(rng.integers(1, 9))
        kind = "float32" if dtype == "float32" else "int8"
        inputs = [-1] * 24
        inputs[0] = x
        for position in range(1, 9):
            width = depth if position < 5 else units
            inputs[position] = self.weights(rng, (units, width), kind)
        for position in range(12, 16):
            values = rng.integers(-100, 100, units)
            bias = values.astype("float32" if kind == "float32" else "int32")
            quantization = None if kind == "float32" else Quantization((0.001,), (0,))
            inputs[position] = self.graph.constant("bias", bias, quantization=quantization)
        inputs[18] = self.variable((batch, units), dtype, 2.0**-7)
        inputs[19] = self.variable((batch, units), "float32" if kind == "float32" else "int16")
        if kind != "float32":
            cell = self.graph.tensors[inputs[19]]
            scale = Quantization((2.0**-11,), (0,))
            self.graph.tensors[inputs[19]] = Tensor(
                cell.name, cell.shape, cell.dtype, scale, is_variable=True
            )
        fields = (("fused_activation_function", 4), ("cell_clip", 10.0), ("time_major", False))
        options = Options("UnidirectionalSequenceLSTMOptions", fields)
        made = None if kind == "float32" else Quantization((2.0**-7,), (0,))
        shape = (batch, steps, units)
        opcode = "UNIDIRECTIONAL_SEQUENCE_LSTM"
        return self.operator(opcode, inputs, shape, made, options, dtype=dtype)


def stateful(seed: int) -> Graph:
    """A random graph with one or two operators that keep state."""
    rng = np.random.default_rng(seed)
    make = Maker(seed)
    dtype = ("int8", "int8", "float32")[seed % 3]
    depth = int(rng.integers(1, 20))
    if seed % 2:
        x = make.input((1, int(rng.integers(1, 6)), depth), dtype=dtype)
        return make.build(outputs=[make.lstm(rng, x, dtype)])
    x = make.input((1, depth), dtype=dtype)
    for _ in range(int(rng.integers(1, 3))):
        x = make.svdf(rng, x, dtype, ("int8", "int16")[seed // 2 % 2])
    return make.build(outputs=[x])


def stateful_operator(opcode: str, seed: int) -> Graph:
    """Returns one such operator of float32, which LiteRT and TFLM both run."""
    while True:
        graph = stateful(STATEFUL[opcode] + 6 * seed)
        if len(graph.operators) == 1:
            tensors = list(graph.tensors)
            (output,) = graph.outputs
            tensors[output] = replace(tensors[output], name="y0")
            return graph.replace(tensors=tuple(tensors))
        seed += 100


def kept(reader: str, *, slots: int = 4, depth: int = 6, period: int = 1) -> Graph:
    """The last ``slots`` inputs, and what another operator makes of them."""
    make = Int8GraphMaker(slots)
    scale = Quantization((0.5,), (0,))
    x = make.graph.tensor(Tensor("x", (1, 1, 1, depth), "int8", scale))
    make.inputs.append(x)
    shape = (1, slots, 1, depth)
    rows = make.graph.tensor(Tensor("rows", shape, "int8", scale, is_variable=True))
    options = bytes(flexbuffers.Dumps({"cycles_max": period}))
    code = {"custom_code": "CIRCULAR_BUFFER", "custom_options": options}
    make.graph.operator(Operator(CUSTOM, (x,), (rows,), **code))
    made = {
        "RELU": lambda: make.unary("RELU", rows),
        "RESHAPE": lambda: make.reshape(rows, (1, slots * depth)),
        "CONV_2D": lambda: make.conv(rows, channels=3),
        "CONCATENATION": lambda: make.concatenation([rows, x], axis=1),
        "SLICE": lambda: make.slice(rows, (0, 1, 0, 0), (1, slots - 1, 1, depth)),
    }[reader]()
    return make.build(outputs=[made])
