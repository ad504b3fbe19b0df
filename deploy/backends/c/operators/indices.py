"""Int32 indices: CAST, ADD of a number, GATHER from a constant table, ARG_MAX and ARG_MIN."""

from __future__ import annotations

import math

import numpy as np

from deploy.backends.c.lowering import Lowering, constant_integers
from deploy.backends.c.operators.registry import lowers
from deploy.backends.c.program import SAME_ROW, whole
from deploy.graph import Activation

_SOURCE = "fmc_index.c"
_INDEX = "(const int32_t *)(const void *)({in0})"
_TARGET = "(int32_t *)(void *)({out})"
_LOW, _HIGH = -(1 << 31) + 1, (1 << 31) - 1


@lowers("CAST")
def cast(lowering: Lowering, step: int) -> None:
    """CAST of bytes to int32."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    kinds = lowering.tensor(x).dtype, lowering.tensor(y).dtype
    if kinds not in (("int8", "int32"), ("uint8", "int32")):
        lowering.refuse(step, f"{kinds[0]} to {kinds[1]}", "int8 or uint8 to int32")
    rows, row_bytes = lowering.view_of(x)
    lowering.step(
        step,
        lowering.output(y, (rows, 4 * row_bytes)),
        [lowering.read(x, SAME_ROW, (rows, row_bytes))],
        f"fmc_widen({{in0}}, {row_bytes}, {int(kinds[0] == 'uint8')}, {_TARGET});",
        _SOURCE,
    )


@lowers("ARG_MAX")
def arg_max(lowering: Lowering, step: int) -> None:
    """ARG_MAX: the first place of the greatest value along an axis."""
    _arg(lowering, step, "fmc_arg_max")


@lowers("ARG_MIN")
def arg_min(lowering: Lowering, step: int) -> None:
    """ARG_MIN: the first place of the least value along an axis."""
    _arg(lowering, step, "fmc_arg_min")


def _arg(lowering: Lowering, step: int, function: str) -> None:
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    lowering.require_int8(step, x)
    if lowering.tensor(y).dtype != "int32":
        lowering.refuse(step, f"{lowering.tensor(y).dtype} places", "int32")
    shape = lowering.tensor(x).shape
    (axis,) = constant_integers(lowering, step, operator.inputs[1])
    axis %= len(shape)
    count, inner = shape[axis], math.prod(shape[axis + 1 :])
    rows, row_bytes = lowering.view_of(x)
    if inner == 1 and row_bytes % count == 0:
        # Along the last axis, each row for itself.
        views, rule = ((rows, row_bytes), (rows, 4 * row_bytes // count)), SAME_ROW
    else:
        views, rule = (
            ((1, lowering.tensor(x).size_bytes), (1, lowering.tensor(y).size_bytes)),
            whole(1),
        )
    outer = views[0][1] // (count * inner)
    lowering.step(
        step,
        lowering.output(y, views[1]),
        [lowering.read(x, rule, views[0])],
        f"{function}({{in0}}, {outer}, {count}, {inner}, {_TARGET});",
        _SOURCE,
    )


def is_of_int32(lowering: Lowering, step: int) -> bool:
    """Whether an operator works on int32."""
    operator = lowering.graph.operators[step]
    return lowering.tensor(operator.outputs[0]).dtype == "int32"


def add_int32(lowering: Lowering, step: int) -> None:
    """ADD of one number to int32 values."""
    operator = lowering.graph.operators[step]
    operands = sorted(operator.inputs, key=lambda t: lowering.tensor(t).is_constant)
    x, number, y = operands[0], operands[1], operator.outputs[0]
    amount = lowering.tensor(number)
    if not amount.is_constant or amount.elements != 1 or lowering.tensor(x).is_constant:
        lowering.refuse(step, "int32 operands", "an int32 map and one constant number")
    if operator.integer("fused_activation_function") != Activation.NONE:
        lowering.refuse(step, "an activation of int32 values", "none")
    value = int(amount.array().ravel()[0])
    rows, row_bytes = lowering.view_of(x)
    lowering.step(
        step,
        lowering.output(y, (rows, row_bytes)),
        [lowering.read(x, SAME_ROW, (rows, row_bytes), lead_bytes=0)],
        f"fmc_add_int32({_INDEX}, {row_bytes // 4}, {value}, {_LOW}, {_HIGH}, {_TARGET});",
        _SOURCE,
    )


def lookup(lowering: Lowering, step: int) -> None:
    """GATHER from a constant table of bytes at int32 places."""
    operator = lowering.graph.operators[step]
    table, index, y = lowering.tensor(operator.inputs[0]), operator.inputs[1], operator.outputs[0]
    if table.dtype != "int8" or lowering.tensor(index).dtype != "int32":
        lowering.refuse(step, f"a table of {table.dtype}", "int8 at int32 places")
    if operator.integer("axis") or operator.integer("batch_dims"):
        lowering.refuse(step, "another axis than the first", "axis 0")
    run = math.prod(table.shape[1:])
    rows, row_bytes = lowering.view_of(index)
    name = lowering.array(np.asarray(table.array()), "int8")
    lowering.step(
        step,
        lowering.output(y, (rows, row_bytes // 4 * run)),
        [lowering.read(index, SAME_ROW, (rows, row_bytes))],
        f"fmc_lookup({name}, {table.shape[0]}, {run}, {_INDEX}, {row_bytes // 4}, {{out}});",
        _SOURCE,
    )
