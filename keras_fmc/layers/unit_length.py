"""Vectors of length one, as L2_NORMALIZATION makes them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_fmc.model.registered import register

_SMALLEST = 1e-6
"""Squared length below which a vector is not stretched any further; bounds the gradient."""


@register
class UnitLength(keras.layers.Layer):
    """y = x / sqrt(Σ x² + epsilon) over the last axis.

    The device has no epsilon: `keras_fmc.quantize` leaves it out. Its output scale is 1/128,
    so of a vector of n features 128 / sqrt(n) levels are left for one standard deviation.

    Args:
        epsilon: added to the squared length.

    Input and output: (batch, …, channels).
    """

    def __init__(self, *, epsilon: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = float(epsilon)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        # TensorFlow's converter knows the operator by this form.
        squared = ops.sum(ops.square(inputs), axis=-1, keepdims=True)
        if self.epsilon:
            return inputs * ops.rsqrt(squared + self.epsilon)
        return inputs * ops.rsqrt(ops.maximum(squared, _SMALLEST))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}
