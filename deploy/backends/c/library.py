"""A kernel library of the user's in place of portable kernels: what it is asked and what it needs.

Of the kernels that a row program calls, CMSIS-NN has convolutions, fully connected layers, pools,
sums and softmax; the others stay portable. A row is made from a window of rows, which the library
takes for a small map of its own, so its scratch is what it needs for the windows of all rows. The
formulas are those of the planner for TFLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.backends.c.program import Grid, Read, Scratch
from deploy.backends.tflm.scratch import operator_requests
from deploy.operators.window import Window
from deploy.targets.records import Kernels

SOURCE, HEADER = "fmc_cmsis_nn.c", "fmc_cmsis_nn.h"
PREFIX = "fmc_cmsis_nn"
CONV = f"{PREFIX}_conv"

_MANY_ROWS = 2


@dataclass(frozen=True, slots=True)
class KernelLibrary:
    """CMSIS-NN as the kernels of a target have it."""

    kernels: Kernels

    def window_scratch(
        self,
        opcode: str,
        kernel: str,
        descriptor: str,
        *,
        read: Read,
        out_rows: int,
        source: Grid,
        out: Grid,
        window: Window,
        pad_columns: int,
    ) -> Scratch:
        """Returns the scratch of an operator that makes rows from windows of rows.

        Args:
            kernel: the adapter's name for it; for a convolution whose kernel has one row it calls
                the library's general one, as for a map of many rows.
        """
        base = {
            "in_n": 1,
            "in_w": source.columns,
            "in_c": source.channels,
            "out_n": 1,
            "out_w": out.columns,
            "out_c": out.channels,
            "kernel_h": window.kernel[0],
            "kernel_w": window.kernel[1],
            "stride_h": window.strides[0],
            "stride_w": window.strides[1],
            "dilation_h": window.dilations[0],
            "dilation_w": window.dilations[1],
            "kernel_c": source.channels,
            "pad_w": pad_columns,
            "multiplier": out.channels // source.channels,
        }
        by_row = {
            (stop - first, first - read.rows.first(row), 1)
            for row in range(out_rows)
            for first, stop in [read.window(row)]
        }
        # Where all stands apart one call makes all rows.
        windows = sorted({*by_row, (source.rows, -read.rows.first(0), out_rows)})
        general = kernel == CONV and window.kernel[0] == 1 and window.kernel[1] > 1
        sizes = [
            self._bytes(
                opcode,
                base | {"in_h": max(r, _MANY_ROWS) if general else r, "pad_h": a, "out_h": n},
            )
            for r, a, n in windows
        ]
        asked = [f"{kernel}_bytes({descriptor}, {r}, {a}, {n})" for r, a, n in windows]
        return Scratch(max(sizes), tuple(asked))

    def dense_scratch(
        self, opcode: str, descriptor: str, *, units: int, depth: int, per_unit: bool
    ) -> Scratch:
        """Returns the scratch of a fully connected layer: sums of weights, on some cores."""
        numbers = {"out_rank": 2, "out_c": units, "kernel_c": depth, "fixed_weights": 0}
        size = self._bytes(opcode, numbers | {"per_channel": int(per_unit)})
        return Scratch(size, (f"{PREFIX}_dense_bytes({descriptor})",))

    def _bytes(self, opcode: str, numbers: Mapping[str, int]) -> int:
        rule = self.kernels.rules[opcode]
        # Only of int8 maps, whose biases are int32.
        known = {**numbers, "item_bytes": 1, "bias_bytes": 4}
        return sum(request.room_bytes for request in operator_requests(0, rule, known))


def takes_depthwise(source: Grid, out: Grid, window: Window, *, top: int, left: int) -> bool:
    """Whether the library computes a depthwise convolution right.

    Of one input channel it makes a convolution, for which kernels of one row are not safe. Of a
    window that lies beside the map it clears more scratch than it asks for
    (``arm_depthwise_conv_s8_opt``, which takes a kernel to reach the map).

    Args:
        top, left: rows above the map and columns on its left that are padded.
    """
    if source.channels == 1 and window.kernel[0] == 1:
        return False
    axes = zip(
        (source.rows, source.columns),
        (out.rows, out.columns),
        window.strides,
        window.extents,
        (top, left),
        strict=True,
    )
    return all(
        pad < extent and (count - 1) * stride - pad < size
        for size, count, stride, extent, pad in axes
    )


def scratch_arguments(scratch: Scratch | None) -> str:
    """Returns the last arguments of a call."""
    return "" if scratch is None else ", {scratch}, {scratch_bytes}"


__all__ = ["HEADER", "PREFIX", "SOURCE", "KernelLibrary", "scratch_arguments", "takes_depthwise"]
