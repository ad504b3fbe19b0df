"""Keras layers whose kernels are rounded to int8 as the device holds them.

Kernels of convolutions have one scale per output channel, those of dense layers one for all: so
the int8 kernels of TensorFlow Lite Micro and of its older relatives have it. On the device, biases
are int32 with the scale of the input times that of the weights. Behind a map of 8 bits that is as
good as exact; behind a code of few bits, whose scale is coarse, it is not, so with `input_scale`
biases are rounded to it. A channel of (next to) no weights would make its bias overflow; `smallest`
prevents that, see `smallest_magnitude`.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import layers, ops

from keras_fmc.layers.code_quantizer import sign_thresholds
from keras_fmc.layers.fake_quant import SMALLEST_RANGE, fake_quant_weights, largest_code
from keras_fmc.model.registered import register
from keras_fmc.qat.requantize import levels

_BIAS_HEADROOM = 8.0
"""How many times larger biases and outputs may become in training before a bias overflows."""

_NUDGE = 0.45
"""Below 1/2, so that the converter rounds it away."""


_EXPORTING: contextvars.ContextVar[bool] = contextvars.ContextVar("exporting", default=False)


@contextlib.contextmanager
def for_converter() -> Iterator[None]:
    """Writes dilated convolutions as one operator each, as TensorFlow's converter reads them.

    Otherwise they stand between two operators that spread and gather positions, of which two
    convolutions of one map would share the first; the converter then knows them no more.
    """
    token = _EXPORTING.set(True)
    try:
        yield
    finally:
        _EXPORTING.reset(token)


def _one_operator(kind: str, layer: Any, inputs: Any, kernel: Any) -> Any:
    import tensorflow as tf

    return getattr(tf.raw_ops, kind)(
        input=inputs,
        filter=kernel,
        strides=[1, *layer.strides, 1],
        padding=layer.padding.upper(),
        dilations=[1, *layer.dilation_rate, 1],
    )


class _RoundsKernel:
    """Adds the options `smallest` and `bits` (`weight_bits`) of `fake_quant_weights` and those of
    the device's int32 sums.

    `input_scale` is that of the int8 input, which gives the bias its step; None leaves it in float.

    The device rounds twice (`keras_fmc.qat.requantize`), which turns up a code where the sum is up
    to 1 / 2m steps of the bias below the middle between two. Where only sums above zero count
    (`rectified`), training sees most of that as a bias that is `_NUDGE` steps larger, which is too
    little to change the bias of the device.

    With `device_rounding` all sums are rounded as the device does, to levels of `output_scale`,
    and there is no nudge; the gradient is that of the sums. `signs` says that a binariser follows:
    on the device its thresholds are part of the bias, and levels are 2 apart. `input_scale` and
    `output_scale` are those of ranges that training does not move.
    """

    _kernel_axes: tuple[int, ...] | None = (0, 1, 2)
    """What the largest magnitude of an output channel's weights is taken over; None is all."""

    def __init__(
        self,
        *args: Any,
        smallest: float = SMALLEST_RANGE,
        input_scale: float | None = None,
        rectified: bool = False,
        output_scale: float | None = None,
        signs: bool = False,
        device_rounding: bool = False,
        weight_bits: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.weight_bits = int(weight_bits)
        self.rectified = bool(rectified)
        self.smallest = float(smallest)
        self.input_scale = None if input_scale is None else float(input_scale)
        self.output_scale = None if output_scale is None else float(output_scale)
        self.signs = bool(signs)
        self.device_rounding = bool(device_rounding)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()  # type: ignore[misc]
        return {
            **config,
            "smallest": self.smallest,
            "input_scale": self.input_scale,
            "rectified": self.rectified,
            "output_scale": self.output_scale,
            "signs": self.signs,
            "device_rounding": self.device_rounding,
            "weight_bits": self.weight_bits,
        }

    def call(
        self: Any,
        inputs: Any,
        input_scale: float | None = None,
        output_scale: float | None = None,
    ) -> Any:
        """`input_scale` and `output_scale` are those of a call of a layer that has several."""
        input_scale = self.input_scale if input_scale is None else input_scale
        output_scale = self.output_scale if output_scale is None else output_scale
        outputs = self._linear(inputs, self._rounded_kernel())
        if self.use_bias:
            nudge = 0.0 if self.device_rounding else _NUDGE
            bias = self._device_bias(input_scale, output_scale, nudge=nudge)
            outputs = ops.add(outputs, bias)
        if self.device_rounding:
            exact = self._device_sums(inputs, input_scale, output_scale)
            outputs = outputs + ops.stop_gradient(exact - outputs)
        return outputs if self.activation is None else self.activation(outputs)

    def _device_bias(
        self: Any, input_scale: float | None, output_scale: float | None, *, nudge: Any
    ) -> Any:
        """The bias, rounded to input scale times weight scale; the gradient passes unchanged."""
        bias = ops.convert_to_tensor(self.bias)
        if input_scale is None:
            return bias
        # One product with a constant: what compilers of graphs make of a quotient and a product
        # rounds otherwise, and a tie would go another way in the file.
        unit = np.float32(input_scale) / np.float32(largest_code(self.weight_bits))
        step = self._largest_weights() * float(unit)
        nudge = nudge if self.rectified else 0.0
        if nudge and output_scale is not None:
            # With M of ½ and more there is one rounding.
            nudge = ops.where(step < output_scale / 2, nudge, 0.0)
        return bias + ops.stop_gradient((ops.round(bias / step) + nudge) * step - bias)

    def _device_sums(self: Any, inputs: Any, input_scale: float, output_scale: float) -> Any:
        """What the kernels make of int8 codes and weights, in real values.

        Products of codes less their zero point and of weights are below 2¹⁵; sums of up to 2⁹ of
        them are exact in float32, longer ones are computed in float64.
        """
        weight_scale = self._weight_scale()
        shape = [1] * len(self.kernel.shape)
        axes = self._kernel_axes
        if axes is not None:
            for axis in range(len(shape)):
                shape[axis] = 1 if axis in axes else self.kernel.shape[axis]
        # The converter reads codes from the rounded kernel, whose ties are those of the operator.
        weights = ops.round(self._rounded_kernel() / ops.reshape(weight_scale, shape))
        codes = ops.round(inputs / input_scale)
        if self._products() >= 1 << 9:
            weights, codes = ops.cast(weights, "float64"), ops.cast(codes, "float64")
        acc = ops.cast(ops.round(self._linear(codes, weights)), "int64")
        step = ops.cast(weight_scale, "float64") * float(np.float32(input_scale))
        added = 1 - sign_thresholds(acc.shape[-1]) if self.signs else 0.0
        # The int32 bias is made from the float32 one of the model that is converted.
        constant = ops.zeros_like(weight_scale) + added
        if self.use_bias:
            constant = self._device_bias(input_scale, output_scale, nudge=_NUDGE) + added
        acc = acc + ops.cast(ops.round(ops.cast(constant, "float64") / step), "int64")
        return ops.cast(levels(acc, step, output_scale), "float32") * output_scale - added

    def _weight_scale(self: Any) -> Any:
        """Shape (channels,), or (1,) with one scale for all."""
        return self._largest_weights() / largest_code(self.weight_bits)

    def _largest_weights(self: Any) -> Any:
        kernel = ops.convert_to_tensor(self.kernel)
        largest = ops.reshape(ops.max(ops.abs(kernel), axis=self._kernel_axes), (-1,))
        return ops.stop_gradient(ops.maximum(largest, self.smallest))

    def _products(self: Any) -> int:
        """Products in one sum."""
        axes = range(len(self.kernel.shape)) if self._kernel_axes is None else self._kernel_axes
        return math.prod(self.kernel.shape[axis] for axis in axes)


@register
class FakeQuantConv2D(_RoundsKernel, layers.Conv2D):
    """`Conv2D` with `fake_quant_weights` per output channel."""

    def _rounded_kernel(self) -> Any:
        kernel = ops.convert_to_tensor(self.kernel)
        return fake_quant_weights(kernel, axis=-1, smallest=self.smallest, bits=self.weight_bits)

    def _linear(self, inputs: Any, kernel: Any) -> Any:
        if _EXPORTING.get() and max(self.dilation_rate) > 1:
            return _one_operator("Conv2D", self, inputs, kernel)
        return self.convolution_op(inputs, kernel)


@register
class FakeQuantDepthwiseConv2D(_RoundsKernel, layers.DepthwiseConv2D):
    """`DepthwiseConv2D` with `fake_quant_weights` per output channel, c·depth_multiplier + j."""

    _kernel_axes = (0, 1)

    def _rounded_kernel(self) -> Any:
        rows, columns, channels, multiplier = self.kernel.shape
        flat = ops.reshape(self.kernel, (rows, columns, channels * multiplier))
        rounded = fake_quant_weights(flat, axis=-1, smallest=self.smallest, bits=self.weight_bits)
        return ops.reshape(rounded, self.kernel.shape)

    def _linear(self, inputs: Any, kernel: Any) -> Any:
        if _EXPORTING.get() and max(self.dilation_rate) > 1:
            return _one_operator("DepthwiseConv2dNative", self, inputs, kernel)
        return ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@register
class FakeQuantDense(_RoundsKernel, layers.Dense):
    """`Dense` with `fake_quant_weights`, one scale for the kernel."""

    _kernel_axes = None

    def _rounded_kernel(self) -> Any:
        return fake_quant_weights(
            self.kernel, axis=None, smallest=self.smallest, bits=self.weight_bits
        )

    def _linear(self, inputs: Any, kernel: Any) -> Any:
        return ops.matmul(inputs, kernel)


@register
class FakeQuantConv2DTranspose(_RoundsKernel, layers.Conv2DTranspose):
    """`Conv2DTranspose` with its kernel rounded per output channel.

    The formula of `fake_quant_weights` is written out over axis 2: TensorFlow's own operator knows
    the last axis only, and its converter cannot see through the transposition that it would take.
    """

    _kernel_axes = (0, 1, 3)

    def _rounded_kernel(self) -> Any:
        return _rounded_over_axis_2(self.kernel, self.smallest)

    def _linear(self, inputs: Any, kernel: Any) -> Any:
        return ops.conv_transpose(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


QUANTIZED: dict[type[layers.Layer], type[layers.Layer]] = {
    layers.Conv2D: FakeQuantConv2D,
    layers.DepthwiseConv2D: FakeQuantDepthwiseConv2D,
    layers.Dense: FakeQuantDense,
    layers.Conv2DTranspose: FakeQuantConv2DTranspose,
}
"""Stock layer → the same layer with a rounded kernel."""

FAKE_QUANT_LAYERS = tuple(QUANTIZED.values())


def smallest_magnitude(input_scale: float, largest_bias: float, *, bits: int = 8) -> float:
    """Returns the least max |w| of a channel for which its bias fits into int32.

    |bias| ≤ 2³¹ · input_scale · max |w| / K, K the largest code, with room for biases that grow in
    training.
    """
    least = largest_code(bits) * _BIAS_HEADROOM * largest_bias / (2**31 * input_scale)
    return max(SMALLEST_RANGE, least)


def _rounded_over_axis_2(kernel: Any, smallest: float) -> Any:
    @ops.custom_gradient
    def rounded(weights: Any) -> Any:
        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            return arguments[0] if upstream is None else upstream

        largest = ops.max(ops.abs(weights), axis=(0, 1, 3), keepdims=True)
        scale = ops.maximum(largest, smallest) / 127
        return scale * ops.round(weights / scale), gradient

    return rounded(ops.copy(kernel))
