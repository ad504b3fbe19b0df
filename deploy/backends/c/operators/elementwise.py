"""Operators that work value by value: two operands, and tables of 256 values."""

from __future__ import annotations

import numpy as np

from deploy.backends.c.byte_tables import TABLES
from deploy.backends.c.fixed_point import (
    activation_range,
    quantized_multiplier,
    scale,
)
from deploy.backends.c.lowering import Lowering
from deploy.backends.c.operators.floats import quantize_float
from deploy.backends.c.operators.indices import add_int32, is_of_int32
from deploy.backends.c.operators.pairs import binary
from deploy.backends.c.operators.registry import lowers
from deploy.backends.c.program import SAME_ROW

_HEADROOM = 1 << 20
_SQUARE_HEADROOM_BITS = 7
_MOST_SHIFT = 31
_GREATEST_DIVIDE_SHIFT = 7 + 31
"""Of the reciprocal of 8 bits, and of a dividend of 0."""
_LEAST_DIVIDE_FACTOR = 64.0
""":math:`2^{shift - 1}` of the least shift that is safe."""


@lowers(*TABLES)
def table(lowering: Lowering, step: int) -> None:
    """Operators from bytes to bytes: what they do to each of the 256 values."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    if operator.opcode == "QUANTIZE" and lowering.tensor(x).dtype == "float32":
        quantize_float(lowering, step)
        return
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


@lowers("ADD")
def add(lowering: Lowering, step: int) -> None:
    """ADD."""
    if is_of_int32(lowering, step):
        add_int32(lowering, step)
    else:
        _sum(lowering, step, "fmc_add")


@lowers("SUB")
def sub(lowering: Lowering, step: int) -> None:
    """SUB."""
    _sum(lowering, step, "fmc_sub")


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
    binary(lowering, step, "fmc_squared_difference", multipliers, shifts, (-128, 127))


@lowers("MUL")
def mul(lowering: Lowering, step: int) -> None:
    """MUL."""
    a, b, y = _operands(lowering, step)
    m, shift = quantized_multiplier(
        scale(lowering.tensor(a)) * scale(lowering.tensor(b)) / scale(lowering.tensor(y))
    )
    low, high = activation_range(lowering.graph.operators[step], lowering.tensor(y))
    binary(lowering, step, "fmc_mul", (0, 0, m), (0, 0, shift), (low, high))


@lowers("MAXIMUM")
def maximum(lowering: Lowering, step: int) -> None:
    """MAXIMUM of codes; the kernel does not look at scales."""
    _operands(lowering, step)
    binary(lowering, step, "fmc_maximum", (0, 0, 0), (0, 0, 0), (-128, 127), offsets=False)


@lowers("MINIMUM")
def minimum(lowering: Lowering, step: int) -> None:
    """MINIMUM of codes."""
    _operands(lowering, step)
    binary(lowering, step, "fmc_minimum", (0, 0, 0), (0, 0, 0), (-128, 127), offsets=False)


@lowers("DIV")
def div(lowering: Lowering, step: int) -> None:
    """DIV; its factor is worked out in double precision, as the wheel's results at ties show."""
    a, b, y = (lowering.tensor(t) for t in _operands(lowering, step))
    m, shift = quantized_multiplier(scale(a) / (scale(b) * scale(y)))
    if _GREATEST_DIVIDE_SHIFT - shift > _MOST_SHIFT:
        lowering.refuse(
            step,
            f"quotients in steps of {scale(y):g}, which TFLM's own kernel shifts by more than "
            f"{_MOST_SHIFT} bits",
            f"a scale of the output of at most {scale(a) / scale(b) / _LEAST_DIVIDE_FACTOR:g}",
        )
    bounds = activation_range(lowering.graph.operators[step], y)
    source = "fmc_divide.c"
    binary(lowering, step, "fmc_divide", (0, 0, m), (0, 0, shift), bounds, source=source)


@lowers("PRELU")
def prelu(lowering: Lowering, step: int) -> None:
    """PRELU: a · 1 or a · slope."""
    a, b, y = (lowering.tensor(t) for t in _operands(lowering, step))
    first = quantized_multiplier(scale(a) / scale(y))
    second = quantized_multiplier(scale(a) * scale(b) / scale(y))
    multipliers, shifts = (first[0], second[0], 0), (first[1], second[1], 0)
    binary(lowering, step, "fmc_prelu", multipliers, shifts, (-128, 127))


def _operands(lowering: Lowering, step: int) -> tuple[int, int, int]:
    operator = lowering.graph.operators[step]
    a, b, y = operator.inputs[0], operator.inputs[1], operator.outputs[0]
    lowering.require_int8(step, a, b, y)
    return a, b, y


def _sum(lowering: Lowering, step: int, function: str) -> None:
    """Both operands at twice the larger scale, 20 bits up; factors in double precision."""
    operator = lowering.graph.operators[step]
    a, b, y = (scale(lowering.tensor(t)) for t in _operands(lowering, step))
    twice = 2.0 * max(a, b)
    pairs = [quantized_multiplier(f) for f in (a / twice, b / twice, twice / (_HEADROOM * y))]
    binary(
        lowering,
        step,
        function,
        tuple(m for m, _ in pairs),
        tuple(s for _, s in pairs),
        activation_range(operator, lowering.tensor(operator.outputs[0])),
    )
