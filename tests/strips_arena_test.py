"""Striped graphs in TFLM: they run in exactly the predicted arena, and no output byte changes."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.place import place
from deploy.backends.tflm.strips.choose import cut
from deploy.backends.tflm.strips.network import Network
from deploy.flatbuffer import write
from deploy.graph import Graph
from deploy.passes.dead import drop_dead
from deploy.runtime import litert, tflm
from deploy.targets import target
from tests.random_graphs import random_graph
from tests.strip_graphs import banded_graph, random_cuts

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)
HOST = target(board="host")
_EACH = 100
_BATCH = 25


def _mistakes(graph: Graph, seed: int) -> list[str]:
    """Cuts a graph at random, plans it, and says in what the wheel disagrees."""
    graph = drop_dead(graph)
    striped = cut(graph, random_cuts(Network(graph), random.Random(seed)))
    offsets = place(striped, HOST.kernels, rounds=2).offsets
    predicted = predict_arena(striped, offsets=offsets, target=HOST)
    content = write(embed(striped, offsets))
    measured = tflm.allocations(content, tflm.ROOMY_ARENA_BYTES)
    generator = np.random.default_rng(seed)
    sample = [
        generator.integers(-128, 128, graph.tensors[t].shape).astype(graph.tensors[t].dtype)
        for t in graph.inputs
    ]
    found = []
    if (predicted.head_bytes, predicted.tail_bytes) != (measured.head_bytes, measured.tail_bytes):
        found.append(f"seed {seed}: {predicted} is not {measured}")
    if tflm.fits(content, predicted.arena_bytes - 16):
        found.append(f"seed {seed}: runs in less than {predicted.arena_bytes} bytes")
    whole = litert.run(write(graph), [sample])[0]
    strips = tflm.run(content, [sample], arena_bytes=predicted.arena_bytes, isolated=True)[0]
    if not all(np.array_equal(a, b) for a, b in zip(whole, strips, strict=True)):
        found.append(f"seed {seed}: an output differs")
    return found


@needs_wheel
@pytest.mark.parametrize("first", range(0, _EACH, _BATCH))
@pytest.mark.parametrize("draw", [random_graph, banded_graph])
def test_random_strips_run_in_exactly_the_predicted_arena(draw, first):
    seeds = range(first, first + _BATCH)
    print(f"{draw.__name__}: seeds {seeds.start} to {seeds.stop - 1}")
    assert [mistake for seed in seeds for mistake in _mistakes(draw(seed), seed)] == []


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
