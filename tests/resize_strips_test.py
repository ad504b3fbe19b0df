"""Strips of maps that are enlarged by any whole factor, against LiteRT's own kernels."""

from __future__ import annotations

import functools
import itertools
import random
import sys

import numpy as np
import pytest

from deploy.backends.tflm.strips.choose import cut
from deploy.backends.tflm.strips.network import Network
from deploy.flatbuffer import write
from deploy.graph import Graph, Options
from deploy.operators.rows import Resampling, resize_weights
from deploy.passes.dead import drop_dead
from deploy.runtime import litert, tflm
from tests.int8_graphs import Int8GraphMaker
from tests.strip_graphs import random_cuts

KINDS = [
    ("RESIZE_NEAREST_NEIGHBOR", False),
    ("RESIZE_NEAREST_NEIGHBOR", True),
    ("RESIZE_BILINEAR", False),
    ("RESIZE_BILINEAR", True),
]
FACTORS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 16)


def resize(
    make: Int8GraphMaker, x: int, factor: int, kind: str, half_pixel: bool, *, wide: bool = True
) -> int:
    name = "ResizeNearestNeighborOptions" if "NEAREST" in kind else "ResizeBilinearOptions"
    options = Options(name, (("align_corners", False), ("half_pixel_centers", half_pixel)))
    _, height, width, depth = make.shape(x)
    size = height * factor, width * factor if wide else width
    operands = [x, make.integers("size", size)]
    return make.operator(
        kind, operands, (1, *size, depth), make.quantization(x), options, version=2
    )


@functools.cache
def model(rows: int, factor: int, kind: str, half_pixel: bool) -> bytes:
    make = Int8GraphMaker(1)
    x = make.input((1, rows, 1, 3))
    return write(make.build(outputs=[resize(make, x, factor, kind, half_pixel)]))


@pytest.mark.parametrize(("kind", "half_pixel"), KINDS)
@pytest.mark.parametrize("factor", FACTORS)
def test_rows_called_exact_are_those_of_the_whole_map(
    factor: int, kind: str, half_pixel: bool
) -> None:
    """All windows of a map of seven rows; what a row needs is found by changing the others."""
    rows = 7
    rule = Resampling(rows, rows * factor, kind, half_pixel)
    rng = np.random.default_rng(factor)
    values = rng.integers(-128, 128, (1, rows, 1, 3)).astype(np.int8)
    noise = [rng.integers(-128, 128, values.shape).astype(np.int8) for _ in range(4)]
    name = (factor, kind, half_pixel)
    ((whole,),) = litert.run(model(rows, *name), [[values]])
    exact = 0
    for low, high in itertools.combinations(range(rows + 1), 2):
        assert rule.run((low, high)) == (low * factor, high * factor)
        start, stop = rule.exact((low, high), (low, high))
        ((strip,),) = litert.run(model(high - low, *name), [[values[:, low:high]]])
        first = low * factor
        assert low * factor <= start <= stop <= high * factor or start == stop
        assert np.array_equal(strip[:, start - first : stop - first], whole[:, start:stop])
        exact += stop - start
    assert rule.exact((0, rows), (0, rows)) == (0, rows * factor)
    # Factors that divide 1024 do not drift; nearest neighbours are exact in every window.
    every = factor * sum(b - a for a, b in itertools.combinations(range(rows + 1), 2))
    least = every if "NEAREST" in kind else every // 2 if 1024 % factor == 0 else 2 * rows * factor
    assert least <= exact <= every
    for a, b in itertools.combinations(range(0, rows * factor + 1, max(factor // 2, 1)), 2):
        low, high = rule.needed((a, b))
        mixed = [other.copy() for other in noise]
        for other in mixed:
            other[:, low:high] = values[:, low:high]
        for (found,) in litert.run(model(rows, *name), [[other] for other in mixed]):
            assert np.array_equal(found[:, a:b], whole[:, a:b])


@pytest.mark.parametrize(("kind", "half_pixel"), KINDS)
@pytest.mark.parametrize("factor", FACTORS)
def test_weights_are_those_of_the_kernel(factor: int, kind: str, half_pixel: bool) -> None:
    """Rows alone are enlarged, so that an output is the rounded sum of weighted rows."""
    rng = np.random.default_rng(factor)
    for rows in (1, 2, 3, 7, 13):
        values = rng.integers(-128, 128, (1, rows, 4, 3)).astype(np.int8)
        make = Int8GraphMaker(1)
        x = make.input(values.shape)
        y = resize(make, x, factor, kind, half_pixel, wide=False)
        ((found,),) = litert.run(write(make.build(outputs=[y])), [[values]])
        for row in range(rows * factor):
            weights = resize_weights(kind, row, rows, rows * factor, half_pixel=half_pixel)
            assert sum(weight for _, weight in weights) == 1024
            wanted = sum(values[0, source].astype(float) * weight for source, weight in weights)
            assert np.abs(found[0, row] - wanted / 1024).max() <= 0.5


def enlarged(seed: int) -> Graph:
    generator = random.Random(seed)
    kind, half_pixel = generator.choice(KINDS)
    make = Int8GraphMaker(seed)
    x = make.input((1, generator.randint(2, 5), generator.randint(1, 3), 2))
    x = make.conv(x, channels=2, kernel=(generator.randint(1, 2), 1))
    x = resize(make, x, generator.choice(FACTORS[4:]), kind, half_pixel)
    return make.build(outputs=[make.conv(x, channels=2, kernel=(3, 1))])


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_networks_that_enlarge_by_five_and_more_are_cut_without_a_trace(first: int) -> None:
    cuts_made = 0
    for seed in range(first, first + 20):
        graph = drop_dead(enlarged(seed))
        cuts = random_cuts(Network(graph), random.Random(seed))
        strips = cut(graph, cuts)
        cuts_made += len(strips.operators) > len(graph.operators)
        shape = graph.tensors[graph.inputs[0]].shape
        sample = [np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)]
        runs = [litert.run(write(g), [sample]) for g in (graph, strips)]
        if tflm.unavailable_reason() is None:
            runs += [tflm.run(write(g), [sample], arena_bytes=1 << 20) for g in (graph, strips)]
        assert all(np.array_equal(run[0][0], runs[0][0][0]) for run in runs), seed
    assert cuts_made > 10


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
