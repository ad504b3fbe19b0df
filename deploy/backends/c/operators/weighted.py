"""Operators with weights: convolutions and fully connected layers."""

from __future__ import annotations

import numpy as np

from deploy.backends.c.fixed_point import (
    activation_range,
    channel_multipliers,
    dense_multiplier,
    zero_point,
)
from deploy.backends.c.lowering import Grid, Lowering
from deploy.backends.c.program import Rows
from deploy.graph import Padding

_WINDOW_BYTES = 15 * 4
_WEIGHTS_BYTES = 4 * 4


def conv(lowering: Lowering, step: int) -> None:
    """CONV_2D."""
    weights = lowering.tensor(lowering.graph.operators[step].inputs[1])
    _window(lowering, step, weights.shape[1:3], "fmc_conv")


def depthwise(lowering: Lowering, step: int) -> None:
    """DEPTHWISE_CONV_2D."""
    weights = lowering.tensor(lowering.graph.operators[step].inputs[1])
    _window(lowering, step, weights.shape[1:3], "fmc_depthwise")


def _window(lowering: Lowering, step: int, kernel: tuple[int, ...], function: str) -> None:
    operator = lowering.graph.operators[step]
    y = operator.outputs[0]
    x, fused = lowering.without_pad(operator.inputs[0])
    lowering.require_int8(step, x, operator.inputs[1], y)
    source, out, aside = lowering.window_grids(step, x, y)
    strides = operator.integer("stride_h"), operator.integer("stride_w")
    dilations = (
        operator.integer("dilation_h_factor", 1) or 1,
        operator.integer("dilation_w_factor", 1) or 1,
    )
    pads = fused or (0, 0)
    if aside:
        kernel, strides, dilations, pads = (
            kernel[::-1],
            strides[::-1],
            dilations[::-1],
            pads[::-1],
        )
    if fused is None and operator.integer("padding") == Padding.SAME:
        extents = (source.rows, out.rows), (source.columns, out.columns)
        pads = (
            same_padding(*extents[0], kernel[0], strides[0], dilations[0]),
            same_padding(*extents[1], kernel[1], strides[1], dilations[1]),
        )
    if function == "fmc_conv" and lowering.tensor(operator.inputs[1]).shape[3] != source.channels:
        lowering.refuse(step, "grouped channels", "weights over all input channels")
    low, high = activation_range(operator, lowering.tensor(y))
    fields = (
        *(source.columns, source.channels, out.columns, out.channels),
        *(*kernel, *strides, *dilations, pads[1]),
        *(-zero_point(lowering.tensor(x)), zero_point(lowering.tensor(y)), low, high),
    )
    window = lowering.struct("fmc_window_t", fields, _WINDOW_BYTES)
    rows = Rows(strides[0], -pads[0], (kernel[0] - 1) * dilations[0] + 1 - pads[0])
    if function == "fmc_conv":
        lead = all_channels_lead(source, out, strides[1], pads[1])
    elif source.channels == out.channels:
        lead = own_channel_lead(source, out, strides[1], pads[1])
    else:
        lead = None
    lowering.step(
        step,
        lowering.output(y, out.view),
        [lowering.read(x, rows, source.view, lead_bytes=lead)],
        f"{function}({window}, {_weights(lowering, step, x, aside=aside)}, "
        "{in0}, {rows0}, {above0}, {out}, {out_rows});",
        f"{function}.c",
        many_rows=True,
    )


def transpose_conv(lowering: Lowering, step: int) -> None:
    """TRANSPOSE_CONV: output row r sums the input rows i with 0 <= r + pad - i · stride < k."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[2], operator.outputs[0]
    lowering.require_int8(step, x, operator.inputs[1], y)
    source, out, aside = lowering.window_grids(step, x, y)
    kernel = lowering.tensor(operator.inputs[1]).shape[1:3]
    strides = operator.integer("stride_h"), operator.integer("stride_w")
    if aside:
        kernel, strides = kernel[::-1], strides[::-1]
    pads = (0, 0)
    if operator.integer("padding") == Padding.SAME:
        pads = (
            same_padding(out.rows, source.rows, kernel[0], strides[0], 1),
            same_padding(out.columns, source.columns, kernel[1], strides[1], 1),
        )
    low, high = activation_range(operator, lowering.tensor(y))
    fields = (
        *(source.columns, source.channels, out.columns, out.channels),
        *(*kernel, *strides, 1, 1, pads[1]),
        *(-zero_point(lowering.tensor(x)), zero_point(lowering.tensor(y)), low, high),
    )
    window = lowering.struct("fmc_window_t", fields, _WINDOW_BYTES)
    rows = Rows(1, pads[0] - kernel[0] + strides[0], pads[0] + strides[0], strides[0])
    lowering.step(
        step,
        lowering.output(y, out.view),
        [lowering.read(x, rows, source.view)],
        f"fmc_transpose_conv({window}, {_weights(lowering, step, x, bias=3, aside=aside)}, "
        f"{{in0}}, {{rows0}}, {{first0}}, {{out}}, {{row}} + {pads[0]});",
        "fmc_transpose_conv.c",
    )


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


def same_padding(rows: int, out_rows: int, kernel: int, stride: int, dilation: int) -> int:
    """Returns the rows that padding SAME adds before the first."""
    reach = (out_rows - 1) * stride + (kernel - 1) * dilation + 1
    return max(reach - rows, 0) // 2


def _weights(
    lowering: Lowering,
    step: int,
    x: int,
    *,
    bias: int = 2,
    dense: bool = False,
    aside: bool = False,
) -> str:
    """The descriptor of an operator's weights, biases, multipliers and shifts.

    ``aside``: rows and columns of the kernels change places.
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
        lowering.array(np.array([s for _, s in pairs]), "int8"),
    )
    return lowering.struct("fmc_weights_t", fields, _WEIGHTS_BYTES)
