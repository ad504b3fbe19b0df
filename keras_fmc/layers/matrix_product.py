"""The product of two maps, as BATCH_MATMUL makes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_fmc.errors import BadInputError
from keras_fmc.model.registered import register


@register
class MatrixProduct(keras.layers.Layer):
    """y[…, i, j] = Σ_k a[…, i, k] · b[…, k, j] of [a, b].

    Input: two tensors (batch, …, m, k) and (batch, …, k, n). Output: (batch, …, m, n).

    Raises:
        BadInputError: shapes that do not fit each other.
    """

    def call(self, inputs: Sequence[Any]) -> Any:
        a, b = inputs
        return ops.matmul(a, b)

    def compute_output_shape(self, input_shape: Any) -> Any:
        a, b = (tuple(shape) for shape in input_shape)
        if len(a) != len(b) or a[:-2] != b[:-2] or a[-1] != b[-2]:
            raise BadInputError(
                f"matrix product {self.name!r}: shapes that do not fit each other",
                expected="(…, m, k) and (…, k, n)",
                received=f"{a} and {b}",
            )
        return (*a[:-1], b[-1])
