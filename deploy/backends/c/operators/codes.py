"""Operators that only generated C has: codes packed and unpacked, and maps of bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deploy.backends.c.bits import BITS_CONV, BITS_OF, PACK, UNPACK, VALUES_OF_BITS
from deploy.backends.c.program import SAME_ROW, Rows
from deploy.graph import Padding
from keras_fmc.padding import same_padding

if TYPE_CHECKING:
    from deploy.backends.c.lowering import Lowering
    from deploy.backends.c.operators.registry import Lower

_CODES, _BITS = "fmc_codes.c", "fmc_bits.c"


def pack(lowering: Lowering, step: int) -> None:
    """PACK_CODES: a row of codes into bytes, together or pixel by pixel."""
    operator = lowering.graph.operators[step]
    _row_of_codes(lowering, step, operator.inputs[0], operator.outputs[0], "fmc_pack_codes")


def unpack(lowering: Lowering, step: int) -> None:
    """UNPACK_CODES: the way back."""
    operator = lowering.graph.operators[step]
    _row_of_codes(lowering, step, operator.outputs[0], operator.inputs[0], "fmc_unpack_codes")


def _row_of_codes(lowering: Lowering, step: int, codes: int, packed: int, function: str) -> None:
    operator = lowering.graph.operators[step]
    bits, low = operator.integer("bits"), operator.integer("low")
    packs = function == "fmc_pack_codes"
    source, target = (codes, packed) if packs else (packed, codes)
    grids = {t: lowering.grid(t) for t in (codes, packed)}
    values, filled = grids[codes].row_bytes, grids[packed].row_bytes
    if filled == -(-values * bits // 8):
        call = f"{function}({{in0}}, {values}, {bits}, {low}, {{out}});"
    else:
        step_in, step_out = (
            (grids[codes].channels, grids[packed].channels)
            if packs
            else (grids[packed].channels, grids[codes].channels)
        )
        call = (
            f"for (int32_t i = 0; i < {grids[codes].columns}; i++) {{{{ {function}({{in0}} + i * "
            f"{step_in}, {grids[codes].channels}, {bits}, {low}, {{out}} + i * {step_out}); }}}}"
        )
    view = (grids[source].rows, grids[source].row_bytes)
    lowering.step(
        step,
        lowering.output(target, (grids[target].rows, grids[target].row_bytes)),
        [lowering.read(source, SAME_ROW, view, lead_bytes=0 if packs else None)],
        call,
        _CODES,
    )


def bits_of(lowering: Lowering, step: int) -> None:
    """BITS_OF: the bits that a table gives for each value."""
    operator = lowering.graph.operators[step]
    x, y, bits = operator.inputs[0], operator.outputs[0], operator.integer("bits")
    _by_table(lowering, step, "fmc_bits_of", (x, y), lowering.grid(x).channels, bits)


def values_of_bits(lowering: Lowering, step: int) -> None:
    """VALUES_OF_BITS: the value that a table gives for each group of bits."""
    operator = lowering.graph.operators[step]
    x, y, bits = operator.inputs[0], operator.outputs[0], operator.integer("bits")
    _by_table(lowering, step, "fmc_values_of_bits", (x, y), lowering.grid(y).channels, bits)


def _by_table(
    lowering: Lowering, step: int, function: str, ends: tuple[int, int], channels: int, bits: int
) -> None:
    x, y = ends
    source, out = lowering.grid(x), lowering.grid(y)
    table = lowering.tensor(lowering.graph.operators[step].inputs[1])
    name = lowering.array(table.array(), "int8")
    view, count = source.view, source.columns
    lead = None
    if function == "fmc_bits_of" and bits == 8:
        # A byte becomes a byte, as it does in any other table.
        call = f"fmc_table({name}, {{in0}}, {{out}}, {source.row_bytes});"
        file, lead = "fmc_elementwise.c", 0
    else:
        descriptor = lowering.struct("fmc_bits_t", (count, channels, bits), 3 * 4)
        call, file = f"{function}({descriptor}, {name}, {{in0}}, {{out}});", _BITS
    lowering.step(
        step,
        lowering.output(y, out.view),
        [lowering.read(x, SAME_ROW, view, lead_bytes=lead)],
        call,
        file,
    )


def bits_conv(lowering: Lowering, step: int) -> None:
    """BITS_CONV: a convolution of bits to bits by tables."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    source, out, _ = lowering.window_grids(step, x, y)
    kernel = operator.integer("kernel_h"), operator.integer("kernel_w")
    strides = operator.integer("stride_h"), operator.integer("stride_w")
    pads = (0, 0)
    if operator.integer("padding") == Padding.SAME:
        pads = (
            same_padding(source.rows, kernel[0], strides[0])[0],
            same_padding(source.columns, kernel[1], strides[1])[0],
        )
    fields = (
        *(source.columns, source.channels, out.columns, out.channels),
        *(*kernel, *strides, pads[1]),
    )
    window = lowering.struct("fmc_bits_window_t", fields, 9 * 4)
    names = [lowering.array(lowering.tensor(t).array(), "uint32") for t in operator.inputs[1:3]]
    table = lowering.struct("fmc_sums_table_t", names, 2 * 4)
    lowering.step(
        step,
        lowering.output(y, out.view),
        [lowering.read(x, Rows(strides[0], -pads[0], kernel[0] - pads[0]), source.view)],
        f"fmc_bits_conv({window}, {table}, {{in0}}, {{rows0}}, {{above0}}, {{out}}, {{out_rows}});",
        _BITS,
        many_rows=True,
    )


CODE_OPERATORS: Mapping[str, Lower] = {
    PACK: pack,
    UNPACK: unpack,
    BITS_OF: bits_of,
    BITS_CONV: bits_conv,
    VALUES_OF_BITS: values_of_bits,
}
"""What C makes of the operators of ``deploy.backends.c.bits.C_OPERATORS``."""
