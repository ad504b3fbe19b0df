"""MiniMalloc's CSV files, and the eleven hard instances through the planner's own interface."""

from __future__ import annotations

import csv
import sys

import pytest
from packing import check_placement, height
from support import shared_path

from deploy.memory.bound import lower_bound
from deploy.memory.compiled import IS_COMPILED
from deploy.memory.minimalloc import read_problem, write_problem
from deploy.memory.planner import plan
from deploy.memory.problem import Block, Piece, Problem
from keras_fmc.errors import BadInputError

CAPACITY_BYTES = 1_048_576


def test_round_trip(tmp_path):
    path = tmp_path / "problem.csv"
    path.write_text("id,lower,upper,size\na,0,3,64\nb,2,5,32\n", encoding="utf-8")
    problem = read_problem(path, capacity_bytes=96)
    assert problem == Problem(
        (Block("a", (Piece(0, 64, 0, 3),)), Block("b", (Piece(0, 32, 2, 5),))), 96
    )
    write_problem(problem, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()
    write_problem(problem, tmp_path / "solved.csv", plan(problem))
    with (tmp_path / "solved.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["a", "b"]
    assert sorted(int(row["offset"]) for row in rows)[0] == 0
    assert read_problem(tmp_path / "solved.csv").blocks == problem.blocks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,lower,size\na,0,3\n", "lacks columns; expected id,lower,upper,size"),
        ("", "lacks columns"),
        ("id,lower,upper,size\na,0,x,3\n", "line 2: not a buffer"),
        ("id,lower,upper,size\na,0\n", "line 2: not a buffer"),
        ("id,lower,upper,size\na,3,3,16\n", "a piece has no lifetime"),
        ("id,lower,upper,size\na,0,3,16\na,0,3,16\n", "two blocks have one name"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError, match=message):
        read_problem(path)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="cannot read"):
        read_problem(tmp_path / "missing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\xff")
    with pytest.raises(BadInputError, match="cannot read"):
        read_problem(tmp_path / "binary.csv")


@pytest.mark.parametrize(
    "piece", [Piece(16, 16, 0, 1), Piece(0, 16, 0, 1, reserved=True)], ids=["offset", "reserved"]
)
def test_the_format_has_no_words_for_staircases(tmp_path, piece):
    with pytest.raises(BadInputError, match="block 'a' cannot be written as CSV"):
        write_problem(Problem((Block("a", (piece,)),)), tmp_path / "x.csv")


@pytest.mark.long
@pytest.mark.skipif(not IS_COMPILED, reason="without numba the search takes minutes for these")
@pytest.mark.parametrize("instance", "ABCDEFGHIJK")
def test_hard_instances_fit(instance):
    path = shared_path(f"data/minimalloc/{instance}.{CAPACITY_BYTES}.csv")
    problem = read_problem(path, capacity_bytes=CAPACITY_BYTES)
    with path.open(encoding="utf-8") as file:
        rows = [tuple(map(int, row)) for row in list(csv.reader(file))[1:]]
    assert [
        (block.pieces[0].start, block.pieces[0].stop, block.pieces[0].size_bytes)
        for block in problem.blocks
    ] == [row[1:] for row in rows]
    result = plan(problem, rounds=None)
    assert check_placement(problem, result.offsets) == []
    assert height(problem, result.offsets) == result.height_bytes <= CAPACITY_BYTES
    load = max(sum(r[3] for r in rows if r[1] <= row[1] < r[2]) for row in rows)
    assert lower_bound(problem) == load <= result.height_bytes


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
