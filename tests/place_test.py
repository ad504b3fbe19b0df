"""Plans of random graphs, on two kernel libraries, run in the wheel at the predicted size."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from random_graphs import random_graph
from support import mlperf_tiny

from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.online import simulate
from deploy.backends.tflm.place import place
from deploy.backends.tflm.scratch import scratch_requests
from deploy.backends.tflm.settle import settled
from deploy.proof.samples import sample_inputs
from deploy.runtime import tflm
from deploy.targets import kernels, target
from tests.int8_graphs import Int8GraphMaker

SEEDS = range(150)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_run_as_planned(seed: int) -> None:
    graph = random_graph(seed)
    host = target(board="host")
    memory = place(graph, host.kernels, rounds=2, overlap=seed % 2 == 0)
    assert memory.lower_bound_bytes <= memory.head_bytes
    planned = embed(graph, memory.offsets)
    content = flatbuffer.write(planned)
    # The replay inside place() judges the plan for these kernels; the wheel cannot run them.
    place(graph, target(board="nano33ble").kernels, rounds=2)
    if tflm.unavailable_reason():
        pytest.skip(str(tflm.unavailable_reason()))
    predicted = predict_arena(planned, offsets=memory.offsets, target=host).arena_bytes
    assert tflm.smallest_arena(content, guess=predicted) == predicted
    samples = sample_inputs(graph)[3:8]
    roomy = tflm.ROOMY_ARENA_BYTES
    expected = tflm.run(flatbuffer.write(graph), samples, arena_bytes=roomy)
    found = tflm.run(content, samples, arena_bytes=predicted)
    for one, other in zip(expected, found, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_kernel_library_changes_offsets_and_the_number() -> None:
    graph = flatbuffer.read_file(mlperf_tiny("pretrainedResnet_quant"))
    plans, heads = {}, {}
    for name in ("reference", "cmsis-nn-dsp"):
        goal = target(board="nano33ble", kernels=name)
        plans[name] = place(graph, goal.kernels).offsets
        heads[name] = predict_arena(graph, offsets=plans[name], target=goal).head_bytes
    assert plans["reference"] != plans["cmsis-nn-dsp"]
    requests = scratch_requests(graph, target(board="nano33ble").kernels)
    # Three maps of 32×32×16 live while the second convolution of the first block runs.
    at_peak = next(r.size_bytes for r in requests if r.operator_index == 2)
    assert heads["reference"] == 3 * 32 * 32 * 16
    assert heads["cmsis-nn-dsp"] == 3 * 32 * 32 * 16 + at_peak
    # In the reference kernels' plan there is no better gap for the scratch.
    elsewhere = simulate(graph, requests, offsets=plans["reference"]).head_bytes
    assert elsewhere >= heads["cmsis-nn-dsp"]


@pytest.mark.parametrize(
    ("head_less", "bound_less", "proven", "still"),
    [
        (0, 0, True, True),
        (16, 32, True, False),
        (0, 32, True, True),
        (0, 32, False, False),
        (16, 0, False, True),
        (0, -64, True, True),
    ],
)
def test_what_was_proven_holds_for_the_head_that_the_runtime_has(
    head_less: int, bound_less: int, proven: bool, still: bool
) -> None:
    make = Int8GraphMaker(2)
    x = make.conv(make.input((1, 8, 8, 4)), channels=8, kernel=(3, 3))
    graph, library = make.build(outputs=[make.conv(x, channels=4)]), kernels("cmsis-nn-dsp")
    plan = place(graph, library)
    head = plan.head_bytes
    claimed = dataclasses.replace(
        plan,
        head_bytes=head - head_less,
        lower_bound_bytes=head - bound_less,
        proven_optimal=proven,
    )
    found = settled(graph, claimed, library, overlaps={})
    assert found.head_bytes == head
    assert found.lower_bound_bytes == min(head - bound_less, head)
    assert found.proven_optimal is still


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
