"""Comparisons to bool, logic of bools, and what a bool selects."""

from __future__ import annotations

import numpy as np

from deploy.backends.c.fixed_point import quantized_multiplier, scale
from deploy.backends.c.lowering import Lowering
from deploy.backends.c.operators.elementwise import look_up
from deploy.backends.c.operators.pairs import binary, together
from deploy.backends.c.operators.registry import lowers
from deploy.graph import ITEM_BYTES

_SOURCE = "fmc_compare.c"
_KERNELS = {
    "EQUAL": ("fmc_equal", False),
    "NOT_EQUAL": ("fmc_not_equal", False),
    "LESS": ("fmc_less", False),
    "LESS_EQUAL": ("fmc_less_equal", False),
    "GREATER": ("fmc_less", True),
    "GREATER_EQUAL": ("fmc_less_equal", True),
}
"""Opcode -> kernel, and whether it gets the second operand first."""


@lowers(*_KERNELS)
def compare(lowering: Lowering, step: int) -> None:
    """Comparisons of int8 operands of any scales below 1."""
    operator = lowering.graph.operators[step]
    lowering.require_int8(step, *operator.inputs)
    function, swapped = _KERNELS[operator.opcode]
    scales = [scale(lowering.tensor(t)) for t in operator.inputs]
    if max(scales) >= 1:
        lowering.refuse(step, f"a scale of {max(scales):g}", "scales below 1, as TFLM's kernel")
    pairs = [quantized_multiplier(s) for s in (scales[::-1] if swapped else scales)]
    multipliers, shifts = (*(m for m, _ in pairs), 0), (*(s for _, s in pairs), 0)
    binary(lowering, step, function, multipliers, shifts, (0, 1), swapped=swapped, source=_SOURCE)


@lowers("LOGICAL_AND")
def logical_and(lowering: Lowering, step: int) -> None:
    """LOGICAL_AND: the least of 0 and 1."""
    binary(lowering, step, "fmc_minimum", (0, 0, 0), (0, 0, 0), (0, 1), offsets=False)


@lowers("LOGICAL_OR")
def logical_or(lowering: Lowering, step: int) -> None:
    """LOGICAL_OR: the greatest of 0 and 1."""
    binary(lowering, step, "fmc_maximum", (0, 0, 0), (0, 0, 0), (0, 1), offsets=False)


@lowers("LOGICAL_NOT")
def logical_not(lowering: Lowering, step: int) -> None:
    """LOGICAL_NOT."""
    look_up(lowering, step, np.arange(-128, 128) == 0)


@lowers("SELECT_V2")
def select(lowering: Lowering, step: int) -> None:
    """SELECT_V2 of values of one byte."""
    operator = lowering.graph.operators[step]
    y = operator.outputs[0]
    if ITEM_BYTES[lowering.tensor(y).dtype] != 1:
        lowering.refuse(step, f"{lowering.tensor(y).dtype} values", "int8")
    parts = together(lowering, step, operator.inputs)
    descriptor = lowering.struct("fmc_select_t", parts.extents, 4 * len(parts.extents))
    lowering.step(
        step,
        lowering.output(y, parts.view),
        parts.reads,
        f"fmc_select({descriptor}, {', '.join(parts.pointers)}, {{out}});",
        _SOURCE,
    )
