"""Plans of random graphs, on two kernel libraries, run in the wheel at the predicted size."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from random_graphs import random_graph

from deploy import flatbuffer
from deploy.evidence import sample_inputs
from deploy.memory.arena import predict_arena
from deploy.memory.embed import embed
from deploy.memory.place import place
from deploy.runtime import tflm
from deploy.targets import target

SEEDS = range(150)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_run_as_planned(seed: int) -> None:
    graph = random_graph(seed)
    host = target(board="host")
    memory = place(graph, host.kernels, seconds=2, overlap=seed % 2 == 0)
    assert memory.lower_bound_bytes <= memory.head_bytes
    planned = embed(graph, memory.offsets)
    content = flatbuffer.write(planned)
    # The replay inside place() judges the plan for these kernels; the wheel cannot run them.
    place(graph, target(board="nano33ble").kernels, seconds=2)
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


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
