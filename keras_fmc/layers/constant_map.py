"""A map that does not depend on the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fmc.model.registered import register


@register
class ConstantMap(keras.layers.Layer):
    """c for each sample: position embeddings, coordinates, a class token; on the device a constant.

    Args:
        shape: of c, without the batch.

    Weights: values of that shape.
    Input: any tensor, of which only the batch size counts. Output: (batch, *shape).
    """

    def __init__(self, shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape = tuple(int(size) for size in shape)

    def build(self, input_shape: Any) -> None:
        self.values = self.add_weight(name="values", shape=self.shape, initializer="zeros")

    def call(self, inputs: Any) -> Any:
        values = ops.convert_to_tensor(self.values)[None]
        batch = ops.shape(inputs)[0]
        # The converter sees a constant.
        single = isinstance(batch, int) and batch == 1
        return values if single else ops.broadcast_to(values, (batch, *self.shape))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], *self.shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shape": list(self.shape)}


def constant_map(name: str | None, values: np.ndarray, *, trainable: bool = False) -> ConstantMap:
    """Returns a built layer with these values."""
    layer = ConstantMap(values.shape, name=name)
    layer.build((None,))
    layer.values.assign(values)
    layer.trainable = trainable
    return layer
