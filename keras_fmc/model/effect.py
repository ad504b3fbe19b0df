"""What operations do with memory."""

from __future__ import annotations

from enum import Enum


class Effect(Enum):
    """What an operator does with memory."""

    COMPUTE = "compute"
    """Writes a new map."""
    ELEMENTWISE = "elementwise"
    """May overwrite an input of equal size that nobody reads afterwards."""
    VIEW = "view"
    """Leaves the bytes where they are: reshape, dropout."""
    JOIN = "join"
    """Its inputs may be made where they belong, one behind the other in the output."""
