"""A strip's windows against NumPy: operators that get only those rows make what is asked for."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from deploy.backends.tflm.strips.cuts import Cuts
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.tiles import Tile, TileSolver, tile_flags
from deploy.graph import Graph, Padding
from deploy.operators.rows import Sliding
from tests.int8_graphs import Int8GraphMaker


def chain(generator: random.Random) -> Graph:
    """Convolutions along the rows alone, one behind the other."""
    make = Int8GraphMaker(generator.randrange(2**30))
    x = make.input((1, generator.randint(12, 24), 3, 1))
    for _ in range(generator.randint(1, 4)):
        height = make.shape(x)[1]
        kernel = generator.randint(1, min(5, height))
        stride = generator.choice((1, 1, 2, 3))
        dilation = 2 if stride == 1 and kernel * 2 < height and generator.random() < 0.3 else 1
        padding = generator.choice((Padding.SAME, Padding.VALID))
        x = make.conv(
            x,
            channels=1,
            kernel=(kernel, 1),
            stride=(stride, 1),
            dilation=(dilation, 1),
            padding=padding,
        )
        if make.shape(x)[1] < 4:
            break
    return make.build(outputs=[x])


def slid(
    values: np.ndarray, rule: Sliding, taps: np.ndarray, padding: tuple[int, int]
) -> list[int]:
    """The operator with so many rows of zeros before and after."""
    padded = np.concatenate([np.zeros(padding[0], int), values, np.zeros(padding[1], int)])
    places = range(0, len(padded) - rule.kernel_extent + 1, rule.stride)
    return [int(padded[p : p + rule.kernel_extent] @ taps) for p in places]


def same(rows: int, extent: int, stride: int) -> tuple[int, int]:
    missing = max(0, (-(-rows // stride) - 1) * stride + extent - rows)
    return missing // 2, missing - missing // 2


def whole(values: np.ndarray, rule: Sliding, taps: np.ndarray) -> np.ndarray:
    padding = same(len(values), rule.kernel_extent, rule.stride) if rule.same else (0, 0)
    return np.array(slid(values, rule, taps, padding))


def strip(
    tile: Tile, rules: dict[int, Sliding], taps: list[np.ndarray], x: np.ndarray
) -> np.ndarray:
    """What comes out of the last step; each step is given its window and nothing else."""
    at, values = 0, x
    for step in tile.steps:
        rule = rules[step.operator]
        start, stop = step.window
        assert at <= start < stop <= at + len(values), "a window of rows that nobody made"
        window = values[start - at : stop - at]
        stride = len(window) if step.single else rule.stride
        padding = step.padding or (0, 0)
        if step.padding is None and rule.same:
            padding = same(len(window), rule.kernel_extent, stride)
        made = slid(window, rule, taps[step.operator], padding)
        at, values = step.out[0], np.array(made[:1] if step.single else made)
        assert len(values) == step.out[1] - step.out[0]
    return values


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_a_strip_makes_exactly_the_rows_that_are_asked_for(first: int) -> None:
    kinds: set[str] = set()
    for seed in range(first, first + 100):
        generator = random.Random(seed)
        graph = chain(generator)
        network = Network(graph)
        rules = {o: info.rule for o, info in network.row_operators.items()}
        # An operator of a single row is not cut, nor is what stands behind it here.
        members = tuple(o for o in range(len(graph.operators)) if rules.keys() >= set(range(o + 1)))
        if not members:
            continue
        taps = [
            np.array([generator.randint(1, 9) for _ in range(rules[o].kernel_extent)])
            for o in members
        ]
        values = x = np.array([generator.randint(1, 999) for _ in range(rules[0].in_rows)])
        for o in members:
            values = whole(values, rules[o], taps[o])
        share = generator.choice((0.0, 0.5, 1.0))
        loose = frozenset(o for o in members if generator.random() < share)
        padded = frozenset(o for o in members if generator.random() < share)
        cuts = Cuts(dict.fromkeys(members, ()), untrimmed=loose, padded=padded)
        start = generator.randrange(len(values))
        stop = generator.randint(start + 1, len(values))
        flags = tile_flags(members, cuts)
        tile = TileSolver(network).solve(members, (start, stop), cuts, flags)
        made, (low, high) = strip(tile, rules, taps, x), tile.steps[-1].out
        assert low <= start < stop <= high
        assert list(made[start - low : stop - low]) == list(values[start:stop]), seed
        assert tile.reads == ((graph.inputs[0], tile.steps[0].window),)
        kinds |= {
            f"single {step.single}, padding {step.padding is not None}" for step in tile.steps
        }
        kinds |= {"cut"} if tile.steps[0].window != (0, len(x)) else set()
    assert len(kinds) >= 3, kinds


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
