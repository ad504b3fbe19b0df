"""Reductions: sums over rows as they come, and over any dimensions of a whole map."""

from __future__ import annotations

import math

from deploy.backends.c.fixed_point import quantized_multiplier, scale, zero_point
from deploy.backends.c.lowering import Lowering, constant_integers
from deploy.backends.c.operators.registry import lowers
from deploy.backends.c.program import SAME_ROW, whole

_SUMS_BYTES = 8 * 4
_REDUCE_BYTES = 24 * 4


def sums_step(lowering: Lowering, step: int, function: str, end: tuple[int, ...]) -> None:
    """Adds the two steps of a reduction over rows and columns: sums, and their end."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    source = lowering.grid(x)
    sums = lowering.sums(lowering.tensor(x).name, source.rows, source.channels)
    lowering.step(
        step,
        sums,
        [lowering.read(x, SAME_ROW, source.view)],
        f"fmc_accumulate((int32_t *)(void *)({{out}}), {{in0}}, {source.columns}, "
        f"{source.channels}, {{row}});",
        "fmc_reduce.c",
        part="sums",
    )
    descriptor = lowering.struct("fmc_sums_t", (source.channels, *end), _SUMS_BYTES)
    view = (source.rows, 4 * source.channels)
    lowering.map_of[-1 - sums] = sums
    lowering.step(
        step,
        lowering.output(y, (1, lowering.tensor(y).size_bytes)),
        [lowering.read(-1 - sums, whole(source.rows), view)],
        f"{function}({descriptor}, (const int32_t *)(const void *)({{in0}}), {{out}});",
        "fmc_reduce.c",
    )
    del lowering.map_of[-1 - sums]


@lowers("MEAN")
def mean(lowering: Lowering, step: int) -> None:
    """MEAN; 1/count is folded into the multiplier, as the kernel does."""
    operator = lowering.graph.operators[step]
    x, y = (lowering.tensor(t) for t in (operator.inputs[0], operator.outputs[0]))
    lowering.require_int8(step, operator.inputs[0], operator.outputs[0])
    axes = _axes(lowering, step)
    count = math.prod(x.shape[a] for a in axes)
    m, shift = quantized_multiplier(scale(x) / scale(y))
    more = min(count.bit_length() - 1, 32, 31 + shift)
    end = (count, (m << more) // count, shift - more, zero_point(x), zero_point(y), -128, 127)
    if len(x.shape) == 4 and x.shape[0] == 1 and axes == [1, 2]:
        sums_step(lowering, step, "fmc_sums_mean", end)
    else:
        _reduce(lowering, step, "fmc_reduce_sum", axes, end)


@lowers("SUM")
def total(lowering: Lowering, step: int) -> None:
    """SUM."""
    operator = lowering.graph.operators[step]
    x, y = (lowering.tensor(t) for t in (operator.inputs[0], operator.outputs[0]))
    lowering.require_int8(step, operator.inputs[0], operator.outputs[0])
    axes = _axes(lowering, step)
    count = math.prod(x.shape[a] for a in axes)
    m, shift = quantized_multiplier(scale(x) / scale(y))
    end = (count, m, shift, zero_point(x), zero_point(y), -128, 127)
    if len(x.shape) == 4 and x.shape[0] == 1 and axes == [1, 2]:
        sums_step(lowering, step, "fmc_sums_mean", end)
    else:
        _reduce(lowering, step, "fmc_reduce_sum", axes, end)


@lowers("REDUCE_MAX")
def greatest(lowering: Lowering, step: int) -> None:
    """REDUCE_MAX."""
    _extreme(lowering, step, "fmc_reduce_max")


@lowers("REDUCE_MIN")
def least(lowering: Lowering, step: int) -> None:
    """REDUCE_MIN."""
    _extreme(lowering, step, "fmc_reduce_min")


def _extreme(lowering: Lowering, step: int, function: str) -> None:
    operator = lowering.graph.operators[step]
    lowering.require_int8(step, operator.inputs[0], operator.outputs[0])
    _reduce(lowering, step, function, _axes(lowering, step), (0,) * 7)


def _axes(lowering: Lowering, step: int) -> list[int]:
    operator = lowering.graph.operators[step]
    rank = len(lowering.tensor(operator.inputs[0]).shape)
    return sorted({a % rank for a in constant_integers(lowering, step, operator.inputs[1])})


def _reduce(
    lowering: Lowering, step: int, function: str, axes: list[int], end: tuple[int, ...]
) -> None:
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    shape = lowering.tensor(x).shape
    steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    kept = [(shape[i], steps[i]) for i in range(len(shape)) if i not in axes and shape[i] > 1]
    over = [(shape[i], steps[i]) for i in axes if shape[i] > 1]
    if len(kept) > 4 or len(over) > 4:
        lowering.refuse(step, f"{len(shape)} dimensions", "at most 4")
    kept, over = ([(1, 0)] * (4 - len(d)) + d for d in (kept, over))
    fields = [
        "{" + ", ".join(str(pair[k]) for pair in group) + "}"
        for group in (kept, over)
        for k in (0, 1)
    ]
    sums = "{" + ", ".join(map(str, (0, *end))) + "}"
    descriptor = lowering.struct("fmc_reduce_t", (*fields, sums), _REDUCE_BYTES)
    lowering.step(
        step,
        lowering.output(y, (1, lowering.tensor(y).size_bytes)),
        [lowering.read_whole(x)],
        f"{function}({descriptor}, {{in0}}, {{out}});",
        "fmc_reduce.c",
    )
