"""A board as plain data, for programs that read what ``fmc boards --json`` prints."""

from __future__ import annotations

import dataclasses
from typing import Any

from deploy.targets.records import Board


def board_data(board: Board) -> dict[str, Any]:
    """Returns the fields of a board; sizes in bytes, addresses as numbers."""
    data = dataclasses.asdict(board)
    return {name: list(item) if isinstance(item, tuple) else item for name, item in data.items()}
