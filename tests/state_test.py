"""Operators that keep state in variables: SVDF and LSTM, planned, predicted, run in sequence."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import deploy
from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.graph import Graph, Operator, Options, Quantization, Tensor
from deploy.operators import check_operators
from deploy.proof.evidence import collect
from deploy.proof.samples import sample_inputs
from deploy.runtime import tflm
from deploy.targets import target
from keras_fmc.errors import UnsupportedModelError, VerificationError
from tests.int8_graphs import Int8GraphMaker
from tests.support import shared_path

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)
HOST = target(board="host")


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


@needs_wheel
@pytest.mark.parametrize("seed", range(12))
def test_random_stateful_graphs_need_what_is_predicted(seed: int) -> None:
    graph = stateful(seed)
    check_operators(graph)
    content = flatbuffer.write(graph)
    predicted = predict_arena(graph, offsets=None, target=HOST)
    measured = tflm.allocations(content, tflm.ROOMY_ARENA_BYTES)
    assert (predicted.head_bytes, predicted.tail_bytes) == (
        measured.head_bytes,
        measured.tail_bytes,
    )
    assert predicted.arena_bytes == tflm.smallest_arena(content, guess=predicted.arena_bytes)
    states = sum(-(-t.size_bytes // 16) * 16 for t in graph.tensors if t.is_variable)
    assert abs(dict(predicted.breakdown)["variables"] - states) < 16


@needs_wheel
@pytest.mark.parametrize("board", ["nano33ble", "corstone300", "esp32s3"])
@pytest.mark.parametrize("seed", [2, 3])
def test_a_stateful_graph_is_planned_and_run_in_sequence(seed: int, board: str) -> None:
    graph = stateful(seed)
    report = deploy.plan(flatbuffer.write(graph), board=board, arena_bytes=1 << 20).report
    assert report.bit_exact
    assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel
    kept = {t.name for t in graph.tensors if t.is_variable}
    assert kept
    assert not kept & {tensor.name for tensor in report.tensors}


@needs_wheel
def test_samples_are_run_in_sequence_with_the_state_of_those_before() -> None:
    graph = stateful(2)
    content = flatbuffer.write(graph)
    sample = sample_inputs(graph)[-1]
    first, second = tflm.run(content, [sample, sample], arena_bytes=1 << 20)
    assert any(a.tobytes() != b.tobytes() for a, b in zip(first, second, strict=True))


@needs_wheel
def test_another_state_is_another_model() -> None:
    graph = stateful(4)
    other = stateful(4)
    tensors = list(other.tensors)
    index = next(i for i, t in enumerate(tensors) if t.is_variable)
    old = tensors[index]
    kept = Quantization(old.quantization.scales, (40,))
    tensors[index] = Tensor(old.name, old.shape, old.dtype, kept, is_variable=True)
    with pytest.raises(VerificationError, match="differs from the source model's"):
        collect(
            flatbuffer.write(other.replace(tensors=tuple(tensors))),
            flatbuffer.write(graph),
            graph=graph,
            predicted_bytes=4096,
        )


def test_peepholes_and_states_that_are_no_variables_are_refused() -> None:
    graph = stateful(3)
    (operator,) = graph.operators
    inputs = list(operator.inputs)
    inputs[9] = inputs[12]
    changed = Operator(operator.opcode, tuple(inputs), operator.outputs, operator.options)
    with pytest.raises(UnsupportedModelError, match=r"input 9.*plain LSTM only"):
        check_operators(graph.replace(operators=(changed,)))
    inputs = list(operator.inputs)
    inputs[18] = graph.inputs[0]
    changed = Operator(operator.opcode, tuple(inputs), operator.outputs, operator.options)
    with pytest.raises(UnsupportedModelError, match=r"cannot take input 18"):
        check_operators(graph.replace(operators=(changed,)))


@needs_wheel
@pytest.mark.parametrize(
    "name",
    [
        "tinyengine_vww",
        "tflm_keyword_scrambled_8bit",
        "tflm_trained_lstm_int8",
    ],
)
def test_public_models_are_planned_exactly(name: str) -> None:
    path = shared_path(f"models/public/{name}.tflite")
    report = deploy.plan(path, board="nano33ble", arena_bytes=1 << 30, strips=False).report
    assert report.bit_exact
    assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel
    assert report.arena_bytes <= report.baseline.arena_bytes


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
