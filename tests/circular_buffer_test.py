"""CIRCULAR_BUFFER keeps the last rows it was given; other operators read them from its variable."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import deploy
from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.graph import GraphBuilder
from deploy.operators import check_operators
from deploy.runtime import tflm
from deploy.supported import check_supported
from deploy.targets import target
from keras_fmc.errors import UnsupportedModelError
from tests.int8_graphs import Int8GraphMaker
from tests.stateful_graphs import kept

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)
READERS = ("RELU", "RESHAPE", "CONV_2D", "CONCATENATION", "SLICE")


@pytest.mark.long
@needs_wheel
@pytest.mark.parametrize("reader", READERS)
def test_the_arena_is_exact_and_the_plan_is_verified(reader: str) -> None:
    graph = kept(reader)
    content = flatbuffer.write(graph)
    predicted = predict_arena(graph, offsets=None, target=target(board="host"))
    measured = tflm.allocations(content, tflm.ROOMY_ARENA_BYTES)
    assert (predicted.head_bytes, predicted.tail_bytes) == (
        measured.head_bytes,
        measured.tail_bytes,
    )
    assert predicted.arena_bytes == tflm.smallest_arena(content, guess=predicted.arena_bytes)
    report = deploy.plan(content, board="nano33ble").report
    assert report.bit_exact
    assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel
    assert "rows" not in {tensor.name for tensor in report.tensors}


@pytest.mark.long
@needs_wheel
def test_strips_do_not_cut_what_is_kept() -> None:
    """Maps behind the buffer are large enough for strips; what it keeps is read as it stands."""
    graph = kept("CONV_2D", slots=48, depth=16)
    builder = Int8GraphMaker(0)
    builder.graph = GraphBuilder(graph)
    builder.inputs = list(graph.inputs)
    grown = builder.conv(graph.outputs[0], channels=32, kernel=(3, 1))
    small = builder.conv(builder.conv(grown, channels=32, kernel=(3, 1)), channels=2)
    report = deploy.plan(
        flatbuffer.write(builder.build(outputs=[builder.mean(small)])), board="nano33ble"
    ).report
    assert report.bit_exact
    assert not any("please report this defect" in d.reason for d in report.decisions)


@needs_wheel
def test_a_planned_model_gives_the_last_rows_of_what_it_was_given() -> None:
    planned = deploy.plan(flatbuffer.write(kept("RESHAPE")), board="host").content
    assert planned is not None
    rng = np.random.default_rng(0)
    given = rng.integers(-128, 128, (9, 1, 1, 1, 6)).astype(np.int8)
    outputs = tflm.run(planned, [[x] for x in given], arena_bytes=tflm.ROOMY_ARENA_BYTES)
    window = np.zeros((4, 6), np.int8)
    for x, (found,) in zip(given, outputs, strict=True):
        window = np.concatenate([window[1:], x.reshape(1, 6)])
        assert found.ravel().tolist() == window.ravel().tolist()


@pytest.mark.parametrize("period", [0, 2])
def test_another_period_than_one_is_refused_with_the_reason(period: int) -> None:
    with pytest.raises(UnsupportedModelError, match=r"in some of the calls only.*cycles_max 1"):
        check_operators(kept("RELU", period=period))


def test_a_variable_that_nobody_keeps_is_refused() -> None:
    graph = kept("RELU")
    last = graph.replace(operators=graph.operators[1:])
    with pytest.raises(UnsupportedModelError, match=r"rows .* is a variable"):
        check_supported(last)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
