"""The planner: optimal on what can be checked, valid on everything, deterministic, and light."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import check_placement, height, random_problem, smallest_height

from deploy.memory.bound import lower_bound
from deploy.memory.planner import plan
from deploy.memory.problem import Block, Piece, Placement, Problem

KIB = 1024


def boxes(rows: list[tuple[int, int, int]], capacity_bytes: int | None = None) -> Problem:
    """A problem from rows of (start, stop, size)."""
    return Problem(
        tuple(
            Block(f"b{i}", (Piece(0, size, start, stop),))
            for i, (start, stop, size) in enumerate(rows)
        ),
        capacity_bytes,
    )


@pytest.mark.parametrize(
    ("rows", "peak"),
    [
        ([], 0),
        ([(0, 1, 1)], 16),
        ([(0, 1, 16), (0, 1, 16)], 16 + 16),
        ([(0, 1, 16), (1, 2, 16)], 16),
        ([(0, 2, 16), (1, 3, 16), (2, 4, 16)], 16 + 16),
        # A chain: each map lives with the next one only.
        ([(0, 2, 3072), (1, 3, 16384), (2, 4, 8192), (3, 5, 4096)], 3072 + 16384 + 8192 - 3072),
        # A residual block: the input waits for the addition.
        ([(0, 3, 64), (1, 2 + 1, 64), (2, 4, 64), (3, 5, 64)], 64 * 3),
        # Two long ones at the bottom, short ones on top of each other's places.
        ([(0, 9, 32), (0, 1, 64), (1, 5, 48), (2, 4, 16), (5, 9, 64)], 32 + 64),
        # Largest first puts 48 at the bottom and breaks the gap that 32 needs; 80 is possible.
        ([(0, 2, 32), (1, 3, 48), (2, 5, 32), (3, 4, 48), (4, 6, 48)], 32 + 48),
    ],
)
def test_classic_rows(rows, peak):
    problem = boxes(rows)
    result = plan(problem)
    assert check_placement(problem, result.offsets) == []
    assert result.height_bytes == result.lower_bound_bytes == peak
    assert result.proven_optimal


# Rows of start, stop and cells of 16 bytes. No live set exceeds 8 (14) cells, but more is needed.
ABOVE_THE_LIVE_SET = [
    (8, "041 033 251 363 132 241 351 463 013 011 122 341 561 561"),
    (14, "166 141 252 365 025 131 131 014 015 231 232 451 563"),
]


@pytest.mark.parametrize(("cells", "rows"), ABOVE_THE_LIVE_SET)
def test_optimum_above_the_largest_live_set_is_proven(cells, rows):
    problem = boxes([(int(row[0]), int(row[1]), 16 * int(row[2])) for row in rows.split()])
    assert lower_bound(problem) == 16 * cells
    assert smallest_height(problem) == 16 * (cells + 1)
    # With the live set as capacity, the planner has to see that nothing fits there.
    for capacity_bytes in (None, 16 * cells):
        result = plan(Problem(problem.blocks, capacity_bytes))
        assert check_placement(problem, result.offsets) == []
        assert result.height_bytes == result.lower_bound_bytes == 16 * (cells + 1)
        assert result.proven_optimal


@pytest.mark.parametrize("seed", range(150))
def test_equals_trying_everything(seed):
    generator = random.Random(seed)
    problem = random_problem(
        generator,
        blocks=generator.randint(1, 5),
        pieces=generator.choice([1, 2, 3]),
        steps=generator.choice([3, 6]),
        cells=generator.choice([2, 3]),
        unit=generator.choice([16, 16, 8, 5]),
        reservations=generator.random() < 0.4,
        alignments=generator.choice([(16,), (32, 16), (8,), (8, 16, 64)]),
    )
    result = plan(problem)
    assert check_placement(problem, result.offsets) == []
    assert height(problem, result.offsets) == result.height_bytes
    assert result.proven_optimal
    assert result.height_bytes == result.lower_bound_bytes == smallest_height(problem)


@pytest.mark.long
@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    seed=st.integers(0, 2**32),
    blocks=st.integers(1, 40),
    pieces=st.integers(1, 8),
    steps=st.integers(1, 30),
    reservations=st.booleans(),
    unit=st.sampled_from([16, 24, 5]),
)
def test_placements_are_valid(seed, blocks, pieces, steps, reservations, unit):
    generator = random.Random(seed)
    problem = random_problem(
        generator,
        blocks=blocks,
        pieces=pieces,
        steps=steps,
        cells=12,
        unit=unit,
        reservations=reservations,
    )
    result = plan(problem, rounds=1)
    assert check_placement(problem, result.offsets) == []
    assert height(problem, result.offsets) == result.height_bytes
    assert lower_bound(problem) <= result.lower_bound_bytes <= result.height_bytes
    assert result.proven_optimal == (result.lower_bound_bytes == result.height_bytes)


def test_an_output_grows_into_the_rows_that_the_input_gave_up():
    rows, row_bytes = 16, 96
    given_up = Block("in", tuple(Piece(96 * r, 96, 0, r + 1) for r in range(rows)))
    born = Block("out", tuple(Piece(96 * r, 96, r, rows) for r in range(rows)))
    problem = Problem((given_up, born))
    result = plan(problem)
    assert check_placement(problem, result.offsets) == []
    assert result.height_bytes == row_bytes * (rows + 1)
    assert result.proven_optimal
    # As whole maps they would need twice 16 rows.
    whole = plan(boxes([(0, rows, 96 * rows), (0, rows, 96 * rows)]))
    assert whole.height_bytes == 2 * row_bytes * rows


def test_a_tile_lies_in_the_dead_part_of_a_staircase():
    rows = 8
    given_up = Block("in", tuple(Piece(64 * r, 64, 0, r + 1) for r in range(rows)))
    tiles = tuple(Block(f"tile {r}", (Piece(0, 64 * r, r, r + 1),)) for r in range(1, rows))
    result = plan(Problem((given_up, *tiles)))
    assert result.height_bytes == 64 * rows
    assert result.proven_optimal


def test_only_scratch_keeps_clear_of_reserved_bytes():
    reserved = Block("map", (Piece(0, 64, 0, 1), Piece(0, 64, 1, 3, reserved=True)))
    tensor, scratch = Piece(0, 64, 1, 2), Piece(0, 32, 2, 3)
    free = Problem((reserved, Block("tensor", (tensor,)), Block("other", (scratch,))))
    assert plan(free).height_bytes == 64
    kept = Problem(
        (reserved, Block("tensor", (tensor,)), Block("scratch", (scratch,), scratch=True))
    )
    result = plan(kept)
    # The reserved adds no height of its own: it may float above the scratch buffer, its live part
    # may not: 32 + 64 is the least.
    assert check_placement(kept, result.offsets) == []
    assert result.height_bytes == smallest_height(kept) == 32 + 64
    assert result.proven_optimal


def test_capacity_is_good_enough():
    problem = random_problem(random.Random(11), blocks=30, pieces=1, steps=12, cells=20)
    lowest = plan(problem)
    assert lowest.proven_optimal
    roomy = Problem(problem.blocks, capacity_bytes=2 * lowest.height_bytes)
    first = plan(roomy)
    assert first.engine == "first fit"
    assert first.height_bytes <= 2 * lowest.height_bytes
    tight = plan(Problem(problem.blocks, capacity_bytes=lowest.height_bytes))
    assert tight.height_bytes == lowest.height_bytes


def test_a_capacity_that_is_too_small_gives_the_lowest_placement():
    rows = [(0, 2, 64), (1, 3, 64), (2, 4, 64)]
    result = plan(boxes(rows, capacity_bytes=100))
    assert (result.height_bytes, result.proven_optimal) == (128, True)


def hard_problem() -> Problem:
    """Boxes that fill 4 KiB at every step, cut at random, so that first fit does not pack them."""
    generator = random.Random(1)
    rows: list[tuple[int, int, int]] = []

    def cut(low: int, high: int, start: int, stop: int, depth: int) -> None:
        if depth and high - low > 128 and (stop - start < 3 or generator.random() < 0.5):
            middle = 16 * generator.randint(low // 16 + 2, high // 16 - 2)
            cut(low, middle, start, stop, depth - 1)
            cut(middle, high, start, stop, depth - 1)
        elif depth and stop - start > 2:
            middle = generator.randint(start + 1, stop - 1)
            cut(low, high, start, middle, depth - 1)
            cut(low, high, middle, stop, depth - 1)
        else:
            rows.append((start, stop, high - low))

    cut(0, 4 * KIB, 0, 40, 7)
    generator.shuffle(rows)
    return boxes(rows)


def test_exact_search_packs_what_first_fit_cannot():
    problem = hard_problem()
    greedy = plan(problem, rounds=0)
    assert greedy.engine == "first fit"
    assert check_placement(problem, greedy.offsets) == []
    assert greedy.height_bytes > greedy.lower_bound_bytes == 4 * KIB
    assert not greedy.proven_optimal
    result = plan(problem, rounds=None)
    assert result.engine == "exact search"
    assert check_placement(problem, result.offsets) == []
    assert (result.height_bytes, result.proven_optimal) == (4 * KIB, True)


def test_the_result_does_not_depend_on_the_number_of_workers_or_the_run():
    problem = hard_problem()
    results = [plan(problem, rounds=None, workers=workers) for workers in (1, 2, 3, 2)]
    assert results[0].engine == "exact search"
    assert results == [results[0]] * 4


def test_progress_reports_each_step_and_ends_at_the_result():
    reports: list[Placement] = []
    result = plan(hard_problem(), rounds=None, progress=reports.append)
    assert reports[-1] == result
    gaps = [report.height_bytes - report.lower_bound_bytes for report in reports]
    assert gaps == sorted(gaps, reverse=True)
    assert len(set(gaps)) == len(gaps) > 1


def test_stop_ends_the_search_with_the_best_so_far():
    result = plan(hard_problem(), rounds=None, stop=lambda: True)
    assert result.engine == "first fit"
    assert not result.proven_optimal
    assert result.interrupted


def test_ctrl_c_keeps_the_best_so_far():
    def interrupt() -> bool:
        raise KeyboardInterrupt

    problem = hard_problem()
    result = plan(problem, rounds=None, stop=interrupt)
    assert result.interrupted
    assert check_placement(problem, result.offsets) == []


def run_python(code: str) -> str:
    root = Path(__file__).resolve().parent.parent
    path = os.pathsep.join([str(root), str(root / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_easy_plan_loads_no_compiler_and_no_solver():
    heavy = run_python(
        "import sys\n"
        "from planner_test import boxes, plan\n"
        "problem = boxes([(0, 2, 64), (1, 3, 64), (2, 4, 64)])\n"
        "assert plan(problem).proven_optimal\n"
        "print([m for m in ('numba', 'ortools', 'tensorflow', 'scipy') if m in sys.modules])\n"
    )
    assert heavy == "[]"


@pytest.mark.long
def test_the_same_placement_without_numba():
    pytest.importorskip("numba", reason="compares with compiled code")
    code = (
        "import sys\n"
        "{block}"
        "from planner_test import hard_problem, plan\n"
        "from deploy.memory.compiled import IS_COMPILED\n"
        "result = plan(hard_problem(), rounds=None)\n"
        "print(IS_COMPILED, result.engine, result.height_bytes, result.offsets)\n"
    )
    without = run_python(code.format(block="sys.modules['numba'] = None\n"))
    with_it = run_python(code.format(block=""))
    assert without.startswith("False exact search 4096 ")
    assert with_it == "True" + without.removeprefix("False")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
