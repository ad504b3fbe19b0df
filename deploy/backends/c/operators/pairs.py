"""Operands that broadcast over rows, columns and channels."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.backends.c.fixed_point import zero_point
from deploy.backends.c.library import PREFIX, SOURCE
from deploy.backends.c.lowering import Lowering
from deploy.backends.c.program import SAME_ROW, Read, whole

_BINARY_BYTES = 17 * 4


def binary(
    lowering: Lowering,
    step: int,
    function: str,
    multipliers: tuple[int, ...],
    shifts: tuple[int, ...],
    bounds: tuple[int, int],
    *,
    offsets: bool = True,
    swapped: bool = False,
    source: str = "fmc_elementwise.c",
) -> None:
    """Adds the step of a kernel of two operands; ``swapped``: it gets the second one first."""
    operator = lowering.graph.operators[step]
    a, b, y = operator.inputs[0], operator.inputs[1], operator.outputs[0]
    if swapped:
        a, b = b, a
    parts = together(lowering, step, (a, b))
    zeros = (0, 0, 0)
    if offsets:
        zeros = (-zero_point(lowering.tensor(a)), -zero_point(lowering.tensor(b)), 0)
        if lowering.tensor(y).dtype == "int8":
            zeros = (*zeros[:2], zero_point(lowering.tensor(y)))
    fields = (*parts.extents, *zeros, *multipliers, *shifts, *bounds)
    descriptor = lowering.struct("fmc_binary_t", fields, _BINARY_BYTES)
    same_shape = lowering.tensor(a).shape == lowering.tensor(b).shape
    by_library = lowering.library is not None and function == "fmc_add" and same_shape
    lowering.step(
        step,
        lowering.output(y, parts.view),
        parts.reads,
        f"{f'{PREFIX}_add' if by_library else function}({descriptor}, "
        f"{', '.join(parts.pointers)}, {{out}});",
        SOURCE if by_library else source,
    )


@dataclass(frozen=True, slots=True)
class Together:
    """Operands of one byte a value that broadcast.

    Attributes:
        view: rows and row bytes of the output.
        extents: columns, channels, and each operand's steps from column to column and channel to
            channel.
        pointers: where each operand is, in C.
    """

    view: tuple[int, int]
    extents: tuple[int, ...]
    reads: tuple[Read, ...]
    pointers: tuple[str, ...]


def together(lowering: Lowering, step: int, operands: tuple[int, ...]) -> Together:
    out = lowering.tensor(lowering.graph.operators[step].outputs[0])
    shapes = [lowering.tensor(t).shape for t in operands]
    if len(set(shapes)) == 1:
        views = [lowering.view_of(t) for t in operands if not lowering.tensor(t).is_constant]
        view = max(views or [lowering.view_of(operands[0])], key=lambda v: v[0])
        columns, channels = 1, view[1]
        sides = [_Side(view, True, 1, 1)] * len(operands)
    else:
        shape = (1,) * (4 - len(out.shape)) + out.shape
        if len(shape) > 4 or shape[0] != 1:
            lowering.refuse(step, f"operands broadcast to {out.shape}", "at most 3 dimensions")
        aside = shape[1] == 1
        rows, columns, channels = (shape[2], 1, shape[3]) if aside else shape[1:]
        view = rows, columns * channels
        sides = [_side(own, aside, rows) for own in shapes]
    reads: list[Read] = []
    pointers = []
    for tensor, side in zip(operands, sides, strict=True):
        if lowering.tensor(tensor).is_constant:
            name = lowering.array(lowering.tensor(tensor).array(), "int8")
            moving = side.by_row and side.view[0] > 1
            pointers.append(f"{name} + {{row}} * {side.view[1]}" if moving else name)
            continue
        pointers.append(f"{{in{len(reads)}}}")
        same = side.by_row and side.view[0] > 1
        rule = SAME_ROW if same or view[0] == 1 else whole(1)
        lead = 0 if side.view == view else None
        reads.append(lowering.read(tensor, rule, side.view, lead_bytes=lead))
    steps = [n for side in sides for n in (side.column, side.channel)]
    return Together(view, (columns, channels, *steps), tuple(reads), tuple(pointers))


@dataclass(frozen=True, slots=True)
class _Side:
    """An operand: its rows, and its steps from column to column and channel to channel."""

    view: tuple[int, int]
    by_row: bool
    column: int
    channel: int


def _side(shape: tuple[int, ...], aside: bool, rows: int) -> _Side:
    full = (1,) * (4 - len(shape)) + shape
    own_rows, columns, channels = (full[2], 1, full[3]) if aside else full[1:]
    channel = int(channels > 1)
    column = channels if columns > 1 else 0
    return _Side((own_rows, columns * channels), own_rows == rows, column, channel)
