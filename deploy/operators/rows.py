"""Which input rows an operator needs for given output rows, and what a window of rows yields.

Rows are counted along the outermost axis that is longer than 1 (height; width where the height
is 1), so a band of rows is one contiguous piece of memory. All intervals are half open,
[start, stop), in rows of the whole map. A rule answers four questions:

* ``needed(rows)``: the input rows that the given output rows depend on;
* ``core(rows)``: the input rows that no window for the given output rows can do without;
* ``run(window)``: the output rows that come out when the unchanged operator is given only the
  rows ``window`` of its input (None: the strides do not line up, every row would be wrong);
* ``exact(window, valid)``: which of those equal the whole map's rows, if the rows ``valid`` of
  the window are right. The rest are *wrong rows*: padding took the place of rows that exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from keras_fmc.padding import same_padding

Rows = tuple[int, int]
"""Half-open interval of rows."""


class RowRule(Protocol):
    """How output rows depend on input rows; see the module."""

    @property
    def in_rows(self) -> int: ...

    @property
    def out_rows(self) -> int: ...

    def needed(self, rows: Rows) -> Rows: ...

    def core(self, rows: Rows) -> Rows: ...

    def run(self, window: Rows) -> Rows | None: ...

    def exact(self, window: Rows, valid: Rows) -> Rows: ...


def _clip(start: int, stop: int, size: int) -> Rows:
    """The rows that exist; the nearest one where none does, as no tensor may be empty."""
    start = min(max(start, 0), size - 1)
    return start, max(min(stop, size), start + 1)


@dataclass(frozen=True, slots=True)
class Sliding:
    """Convolutions, pools, and (kernel 1, stride 1) everything that works row by row.

    Output row r reads input rows r * stride - pad_before + [0, kernel_extent). ``whole_blocks``:
    the operator refuses a map whose rows do not fill its windows (SPACE_TO_DEPTH).
    """

    in_rows: int
    out_rows: int
    kernel_extent: int = 1
    stride: int = 1
    same: bool = False
    whole_blocks: bool = False

    @property
    def pad_before(self) -> int:
        return same_padding(self.in_rows, self.kernel_extent, self.stride)[0] if self.same else 0

    def needed(self, rows: Rows) -> Rows:
        start = rows[0] * self.stride - self.pad_before
        stop = (rows[1] - 1) * self.stride - self.pad_before + self.kernel_extent
        return _clip(start, stop, self.in_rows)

    def core(self, rows: Rows) -> Rows:
        return _clip(rows[0] * self.stride, rows[1] * self.stride, self.in_rows)

    def run(self, window: Rows) -> Rows | None:
        height = window[1] - window[0]
        if self.same:
            before = same_padding(height, self.kernel_extent, self.stride)[0]
            count = -(-height // self.stride)
        else:
            before = 0
            count, left = divmod(height - self.kernel_extent + self.stride, self.stride)
            if left and self.whole_blocks:
                return None
        start, rest = divmod(window[0] - before + self.pad_before, self.stride)
        return None if rest or count < 1 else (start, start + count)

    def exact(self, window: Rows, valid: Rows) -> Rows:
        out = self.run(window)
        if out is None:
            return 0, 0
        start, stop = max(out[0], 0), min(out[1], self.out_rows)
        if valid[0] > 0:
            start = max(start, -(-(valid[0] + self.pad_before) // self.stride))
        if valid[1] < self.in_rows:
            reach = valid[1] + self.pad_before - self.kernel_extent
            stop = min(stop, reach // self.stride + 1)
        return start, max(start, stop)


@dataclass(frozen=True, slots=True)
class Scattering:
    """Transposed convolution and DEPTH_TO_SPACE: input row i adds to rows of the output.

    Those are rows i * stride - pad_before + [0, kernel_extent); padding is cut off the output.
    """

    in_rows: int
    out_rows: int
    kernel_extent: int
    stride: int
    same: bool

    @property
    def pad_before(self) -> int:
        # The padding of the convolution that this one transposes, from out_rows to in_rows.
        if not self.same:
            return 0
        return same_padding(self.out_rows, self.kernel_extent, self.stride)[0]

    def run_height(self, in_height: int) -> int:
        """Rows of the output for an input of ``in_height`` rows."""
        if self.same:
            return in_height * self.stride
        return (in_height - 1) * self.stride + self.kernel_extent

    def needed(self, rows: Rows) -> Rows:
        start = -(-(rows[0] + self.pad_before - self.kernel_extent + 1) // self.stride)
        stop = (rows[1] - 1 + self.pad_before) // self.stride + 1
        return _clip(start, stop, self.in_rows)

    def core(self, rows: Rows) -> Rows:
        return _clip(rows[0] // self.stride, -(-rows[1] // self.stride), self.in_rows)

    def run(self, window: Rows) -> Rows | None:
        height = self.run_height(window[1] - window[0])
        before = same_padding(height, self.kernel_extent, self.stride)[0] if self.same else 0
        start = window[0] * self.stride + before - self.pad_before
        return start, start + height

    def exact(self, window: Rows, valid: Rows) -> Rows:
        out = self.run(window)
        assert out is not None
        start, stop = max(out[0], 0), min(out[1], self.out_rows)
        if valid[0] > 0:
            # Row r must not read input row valid[0] - 1.
            first = (valid[0] - 1) * self.stride - self.pad_before + self.kernel_extent
            start = max(start, first)
        if valid[1] < self.in_rows:
            stop = min(stop, valid[1] * self.stride - self.pad_before)
        return start, max(start, stop)


@dataclass(frozen=True, slots=True)
class Shifting:
    """PAD (shift > 0 rows put before) and SLICE (shift < 0 rows cut off before) of rows.

    Each strip has padding of its own, so a strip yields exactly the rows that are asked for.
    """

    in_rows: int
    out_rows: int
    shift: int

    def needed(self, rows: Rows) -> Rows:
        return _clip(rows[0] - self.shift, rows[1] - self.shift, self.in_rows)

    core = needed

    def padding(self, rows: Rows) -> tuple[int, int]:
        """Rows of padding before and after the window in the strip ``rows``."""
        window = self.needed(rows)
        return window[0] - (rows[0] - self.shift), rows[1] - self.shift - window[1]

    def run(self, window: Rows) -> Rows | None:
        return window[0] + self.shift, window[1] + self.shift

    def exact(self, window: Rows, valid: Rows) -> Rows:
        return valid[0] + self.shift, valid[1] + self.shift


@dataclass(frozen=True, slots=True)
class Resampling:
    """RESIZE by a whole factor: output row r is a weighted sum of the rows ``weights[r]``.

    ``weights`` are those of the runtime's own arithmetic, computed for the whole map and for
    each window height, so a row counts as exact only if its rounding is the same in the strip.
    """

    in_rows: int
    out_rows: int
    kind: str
    half_pixel: bool

    @property
    def factor(self) -> int:
        return self.out_rows // self.in_rows

    def needed(self, rows: Rows) -> Rows:
        used = [row for r in range(*rows) for row, _ in self._weights(r, self.in_rows)]
        return min(used), max(used) + 1

    def core(self, rows: Rows) -> Rows:
        return _clip(rows[0] // self.factor, -(-rows[1] // self.factor), self.in_rows)

    def run(self, window: Rows) -> Rows | None:
        return window[0] * self.factor, window[1] * self.factor

    def exact(self, window: Rows, valid: Rows) -> Rows:
        first, height = window[0], window[1] - window[0]
        good = []
        for r in range(window[0] * self.factor, window[1] * self.factor):
            whole = self._weights(r, self.in_rows)
            strip = self._weights(r - first * self.factor, height)
            if whole == tuple((row + first, w) for row, w in strip) and all(
                valid[0] <= row < valid[1] for row, _ in whole
            ):
                good.append(r)
        start = good[0] if good else 0
        stop = start
        for r in good:
            if r != stop:
                break
            stop += 1
        return start, stop

    def _weights(self, row: int, in_rows: int) -> tuple[tuple[int, int], ...]:
        return resize_weights(
            self.kind, row, in_rows, in_rows * self.factor, half_pixel=self.half_pixel
        )


def resize_weights(
    kind: str, row: int, in_rows: int, out_rows: int, *, half_pixel: bool
) -> tuple[tuple[int, int], ...]:
    """(input row, weight of 1024) of an output row, in the arithmetic of the runtime's kernels.

    RESIZE_NEAREST_NEIGHBOR scales in float32, RESIZE_BILINEAR in fixed point with 10 bits;
    corners are not aligned.
    """
    if kind == "RESIZE_NEAREST_NEIGHBOR":
        scale = np.float32(in_rows) / np.float32(out_rows)
        offset = np.float32(0.5 if half_pixel else 0.0)
        source = int(np.floor((np.float32(row) + offset) * scale))
        return ((min(max(source, 0), in_rows - 1), 1024),)
    scale_10 = (1024 * in_rows + out_rows // 2) // out_rows
    position = row * scale_10 + (scale_10 // 2 - 512 if half_pixel else 0)
    lower = max(int(position / 1024), 0)
    upper = min(int((position + 1023) / 1024), in_rows - 1)
    weight = position - 1024 * lower
    if upper == lower or weight == 0:
        return ((lower, 1024),)
    return ((lower, 1024 - weight), (upper, weight))
