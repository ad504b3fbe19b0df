"""Oracles for the planner: a checker, an exhaustive search and a maker of small problems.

They share the types of `deploy.memory.problem` with the planner and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from deploy.memory.problem import Block, Piece, Problem


def check_placement(problem: Problem, offsets: Sequence[int]) -> list[str]:
    """What is wrong with a placement, step by step and byte by byte; empty if nothing is."""
    faults = []
    if len(offsets) != len(problem.blocks):
        return [f"{len(offsets)} offsets for {len(problem.blocks)} blocks"]
    for block, offset in zip(problem.blocks, offsets, strict=True):
        if offset < 0 or offset % block.alignment:
            faults.append(f"{block.name} at {offset}: not a multiple of {block.alignment}")
    steps = sorted({piece.start for block in problem.blocks for piece in block.pieces})
    for step in steps:
        spans = [
            (offset + piece.offset, offset + piece.offset + piece.size_bytes, block, piece)
            for block, offset in zip(problem.blocks, offsets, strict=True)
            for piece in block.pieces
            if piece.start <= step < piece.stop
        ]
        spans.sort(key=lambda span: span[0])
        for position, (begin, end, block, piece) in enumerate(spans):
            for other_begin, _, other, other_piece in spans[position + 1 :]:
                if other_begin >= end:
                    break
                if other is block:
                    continue
                if piece.reserved and not other.scratch:
                    continue
                if other_piece.reserved and not block.scratch:
                    continue
                faults.append(
                    f"step {step}: {block.name} [{begin}, {end}) and {other.name} "
                    f"from {other_begin}"
                )
    return faults


def height(problem: Problem, offsets: Sequence[int]) -> int:
    """End of the last live byte, rounded up to the alignment of the problem."""
    ends = [
        offset + piece.offset + piece.size_bytes
        for block, offset in zip(problem.blocks, offsets, strict=True)
        for piece in block.pieces
        if not piece.reserved
    ]
    return -(-max(ends, default=0) // problem.alignment_bytes) * problem.alignment_bytes


def smallest_height(problem: Problem) -> int:
    """The optimum, by trying all offsets for ever larger memories; for a handful of blocks."""
    target = 0
    while not _fits(problem, target):
        target += problem.alignment_bytes
    return target


def _fits(problem: Problem, target: int) -> bool:
    steps = sorted({piece.start for block in problem.blocks for piece in block.pieces})
    masks = []
    for block in problem.blocks:
        live, reserved = [0] * len(steps), [0] * len(steps)
        for piece in block.pieces:
            for position, step in enumerate(steps):
                if piece.start <= step < piece.stop:
                    mask = ((1 << piece.size_bytes) - 1) << piece.offset
                    if piece.reserved:
                        reserved[position] |= mask
                    else:
                        live[position] |= mask
        masks.append((block, live, reserved))
    everything = (1 << target) - 1
    # The state at a step: bytes of live pieces, of live scratch pieces, of reserved ones.
    empty = [(0, 0, 0)] * len(steps)

    def place(index: int, state: list[tuple[int, int, int]]) -> bool:
        if index == len(masks):
            return True
        block, live, reserved = masks[index]
        for offset in range(0, target + block.alignment, block.alignment):
            after = []
            for (taken, scratch, dead), own_live, own_reserved in zip(
                state, live, reserved, strict=True
            ):
                own, shade = own_live << offset, own_reserved << offset
                if own & ~everything or own & taken or shade & scratch:
                    break
                if block.scratch and own & dead:
                    break
                if block.scratch:
                    after.append((taken | own, scratch | own, dead | shade))
                else:
                    after.append((taken | own, scratch, dead | shade))
            else:
                if place(index + 1, after):
                    return True
        return False

    return place(0, empty)


def random_problem(
    generator: random.Random,
    *,
    blocks: int,
    pieces: int,
    steps: int = 6,
    cells: int = 4,
    unit: int = 16,
    reservations: bool = False,
    alignments: Sequence[int] = (16,),
) -> Problem:
    """Blocks of up to `pieces` pieces of up to `cells * unit` bytes, over `steps` steps.

    Sizes and offsets are multiples of `unit`. With `reservations`, some pieces are reserved, some
    blocks are scratch.
    """
    made = []
    for index in range(blocks):
        parts = []
        scratch = reservations and generator.random() < 0.3
        for _ in range(generator.randint(1, pieces)):
            start = generator.randrange(steps)
            parts.append(
                Piece(
                    unit * generator.randrange(cells) if pieces > 1 else 0,
                    unit * generator.randint(1, cells),
                    start,
                    generator.randint(start + 1, steps),
                    reserved=reservations and not scratch and generator.random() < 0.3,
                )
            )
        alignment = generator.choice(list(alignments))
        made.append(Block(f"block {index}", tuple(parts), alignment, scratch))
    return Problem(tuple(made))
