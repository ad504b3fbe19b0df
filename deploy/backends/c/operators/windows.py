"""Pools and resizing: windows without weights."""

from __future__ import annotations

import math

import numpy as np

from deploy.backends.c.fixed_point import activation_range, round_half_away
from deploy.backends.c.lowering import Lowering
from deploy.backends.c.operators.by_library import window_step
from deploy.backends.c.operators.reductions import sums_step
from deploy.backends.c.operators.registry import lowers
from deploy.backends.c.operators.weighted import own_channel_lead
from deploy.backends.c.program import Rows
from deploy.operators.convolutions import pool_window

_WINDOW_BYTES = 15 * 4
_ONE = 1 << 10


@lowers("AVERAGE_POOL_2D")
def average_pool(lowering: Lowering, step: int) -> None:
    """AVERAGE_POOL_2D; one window over the whole map adds up rows as they come."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    source = lowering.tensor(x).shape
    kernel = pool_window(lowering.graph, operator).kernel
    if len(source) == 4 and lowering.tensor(y).shape[1:3] == (1, 1) and kernel == source[1:3]:
        lowering.require_int8(step, x, y)
        low, high = activation_range(operator, lowering.tensor(y))
        count = source[1] * source[2]
        sums_step(lowering, step, "fmc_sums_average", (count, 0, 0, 0, 0, low, high))
        return
    _pool(lowering, step, "fmc_average_pool")


@lowers("MAX_POOL_2D")
def max_pool(lowering: Lowering, step: int) -> None:
    """MAX_POOL_2D."""
    _pool(lowering, step, "fmc_max_pool")


def _pool(lowering: Lowering, step: int, function: str) -> None:
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    lowering.require_int8(step, x, y)
    source, out, aside = lowering.window_grids(step, x, y)
    window = pool_window(lowering.graph, operator)
    if aside:
        window = window.swapped
    (top, _), (left, _) = window.paddings(source.rows, source.columns)
    kernel, strides = window.kernel, window.strides
    low, high = activation_range(operator, lowering.tensor(y))
    fields = (
        *(source.columns, source.channels, out.columns, out.channels),
        *(*kernel, *strides, 1, 1, left, 0, 0, low, high),
    )
    descriptor = lowering.struct("fmc_window_t", fields, _WINDOW_BYTES)
    rows = Rows(strides[0], -top, kernel[0] - top)
    library = lowering.library
    if library is not None:
        window_step(
            lowering,
            library,
            step,
            function,
            (descriptor,),
            x=x,
            rows=rows,
            source=source,
            out=out,
            window=window,
            pad_columns=left,
            asks_for_scratch=operator.opcode == "AVERAGE_POOL_2D",
        )
        return
    lead = own_channel_lead(source, out, strides[1], left)
    lowering.step(
        step,
        lowering.output(y, out.view),
        [lowering.read(x, rows, source.view, lead_bytes=lead)],
        f"{function}({descriptor}, {{in0}}, {{rows0}}, {{above0}}, {{out}}, {{out_rows}});",
        "fmc_pool.c",
        many_rows=True,
    )


@lowers("RESIZE_NEAREST_NEIGHBOR")
def resize_nearest(lowering: Lowering, step: int) -> None:
    """RESIZE_NEAREST_NEIGHBOR: rows and columns picked by number, worked out in float32."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    source, out, _ = lowering.window_grids(step, x, y)
    corners = bool(operator.option("align_corners"))
    centres = bool(operator.option("half_pixel_centers"))

    def picked(extent: int, count: int) -> list[int]:
        return [_nearest(i, extent, count, corners, centres) for i in range(count)]

    rows, columns = picked(source.rows, out.rows), picked(source.columns, out.columns)
    index = lowering.array(columns, "int16")
    run = source.channels * source.item
    lowering.step(
        step,
        lowering.output(y, out.view),
        [lowering.read(x, _table(lowering, [(r, r + 1) for r in rows]), source.view)],
        f"fmc_pick({index}, {out.columns}, {run}, {{in0}}, {{out}});",
        "fmc_copy.c",
    )


@lowers("RESIZE_BILINEAR")
def resize_bilinear(lowering: Lowering, step: int) -> None:
    """RESIZE_BILINEAR in steps of 1/1024 of a pixel."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    lowering.require_int8(step, x, y)
    source, out, _ = lowering.window_grids(step, x, y)
    corners = bool(operator.option("align_corners"))
    centres = bool(operator.option("half_pixel_centers"))

    def step_of(extent: int, count: int) -> int:
        if corners and count > 1:
            return (_ONE * (extent - 1) + (count - 1) // 2) // (count - 1)
        return (_ONE * extent + count // 2) // count

    scale = step_of(source.rows, out.rows)
    windows, fractions = [], []
    for r in range(out.rows):
        place = r * scale + (scale // 2 - _ONE // 2 if centres else 0)
        first = max(int(place / _ONE), 0)
        last = min(int((place + _ONE - 1) / _ONE), source.rows - 1)
        windows.append((first, max(last, first) + 1))
        fractions.append(place - _ONE * first)
        if last < first:
            lowering.refuse(step, "rows below the last of its input", "half pixels or corners")
    fields = (
        *(source.columns, out.columns, source.channels),
        *(step_of(source.columns, out.columns), int(centres)),
    )
    descriptor = lowering.struct("fmc_bilinear_t", fields, 5 * 4)
    fraction = lowering.array(fractions, "int16")
    lowering.step(
        step,
        lowering.output(y, out.view),
        [lowering.read(x, _table(lowering, windows), source.view)],
        f"fmc_bilinear({descriptor}, {{in0}}, {{rows0}}, {fraction}[{{row}}], {{out}});",
        "fmc_bilinear.c",
    )


def _table(lowering: Lowering, windows: list[tuple[int, int]]) -> Rows:
    flat = [n for window in windows for n in window]
    return Rows(table=tuple(windows), table_name=lowering.array(flat, "int16"))


def _nearest(index: int, extent: int, count: int, corners: bool, centres: bool) -> int:
    one, half = np.float32(1), np.float32(0.5 if centres else 0)
    if corners and count > 1:
        scale = np.float32(extent - 1) / np.float32(count - 1)
        place = round_half_away(float(np.float32((np.float32(index) + half) * scale)))
    else:
        scale = np.float32(extent) / np.float32(count)
        place = math.floor(float(np.float32((np.float32(index) + half) * scale * one)))
    return max(min(place, extent - 1), 0)
