"""Layers behind operators without weights that round as the device's kernels of these do.

They stand between the operator and its `FakeQuant`, in models of `keras_fmc.device_rounding` only.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops

from keras_fmc.qat.requantize import requantize

_register = keras.saving.register_keras_serializable(package="keras_fmc")


@_register
class DeviceAverage(layers.Layer):
    """Rounds the mean of a window of int8 codes with the ties of AVERAGE_POOL_2D.

        code = sign(mean) · floor(|mean| + ½),    y = scale · (code - zero_point)

    where mean is that of the codes, zero point included: ties go away from the code 0, which
    stands for -scale · zero_point. A window of 2×2 has a tie in every fourth position.
    Straight-through gradient.

    Args:
        scale, zero_point: of the codes and of their mean, which are one for the device.
        positions: in a window.

    Input and output: any shape, float.

    Source: `AveragePool` of tensorflow/lite/kernels/internal/reference/integer_ops/pooling.h.
    """

    def __init__(self, *, scale: float, zero_point: int, positions: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = float(scale)
        self.zero_point = int(zero_point)
        self.positions = int(positions)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        mean = inputs / self.scale + self.zero_point
        # Between float32's rounding and the step of a mean.
        margin = min(1e-3, 0.25 / self.positions)
        code = ops.sign(mean) * ops.floor(ops.abs(mean) + (0.5 + margin))
        return inputs + ops.stop_gradient(self.scale * (code - self.zero_point) - inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {"scale": self.scale, "zero_point": self.zero_point, "positions": self.positions}
        return {**super().get_config(), **config}


@_register
class DeviceRequantize(layers.Layer):
    """`keras_fmc.qat.requantize` of what stands for int32 sums: of MEAN and MUL.

        MUL:   step = scale of one input · scale of the other
        MEAN:  step = input scale / positions

    Straight-through gradient.

    Args:
        step: real value of one unit of the sum.
        output_scale: real value of one level.
        unit: 2^-s where it is another than that of step / output_scale. MEAN divides the fraction
            of input scale / output scale, ½ ≤ m < 1, by positions · 2^-⌊log₂ positions⌋.

    Input and output: any shape, float.

    Source: `Mul` and `QuantizedMeanOrSum` of tensorflow/lite/kernels/internal/reference.
    """

    def __init__(
        self, *, step: float, output_scale: float, unit: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.step = float(step)
        self.output_scale = float(output_scale)
        self.unit = _power(step / output_scale) if unit is None else float(unit)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        y = requantize(inputs, self.step, self.output_scale, unit=self.unit)
        return inputs + ops.stop_gradient(y - inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {"step": self.step, "output_scale": self.output_scale, "unit": self.unit}
        return {**super().get_config(), **config}


def requantized_mean(*, scale: float, output_scale: float, positions: int, name: str) -> Any:
    """Returns the `DeviceRequantize` of MEAN over so many positions."""
    exponent = math.frexp(scale / output_scale)[1] - math.floor(math.log2(positions))
    unit = min(1.0, math.ldexp(1.0, exponent))
    return DeviceRequantize(step=scale / positions, output_scale=output_scale, unit=unit, name=name)


def _power(multiplier: float) -> float:
    """Returns 2^-s of a multiplier m · 2^-s, ½ ≤ m < 1, and 1 of larger ones."""
    return min(1.0, math.ldexp(1.0, math.frexp(multiplier)[1]))
