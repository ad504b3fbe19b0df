"""A table of the values that codes stand for, as TensorFlow's converter reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_fmc.model.registered import register


@register
class LookUp(keras.layers.Layer):
    """The table of an elementwise layer as CAST and GATHER, to be converted, not to be run.

    In float the index would be the code; `deploy.look_up` makes it that in the int8 file.

    Args:
        table: 256 real values, those of the codes from -128 on; the last one twice where the layer
            changes the scale alone, which the device does without a table.
    """

    def __init__(self, table: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = tuple(float(value) for value in table)

    def call(self, inputs: Any) -> Any:
        indices = ops.cast(inputs, "int32")
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # `ops.take` counts negative indices from the end, by operators of its own.
            return tf.gather(tf.constant(self.table, tf.float32), indices)
        return ops.take(ops.convert_to_tensor(self.table, "float32"), indices)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "table": list(self.table)}
