"""The memory plan: where every tensor of a graph stands in the arena, and why that is right."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Any

from keras_fmc.notebook import data_frame, shape_text, table_html


class AliasReason(Enum):
    """Why a tensor may share bytes with another that is alive at the same time."""

    SLICE_VIEW = "slice view: each byte is copied onto itself"
    CONCATENATION_VIEW = "concatenation view: each byte is copied onto itself"
    RESHAPE_VIEW = "reshape: each byte is copied onto itself"
    IN_PLACE = "in place: the operator may overwrite its input"
    OVERLAP = "diagonal overlap: the kernel reads each byte before it overwrites it"


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """One tensor in the arena.

    ``first`` and ``last`` are the first and last operator that touch it, inclusive; a graph
    input counts from operator 0, a graph output to the last operator.
    ``alias_of`` names the tensor whose bytes it shares by declaration.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    size_bytes: int
    first: int
    last: int
    alias_of: str | None = None
    alias_reason: AliasReason | None = None


@dataclass(frozen=True, slots=True)
class PlannedPiece:
    """Bytes [offset, offset + size_bytes) that hold a value during operators [start, stop).

    Pieces of one ``block`` are declared to belong together; pieces of different blocks that
    are alive together never overlap. ``tensor`` names the map for messages.
    """

    block: str
    tensor: str
    offset: int
    size_bytes: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Offsets of all tensors of a graph with the certificate of the search.

    Attributes:
        offsets: one entry for each tensor of the graph, bytes from the start of the arena;
            -1 for constants and for tensors that no operator uses.
        head_bytes: the reused part of the arena that the plan needs, as the runtime counts it: no
            multiple of 16 where the last tensor stands at none.
        lower_bound_bytes: no plan of this operator order has a smaller head.
        proven_optimal: whether the search proved that no smaller head exists, in steps of 16 bytes.
    """

    tensors: tuple[PlannedTensor, ...]
    pieces: tuple[PlannedPiece, ...]
    offsets: tuple[int, ...]
    head_bytes: int
    lower_bound_bytes: int
    proven_optimal: bool
    engine: str

    def to_dataframe(self) -> Any:
        """Returns the tensors as a pandas.DataFrame, one row each."""
        return data_frame([dataclasses.asdict(tensor) for tensor in self.tensors])

    def _repr_html_(self) -> str:
        rows = [
            (t.offset, t.size_bytes, f"{t.first}..{t.last}", t.name, shape_text(t.shape))
            for t in self.tensors
        ]
        says = f"The head needs {self.head_bytes:,} bytes, at least {self.lower_bound_bytes:,}."
        head = ("offset", "bytes", "operators", "tensor", "shape")
        return table_html("Memory plan", head, rows, says=says)
