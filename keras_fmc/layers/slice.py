"""A part of a tensor, as SLICE takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_fmc.errors import BadInputError
from keras_fmc.model.registered import register


@register
class Slice(keras.layers.Layer):
    """Picks [start, start + size) of every axis but the batch.

        y[b, i, j, …] = x[b, starts[0] + i, starts[1] + j, …]

    Args:
        starts, sizes: one for each axis behind the batch.

    Raises:
        BadInputError: another number of axes than the input's, or a part outside of it.
    """

    def __init__(self, starts: Sequence[int], sizes: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.starts = tuple(int(start) for start in starts)
        self.sizes = tuple(int(size) for size in sizes)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        key = tuple(
            slice(start, start + size) for start, size in zip(self.starts, self.sizes, strict=True)
        )
        return inputs[(slice(None), *key)]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        given = tuple(input_shape)[1:]
        inside = len(given) == len(self.starts) == len(self.sizes) and all(
            start >= 0 and size >= 1 and (length is None or start + size <= length)
            for start, size, length in zip(self.starts, self.sizes, given, strict=True)
        )
        if not inside:
            raise BadInputError(
                f"slice {self.name!r}: a part outside of its input",
                expected=f"within {given}",
                received=f"starts {self.starts}, sizes {self.sizes}",
            )
        return (input_shape[0], *self.sizes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "starts": self.starts, "sizes": self.sizes}
