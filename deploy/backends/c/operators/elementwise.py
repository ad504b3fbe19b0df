"""Operators that work value by value: two operands, tables of 256 values, softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deploy.backends.c.byte_tables import TABLES
from deploy.backends.c.fixed_point import (
    activation_range,
    float32_ratio,
    quantized_multiplier,
    scale,
    zero_point,
)
from deploy.backends.c.library import PREFIX, SOURCE
from deploy.backends.c.lowering import Lowering
from deploy.backends.c.operators.indices import add_int32, is_of_int32
from deploy.backends.c.operators.registry import lowers
from deploy.backends.c.program import SAME_ROW, Read, whole

_BINARY_BYTES = 17 * 4
_SOFTMAX_BYTES = 5 * 4
_HEADROOM = 1 << 20
_SQUARE_HEADROOM_BITS = 7


@lowers(*TABLES)
def table(lowering: Lowering, step: int) -> None:
    """Operators from bytes to bytes: what they do to each of the 256 values."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    for index in (x, y):
        dtype = lowering.tensor(index).dtype
        if dtype not in ("int8", "uint8"):
            lowering.refuse(step, f"{dtype} values in {lowering.tensor(index).name}", "int8")
    values = TABLES[operator.opcode](operator, lowering.tensor(x), lowering.tensor(y))
    look_up(lowering, step, values)


def look_up(lowering: Lowering, step: int, values: np.ndarray) -> None:
    """Adds the step of an operator that looks each byte up in a table of 256."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    view = lowering.view_of(x)
    lowering.step(
        step,
        lowering.output(y, view),
        [lowering.read(x, SAME_ROW, view, lead_bytes=0)],
        f"fmc_table({lowering.array(values, 'int8')}, {{in0}}, {{out}}, {view[1]});",
        "fmc_elementwise.c",
    )


@lowers("SOFTMAX")
def softmax(lowering: Lowering, step: int) -> None:
    """SOFTMAX over the last dimension."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    lowering.require_int8(step, x, y)
    beta = operator.option("beta", 1.0)
    assert isinstance(beta, float)
    real = min(float(np.float32(beta)) * scale(lowering.tensor(x)) * (1 << 26), (1 << 31) - 1.0)
    m, shift = quantized_multiplier(real)
    least = -math.floor(31.0 * (1 << 26) / (1 << shift)) if shift >= 0 else -(1 << 30)
    depth = lowering.tensor(x).shape[-1]
    grid = lowering.grid(x)
    view = grid.view if grid.channels == depth else (1, lowering.tensor(x).size_bytes)
    descriptor = lowering.struct(
        "fmc_softmax_t", (view[1] // depth, depth, m, shift, least), _SOFTMAX_BYTES
    )
    # The library shifts to the left only.
    by_library = lowering.library is not None and shift >= 0
    lowering.step(
        step,
        lowering.output(y, view),
        [lowering.read(x, SAME_ROW, view, lead_bytes=0)],
        f"{PREFIX if by_library else 'fmc'}_softmax({descriptor}, {{in0}}, {{out}});",
        SOURCE if by_library else "fmc_softmax.c",
    )


@lowers("ADD")
def add(lowering: Lowering, step: int) -> None:
    """ADD."""
    if is_of_int32(lowering, step):
        add_int32(lowering, step)
        return
    a, b, y = _operands(lowering, step)
    twice = 2.0 * max(scale(lowering.tensor(a)), scale(lowering.tensor(b)))
    _sum(
        lowering,
        step,
        "fmc_add",
        (
            scale(lowering.tensor(a)) / twice,
            scale(lowering.tensor(b)) / twice,
            twice / (_HEADROOM * scale(lowering.tensor(y))),
        ),
    )


@lowers("SUB")
def sub(lowering: Lowering, step: int) -> None:
    """SUB; its factors are worked out in float32."""
    a, b, y = _operands(lowering, step)
    twice = float(np.float32(2 * max(scale(lowering.tensor(a)), scale(lowering.tensor(b)))))
    _sum(
        lowering,
        step,
        "fmc_sub",
        (
            float32_ratio(scale(lowering.tensor(a)), twice),
            float32_ratio(scale(lowering.tensor(b)), twice),
            float32_ratio(twice, _HEADROOM * scale(lowering.tensor(y))),
        ),
    )


@lowers("SQUARED_DIFFERENCE")
def squared_difference(lowering: Lowering, step: int) -> None:
    """SQUARED_DIFFERENCE: both operands at twice the larger scale, 7 bits up."""
    a, b, y = _operands(lowering, step)
    scales = [scale(lowering.tensor(t)) for t in (a, b, y)]
    twice = 2.0 * max(scales[:2])
    factors = (scales[0] / twice, scales[1] / twice)
    squares = twice * twice / ((1 << 2 * _SQUARE_HEADROOM_BITS) * scales[2])
    pairs = [quantized_multiplier(f) for f in (*factors, squares)]
    multipliers, shifts = tuple(m for m, _ in pairs), tuple(s for _, s in pairs)
    _binary(lowering, step, "fmc_squared_difference", multipliers, shifts, (-128, 127))


@lowers("MUL")
def mul(lowering: Lowering, step: int) -> None:
    """MUL."""
    a, b, y = _operands(lowering, step)
    m, shift = quantized_multiplier(
        scale(lowering.tensor(a)) * scale(lowering.tensor(b)) / scale(lowering.tensor(y))
    )
    low, high = activation_range(lowering.graph.operators[step], lowering.tensor(y))
    _binary(lowering, step, "fmc_mul", (0, 0, m), (0, 0, shift), (low, high))


@lowers("MAXIMUM")
def maximum(lowering: Lowering, step: int) -> None:
    """MAXIMUM of codes; the kernel does not look at scales."""
    _operands(lowering, step)
    _binary(lowering, step, "fmc_maximum", (0, 0, 0), (0, 0, 0), (-128, 127), offsets=False)


@lowers("MINIMUM")
def minimum(lowering: Lowering, step: int) -> None:
    """MINIMUM of codes."""
    _operands(lowering, step)
    _binary(lowering, step, "fmc_minimum", (0, 0, 0), (0, 0, 0), (-128, 127), offsets=False)


@lowers("PRELU")
def prelu(lowering: Lowering, step: int) -> None:
    """PRELU: a · 1 or a · slope."""
    a, b, y = (lowering.tensor(t) for t in _operands(lowering, step))
    first = quantized_multiplier(scale(a) / scale(y))
    second = quantized_multiplier(scale(a) * scale(b) / scale(y))
    multipliers, shifts = (first[0], second[0], 0), (first[1], second[1], 0)
    _binary(lowering, step, "fmc_prelu", multipliers, shifts, (-128, 127))


def _operands(lowering: Lowering, step: int) -> tuple[int, int, int]:
    operator = lowering.graph.operators[step]
    a, b, y = operator.inputs[0], operator.inputs[1], operator.outputs[0]
    lowering.require_int8(step, a, b, y)
    return a, b, y


def _sum(lowering: Lowering, step: int, function: str, factors: tuple[float, float, float]) -> None:
    operator = lowering.graph.operators[step]
    pairs = [quantized_multiplier(f) for f in factors]
    _binary(
        lowering,
        step,
        function,
        tuple(m for m, _ in pairs),
        tuple(s for _, s in pairs),
        activation_range(operator, lowering.tensor(operator.outputs[0])),
    )


def _binary(
    lowering: Lowering,
    step: int,
    function: str,
    multipliers: tuple[int, ...],
    shifts: tuple[int, ...],
    bounds: tuple[int, int],
    *,
    offsets: bool = True,
) -> None:
    a, b, y = _operands(lowering, step)
    out = lowering.tensor(y)
    if lowering.tensor(a).shape == lowering.tensor(b).shape:
        views = [lowering.view_of(t) for t in (a, b) if not lowering.tensor(t).is_constant]
        view = max(views or [lowering.view_of(a)], key=lambda v: v[0])
        columns, channels = 1, view[1]
        sides = [_Side(view, True, 1, 1), _Side(view, True, 1, 1)]
    else:
        shape = (1,) * (4 - len(out.shape)) + out.shape
        if len(shape) > 4 or shape[0] != 1:
            lowering.refuse(step, f"operands broadcast to {out.shape}", "at most 3 dimensions")
        aside = shape[1] == 1
        rows, columns, channels = (shape[2], 1, shape[3]) if aside else shape[1:]
        view = rows, columns * channels
        sides = [_side(lowering.tensor(t).shape, aside, rows) for t in (a, b)]
    zeros = [zero_point(lowering.tensor(t)) if offsets else 0 for t in (a, b, y)]
    fields = (
        *(columns, channels),
        *(sides[0].column, sides[0].channel, sides[1].column, sides[1].channel),
        *(-zeros[0], -zeros[1], zeros[2], *multipliers, *shifts, *bounds),
    )
    reads: list[Read] = []
    pointers = []
    for tensor, side in zip((a, b), sides, strict=True):
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
    descriptor = lowering.struct("fmc_binary_t", fields, _BINARY_BYTES)
    same_shape = lowering.tensor(a).shape == lowering.tensor(b).shape
    by_library = lowering.library is not None and function == "fmc_add" and same_shape
    lowering.step(
        step,
        lowering.output(y, view),
        reads,
        f"{f'{PREFIX}_add' if by_library else function}({descriptor}, {', '.join(pointers)}, "
        "{out});",
        SOURCE if by_library else "fmc_elementwise.c",
    )


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
