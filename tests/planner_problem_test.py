"""The types of the packing problem, and the oracles that judge the planner."""

from __future__ import annotations

import random
import sys

import pytest
from packing import check_placement, height, random_problem, smallest_height

from deploy.memory.planner import plan
from deploy.memory.problem import Block, Piece, Problem, round_up
from keras_fmc.errors import BadInputError


def box(name: str, size: int, start: int, stop: int) -> Block:
    return Block(name, (Piece(0, size, start, stop),))


@pytest.mark.parametrize(
    ("piece", "text"),
    [
        ((-1, 16, 0, 1), "a piece begins before its block; expected offset >= 0"),
        ((0, 0, 0, 1), "a piece is empty; expected size_bytes >= 1"),
        ((0, 16, 3, 3), "a piece has no lifetime; expected start < stop"),
    ],
)
def test_impossible_pieces_are_refused(piece, text):
    with pytest.raises(BadInputError, match=text):
        Piece(*piece)


def test_impossible_blocks_and_problems_are_refused():
    with pytest.raises(BadInputError, match="block 'a' has no pieces"):
        Block("a", ())
    with pytest.raises(BadInputError, match=r"block 'a' has a bad alignment.*received 0"):
        Block("a", (Piece(0, 16, 0, 1),), alignment=0)
    with pytest.raises(BadInputError, match=r"two blocks have one name.*received a"):
        Problem((box("a", 16, 0, 1), box("a", 16, 1, 2)))
    with pytest.raises(BadInputError, match=r"the capacity is negative.*received -16"):
        Problem((), capacity_bytes=-16)


def test_height_rounds_up_to_16_and_leaves_reserved_bytes_out():
    reserved = Piece(100, 500, 0, 1, reserved=True)
    problem = Problem((Block("a", (Piece(0, 100, 0, 1), reserved)), Block("b", (reserved,))))
    assert problem.height_of((32, 4096)) == 32 + 112
    assert problem.height_of((32, 4096)) == height(problem, (32, 4096))
    assert Problem(()).height_of(()) == 0


@pytest.mark.parametrize(("value", "multiple", "up"), [(0, 16, 0), (1, 16, 16), (48, 16, 48)])
def test_round_up(value, multiple, up):
    assert round_up(value, multiple) == up


def test_checker_accepts_touching_and_refuses_overlapping_blocks():
    problem = Problem((box("a", 32, 0, 2), box("b", 32, 1, 3), box("c", 32, 2, 4)))
    assert check_placement(problem, (0, 32, 0)) == []
    assert check_placement(problem, (0, 16, 64)) == ["step 1: a [0, 32) and b from 16"]
    assert check_placement(problem, (0, 32, 40)) == [
        "c at 40: not a multiple of 16",
        "step 2: b [32, 64) and c from 40",
    ]
    assert check_placement(problem, (0, 32)) == ["2 offsets for 3 blocks"]


def test_checker_knows_whom_reserved_bytes_hinder():
    reserved = Block("reserved", (Piece(0, 64, 0, 4, reserved=True),))
    scratch = Block("scratch", (Piece(0, 64, 2, 3),), scratch=True)
    problem = Problem((reserved, box("tensor", 64, 1, 2), scratch))
    assert check_placement(problem, (0, 0, 64)) == []
    assert check_placement(problem, (0, 0, 48)) == ["step 2: reserved [0, 64) and scratch from 48"]


@pytest.mark.parametrize("seed", range(10))
def test_checker_catches_every_block_moved_onto_one_it_meets(seed):
    problem = random_problem(random.Random(seed), blocks=6, pieces=1)
    offsets = plan(problem).offsets
    assert check_placement(problem, offsets) == []
    meetings = [
        (i, j)
        for i, first in enumerate(problem.blocks)
        for j, second in enumerate(problem.blocks)
        if i != j
        and first.pieces[0].start < second.pieces[0].stop
        and second.pieces[0].start < first.pieces[0].stop
    ]
    assert meetings
    for i, j in meetings:
        moved = list(offsets)
        moved[i] = offsets[j]
        assert check_placement(problem, moved) != []


def test_oracle_by_hand():
    # a and b overlap at step 1, b and c at step 2; a and c never, so c goes below b again.
    problem = Problem((box("a", 32, 0, 2), box("b", 48, 1, 3), box("c", 32, 2, 4)))
    assert smallest_height(problem) == 32 + 48


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
