"""Lower bounds: true on problems small enough to try everything, and exact where they can be."""

from __future__ import annotations

import dataclasses
import random
import sys

import pytest
from packing import random_problem, smallest_height

from deploy.memory.bound import lower_bound
from deploy.memory.problem import Block, Piece, Problem


def box(name: str, size: int, start: int, stop: int, **options) -> Block:
    return Block(name, (Piece(0, size, start, stop),), **options)


def test_live_set():
    problem = Problem((box("a", 32, 0, 2), box("b", 48, 1, 3), box("c", 64, 2, 4)))
    assert lower_bound(problem) == 48 + 64


def test_each_buffer_is_rounded_up_when_all_begin_at_16():
    problem = Problem(tuple(box(f"b{i}", 17, 0, 1) for i in range(3)))
    assert lower_bound(problem) == 32 * 3


def test_bytes_count_exactly_when_a_piece_begins_inside_a_cell():
    # The second pieces begin at byte 8, so cells of 16 bytes can be shared by two blocks.
    blocks = tuple(
        Block(f"b{i}", (Piece(8, 8, 0, 1),) if i else (Piece(0, 8, 0, 1),)) for i in range(2)
    )
    assert lower_bound(Problem(blocks)) == 16 == smallest_height(Problem(blocks))


def test_reserved_bytes_and_empty_problems_count_nothing():
    reserved = Block("g", (Piece(0, 4096, 0, 9, reserved=True),))
    assert lower_bound(Problem(())) == 0
    assert lower_bound(Problem((reserved,))) == 0
    assert lower_bound(Problem((reserved, box("a", 32, 0, 2)))) == 32


def test_a_block_is_never_lower_than_its_last_live_byte():
    rows = tuple(Piece(16 * row, 16, row, row + 1) for row in range(8))
    assert lower_bound(Problem((Block("moving", rows),))) == 16 * 8


def test_two_staircases_need_the_better_of_their_two_orders():
    # The input gives up row r after step r; the output's row r is born in step r.
    rows, row_bytes = 6, 32
    given = Block("in", tuple(Piece(row_bytes * r, row_bytes, 0, r + 1) for r in range(rows)))
    made = Block("out", tuple(Piece(row_bytes * r, row_bytes, r, rows) for r in range(rows)))
    # One row more than either: the output's row r lies where the input's row r - 1 lay.
    assert lower_bound(Problem((given, made))) == row_bytes * (rows + 1)
    # Born from the top down it cannot follow the input: at the first and the last step a whole
    # map lives beside the top row of the other one, so neither can reach into the other.
    upward = Block(
        "out", tuple(Piece(row_bytes * (rows - 1 - r), row_bytes, r, rows) for r in range(rows))
    )
    later = Block("later", (Piece(0, row_bytes, rows, rows + 1),))  # so that heights go in rows
    problem = Problem((given, upward, later))
    assert lower_bound(problem) == 2 * rows * row_bytes == smallest_height(problem)


def test_heights_are_multiples_of_what_all_sizes_share():
    # 3 x 1024 bytes are live at once; no height between the multiples of 1,024 can be optimal.
    problem = Problem(tuple(box(f"b{i}", 1024 * (1 + i % 2), i, i + 3) for i in range(5)))
    assert lower_bound(problem) % 1024 == 0
    assert lower_bound(problem) == 1024 * (2 + 1 + 2)


@pytest.mark.parametrize("seed", range(150))
def test_never_above_the_optimum(seed):
    generator = random.Random(seed)
    problem = random_problem(
        generator,
        blocks=generator.randint(1, 5),
        pieces=generator.choice([1, 2, 3]),
        steps=generator.choice([3, 6]),
        cells=3,
        unit=generator.choice([16, 8, 5]),
        reservations=generator.random() < 0.4,
        alignments=generator.choice([(16,), (32, 16), (8,), (8, 16, 64)]),
    )
    problem = dataclasses.replace(problem, alignment_bytes=generator.choice([16, 16, 4]))
    assert lower_bound(problem) <= smallest_height(problem)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
