"""Random int8 graphs that LiteRT and TensorFlow Lite Micro both run, from a seed.

    for seed in range(200):
        graph = random_graph(seed)

The graphs branch and join: a join may take any two maps of one shape, so lifetimes cross.
Every tensor is used; what nothing reads is an output. Batch is 1, layout NHWC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploy.graph import Activation, Graph, Padding
from tests.int8_graphs import Int8GraphMaker

KINDS: tuple[str, ...] = (
    "conv",
    "depthwise",
    "transpose_conv",
    "pool",
    "binary",
    "concatenation",
    "slice",
    "strided_slice",
    "pad",
    "unary",
    "prelu",
    "resize",
    "reshape",
    "quantize",
    "unpack_codes",
)
"""What ``random_graph`` draws from; a test of convolutions alone passes fewer."""

_ACTIVATIONS = ("RELU", "RELU6", "LEAKY_RELU", "LOGISTIC", "TANH", "HARD_SWISH")
_LARGEST_MAP_BYTES = 6000


def random_graph(
    seed: int,
    *,
    operators: tuple[int, int] = (2, 14),
    kinds: Sequence[str] = KINDS,
    head: bool | None = None,
) -> Graph:
    """Returns the graph of a seed.

    Args:
        seed: the same seed and options give the same graph.
        operators: smallest and largest number of drawn steps (a step may add two operators).
        kinds: subset of ``KINDS``.
        head: end with MEAN or RESHAPE, FULLY_CONNECTED and SOFTMAX; None draws it too.
    """
    return _Drawing(seed, tuple(kinds)).draw(operators, head)


class _Drawing:
    def __init__(self, seed: int, kinds: tuple[str, ...]) -> None:
        self.make = Int8GraphMaker(seed)
        self.rng = self.make.rng
        self.kinds = kinds
        self.maps: list[int] = []
        self.unread: list[int] = []

    def draw(self, operators: tuple[int, int], head: bool | None) -> Graph:
        for _ in range(self.pick((1, 1, 1, 2))):
            shape = (1, self.integer(3, 16), self.integer(3, 16), self.pick((1, 2, 3, 4, 8, 16)))
            self.maps.append(self.make.input(shape))
        self.unread = list(self.maps)
        for _ in range(self.integer(*operators)):
            self.step()
        for x in [t for t in self.make.inputs if t in self.unread]:
            self.unread.append(self._quantize(x))
        if self.flip() if head is None else head:
            self.head()
        return self.make.build(outputs=sorted(self.unread))

    def step(self) -> None:
        """Adds one step; none where no kind suits the maps, as when all of them are large."""
        for _ in range(40):
            # Inputs go first, lest nothing reads them.
            waiting = [t for t in self.make.inputs if t in self.unread]
            x = waiting[0] if waiting else self.pick(self.maps[-4:])
            y = getattr(self, "_" + self.pick(self.kinds))(x)
            if y is not None:
                self.maps.append(y)
                self.unread.append(y)
                return

    def head(self) -> None:
        x = self.maps[-1]
        _, height, width, channels = self.make.shape(x)
        if height * width * channels <= 1024 and self.flip():
            x = self.read(x, self.make.reshape(x, (1, height * width * channels)))
        else:
            x = self.read(x, self.make.mean(x))
        x = self.read(x, self.make.fully_connected(x, units=self.integer(2, 12)))
        if self.flip():
            x = self.read(x, self.make.unary("SOFTMAX", x))
        self.unread.append(x)

    def read(self, x: int, y: int) -> int:
        """Notes that an operator read ``x``; returns its output ``y``."""
        if x in self.unread:
            self.unread.remove(x)
        return y

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def flip(self) -> bool:
        return bool(self.rng.integers(2))

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def activation(self) -> Activation:
        return self.pick((Activation.NONE, Activation.RELU, Activation.RELU6))

    def window(self, x: int, largest: int) -> dict[str, Any]:
        """Kernel, stride, dilation and padding that suit the map."""
        _, height, width, _ = self.make.shape(x)
        kernel = self.integer(1, min(largest, height)), self.integer(1, min(largest, width))
        stride = self.pick(((1, 1), (1, 1), (2, 2), (2, 1), (1, 2)))
        dilation = (1, 1)
        padding = self.pick((Padding.SAME, Padding.VALID))
        if padding == Padding.SAME and stride == (1, 1) and self.integer(0, 4) == 0:
            dilation = (2, 2)
        return {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}

    def small(self, shape: Sequence[int]) -> bool:
        size = 1
        for extent in shape:
            size *= extent
        return size <= _LARGEST_MAP_BYTES

    def _conv(self, x: int) -> int | None:
        channels = self.pick((1, 3, 4, 8, 12, 16, 24))
        _, height, width, _ = self.make.shape(x)
        if not self.small((height, width, channels)):
            return None
        window = self.window(x, 5)
        # LiteRT refuses CONV_2D without a bias.
        y = self.make.conv(x, channels=channels, activation=self.activation(), **window)
        return self.read(x, y)

    def _depthwise(self, x: int) -> int | None:
        multiplier = self.pick((1, 1, 1, 2, 3))
        if not self.small((*self.make.shape(x), multiplier)):
            return None
        window = self.window(x, 5)
        return self.read(
            x,
            self.make.depthwise(
                x, multiplier=multiplier, activation=self.activation(), bias=self.flip(), **window
            ),
        )

    def _transpose_conv(self, x: int) -> int | None:
        channels = self.pick((1, 4, 8))
        _, height, width, _ = self.make.shape(x)
        if not self.small((3 * height, 3 * width, channels)):
            return None
        padding = self.pick((Padding.SAME, Padding.VALID))
        stride = self.integer(1, 2), self.integer(1, 2)
        kernel = self.integer(stride[0], 4), self.integer(stride[1], 4)
        return self.read(
            x,
            self.make.transpose_conv(
                x,
                channels=channels,
                kernel=kernel,
                stride=stride,
                padding=padding,
                bias=self.flip(),
            ),
        )

    def _pool(self, x: int) -> int:
        window = self.window(x, 3)
        del window["dilation"]
        kind = self.pick(("AVERAGE_POOL_2D", "MAX_POOL_2D"))
        return self.read(x, self.make.pool(x, kind=kind, **window))

    def _binary(self, x: int) -> int:
        kind = self.pick(("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"))
        shape = self.make.shape(x)
        partners = [t for t in self.maps if self.make.shape(t) == shape and t != x]
        if kind in ("MAXIMUM", "MINIMUM"):
            quantization = self.make.quantization(x)
            partners = [t for t in partners if self.make.quantization(t) == quantization]
        if partners and self.integer(0, 3):
            y = self.pick(partners)
        else:
            y = self.make.constant_like(x, self.pick((shape, (1, 1, 1, shape[3]), (1, 1, 1, 1))))
        activation = self.pick((Activation.NONE, Activation.RELU))
        if kind in ("MAXIMUM", "MINIMUM"):
            activation = Activation.NONE
        out = self.make.binary(kind, x, y, activation=activation)
        return self.read(y, self.read(x, out))

    def _concatenation(self, x: int) -> int | None:
        axis = self.integer(1, 3)
        shape = self.make.shape(x)
        partners = [
            t
            for t in self.maps
            if all(
                i == axis or a == b
                for i, (a, b) in enumerate(zip(self.make.shape(t), shape, strict=True))
            )
        ]
        count = self.integer(2, 10)
        parts = [x, *(self.pick(partners) for _ in range(count - 1))]
        total = list(shape)
        total[axis] = sum(self.make.shape(part)[axis] for part in parts)
        if not self.small(total):
            return None
        same = []
        for part in parts:
            if self.make.quantization(part) != self.make.quantization(x):
                copy = self.make.requantize(part, self.make.quantization(x))
                same.append(self.read(part, copy))
            else:
                same.append(part)
        out = self.make.concatenation(same, axis=axis)
        for part in same:
            self.read(part, out)
        return out

    def _slice(self, x: int) -> int:
        begin, size = [], []
        for extent in self.make.shape(x):
            start = self.integer(0, extent - 1)
            begin.append(start)
            size.append(self.integer(1, extent - start))
        return self.read(x, self.make.slice(x, begin, size))

    def _strided_slice(self, x: int) -> int:
        begin, end, strides = [], [], []
        for extent in self.make.shape(x):
            start = self.integer(0, extent - 1)
            begin.append(start)
            end.append(self.integer(start + 1, extent))
            strides.append(self.integer(1, 2))
        return self.read(x, self.make.strided_slice(x, begin, end, strides))

    def _pad(self, x: int) -> int | None:
        paddings = [(0, 0), *((self.integer(0, 2), self.integer(0, 2)) for _ in range(3))]
        shape = self.make.shape(x)
        if not self.small([n + a + b for n, (a, b) in zip(shape, paddings, strict=True)]):
            return None
        return self.read(x, self.make.pad(x, paddings))

    def _unary(self, x: int) -> int:
        return self.read(x, self.make.unary(self.pick(_ACTIVATIONS), x))

    def _prelu(self, x: int) -> int:
        return self.read(x, self.make.prelu(x))

    def _resize(self, x: int) -> int | None:
        _, height, width, channels = self.make.shape(x)
        size = self.integer(1, 2 * height), self.integer(1, 2 * width)
        if not self.small((*size, channels)):
            return None
        kind = self.pick(("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"))
        return self.read(x, self.make.resize(x, size, kind=kind))

    def _reshape(self, x: int) -> int:
        _, height, width, channels = self.make.shape(x)
        shape = self.pick(
            (
                (1, width, height, channels),
                (1, height, channels, width),
                (1, 1, width, height * channels),
            )
        )
        return self.read(x, self.make.reshape(x, shape))

    def _quantize(self, x: int) -> int:
        return self.read(x, self.make.unary("QUANTIZE", x))

    def _unpack_codes(self, x: int) -> int | None:
        if not self.small((*self.make.shape(x), 8)):
            return None
        return self.read(x, self.make.unpack_codes(x, codes=self.integer(2, 4)))
