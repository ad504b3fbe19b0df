"""Average pooling that rounds as the device does."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

_MARGIN = 1e-3
"""Float32 is closer than this to means of int8 codes; means of up to 256 codes differ by more."""


@keras.saving.register_keras_serializable(package="keras_fmc")
class DeviceAveragePooling2D(layers.AveragePooling2D):
    """`AveragePooling2D` of int8 codes, with the device's rounding of ties.

        code = sign(mean) · floor(|mean| + ½),    y = scale · (code - zero_point)

    where mean is that of the codes in a window, zero point included: AVERAGE_POOL_2D rounds ties
    away from the code 0, which stands for -scale · zero_point. A window of 2×2 has a tie in every
    fourth position. Straight-through gradient.

    Args:
        scale, zero_point: of input and output, which are one for the device.

    Source: `AveragePool` of tensorflow/lite/kernels/internal/reference/integer_ops/pooling.h.
    """

    def __init__(self, *args: Any, scale: float, zero_point: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale = float(scale)
        self.zero_point = int(zero_point)

    def call(self, inputs: Any) -> Any:
        y = super().call(inputs)
        mean = y / self.scale + self.zero_point
        code = ops.sign(mean) * ops.floor(ops.abs(mean) + (0.5 + _MARGIN))
        return y + ops.stop_gradient(self.scale * (code - self.zero_point) - y)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "zero_point": self.zero_point}
