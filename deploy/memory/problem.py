"""The types of the packing problem: what has to be placed, and where it was placed.

A problem is a set of blocks in a plane of address (bytes) against time (operator steps). A block
is a tensor, or a feature map whose strips are produced and consumed one by one: its pieces keep
their offsets relative to each other, so the planner chooses one number for each block.
"""

from __future__ import annotations

from dataclasses import dataclass

from keras_fmc.errors import BadInputError

HEIGHT_ALIGNMENT_BYTES = 16
"""TFLM rounds the end of every planned buffer up to this; a runtime's data may say less."""


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes [offset, offset + size_bytes) from the block's start, occupied in steps [start, stop).

    Attributes:
        offset: first byte, counted from the start of the block; not negative.
        size_bytes: number of bytes, at least 1.
        start: first operator step at which the bytes are occupied.
        stop: first operator step at which they are free again; greater than `start`.
        reserved: the bytes are dead, but the runtime still believes them to be live. Only scratch
            blocks have to keep clear of a reserved piece, and it adds nothing to the height.
    """

    offset: int
    size_bytes: int
    start: int
    stop: int
    reserved: bool = False

    def __post_init__(self) -> None:
        if self.offset < 0:
            raise BadInputError("a piece begins before its block", "offset >= 0", self)
        if self.size_bytes < 1:
            raise BadInputError("a piece is empty", "size_bytes >= 1", self)
        if self.stop <= self.start:
            raise BadInputError("a piece has no lifetime", "start < stop", self)

    @property
    def end(self) -> int:
        """The first byte after the piece, counted from the start of the block."""
        return self.offset + self.size_bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Pieces that move together; pieces of one block never conflict with each other.

    Attributes:
        name: unique within a problem; used in messages only.
        pieces: at least one, in any order.
        alignment: the block's offset is a multiple of this many bytes.
        scratch: the block belongs to a kernel, so reserved pieces of other blocks are in its way.
    """

    name: str
    pieces: tuple[Piece, ...]
    alignment: int = HEIGHT_ALIGNMENT_BYTES
    scratch: bool = False

    def __post_init__(self) -> None:
        if not self.pieces:
            raise BadInputError(f"block {self.name!r} has no pieces", "at least one piece")
        if self.alignment < 1:
            raise BadInputError(
                f"block {self.name!r} has a bad alignment", "at least 1 byte", self.alignment
            )

    @property
    def live_size_bytes(self) -> int:
        """Where the last live byte of the block ends; 0 if every piece is reserved."""
        return max((piece.end for piece in self.pieces if not piece.reserved), default=0)


@dataclass(frozen=True, slots=True)
class Problem:
    """Blocks to place in one memory.

    Two blocks conflict where a piece of one and a piece of the other overlap in time and in
    address; a reserved piece counts only against the pieces of a scratch block.

    Attributes:
        blocks: in any order; placements list their offsets in the same order.
        capacity_bytes: a plan of this height or less is good enough, so a search stops there;
            None asks for the smallest height.
        alignment_bytes: heights are rounded up to this.
    """

    blocks: tuple[Block, ...]
    capacity_bytes: int | None = None
    alignment_bytes: int = HEIGHT_ALIGNMENT_BYTES

    def __post_init__(self) -> None:
        names: set[str] = set()
        for block in self.blocks:
            if block.name in names:
                raise BadInputError("two blocks have one name", "unique names", block.name)
            names.add(block.name)
        if self.capacity_bytes is not None and self.capacity_bytes < 0:
            raise BadInputError("the capacity is negative", "at least 0", self.capacity_bytes)

    def height_of(self, offsets: tuple[int, ...]) -> int:
        """Height in bytes: max of `offset + live size`, rounded up, over the blocks."""
        return round_up(
            max(
                (
                    offset + block.live_size_bytes
                    for block, offset in zip(self.blocks, offsets, strict=True)
                    if block.live_size_bytes
                ),
                default=0,
            ),
            self.alignment_bytes,
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """An offset for every block, and how good it is known to be.

    Attributes:
        offsets: byte offset of each block of the problem, in the problem's order.
        height_bytes: the memory that the placement needs.
        lower_bound_bytes: no placement needs less.
        proven_optimal: no placement is lower: the height meets the bound, or a search finished.
        engine: which part of the planner found the offsets.
        interrupted: the search was broken off (Ctrl-C, `stop`); the placement is the best so
            far.
    """

    offsets: tuple[int, ...]
    height_bytes: int
    lower_bound_bytes: int
    proven_optimal: bool
    engine: str
    interrupted: bool = False
