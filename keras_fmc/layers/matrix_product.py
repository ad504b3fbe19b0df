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

    Args:
        transpose_a, transpose_b: whether the last two axes of a, of b, are swapped first.

    Input: two tensors (batch, …, m, k) and (batch, …, k, n). Output: (batch, …, m, n).

    Raises:
        BadInputError: shapes that do not fit each other.
    """

    def __init__(
        self, *, transpose_a: bool = False, transpose_b: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.transpose_a, self.transpose_b = bool(transpose_a), bool(transpose_b)

    def call(self, inputs: Sequence[Any]) -> Any:
        a, b = self.operands(*inputs)
        return ops.matmul(a, b)

    def operands(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Returns a and b as they are multiplied."""
        swapped = (self.transpose_a, self.transpose_b)
        one, other = (
            ops.swapaxes(x, -2, -1) if swap else x for x, swap in zip((a, b), swapped, strict=True)
        )
        return one, other

    def compute_output_shape(self, input_shape: Any) -> Any:
        a, b = (tuple(shape) for shape in input_shape)
        if self.transpose_a:
            a = (*a[:-2], a[-1], a[-2])
        if self.transpose_b:
            b = (*b[:-2], b[-1], b[-2])
        if len(a) != len(b) or a[:-2] != b[:-2] or a[-1] != b[-2]:
            raise BadInputError(
                f"matrix product {self.name!r}: shapes that do not fit each other",
                expected="(…, m, k) and (…, k, n)",
                received=f"{a} and {b}",
            )
        return (*a[:-1], b[-1])

    def get_config(self) -> dict[str, Any]:
        config = {"transpose_a": self.transpose_a, "transpose_b": self.transpose_b}
        return {**super().get_config(), **config}
