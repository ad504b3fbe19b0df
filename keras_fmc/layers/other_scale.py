"""The same values on another int8 grid."""

from __future__ import annotations

from typing import Any

import keras

from keras_fmc.model.registered import register


@register
class OtherScale(keras.layers.Layer):
    """y = x; on the device a QUANTIZE from one scale to another."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.copy(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
