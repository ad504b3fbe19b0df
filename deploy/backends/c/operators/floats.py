"""float32 at the ends of a model: QUANTIZE from it, DEQUANTIZE to it."""

from __future__ import annotations

from deploy.backends.c.fixed_point import scale, zero_point
from deploy.backends.c.lowering import Lowering
from deploy.backends.c.operators.registry import lowers
from deploy.backends.c.program import SAME_ROW
from deploy.proof.names import float_literal

_SOURCE = "fmc_float.c"


def quantize_float(lowering: Lowering, step: int) -> None:
    """QUANTIZE of float32, as it comes from the application."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    lowering.require_int8(step, y)
    rows, row_bytes = lowering.view_of(x)
    grid = f"{float_literal(scale(lowering.tensor(y)))}, {zero_point(lowering.tensor(y))}"
    lowering.step(
        step,
        lowering.output(y, (rows, row_bytes // 4)),
        [lowering.read(x, SAME_ROW, (rows, row_bytes), lead_bytes=0)],
        f"fmc_quantize((const float *)(const void *)({{in0}}), {row_bytes // 4}, {grid}, {{out}});",
        _SOURCE,
    )


@lowers("DEQUANTIZE")
def dequantize(lowering: Lowering, step: int) -> None:
    """DEQUANTIZE of bytes, for the application."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    tensor = lowering.tensor(x)
    if tensor.dtype not in ("int8", "uint8"):
        lowering.refuse(step, f"{tensor.dtype} values in {tensor.name}", "int8 or uint8")
    rows, row_bytes = lowering.view_of(x)
    grid = f"{float_literal(scale(tensor))}, {zero_point(tensor)}"
    lowering.step(
        step,
        lowering.output(y, (rows, 4 * row_bytes)),
        [lowering.read(x, SAME_ROW, (rows, row_bytes))],
        f"fmc_dequantize({{in0}}, {row_bytes}, {int(tensor.dtype == 'uint8')}, {grid}, "
        "(float *)(void *)({out}));",
        _SOURCE,
    )
