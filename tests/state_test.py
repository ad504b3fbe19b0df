"""Operators that keep state in variables: SVDF and LSTM, planned, predicted, run in sequence."""

from __future__ import annotations

import sys

import pytest

import deploy
from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.graph import Operator, Quantization, Tensor
from deploy.operators import check_operators
from deploy.proof.evidence import collect
from deploy.proof.samples import sample_inputs
from deploy.runtime import tflm
from deploy.targets import target
from keras_fmc.errors import UnsupportedModelError, VerificationError
from tests.stateful_graphs import stateful
from tests.support import shared_path

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)
HOST = target(board="host")


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
