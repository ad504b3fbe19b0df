"""Problems with a known optimum: rectangles cut into pieces, which the planner has to fill again.

They stand for the public instances of the packing literature, which a clone does not have.
"""

from __future__ import annotations

import random
import sys

import pytest
from packing import check_placement

from deploy.memory.bound import lower_bound
from deploy.memory.compiled import IS_COMPILED
from deploy.memory.planner import plan
from deploy.memory.problem import Block, Piece, Problem

HEIGHT_BYTES, STEPS = 4096, 60


def filled(seed: int, count: int) -> Problem:
    """A rectangle of bytes and steps, cut again and again, in random order."""
    generator = random.Random(seed)
    rectangles = [(0, HEIGHT_BYTES, 0, STEPS)]
    while len(rectangles) < count:
        areas = [(b - a) * (t - s) * (0.3 + generator.random()) for a, b, s, t in rectangles]
        low, high, start, stop = rectangles.pop(areas.index(max(areas)))
        if (generator.random() < 0.5 or stop - start < 2) and high - low >= 32:
            cut = low + 16 * generator.randint(1, (high - low) // 16 - 1)
            rectangles += [(low, cut, start, stop), (cut, high, start, stop)]
        else:
            cut = generator.randint(start + 1, stop - 1)
            rectangles += [(low, high, start, cut), (low, high, cut, stop)]
    generator.shuffle(rectangles)
    return Problem(
        tuple(
            Block(f"{number}", (Piece(0, high - low, start, stop),))
            for number, (low, high, start, stop) in enumerate(rectangles)
        ),
        capacity_bytes=HEIGHT_BYTES,
    )


@pytest.mark.skipif(not IS_COMPILED, reason="without numba the search takes minutes for these")
@pytest.mark.parametrize("count", [30, 60, 100, 150])
@pytest.mark.parametrize("seed", range(4))
def test_a_rectangle_is_filled_again(seed: int, count: int) -> None:
    problem = filled(seed, count)
    assert len(problem.blocks) == count
    assert lower_bound(problem) == HEIGHT_BYTES
    found = plan(problem)
    assert check_placement(problem, found.offsets) == []
    assert found.height_bytes == HEIGHT_BYTES
    assert found.proven_optimal


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
