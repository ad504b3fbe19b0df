"""TFLM's own planner, simulated: the head of plain and planned graphs equals the wheel's."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from deploy import flatbuffer
from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.online import simulate
from deploy.backends.tflm.scratch import ScratchRequest, scratch_requests
from deploy.graph import Graph, Tensor
from deploy.runtime import tflm
from deploy.targets import kernels
from keras_fmc.errors import BadInputError
from tests.int8_graphs import Int8GraphMaker
from tests.random_graphs import random_graph
from tests.support import mlperf_tiny

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)


def wheel_head(graph: Graph) -> int:
    return tflm.allocations(flatbuffer.write(graph), tflm.ROOMY_ARENA_BYTES).head_bytes


def head(graph: Graph, offsets: tuple[int, ...] | None = None) -> int:
    requests = scratch_requests(graph, kernels("reference"))
    return simulate(graph, requests, offsets=offsets).head_bytes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vww_96_int8", 73_728),
        ("pretrainedResnet_quant", 49_152),
        ("kws_ref_model", 16_000),
        ("ad01_int8", 768),
    ],
)
def test_heads_of_mlperf_tiny(name: str, expected: int) -> None:
    assert head(flatbuffer.read_file(mlperf_tiny(name))) == expected


@needs_wheel
def test_plain_random_graphs_have_the_head_of_the_wheel() -> None:
    for seed in range(200):
        graph = random_graph(seed)
        assert head(graph) == wheel_head(graph), seed


@needs_wheel
def test_offline_offsets_are_obeyed_and_the_rest_is_placed_around_them() -> None:
    for seed in range(200):
        graph = random_graph(seed, operators=(3, 20))
        rng = np.random.default_rng(seed)
        offsets = tuple(
            int(rng.integers(0, 400)) * 16 if not t.is_constant and rng.integers(3) else -1
            for t in graph.tensors
        )
        assert head(graph, offsets) == wheel_head(embed(graph, offsets)), seed


@needs_wheel
def test_a_tensor_that_nothing_uses_still_gets_memory() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 8, 8, 4))
    y = make.conv(x, channels=4)
    make.graph.tensor(Tensor("unused", (1, 20, 20, 4), "int8"))
    graph = make.build(outputs=[y])
    assert head(graph) == wheel_head(graph) == 20 * 20 * 4


@needs_wheel
def test_the_first_of_equal_buffers_is_the_one_added_last() -> None:
    # Three maps of one size: the last one added is placed first, at 0.
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 4))
    y = make.unary("RELU", x)
    z = make.unary("RELU", y)
    graph = make.build(outputs=[z])
    plan = simulate(graph)
    assert plan.offsets == (0, 64, 0)
    assert plan.head_bytes == wheel_head(graph) == 128


def test_scratch_goes_into_the_first_gap_of_its_operator() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 4))
    y = make.unary("RELU", x)
    graph = make.build(outputs=[y])
    fits = simulate(graph, [ScratchRequest(0, 30)], offsets=(0, 96))
    assert fits.scratch_offsets == (64,)
    assert fits.head_bytes == 96 + 64
    too_large = simulate(graph, [ScratchRequest(0, 33)], offsets=(0, 96))
    assert too_large.scratch_offsets == (160,)
    assert too_large.head_bytes == 160 + 48
    assert too_large.buffers == 3


def test_a_plan_of_the_wrong_length_is_refused() -> None:
    graph = random_graph(0)
    with pytest.raises(BadInputError, match=r"one offset for each tensor; expected \d+ offsets"):
        simulate(graph, offsets=(0,))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
