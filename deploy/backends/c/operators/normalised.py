"""What is normalised over the last dimension: softmax, its logarithm, vectors of length one."""

from __future__ import annotations

import math

import numpy as np

from deploy.backends.c.fixed_point import quantized_multiplier, scale, zero_point
from deploy.backends.c.library import PREFIX, SOURCE
from deploy.backends.c.lowering import Lowering
from deploy.backends.c.operators.registry import lowers
from deploy.backends.c.program import SAME_ROW
from deploy.graph import Tensor

_ONE = 1 << 26
"""1.0 in Q5.26, in which the exponentials are worked out."""
_MOST = (1 << 31) - 1.0
_LOG_OUTPUT = (1 / 16, 127)


@lowers("SOFTMAX")
def softmax(lowering: Lowering, step: int) -> None:
    """SOFTMAX over the last dimension."""
    operator = lowering.graph.operators[step]
    beta = operator.option("beta", 1.0)
    assert isinstance(beta, float)
    m, shift, least = _exponential(float(np.float32(beta)) * scale(_source(lowering, step)))
    # The library shifts to the left only.
    by_library = lowering.library is not None and shift >= 0
    _rows(
        lowering,
        step,
        f"{PREFIX if by_library else 'fmc'}_softmax",
        "fmc_softmax_t",
        (m, shift, least),
        SOURCE if by_library else "fmc_softmax.c",
    )


@lowers("LOG_SOFTMAX")
def log_softmax(lowering: Lowering, step: int) -> None:
    """LOG_SOFTMAX over the last dimension."""
    m, shift, least = _exponential(scale(_source(lowering, step)))
    if shift < 0:
        lowering.refuse(step, "levels below 2^-26", "a scale above that")
    code, code_shift = quantized_multiplier((1 << (31 - shift)) / m)
    out = lowering.tensor(lowering.graph.operators[step].outputs[0])
    if (scale(out), zero_point(out)) != _LOG_OUTPUT:
        received = f"outputs of scale {scale(out):g} and zero point {zero_point(out)}"
        lowering.refuse(step, received, "1/16 and 127")
    fields = (m, shift, least, code, code_shift)
    _rows(lowering, step, "fmc_log_softmax", "fmc_log_softmax_t", fields, "fmc_log_softmax.c")


@lowers("L2_NORMALIZATION")
def unit_length(lowering: Lowering, step: int) -> None:
    """L2_NORMALIZATION over the last dimension; the kernel does not look at the output's scale."""
    fields = (-zero_point(_source(lowering, step)),)
    _rows(lowering, step, "fmc_unit_length", "fmc_unit_length_t", fields, "fmc_unit_length.c")


def _exponential(real: float) -> tuple[int, int, int]:
    """(m, shift) from levels to Q5.26, and the least difference of levels that counts."""
    m, shift = quantized_multiplier(min(real * _ONE, _MOST))
    least = -math.floor(31.0 * _ONE / (1 << shift)) if shift >= 0 else -(1 << 30)
    return m, shift, least


def _source(lowering: Lowering, step: int) -> Tensor:
    return lowering.tensor(lowering.graph.operators[step].inputs[0])


def _rows(
    lowering: Lowering, step: int, function: str, kind: str, fields: tuple[int, ...], source: str
) -> None:
    """Adds the step of a kernel that takes vectors of channels, one after the other."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    lowering.require_int8(step, x, y)
    depth = lowering.tensor(x).shape[-1]
    grid = lowering.grid(x)
    view = grid.view if grid.channels == depth else (1, lowering.tensor(x).size_bytes)
    fields = (view[1] // depth, depth, *fields)
    descriptor = lowering.struct(kind, fields, 4 * len(fields))
    lowering.step(
        step,
        lowering.output(y, view),
        [lowering.read(x, SAME_ROW, view, lead_bytes=0)],
        f"{function}({descriptor}, {{in0}}, {{out}});",
        source,
    )
