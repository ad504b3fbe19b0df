"""Random graphs of windows that no simple rule of rows describes, for generated C.

    graph = row_graph(seed)

Strides beyond kernels, windows that leave rows over, dilations wider than the map, pads that differ
on each side, averages over borders, branches inside branches that meet at other heights, codes in
branches, outputs that are read on and outputs of different heights, very different scales, images
of one row or one column, several images at a time.
"""

from __future__ import annotations

import math

import numpy as np

from deploy.graph import Activation, Graph, Padding, Quantization
from tests.code_graphs import FORMS, bit_planes, code_map, weighed_planes
from tests.int8_graphs import Int8GraphDrawer

_LARGEST_MAP_BYTES = 6000
_DEEPEST = 2


def row_graph(seed: int) -> Graph:
    """Returns the graph of a seed."""
    return _Rows(seed).draw()


class _Rows(Int8GraphDrawer):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.batch = self._any((1,) * 28 + (2, 3))
        self.ends: list[int] = []

    def draw(self) -> Graph:
        height, width = self._any(((1, 24), (21, 1), (9, 9), (14, 5), (7, 16), (32, 3)))
        height, width = max(1, height - self._size(0, 3)), max(1, width - self._size(0, 3))
        x = self.make.input((self.batch, height, width, self._any((1, 2, 3, 5))))
        for _ in range(self._size(2, 6)):
            x = self._block(x, _DEEPEST)
            if self.rng.random() < 0.2:
                self.ends.append(x)
        if self.rng.random() < 0.2:
            x = self.make.mean(x, keep_dims=True)
        return self.make.build(outputs=list(dict.fromkeys([*self.ends, x])))

    def _block(self, x: int, depth: int) -> int:
        plain = (
            *(self._conv, self._depthwise, self._dilated, self._padded, self._averaged),
            *(self._left_over, self._scaled),
        )
        one = (self._codes, self._bits, self._resized) if self.batch == 1 else ()
        nested = (self._residual, self._branches, self._encoded) if depth and one != () else ()
        if math.prod(self.make.shape(x)) > _LARGEST_MAP_BYTES:
            return self.make.pool(x, kernel=(1, 1), stride=(2, 2))
        kind = self._any(plain + one + nested + nested)
        return kind(x, depth - 1) if kind in nested else kind(x)

    def _activation(self) -> Activation:
        return self._any((Activation.NONE, Activation.RELU, Activation.RELU6))

    def _conv(self, x: int) -> int:
        kernel = self._size(1, 7), self._size(1, 4)
        stride = self._size(1, 3), self._size(1, 3)
        return self.make.conv(
            x,
            channels=self._size(1, 9),
            kernel=kernel,
            stride=stride,
            activation=self._activation(),
        )

    def _depthwise(self, x: int) -> int:
        kernel = self._size(1, 5), self._size(1, 5)
        stride = self._size(1, 3)
        return self.make.depthwise(
            x,
            kernel=kernel,
            stride=(stride, stride),
            multiplier=self._any((1, 2, 3, 4)),
            activation=self._activation(),
            bias=self.rng.random() < 0.7,
        )

    def _dilated(self, x: int) -> int:
        options = {
            "kernel": (self._size(1, 3), self._size(1, 3)),
            "dilation": (self._size(1, 5), self._size(1, 5)),
        }
        if self.rng.random() < 0.5:
            return self.make.depthwise(x, multiplier=self._any((1, 2)), **options)
        return self.make.conv(x, channels=self._size(1, 9), **options)

    def _padded(self, x: int) -> int:
        """Pads that differ on each side, and a window that leaves rows over."""
        amounts = [(0, 0), *((self._size(0, 3), self._size(0, 3)) for _ in range(2)), (0, 0)]
        if self.rng.random() < 0.3:
            amounts[3] = (self._size(0, 2), self._size(0, 2))
        return self._left_over(self.make.pad(x, amounts))

    def _left_over(self, x: int) -> int:
        """VALID, of strides that may pass over rows."""
        _, height, width, _ = self.make.shape(x)
        kernel = self._size(1, min(4, height)), self._size(1, min(4, width))
        options = {
            "kernel": kernel,
            "stride": (self._size(1, 4), self._size(1, 4)),
            "padding": Padding.VALID,
        }
        kind = self._any(("CONV", "DEPTHWISE", "AVERAGE_POOL_2D", "MAX_POOL_2D"))
        if kind == "CONV":
            return self.make.conv(x, channels=self._size(1, 9), **options)
        if kind == "DEPTHWISE":
            return self.make.depthwise(x, **options)
        return self.make.pool(x, kind=kind, **options)

    def _averaged(self, x: int) -> int:
        """Windows over the border, whose values are counted."""
        kind = self._any(("AVERAGE_POOL_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"))
        return self.make.pool(
            x,
            kind=kind,
            kernel=(self._size(1, 6), self._size(1, 6)),
            stride=(self._size(1, 3), self._size(1, 3)),
            padding=Padding.SAME,
        )

    def _scaled(self, x: int) -> int:
        """Sums of values whose scales are far apart."""
        by = 2.0 ** self.rng.uniform(-11, 11)
        q = Quantization((float(np.float32(self.make.scale(x) * by)),), (self._size(-128, 127),))
        y = self.make.requantize(x, q)
        pair = (x, y) if self.rng.random() < 0.5 else (y, x)
        return self.make.binary(
            self._any(("ADD", "SUB", "MUL")), *pair, activation=self._any(tuple(Activation)[:2])
        )

    def _codes(self, x: int) -> int:
        stride = self._any(((1, 1), (1, 1), (2, 2)))
        code = code_map(
            self.make,
            x,
            channels=self._size(1, 11),
            bits=self._any((1, 2, 4, 6)),
            form=self._any(FORMS),
            stride=stride,
        )
        return self.make.conv(code, channels=self._size(1, 8), kernel=(self._size(1, 3), 1))

    def _bits(self, x: int) -> int:
        """A GF(2) bottleneck."""
        make = self.make
        if math.prod(make.shape(x)[1:3]) > 150:
            return self._codes(x)
        channels = self._size(1, 3)
        x = make.conv(x, channels=channels, activation=Activation.RELU)
        span = Quantization((make.scale(x),), (-128,))
        x = bit_planes(make, make.requantize(x, span), 8)
        for count in (self._size(3, 12), channels * 8):
            x = code_map(make, x, channels=count, bits=1, form="threshold")
        return weighed_planes(make, x, channels, 8)

    def _kind_of_resize(self) -> str:
        return self._any(("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"))

    def _resized(self, x: int) -> int:
        _, height, width, _ = self.make.shape(x)
        size = self._size(1, 2 * height + 1), self._size(1, 2 * width)
        return self.make.resize(x, size, kind=self._kind_of_resize())

    def _like(self, y: int, x: int, *, channels: bool) -> int:
        if channels and self.make.shape(y)[3] != self.make.shape(x)[3]:
            y = self.make.conv(y, channels=self.make.shape(x)[3])
        if self.make.shape(y)[1:3] != self.make.shape(x)[1:3]:
            y = self.make.resize(y, self.make.shape(x)[1:3], kind=self._kind_of_resize())
        return self.make.requantize(y, self.make.quantization(x))

    def _residual(self, x: int, depth: int) -> int:
        y = x
        for _ in range(self._size(1, 2)):
            y = self._block(y, depth)
        return self.make.binary(self._any(("ADD", "SUB")), x, self._like(y, x, channels=True))

    def _branches(self, x: int, depth: int) -> int:
        """A concatenation along channels or along rows."""
        axis = self._any((3, 3, 1))
        parts = [self._block(x, depth) for _ in range(self._size(2, 3))]
        first = parts[0]
        parts = [first, *(self._like(y, first, channels=axis == 1) for y in parts[1:])]
        return self.make.concatenation(parts, axis=axis)

    def _encoded(self, x: int, depth: int) -> int:
        """Down, through a block, and up again; the skip joins it."""
        y = self.make.conv(x, channels=self._size(1, 8), kernel=(3, 3), stride=(2, 2))
        y = self._block(y, depth)
        return self._residual_with(x, y) if self.rng.random() < 0.5 else self._joined(x, y)

    def _residual_with(self, x: int, y: int) -> int:
        return self.make.binary("ADD", self._like(y, x, channels=True), x)

    def _joined(self, x: int, y: int) -> int:
        return self.make.concatenation([self._like(y, x, channels=False), x], axis=3)
