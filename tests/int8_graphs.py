"""Builds small int8 graphs operator by operator, with weights and scales that a model could have.

    make = Int8GraphMaker(seed=0)
    x = make.input((1, 8, 8, 3))
    x = make.conv(x, channels=16, kernel=(3, 3))
    graph = make.build(outputs=[make.mean(x)])

Each method appends one operator and returns the index of its output tensor. LiteRT's reference
kernels and TensorFlow Lite Micro run what is built.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deploy.graph import (
    Activation,
    Graph,
    GraphBuilder,
    Operator,
    Options,
    Padding,
    Quantization,
    Tensor,
)

_UNIT_RANGE = Quantization((1 / 256,), (-128,))
_SYMMETRIC_UNIT_RANGE = Quantization((1 / 128,), (0,))


class Int8GraphMaker:
    """Collects a graph; the same seed and the same calls give the same graph."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = GraphBuilder()
        self.inputs: list[int] = []

    def shape(self, x: int) -> tuple[int, ...]:
        return self.graph.tensors[x].shape

    def quantization(self, x: int) -> Quantization:
        quantization = self.graph.tensors[x].quantization
        assert quantization is not None
        return quantization

    def scale(self, x: int) -> float:
        return self.quantization(x).scales[0]

    def build(self, *, outputs: Sequence[int], **fields: object) -> Graph:
        return self.graph.build(inputs=tuple(self.inputs), outputs=tuple(outputs), **fields)

    def input(self, shape: Sequence[int], *, dtype: str = "int8") -> int:
        quantization = self._any_quantization(1 / 64) if dtype in ("int8", "int16") else None
        self.inputs.append(self._activation("input", shape, quantization, dtype))
        return self.inputs[-1]

    def conv(
        self,
        x: int,
        *,
        channels: int,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        padding: Padding = Padding.SAME,
        activation: Activation = Activation.NONE,
        bias: bool = True,
        groups: int = 1,
    ) -> int:
        batch, height, width, channels_in = self.shape(x)
        depth = channels_in // groups
        quantization = self._accumulated(x, kernel[0] * kernel[1] * depth, activation)
        operands = [x, *self._weights(x, (channels, *kernel, depth), axis=0, bias=bias)]
        out = (
            batch,
            _extent(height, kernel[0], stride[0], dilation[0], padding),
            _extent(width, kernel[1], stride[1], dilation[1], padding),
            channels,
        )
        options = Options("Conv2DOptions", _window(stride, dilation, padding, activation))
        return self.operator("CONV_2D", operands, out, quantization, options, version=3)

    def depthwise(
        self,
        x: int,
        *,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        padding: Padding = Padding.SAME,
        multiplier: int = 1,
        activation: Activation = Activation.NONE,
        bias: bool = True,
    ) -> int:
        batch, height, width, depth = self.shape(x)
        quantization = self._accumulated(x, kernel[0] * kernel[1], activation)
        shape = (1, *kernel, depth * multiplier)
        operands = [x, *self._weights(x, shape, axis=3, bias=bias)]
        out = (
            batch,
            _extent(height, kernel[0], stride[0], dilation[0], padding),
            _extent(width, kernel[1], stride[1], dilation[1], padding),
            depth * multiplier,
        )
        options = Options(
            "DepthwiseConv2DOptions",
            (*_window(stride, dilation, padding, activation), ("depth_multiplier", multiplier)),
        )
        return self.operator("DEPTHWISE_CONV_2D", operands, out, quantization, options, version=3)

    def transpose_conv(
        self,
        x: int,
        *,
        channels: int,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (2, 2),
        padding: Padding = Padding.SAME,
        bias: bool = True,
    ) -> int:
        batch, height, width, depth = self.shape(x)
        if padding == Padding.SAME:
            out = (batch, height * stride[0], width * stride[1], channels)
        else:
            rows = (height - 1) * stride[0] + kernel[0]
            out = (batch, rows, (width - 1) * stride[1] + kernel[1], channels)
        taps = math.ceil(kernel[0] / stride[0]) * math.ceil(kernel[1] / stride[1]) * depth
        quantization = self._accumulated(x, taps, Activation.NONE)
        weights, *biases = self._weights(x, (channels, *kernel, depth), axis=0, bias=bias)
        options = Options(
            "TransposeConvOptions",
            (("padding", int(padding)), ("stride_w", stride[1]), ("stride_h", stride[0])),
        )
        operands = [self.integers("output_shape", out), weights, x, *biases]
        return self.operator(
            "TRANSPOSE_CONV", operands, out, quantization, options, version=3 if bias else 1
        )

    def fully_connected(
        self, x: int, *, units: int, activation: Activation = Activation.NONE, bias: bool = True
    ) -> int:
        depth = self.shape(x)[-1]
        quantization = self._accumulated(x, depth, activation)
        operands = [x, *self._weights(x, (units, depth), axis=None, bias=bias)]
        options = Options(
            "FullyConnectedOptions", (("fused_activation_function", int(activation)),)
        )
        out = (math.prod(self.shape(x)) // depth, units)
        return self.operator("FULLY_CONNECTED", operands, out, quantization, options, version=4)

    def pool(
        self,
        x: int,
        *,
        kind: str = "AVERAGE_POOL_2D",
        kernel: tuple[int, int] = (2, 2),
        stride: tuple[int, int] = (2, 2),
        padding: Padding = Padding.VALID,
    ) -> int:
        batch, height, width, depth = self.shape(x)
        rows = _extent(height, kernel[0], stride[0], 1, padding)
        out = (batch, rows, _extent(width, kernel[1], stride[1], 1, padding), depth)
        options = Options(
            "Pool2DOptions",
            (
                ("padding", int(padding)),
                ("stride_w", stride[1]),
                ("stride_h", stride[0]),
                ("filter_width", kernel[1]),
                ("filter_height", kernel[0]),
            ),
        )
        return self.operator(kind, [x], out, self.quantization(x), options, version=2)

    def binary(self, kind: str, x: int, y: int, *, activation: Activation = Activation.NONE) -> int:
        """ADD, SUB, MUL (any scales), MAXIMUM or MINIMUM (one quantisation); broadcasts."""
        out = np.broadcast_shapes(self.shape(x), self.shape(y))
        if kind in ("MAXIMUM", "MINIMUM"):
            options = Options("MaximumMinimumOptions")
            return self.operator(kind, [x, y], out, self.quantization(x), options)
        scales = self.scale(x), self.scale(y)
        scale = scales[0] * scales[1] * 64 if kind == "MUL" else max(scales) * 1.5
        options = Options(
            f"{kind.capitalize()}Options", (("fused_activation_function", int(activation)),)
        )
        quantization = self._any_quantization(scale)
        return self.operator(kind, [x, y], out, quantization, options, version=2)

    def constant_like(self, x: int, shape: Sequence[int]) -> int:
        """A constant int8 operand with the quantisation of ``x``."""
        values = self.rng.integers(-100, 100, tuple(shape)).astype(np.int8)
        name = f"operand_{len(self.graph.tensors)}"
        return self.graph.constant(name, values, quantization=self.quantization(x))

    def integers(self, name: str, values: Sequence[int] | int) -> int:
        """A constant int32 operand: axes, sizes, begins."""
        return self.graph.constant(f"{name}_{len(self.graph.tensors)}", np.array(values, np.int32))

    def concatenation(self, parts: Sequence[int], *, axis: int = 1) -> int:
        out = list(self.shape(parts[0]))
        out[axis] = sum(self.shape(part)[axis] for part in parts)
        options = Options("ConcatenationOptions", (("axis", axis),))
        quantization = self.quantization(parts[0])
        return self.operator("CONCATENATION", parts, out, quantization, options, version=2)

    def slice(self, x: int, begin: Sequence[int], size: Sequence[int]) -> int:
        operands = [x, self.integers("begin", begin), self.integers("size", size)]
        options = Options("SliceOptions")
        return self.operator("SLICE", operands, size, self.quantization(x), options, version=2)

    def strided_slice(
        self, x: int, begin: Sequence[int], end: Sequence[int], strides: Sequence[int]
    ) -> int:
        vectors = zip(("begin", "end", "strides"), (begin, end, strides), strict=True)
        operands = [x, *(self.integers(name, values) for name, values in vectors)]
        out = [-(-(e - b) // s) for b, e, s in zip(begin, end, strides, strict=True)]
        options = Options("StridedSliceOptions")
        quantization = self.quantization(x)
        return self.operator("STRIDED_SLICE", operands, out, quantization, options, version=2)

    def pad(self, x: int, paddings: Sequence[tuple[int, int]]) -> int:
        amounts = self.graph.constant(
            f"paddings_{len(self.graph.tensors)}", np.array(paddings, np.int32)
        )
        out = [n + a + b for n, (a, b) in zip(self.shape(x), paddings, strict=True)]
        options = Options("PadOptions")
        return self.operator("PAD", [x, amounts], out, self.quantization(x), options, version=2)

    def mean(self, x: int, *, axes: Sequence[int] = (1, 2), keep_dims: bool = False) -> int:
        extents = enumerate(self.shape(x))
        out = [1 if i in axes else n for i, n in extents if keep_dims or i not in axes]
        options = Options("ReducerOptions", (("keep_dims", keep_dims),))
        quantization = self._any_quantization(self.scale(x) / 2)
        operands = [x, self.integers("axes", axes)]
        return self.operator("MEAN", operands, out, quantization, options, version=2)

    def reshape(self, x: int, shape: Sequence[int]) -> int:
        options = Options("ReshapeOptions", (("new_shape", tuple(shape)),))
        operands = [x, self.integers("shape", shape)]
        return self.operator("RESHAPE", operands, shape, self.quantization(x), options)

    def unary(self, kind: str, x: int) -> int:
        """An operator that keeps the shape: activations, SOFTMAX, QUANTIZE."""
        quantization = self._any_quantization(self.scale(x))
        if kind in ("SOFTMAX", "LOGISTIC"):
            quantization = _UNIT_RANGE
        elif kind == "TANH":
            quantization = _SYMMETRIC_UNIT_RANGE
        elif kind == "RELU6":
            quantization = self.quantization(x)
        options = {
            "SOFTMAX": Options("SoftmaxOptions", (("beta", 1.0),)),
            "LEAKY_RELU": Options("LeakyReluOptions", (("alpha", 0.125),)),
            "QUANTIZE": Options("QuantizeOptions"),
            "HARD_SWISH": Options("HardSwishOptions"),
        }.get(kind)
        version = 1 if kind == "HARD_SWISH" else 2
        return self.operator(kind, [x], self.shape(x), quantization, options, version=version)

    def requantize(self, x: int, quantization: Quantization) -> int:
        """QUANTIZE from int8 to int8 of another scale and zero point."""
        options = Options("QuantizeOptions")
        return self.operator("QUANTIZE", [x], self.shape(x), quantization, options, version=2)

    def prelu(self, x: int) -> int:
        slopes = self.rng.integers(-60, 60, (1, 1, self.shape(x)[-1])).astype(np.int8)
        alpha = self.graph.constant(
            f"alpha_{len(self.graph.tensors)}", slopes, quantization=Quantization((1 / 64,), (3,))
        )
        quantization = self._any_quantization(self.scale(x))
        return self.operator("PRELU", [x, alpha], self.shape(x), quantization)

    def resize(
        self, x: int, size: tuple[int, int], *, kind: str = "RESIZE_NEAREST_NEIGHBOR"
    ) -> int:
        nearest = kind == "RESIZE_NEAREST_NEIGHBOR"
        options = Options(
            "ResizeNearestNeighborOptions" if nearest else "ResizeBilinearOptions",
            (("align_corners", False), ("half_pixel_centers", not nearest)),
        )
        out = (1, *size, self.shape(x)[-1])
        operands = [x, self.integers("size", size)]
        return self.operator(kind, operands, out, self.quantization(x), options, version=2)

    def unpack_codes(self, x: int, *, codes: int = 2) -> int:
        """CAST, ADD 128, GATHER from a table, RESHAPE: each byte becomes ``codes`` channels."""
        shape = self.shape(x)
        quantization = self.quantization(x)
        wide = self.operator("CAST", [x], shape, None, Options("CastOptions"), dtype="int32")
        operands = [wide, self.integers("offset", 128)]
        index = self.operator("ADD", operands, shape, None, Options("AddOptions"), dtype="int32")
        values = self.rng.integers(-8, 8, (256, codes)).astype(np.int8)
        name = f"codes_{len(self.graph.tensors)}"
        table = self.graph.constant(name, values, quantization=quantization)
        options = Options("GatherOptions")
        out = (*shape, codes)
        spread = self.operator("GATHER", [table, index], out, quantization, options, version=2)
        return self.reshape(spread, (*shape[:-1], shape[-1] * codes))

    def operator(
        self,
        opcode: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        quantization: Quantization | None,
        options: Options | None = None,
        *,
        version: int = 1,
        dtype: str = "int8",
    ) -> int:
        """Any operator of one output."""
        out = self._activation(opcode.lower(), shape, quantization, dtype)
        self.graph.operator(Operator(opcode, tuple(inputs), (out,), options, version))
        return out

    def _activation(
        self, name: str, shape: Sequence[int], quantization: Quantization | None, dtype: str
    ) -> int:
        number = len(self.graph.tensors)
        return self.graph.tensor(Tensor(f"{name}_{number}", tuple(shape), dtype, quantization))

    def _any_quantization(self, scale: float) -> Quantization:
        """A scale near ``scale`` that float32 holds, and any zero point."""
        near = float(np.float32(scale * self.rng.uniform(0.8, 1.25)))
        return Quantization((near,), (int(self.rng.integers(-40, 40)),))

    def _accumulated(self, x: int, fan_in: int, activation: Activation) -> Quantization:
        """An output scale at which sums of ``fan_in`` products fill most of int8."""
        if activation == Activation.RELU6:
            return Quantization((float(np.float32(6 / 255)),), (-128,))
        return self._any_quantization(self.scale(x) * math.sqrt(fan_in) / 2)

    def _weights(
        self, x: int, shape: tuple[int, ...], *, axis: int | None, bias: bool
    ) -> list[int]:
        count = 1 if axis is None else shape[axis]
        scales = self.rng.uniform(0.6 / 127, 1.2 / 127, count).astype(np.float32)
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        quantization = Quantization(tuple(map(float, scales)), (0,) * count, axis or 0)
        number = len(self.graph.tensors)
        operands = [self.graph.constant(f"weights_{number}", values, quantization=quantization)]
        if bias:
            products = scales * np.float32(self.scale(x))
            values = self.rng.integers(-2000, 2000, shape[axis or 0]).astype(np.int32)
            quantization = Quantization(tuple(map(float, products)), (0,) * count)
            operands.append(
                self.graph.constant(f"bias_{number}", values, quantization=quantization)
            )
        return operands


class Int8GraphDrawer:
    """Draws a graph at random; the same seed gives the same graph."""

    def __init__(self, seed: int) -> None:
        self.make = Int8GraphMaker(seed)
        self.rng = self.make.rng

    def _any(self, options):
        return options[int(self.rng.integers(len(options)))]

    def _size(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))


def _window(
    stride: tuple[int, int], dilation: tuple[int, int], padding: Padding, activation: Activation
) -> tuple[tuple[str, object], ...]:
    return (
        ("padding", int(padding)),
        ("stride_w", stride[1]),
        ("stride_h", stride[0]),
        ("fused_activation_function", int(activation)),
        ("dilation_w_factor", dilation[1]),
        ("dilation_h_factor", dilation[0]),
    )


def _extent(size: int, kernel: int, stride: int, dilation: int, padding: Padding) -> int:
    if padding == Padding.SAME:
        return -(-size // stride)
    return -(-(size - (kernel - 1) * dilation) // stride)
