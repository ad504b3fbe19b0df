"""Convolutions over bits as sums that are looked up: their tables and thresholds.

A sum of weights over ones is Σ over half bytes of what their four bits are worth. Each half byte
is worth at least 0 once its least worth is taken off, so that two sums of 16 bits fit a word and
neither reaches the other. What a requantised sum decides is whether it is at least a threshold;
sums start at 2^15 less the threshold, so that their highest bit is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploy.backends.c.fixed_point import (
    activation_range,
    channel_multipliers,
    zero_point,
)
from deploy.graph import Graph, Padding
from keras_fmc.fixed_point import divide_by_power, high_mul

_MOST_TABLE_BYTES = 256 * 1024
"""Of one convolution: its table takes 8 bytes a weight."""
_HALF = 1 << 15
_MOST_BITS_A_VALUE = 10


@dataclass(frozen=True, slots=True)
class BitConvolution:
    """A convolution of bits to bits.

    Attributes:
        table: uint32 [⌈outputs / 8⌉][rows][columns][bytes][2][16][4]; see fmc_kernels.h.
        start: uint32 [⌈outputs / 8⌉][4], with which the sums start.
    """

    kernel: tuple[int, int]
    table: np.ndarray
    start: np.ndarray


@dataclass(frozen=True, slots=True)
class _Sums:
    """The arithmetic of a convolution: f(weights · codes + constant) for each output."""

    weights: np.ndarray
    bias: np.ndarray
    multipliers: list[tuple[int, int]]
    out_zero: int
    low: int
    high: int

    def value(self, output: int, total: int) -> int:
        m, shift = self.multipliers[output]
        scaled = divide_by_power(high_mul(total << max(shift, 0), m), max(-shift, 0))
        return min(max(int(scaled) + self.out_zero, self.low), self.high)

    def fits(self, output: int, largest: int) -> bool:
        """Whether sums up to this size keep clear of the end of int32."""
        return largest << max(self.multipliers[output][1], 0) < 1 << 31


def bit_convolution(graph: Graph, step: int, in_low: int, out_low: int) -> BitConvolution | None:
    """Returns the tables of a CONV_2D from bits to bits, None where it has none.

    Args:
        in_low, out_low: the lower one of the two codes of its input and its output.
    """
    operator = graph.operators[step]
    sums = _sums(graph, step)
    if sums is None or in_low != zero_point(graph.tensors[operator.inputs[0]]):
        return None
    outputs, rows, columns, channels = sums.weights.shape
    shape = graph.tensors[operator.outputs[0]].shape
    plain = (rows, columns) == (1, 1) and operator.integer("stride_h") == 1
    if 1 in (graph.tensors[operator.inputs[0]].shape[1], shape[1]) and not plain:
        return None
    blocks, in_bytes = -(-outputs // 8), -(-channels // 8)
    if blocks * rows * columns * in_bytes * 512 > _MOST_TABLE_BYTES:
        return None
    if np.abs(sums.weights).sum(axis=(1, 2, 3)).max() >= _HALF:
        return None
    wide = np.zeros((8 * blocks, rows, columns, 8 * in_bytes), np.int64)
    wide[:outputs, ..., :channels] = sums.weights
    halves = wide.reshape(8 * blocks, rows, columns, in_bytes, 2, 4)
    bits = np.arange(16)[:, None] >> np.arange(4) & 1
    worth = halves @ bits.T
    least = worth.min(axis=-1, keepdims=True)
    worth = (worth - least).reshape(blocks, 8, rows, columns, in_bytes, 2, 16)
    words = worth[:, :4] + (worth[:, 4:] << 16)
    table = np.moveaxis(words, 1, -1).astype(np.uint32)
    lifted = -least.reshape(8 * blocks, -1).sum(axis=1)
    thresholds = np.full(8 * blocks, _HALF, np.int64)
    for output in range(outputs):
        found = _threshold(sums, output, out_low)
        if found is None:
            return None
        thresholds[output] = min(max(found + lifted[output], 0), _HALF)
    starts = (_HALF - thresholds).reshape(blocks, 2, 4)
    start = (starts[:, 0] + (starts[:, 1] << 16)).astype(np.uint32)
    return BitConvolution((rows, columns), table, start)


def value_table(graph: Graph, step: int, in_low: int) -> np.ndarray | None:
    """Returns what the bits of an output channel make together, where each has bits of its own.

    None where channels differ, share bits, or have too many of them.
    """
    operator = graph.operators[step]
    sums = _sums(graph, step)
    x, y = (graph.tensors[t] for t in (operator.inputs[0], operator.outputs[0]))
    if sums is None or sums.weights.shape[1:3] != (1, 1) or x.shape[:3] != y.shape[:3]:
        return None
    weights = sums.weights[:, 0, 0]
    outputs, channels = weights.shape
    count, left = divmod(channels, outputs)
    if left or not 0 < count <= _MOST_BITS_A_VALUE:
        return None
    own = weights.reshape(outputs, outputs, count)[np.arange(outputs), np.arange(outputs)]
    apart = np.count_nonzero(weights) == np.count_nonzero(own)
    alike = (own == own[0]).all() and (sums.bias == sums.bias[0]).all()
    if not apart or not alike or len(set(sums.multipliers)) > 1:
        return None
    bits = np.arange(1 << count)[:, None] >> np.arange(count) & 1
    shift = in_low - zero_point(x)
    totals = (bits + shift) @ own[0] + sums.bias[0]
    if not sums.fits(0, int(np.abs(totals).max())):
        return None
    return np.array([sums.value(0, int(total)) for total in totals], np.int8)


def _threshold(sums: _Sums, output: int, out_low: int) -> int | None:
    """The least Σ of weights over ones that makes the higher code; halving, as f only grows."""
    bias = int(sums.bias[output])
    weights = sums.weights[output]
    low, high = int(weights[weights < 0].sum()), int(weights[weights > 0].sum())
    if not sums.fits(output, max(abs(low), high) + abs(bias)):
        return None
    high += 1
    while low < high:
        middle = (low + high) // 2
        if sums.value(output, middle + bias) > out_low:
            high = middle
        else:
            low = middle + 1
    return low


def _sums(graph: Graph, step: int) -> _Sums | None:
    operator = graph.operators[step]
    x, weights, y = (
        graph.tensors[t] for t in (operator.inputs[0], operator.inputs[1], operator.outputs[0])
    )
    bias = graph.tensors[operator.inputs[2]] if len(operator.inputs) > 2 else None
    if not weights.is_constant or weights.quantization is None or (bias and not bias.is_constant):
        return None
    plain = weights.dtype == "int8" and not any(weights.quantization.zero_points)
    dilated = (operator.integer(f"dilation_{side}_factor", 1) or 1 for side in "hw")
    if not plain or weights.shape[3] != x.shape[3] or any(n != 1 for n in dilated):
        return None
    if operator.integer("padding") not in tuple(Padding):
        return None
    pairs = channel_multipliers(x, weights, y)
    low, high = activation_range(operator, y)
    outputs = weights.shape[0]
    return _Sums(
        weights.array().astype(np.int64),
        np.zeros(outputs, np.int64) if bias is None else bias.array().astype(np.int64),
        pairs * outputs if len(pairs) == 1 else pairs,
        zero_point(y),
        low,
        high,
    )
