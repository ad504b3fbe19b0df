"""The exact searches, each alone, against trying everything."""

from __future__ import annotations

import dataclasses
import random
import sys

import numpy as np
import pytest
from packing import check_placement, height, random_problem, smallest_height

from deploy.memory.bound import lower_bound
from deploy.memory.conflicts import find_conflicts, piece_arrays
from deploy.memory.instance import build_instance
from deploy.memory.local_search import OrderWalk
from deploy.memory.planner import plan
from deploy.memory.problem import Block, Piece, Problem
from deploy.memory.quick import hull_table
from deploy.memory.search import FOUND, IMPOSSIBLE, UNKNOWN, search
from deploy.memory.search_gaps import search_gaps

MANY = 1_000_000


def columns(problem: Problem):
    pieces = piece_arrays(problem)
    conflicts = find_conflicts(pieces)
    return conflicts, build_instance(pieces, conflicts)


def levels(problem: Problem, target: int, *, order: int = 0, nodes: int = MANY):
    _, instance = columns(problem)
    stop = np.zeros(1, dtype=np.int64)
    return search(instance, instance.priorities[order], target, node_limit=nodes, stop=stop)


def gaps(problem: Problem, target: int, *, nodes: int = MANY):
    conflicts, _ = columns(problem)
    return search_gaps(conflicts, target, node_limit=nodes, stop=np.zeros(1, dtype=np.int64))


def drawn(seed: int, pieces: tuple[int, ...]) -> Problem:
    generator = random.Random(seed)
    problem = random_problem(
        generator,
        blocks=generator.randint(2, 5),
        pieces=generator.choice(pieces),
        steps=generator.choice([3, 6]),
        cells=3,
        unit=generator.choice([16, 16, 8, 5]),
        reservations=generator.random() < 0.4,
        alignments=generator.choice([(16,), (32, 16), (8,), (8, 16, 64)]),
    )
    return dataclasses.replace(problem, alignment_bytes=generator.choice([16, 16, 4]))


@pytest.mark.parametrize("seed", range(120))
def test_both_find_the_optimum_and_prove_that_nothing_is_lower(seed):
    problem = drawn(seed, (1, 2, 3))
    optimum = smallest_height(problem)
    complete = columns(problem)[1].complete
    outcome, offsets, _ = gaps(problem, optimum)
    assert outcome == FOUND
    assert check_placement(problem, offsets.tolist()) == []
    assert height(problem, offsets.tolist()) <= optimum
    if optimum:
        assert gaps(problem, optimum - problem.alignment_bytes)[0] == IMPOSSIBLE
    for order in range(6):
        outcome, offsets, _ = levels(problem, optimum, order=order)
        if complete:
            assert outcome == FOUND
            assert (
                optimum == 0
                or levels(problem, optimum - problem.alignment_bytes, order=order)[0] == IMPOSSIBLE
            )
        if outcome == FOUND:
            assert check_placement(problem, offsets.tolist()) == []
            assert height(problem, offsets.tolist()) <= optimum


@pytest.mark.parametrize("seed", range(30))
def test_both_agree_on_problems_too_large_to_try_everything(seed):
    generator = random.Random(seed)
    problem = random_problem(generator, blocks=9, pieces=generator.choice([1, 3]), cells=5)
    low, high = 0, 9 * 16 * 10  # nine blocks of at most 4 + 5 cells
    while low < high:
        middle = (low + high) // 32 * 16
        outcome = gaps(problem, middle)[0]
        low, high = (low, middle) if outcome == FOUND else (middle + 16, high)
    if columns(problem)[1].complete:
        assert levels(problem, low)[0] == FOUND
        assert levels(problem, low - 16)[0] == IMPOSSIBLE


def test_boxes_and_plain_staircases_are_complete_and_holes_are_not():
    rows = 4
    given = Block("in", tuple(Piece(32 * r, 32, 0, r + 1) for r in range(rows)))
    made = Block("out", tuple(Piece(32 * r, 32, r, rows) for r in range(rows)))
    tile = Block("tile", (Piece(0, 48, 2, 3),))
    assert columns(Problem((given, made, tile)))[1].complete
    fork = Block("fork", (Piece(0, 16, 0, 1), Piece(64, 16, 0, 1)))
    assert not columns(Problem((fork, Block("box", (Piece(0, 32, 0, 1),)))))[1].complete


def test_a_box_goes_into_the_hole_of_a_fork():
    fork = Block("fork", (Piece(0, 16, 0, 1), Piece(64, 16, 0, 1)))
    problem = Problem((fork, Block("box", (Piece(0, 48, 0, 1),))))
    outcome, offsets, _ = gaps(problem, 80)
    assert (outcome, offsets.tolist()) == (FOUND, [0, 16])
    assert gaps(problem, 64)[0] == IMPOSSIBLE


def test_node_limit_and_stop_end_a_search():
    problem = random_problem(random.Random(3), blocks=30, pieces=1, steps=12)
    live_at_once = 16 * 4 * 30
    assert levels(problem, live_at_once, nodes=3)[0] == UNKNOWN
    conflicts, instance = columns(problem)
    stopped = np.ones(1, dtype=np.int64)
    target = max(b.live_size_bytes for b in problem.blocks) * 2
    for outcome in (
        search(instance, instance.priorities[0], target, node_limit=MANY, stop=stopped)[0],
        search_gaps(conflicts, target, node_limit=MANY, stop=stopped)[0],
    ):
        assert outcome in (UNKNOWN, IMPOSSIBLE)


def test_failures_are_counted_and_used():
    problem = random_problem(random.Random(5), blocks=12, pieces=1, steps=8)
    _, instance = columns(problem)
    failures = np.ones(len(instance.member_first) - 1, dtype=np.int64)
    bound = max(
        sum(b.live_size_bytes for b in problem.blocks if b.pieces[0].start <= s < b.pieces[0].stop)
        for s in range(8)
    )
    search(
        instance,
        instance.priorities[0],
        bound - 16,
        node_limit=100,
        stop=np.zeros(1, dtype=np.int64),
        failures=failures,
    )
    assert failures.max() > 1


def staircases(seed: int, blocks: int) -> Problem:
    """Maps of 6 to 12 rows, some dying row by row, some born row by row, and tiles."""
    generator = random.Random(seed)
    made = []
    for index in range(blocks):
        start, rows = generator.randrange(2 * blocks), generator.randint(6, 12)
        row_bytes, kind = 16 * generator.randint(4, 60), generator.randrange(3)
        if kind == 0:
            lives = [(start, start + row + 1) for row in range(rows)]
        elif kind == 1:
            lives = [(start + row, start + rows + 1) for row in range(rows)]
        else:
            lives = [(start, start + 2)] * (rows // 3)
        pieces = (Piece(row_bytes * row, row_bytes, *life) for row, life in enumerate(lives))
        made.append(Block(f"map {index}", tuple(pieces)))
    return Problem(tuple(made))


@pytest.mark.parametrize("seed", range(8))
def test_the_walk_only_goes_down_and_stays_valid(seed):
    problem = staircases(seed, 40)
    pieces = piece_arrays(problem)
    walk = OrderWalk(pieces, range(40), seed=seed)
    stop = np.zeros(1, dtype=np.int64)
    heights = []
    for moves in (0, 50, 500, 1000):
        offsets = walk.go(moves, 0, stop)
        assert check_placement(problem, offsets) == []
        heights.append(height(problem, offsets))
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] < heights[0]
    # The same seed takes the same way, and a walk at its goal stays where it is.
    again = OrderWalk(pieces, range(40), seed=seed)
    assert [height(problem, again.go(moves, 0, stop)) for moves in (0, 50)] == heights[:2]
    assert again.go(500, heights[1], stop) == again.go(0, 0, stop)


@pytest.mark.parametrize("seed", range(6))
def test_staircases_are_planned_to_the_proven_optimum(seed):
    problem = staircases(seed, 16)
    result = plan(problem, rounds=None)
    assert check_placement(problem, result.offsets) == []
    assert result.proven_optimal
    if result.height_bytes > lower_bound(problem):
        assert gaps(problem, result.height_bytes - 16)[0] == IMPOSSIBLE


@pytest.mark.parametrize("seed", range(10))
def test_both_ways_to_find_conflicts_agree(seed):
    problem = random_problem(random.Random(seed), blocks=12, pieces=4, reservations=seed % 2 == 1)
    conflicts, table = find_conflicts(piece_arrays(problem)), hull_table(piece_arrays(problem))
    hulls: dict[tuple[int, int], tuple[int, int]] = {}
    for i, j, low, high in zip(
        *(c.tolist() for c in (conflicts.first, conflicts.second, conflicts.low, conflicts.high)),
        strict=True,
    ):
        old = hulls.get((i, j), (low, high))
        hulls[i, j] = (min(low, old[0]), max(high, old[1]))
    for i in range(12):
        for j in range(i + 1, 12):
            low, high = table[i, j].tolist()
            assert hulls.get((i, j)) == ((low, high) if low < high else None)
            assert table[j, i].tolist() == ([-high, -low] if low < high else [0, 0])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
