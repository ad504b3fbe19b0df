"""Keras layers whose kernels are rounded to int8 as the device holds them.

Kernels of convolutions have one scale per output channel, those of dense layers one for all: so
the int8 kernels of TensorFlow Lite Micro and of its older relatives have it. Biases stay in float;
on the device they are int32 with the scale of the input times that of the weights, and as good as
exact, unless a channel has (next to) no weights: then its bias overflows. `smallest` prevents that,
see `smallest_magnitude`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from keras_fmc.layers.fake_quant import SMALLEST_RANGE, fake_quant_weights

_BIAS_HEADROOM = 8.0
"""How many times larger biases and outputs may become in training before a bias overflows."""

_register = keras.saving.register_keras_serializable(package="keras_fmc")


class _RoundsKernel:
    """Adds the option `smallest` of `fake_quant_weights`."""

    def __init__(self, *args: Any, smallest: float = SMALLEST_RANGE, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.smallest = float(smallest)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "smallest": self.smallest}  # type: ignore[misc]


@_register
class FakeQuantConv2D(_RoundsKernel, layers.Conv2D):
    """`Conv2D` with `fake_quant_weights` per output channel."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        rounded = fake_quant_weights(kernel, axis=-1, smallest=self.smallest)
        return super().convolution_op(inputs, rounded)


@_register
class FakeQuantDepthwiseConv2D(_RoundsKernel, layers.DepthwiseConv2D):
    """`DepthwiseConv2D` with `fake_quant_weights` per output channel, c·depth_multiplier + j."""

    def call(self, inputs: Any) -> Any:
        rows, columns, channels, multiplier = self.kernel.shape
        flat = ops.reshape(self.kernel, (rows, columns, channels * multiplier))
        rounded = fake_quant_weights(flat, axis=-1, smallest=self.smallest)
        kernel = ops.reshape(rounded, self.kernel.shape)
        outputs = ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return _finish(self, outputs)


@_register
class FakeQuantDense(_RoundsKernel, layers.Dense):
    """`Dense` with `fake_quant_weights`, one scale for the kernel."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        kernel = fake_quant_weights(self.kernel, axis=None, smallest=self.smallest)
        return _finish(self, ops.matmul(inputs, kernel))


@_register
class FakeQuantConv2DTranspose(_RoundsKernel, layers.Conv2DTranspose):
    """`Conv2DTranspose` with its kernel rounded per output channel.

    The formula of `fake_quant_weights` is written out over axis 2: TensorFlow's own operator knows
    the last axis only, and its converter cannot see through the transposition that it would take.
    """

    def call(self, inputs: Any) -> Any:
        outputs = ops.conv_transpose(
            inputs,
            _rounded_over_axis_2(self.kernel, self.smallest),
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return _finish(self, outputs)


QUANTIZED: dict[type[layers.Layer], type[layers.Layer]] = {
    layers.Conv2D: FakeQuantConv2D,
    layers.DepthwiseConv2D: FakeQuantDepthwiseConv2D,
    layers.Dense: FakeQuantDense,
    layers.Conv2DTranspose: FakeQuantConv2DTranspose,
}
"""Stock layer → the same layer with a rounded kernel."""

FAKE_QUANT_LAYERS = tuple(QUANTIZED.values())


def smallest_magnitude(input_scale: float, largest_bias: float) -> float:
    """Returns the least max |w| of a channel for which its bias fits into int32.

    |bias| ≤ 2³¹ · input_scale · max |w| / 127, with room for biases that grow in training.
    """
    least = 127 * _BIAS_HEADROOM * largest_bias / (2**31 * input_scale)
    return max(SMALLEST_RANGE, least)


def _finish(layer: Any, outputs: Any) -> Any:
    if layer.use_bias:
        outputs = ops.add(outputs, layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


def _rounded_over_axis_2(kernel: Any, smallest: float) -> Any:
    @ops.custom_gradient
    def rounded(weights: Any) -> Any:
        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            return arguments[0] if upstream is None else upstream

        largest = ops.max(ops.abs(weights), axis=(0, 1, 3), keepdims=True)
        scale = ops.maximum(largest, smallest) / 127
        return scale * ops.round(weights / scale), gradient

    return rounded(ops.copy(kernel))
