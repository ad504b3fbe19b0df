"""Cutting changes no output byte: random graphs, cut at random, in LiteRT's reference kernels."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from deploy.backends.tflm.strips.choose import cut
from deploy.backends.tflm.strips.network import Network
from deploy.flatbuffer import write
from deploy.graph import Graph
from deploy.operators.rows import Rows, Sliding
from deploy.passes.dead import drop_dead
from deploy.runtime import litert
from keras_fmc.errors import FmcError
from tests.random_graphs import random_graph
from tests.strip_graphs import banded_graph, random_cuts

_EACH = 250
_BATCH = 25


def _inputs(graph: Graph, seed: int) -> list[list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    return [
        [
            generator.integers(-128, 128, graph.tensors[t].shape).astype(graph.tensors[t].dtype)
            for t in graph.inputs
        ]
    ]


def _differs(graph: Graph, seed: int) -> bool:
    """Cuts a graph at random and says whether an output differs."""
    graph = drop_dead(graph)
    cuts = random_cuts(Network(graph), random.Random(seed))
    in_strips = cut(graph, cuts)
    samples = _inputs(graph, seed)
    whole = litert.run(write(graph), samples)[0]
    strips = litert.run(write(in_strips), samples)[0]
    return not all(np.array_equal(a, b) for a, b in zip(whole, strips, strict=True))


@pytest.mark.parametrize("first", range(0, _EACH, _BATCH))
@pytest.mark.parametrize("draw", [random_graph, banded_graph])
def test_outputs_equal_byte_for_byte(draw, first):
    seeds = range(first, first + _BATCH)
    print(f"{draw.__name__}: seeds {seeds.start} to {seeds.stop - 1}")
    assert [seed for seed in seeds if _differs(draw(seed), seed)] == []


def test_the_drawn_cuts_reach_every_kind_of_operator():
    cut_opcodes, strips = set(), 0
    for draw in (random_graph, banded_graph):
        for seed in range(_EACH):
            graph = drop_dead(draw(seed))
            cuts = random_cuts(Network(graph), random.Random(seed))
            cut_opcodes |= {graph.operators[o].opcode for o in cuts.ends}
            strips += len(cuts.ends)
    assert strips > 1000
    assert cut_opcodes >= {
        *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "AVERAGE_POOL_2D", "MAX_POOL_2D"),
        *("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "CONCATENATION", "PAD", "SLICE", "RESHAPE"),
        *("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR", "QUANTIZE", "CAST", "GATHER", "PRELU"),
        *("SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SOFTMAX", "LOGISTIC", "HARD_SWISH", "RELU"),
    }


def test_a_halo_one_row_too_small_is_noticed(monkeypatch):
    """The property has teeth: without the last row of every halo, outputs differ."""
    needed, exact = Sliding.needed, Sliding.exact

    def too_few(self: Sliding, rows: Rows) -> Rows:
        start, stop = needed(self, rows)
        return (start, stop - 1) if self.kernel_extent > 1 and stop - start > 1 else (start, stop)

    def too_trusting(self: Sliding, window: Rows, valid: Rows) -> Rows:
        start, stop = exact(self, window, valid)
        return start, min(stop + 1, self.out_rows)

    monkeypatch.setattr(Sliding, "needed", too_few)
    monkeypatch.setattr(Sliding, "exact", too_trusting)
    wrong = 0
    for seed in range(12):
        try:
            wrong += _differs(banded_graph(seed), seed)
        except (FmcError, AssertionError):
            # Shapes that do not fit and rules that contradict each other are noticed as well.
            wrong += 1
    assert wrong >= 3


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
