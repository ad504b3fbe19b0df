"""The first half of layer normalisation: features less their mean."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_fmc.model.registered import register


@register
class Centre(keras.layers.Layer):
    """y = x - mean(x) over the last axis.

    It is linear, so `keras_fmc.fold` merges it into a convolution or dense layer before it. What is
    left becomes a 1x1 convolution of equal weights and a subtraction.

    Input and output: (batch, …, channels).
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        return inputs - ops.mean(inputs, axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
