"""Reads and writes the CSV files of MiniMalloc: one row `id,lower,upper,size` for each buffer."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from deploy.memory.problem import Block, Piece, Placement, Problem
from keras_fmc.errors import BadInputError

_COLUMNS = ("id", "lower", "upper", "size")


def read_problem(path: str | Path, *, capacity_bytes: int | None = None) -> Problem:
    """The buffers of a file as blocks of one piece, live in steps [lower, upper).

    Raises:
        BadInputError: the file cannot be read, a column is missing or a value is no integer.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"cannot read {path}", "a CSV file", error) from error
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise BadInputError(
            f"{path} lacks columns", ",".join(_COLUMNS), ",".join(reader.fieldnames or ())
        )
    blocks = []
    for row in reader:
        try:
            start, stop, size_bytes = (int(row[name]) for name in _COLUMNS[1:])
        except (TypeError, ValueError) as error:
            raise BadInputError(
                f"{path}, line {reader.line_num}: not a buffer", ",".join(_COLUMNS), dict(row)
            ) from error
        blocks.append(Block(row["id"], (Piece(0, size_bytes, start, stop),)))
    return Problem(tuple(blocks), capacity_bytes)


def write_problem(problem: Problem, path: str | Path, placement: Placement | None = None) -> None:
    """Writes blocks of one piece, with a column `offset` if a placement is given.

    Raises:
        BadInputError: a block has several pieces, a reserved one or an offset of its own: the
            format has no words for those.
    """
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow((*_COLUMNS, "offset") if placement else _COLUMNS)
    for index, block in enumerate(problem.blocks):
        piece = block.pieces[0]
        if len(block.pieces) > 1 or piece.offset or piece.reserved:
            raise BadInputError(
                f"block {block.name!r} cannot be written as CSV", "one live piece at offset 0"
            )
        row = (block.name, piece.start, piece.stop, piece.size_bytes)
        writer.writerow((*row, placement.offsets[index]) if placement else row)
    Path(path).write_text(rows.getvalue(), encoding="utf-8")
