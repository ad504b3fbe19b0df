"""Keras layers whose kernels are rounded to int8 as the device holds them.

Kernels of convolutions have one scale per output channel, those of dense layers one for all: so
the int8 kernels of TensorFlow Lite Micro and of its older relatives have it. Biases stay in float;
on the device they are int32 and as good as exact.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from keras_fmc.layers.fake_quant import SMALLEST_RANGE, fake_quant_weights

_register = keras.saving.register_keras_serializable(package="keras_fmc")


@_register
class FakeQuantConv2D(layers.Conv2D):
    """`Conv2D` with `fake_quant_weights` per output channel."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        return super().convolution_op(inputs, fake_quant_weights(kernel, axis=-1))


@_register
class FakeQuantDepthwiseConv2D(layers.DepthwiseConv2D):
    """`DepthwiseConv2D` with `fake_quant_weights` per output channel, c·depth_multiplier + j."""

    def call(self, inputs: Any) -> Any:
        rows, columns, channels, multiplier = self.kernel.shape
        flat = ops.reshape(self.kernel, (rows, columns, channels * multiplier))
        kernel = ops.reshape(fake_quant_weights(flat, axis=-1), self.kernel.shape)
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
class FakeQuantDense(layers.Dense):
    """`Dense` with `fake_quant_weights`, one scale for the kernel."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return _finish(self, ops.matmul(inputs, fake_quant_weights(self.kernel, axis=None)))


@_register
class FakeQuantConv2DTranspose(layers.Conv2DTranspose):
    """`Conv2DTranspose` with its kernel rounded per output channel.

    The formula of `fake_quant_weights` is written out over axis 2: TensorFlow's own operator knows
    the last axis only, and its converter cannot see through the transposition that it would take.
    """

    def call(self, inputs: Any) -> Any:
        outputs = ops.conv_transpose(
            inputs,
            _rounded_over_axis_2(self.kernel),
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


def _finish(layer: Any, outputs: Any) -> Any:
    if layer.use_bias:
        outputs = ops.add(outputs, layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


def _rounded_over_axis_2(kernel: Any) -> Any:
    @ops.custom_gradient
    def rounded(weights: Any) -> Any:
        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            return arguments[0] if upstream is None else upstream

        largest = ops.max(ops.abs(weights), axis=(0, 1, 3), keepdims=True)
        scale = ops.maximum(largest, SMALLEST_RANGE) / 127
        return scale * ops.round(weights / scale), gradient

    return rounded(ops.copy(kernel))
