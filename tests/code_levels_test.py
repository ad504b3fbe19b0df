"""Intervals of int8 values: true on random graphs, and tight where a clip is."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from deploy import flatbuffer
from deploy.codes.levels import (
    code_bits,
    find_code_maps,
    value_intervals,
)
from deploy.graph import Activation, Graph, Quantization
from deploy.operators.intervals import activation_interval
from deploy.runtime import tflm
from tests.code_graphs import FORMS, code_map, random_code_graph
from tests.int8_graphs import Int8GraphMaker
from tests.random_graphs import random_graph


def _observed(graph: Graph) -> dict[int, tuple[int, int]]:
    """Smallest and largest value of every int8 tensor that an operator writes, in the runtime."""
    tensors = [t for t in graph.producers() if graph.tensors[t].dtype == "int8"]
    shown = graph.replace(outputs=tuple(tensors))
    content = flatbuffer.write(shown)
    samples = tflm.run(content, tflm.random_inputs(content, samples=3), arena_bytes=1 << 22)
    return {
        t: (min(int(s[i].min()) for s in samples), max(int(s[i].max()) for s in samples))
        for i, t in enumerate(tensors)
    }


@pytest.mark.parametrize("seed", range(60))
def test_no_value_leaves_its_interval(seed):
    graph = random_graph(seed) if seed % 2 else random_code_graph(seed)[0]
    intervals = value_intervals(graph)
    for tensor, (low, high) in _observed(graph).items():
        known = intervals[tensor]
        assert known[0] <= low, graph.tensors[tensor].name
        assert high <= known[1], graph.tensors[tensor].name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bits", [6, 4, 2, 1])
def test_clips_are_seen_exactly(form, bits):
    make = Int8GraphMaker(bits)
    x = make.input((1, 16, 16, 8))
    code = code_map(make, x, channels=16, bits=bits, form=form)
    graph = make.build(outputs=[make.conv(code, channels=2)])
    first = -128 if form in ("unit", "minimum") else 128 - 2**bits
    (found,) = find_code_maps(graph)
    assert (found.tensor, found.bits) == (code, bits)
    assert found.interval == (first, first + 2**bits - 1)
    assert _observed(graph)[code] == found.interval


def test_intervals_pass_through_what_only_moves_values():
    make = Int8GraphMaker(1)
    x = make.input((1, 8, 8, 8))
    code = code_map(make, x, channels=4, bits=2, form="unsigned")
    moved = [
        make.pool(code, kind="MAX_POOL_2D"),
        make.pool(code),
        make.slice(code, (0, 1, 0, 0), (1, 3, 8, 4)),
        make.concatenation([code, code], axis=3),
        make.resize(code, (16, 16)),
        make.reshape(code, (1, 64, 4)),
    ]
    padded = make.pad(code, [(0, 0), (1, 1), (0, 0), (0, 0)])
    summed = make.binary("ADD", code, code)
    graph = make.build(outputs=[*moved, padded, summed])
    intervals = value_intervals(graph)
    assert {intervals[t] for t in moved} == {(124, 127)}
    assert intervals[padded] == (124, 127)
    assert intervals[summed] == (-128, 127)
    # Padding writes the zero point, which an interval need not contain.
    free = code_map(make, x, channels=4, bits=4, form="minimum")
    quantization = make.quantization(free)
    ceiling = make.graph.constant("c", np.array(-127, np.int8), quantization=quantization)
    low = make.operator("MINIMUM", [free, ceiling], make.shape(free), quantization)
    edge = make.pad(low, [(0, 0), (1, 1), (0, 0), (0, 0)])
    intervals = value_intervals(make.build(outputs=[edge]))
    assert quantization.zero_points[0] == -123
    assert intervals[low] == (-128, -127)
    assert intervals[edge] == (-128, -123)


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "wanted"),
    [
        (Activation.NONE, 0.1, 5, (-128, 127)),
        (Activation.RELU, 0.1, -20, (-20, 127)),
        (Activation.RELU, 0.1, -128, (-128, 127)),
        (Activation.RELU6, 0.4, -128, (-128, -128 + 15)),
        (Activation.RELU6, 6 / 255, -128, (-128, 127)),
        (Activation.RELU_N1_TO_1, 1 / 8, -121, (-128, -121 + 8)),
        (Activation.RELU_N1_TO_1, 1 / 10, 122, (122 - 10, 127)),
        (Activation.RELU_N1_TO_1, 1 / 2.5, 0, (-3, 3)),
    ],
)
def test_fused_activations(activation, scale, zero_point, wanted):
    assert activation_interval(activation, Quantization((scale,), (zero_point,))) == wanted


@pytest.mark.parametrize(
    ("levels", "bits"),
    [(1, 1), (2, 1), (3, 2), (4, 2), (5, 4), (16, 4), (17, 6), (64, 6), (65, None)],
)
def test_width_of_an_interval(levels, bits):
    assert code_bits((-7, -7 + levels - 1)) == bits


def test_outputs_and_inputs_are_no_code_maps():
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 4))
    code = code_map(make, x, channels=4, bits=4)
    assert find_code_maps(make.build(outputs=[code])) == ()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
