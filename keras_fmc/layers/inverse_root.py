"""The inverse square root, as RSQRT makes it."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_fmc.model.registered import register

_SMALLEST = 1e-6


@register
class InverseRoot(keras.layers.Layer):
    """y = 1 / sqrt(max(x, 10⁻⁶)), element by element; on the device 0 becomes the largest code."""

    makes_nonnegative = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        return ops.rsqrt(ops.maximum(inputs, _SMALLEST))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
