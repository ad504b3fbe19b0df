"""Operators with weights: convolutions and fully connected layers."""

from __future__ import annotations

import numpy as np

from deploy.backends.c.fixed_point import (
    activation_range,
    channel_multipliers,
    dense_multiplier,
    zero_point,
)
from deploy.backends.c.library import PREFIX, SOURCE, scratch_arguments, takes_depthwise
from deploy.backends.c.lowering import Lowering
from deploy.backends.c.operators.by_library import window_step
from deploy.backends.c.operators.registry import lowers
from deploy.backends.c.program import Grid, Rows
from deploy.operators.convolutions import transposed_window, weights_window

_WINDOW_BYTES = 15 * 4
_WEIGHTS_BYTES = 4 * 4
_SHIFT_TYPES = {"fmc_weights_t": "int8", f"{PREFIX}_weights_t": "int32"}


@lowers("CONV_2D")
def conv(lowering: Lowering, step: int) -> None:
    """CONV_2D."""
    _convolution(lowering, step, "fmc_conv")


@lowers("DEPTHWISE_CONV_2D")
def depthwise(lowering: Lowering, step: int) -> None:
    """DEPTHWISE_CONV_2D."""
    _convolution(lowering, step, "fmc_depthwise")


def _convolution(lowering: Lowering, step: int, function: str) -> None:
    operator = lowering.graph.operators[step]
    y = operator.outputs[0]
    x, fused = lowering.without_pad(operator.inputs[0])
    lowering.require_int8(step, x, operator.inputs[1], y)
    source, out, aside = lowering.window_grids(step, x, y)
    window = weights_window(lowering.graph, operator)
    if aside:
        window, fused = window.swapped, fused and (fused[1], fused[0])
    (top, _), (left, _) = window.paddings(source.rows, source.columns)
    if fused is not None:
        top, left = fused
    strides = window.strides
    if function == "fmc_conv" and lowering.tensor(operator.inputs[1]).shape[3] != source.channels:
        lowering.refuse(step, "grouped channels", "weights over all input channels")
    low, high = activation_range(operator, lowering.tensor(y))
    fields = (
        *(source.columns, source.channels, out.columns, out.channels),
        *(*window.kernel, *strides, *window.dilations, left),
        *(-zero_point(lowering.tensor(x)), zero_point(lowering.tensor(y)), low, high),
    )
    descriptor = lowering.struct("fmc_window_t", fields, _WINDOW_BYTES)
    rows = Rows(strides[0], -top, window.extents[0] - top)
    library = lowering.library
    if library is not None and (
        function == "fmc_conv" or takes_depthwise(source, out, window, top=top, left=left)
    ):
        weights = _weights(lowering, step, x, aside=aside, kind=f"{PREFIX}_weights_t")
        window_step(
            lowering,
            library,
            step,
            function,
            (descriptor, weights),
            x=x,
            rows=rows,
            source=source,
            out=out,
            window=window,
            pad_columns=left,
        )
        return
    if function == "fmc_conv":
        lead = all_channels_lead(source, out, strides[1], left)
    elif source.channels == out.channels:
        lead = own_channel_lead(source, out, strides[1], left)
    else:
        lead = None
    lowering.step(
        step,
        lowering.output(y, out.view),
        [lowering.read(x, rows, source.view, lead_bytes=lead)],
        f"{function}({descriptor}, {_weights(lowering, step, x, aside=aside)}, "
        "{in0}, {rows0}, {above0}, {out}, {out_rows});",
        f"{function}.c",
        many_rows=True,
    )


@lowers("TRANSPOSE_CONV")
def transpose_conv(lowering: Lowering, step: int) -> None:
    """TRANSPOSE_CONV: output row r sums the input rows i with 0 <= r + pad - i · stride < k."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[2], operator.outputs[0]
    lowering.require_int8(step, x, operator.inputs[1], y)
    source, out, aside = lowering.window_grids(step, x, y)
    window = transposed_window(lowering.graph, operator)
    if aside:
        window = window.swapped
    (top, _), (left, _) = window.paddings(out.rows, out.columns)
    kernel, strides = window.kernel, window.strides
    low, high = activation_range(operator, lowering.tensor(y))
    fields = (
        *(source.columns, source.channels, out.columns, out.channels),
        *(*kernel, *strides, 1, 1, left),
        *(-zero_point(lowering.tensor(x)), zero_point(lowering.tensor(y)), low, high),
    )
    descriptor = lowering.struct("fmc_window_t", fields, _WINDOW_BYTES)
    rows = Rows(1, top - kernel[0] + strides[0], top + strides[0], strides[0])
    lowering.step(
        step,
        lowering.output(y, out.view),
        [lowering.read(x, rows, source.view)],
        f"fmc_transpose_conv({descriptor}, {_weights(lowering, step, x, bias=3, aside=aside)}, "
        f"{{in0}}, {{rows0}}, {{first0}}, {{out}}, {{row}} + {top});",
        "fmc_transpose_conv.c",
    )


@lowers("FULLY_CONNECTED")
def fully_connected(lowering: Lowering, step: int) -> None:
    """FULLY_CONNECTED, one scale for all units or one for each."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    lowering.require_int8(step, x, operator.inputs[1], y)
    weights, out = lowering.tensor(operator.inputs[1]), lowering.tensor(y)
    units, depth = weights.shape
    assert weights.quantization is not None
    per_unit = len(weights.quantization.scales) > 1
    low, high = activation_range(operator, out)
    fields = (
        *(lowering.tensor(x).elements // depth, depth, units, int(per_unit)),
        *(-zero_point(lowering.tensor(x)), zero_point(out), low, high),
    )
    dense = lowering.struct("fmc_dense_t", fields, 8 * 4)
    library = lowering.library
    if library is not None:
        kind = f"{PREFIX}_weights_t"
        scratch = library.dense_scratch(
            operator.opcode, dense, units=units, depth=depth, per_unit=per_unit
        )
        lowering.step(
            step,
            lowering.output(y, (1, out.size_bytes)),
            [lowering.read_whole(x)],
            f"{PREFIX}_dense({dense}, {_weights(lowering, step, x, dense=True, kind=kind)}, "
            f"{{in0}}, {{out}}{scratch_arguments(scratch)});",
            SOURCE,
            scratch=scratch,
        )
        return
    lowering.step(
        step,
        lowering.output(y, (1, out.size_bytes)),
        [lowering.read_whole(x)],
        f"fmc_dense({dense}, {_weights(lowering, step, x, dense=True)}, {{in0}}, {{out}});",
        "fmc_dense.c",
    )


def all_channels_lead(source: Grid, out: Grid, stride: int, pad: int) -> int:
    """The lead of a kernel that reads whole pixels until it has written the last of a pixel."""
    return max(
        (x + 1) * out.channels - max(x * stride - pad, 0) * source.channels
        for x in range(out.columns)
    )


def own_channel_lead(source: Grid, out: Grid, stride: int, pad: int) -> int:
    """The lead of a kernel that writes a channel after it read that channel of the window."""
    return max((x - max(x * stride - pad, 0)) * source.channels for x in range(out.columns))


def _weights(
    lowering: Lowering,
    step: int,
    x: int,
    *,
    bias: int = 2,
    dense: bool = False,
    aside: bool = False,
    kind: str = "fmc_weights_t",
) -> str:
    """The descriptor of an operator's weights, biases, multipliers and shifts.

    ``aside``: rows and columns of the kernels change places; ``kind``: its type in C.
    """
    operator = lowering.graph.operators[step]
    weights, out = lowering.tensor(operator.inputs[1]), lowering.tensor(operator.outputs[0])
    if not weights.is_constant:
        lowering.refuse(step, "weights computed at run time", "constant weights")
    q = weights.quantization
    if q is None or any(q.zero_points):
        lowering.refuse(step, "weights that are not symmetric", "zero points of 0")
    source = lowering.tensor(x)
    if dense and len(q.scales) == 1:
        pairs = [dense_multiplier(source, weights, out)]
    else:
        pairs = channel_multipliers(source, weights, out)
        if len(pairs) == 1:
            pairs *= out.shape[-1]
    name, values = "0", weights.array()
    if len(operator.inputs) > bias and operator.inputs[bias] >= 0:
        entry = lowering.tensor(operator.inputs[bias])
        if not entry.is_constant or entry.dtype != "int32":
            lowering.refuse(step, f"a bias of {entry.dtype}", "constant int32")
        name = lowering.array(entry.array(), "int32")
    fields = (
        lowering.array(np.swapaxes(values, 1, 2) if aside else values, "int8"),
        name,
        lowering.array(np.array([m for m, _ in pairs]), "int32"),
        lowering.array(np.array([s for _, s in pairs]), _SHIFT_TYPES[kind]),
    )
    return lowering.struct(kind, fields, _WEIGHTS_BYTES)
