"""Layers behind operators without weights that round as the device's kernels of these do.

They stand between the operator and its `FakeQuant`, in models of `keras_fmc.device_rounding` only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers, ops

from keras_fmc.fixed_point import exp_on_negative, quantized_multiplier
from keras_fmc.layers.matrix_product import MatrixProduct
from keras_fmc.model.registered import register
from keras_fmc.qat.requantize import divide, high_mul, levels, requantize


@register
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


@register
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
        held = float(np.float32(output_scale))
        self.unit = _power(step / held) if unit is None else float(unit)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        y = requantize(inputs, self.step, self.output_scale, unit=self.unit)
        return inputs + ops.stop_gradient(y - inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {"step": self.step, "output_scale": self.output_scale, "unit": self.unit}
        return {**super().get_config(), **config}


class _FromCodes(layers.Layer):
    """A layer behind an operator that reads the operator's inputs, too.

        call([outputs, *inputs]) = what the kernel makes of the codes of the inputs

    The gradient is that of `outputs`.

    Args:
        inputs: (scale, zero point) of each input.
        output: (scale, zero point) of the output.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[tuple[float, int]],
        output: tuple[float, int],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.inputs_grid = tuple((float(scale), int(zero)) for scale, zero in inputs)
        self.output_grid = (float(output[0]), int(output[1]))

    def call(self, tensors: Any) -> Any:
        outputs, *inputs = tensors
        codes = [
            ops.cast(ops.clip(ops.round(x / scale) + zero, -128, 127), "int64")
            for x, (scale, zero) in zip(inputs, self.inputs_grid, strict=True)
        ]
        scale, zero = self.output_grid
        y = ops.cast(self.kernel_codes(*codes) - zero, "float32") * scale
        return outputs + ops.stop_gradient(y - outputs)

    def kernel_codes(self, *codes: Any) -> Any:
        """Output codes, int64, before they are clipped to what the operator fuses."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        config = {"inputs": self.inputs_grid, "output": self.output_grid}
        return {**super().get_config(), **config}


@register
class DeviceTable(_FromCodes):
    """An operator that makes each code from one code: `table[code + 128]`.

    Args:
        table: 256 output codes, of `keras_fmc.qat.fixed_point`.
    """

    def __init__(self, *, table: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = [int(code) for code in table]

    def kernel_codes(self, *codes: Any) -> Any:
        return ops.take(ops.convert_to_tensor(self.table, "int64"), codes[0] + 128)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "table": self.table}


@register
class DeviceSum(_FromCodes):
    """ADD and SUB: both inputs are brought to the step of twice the larger scale, times 2⁻²⁰.

        sum = M₁ · 2²⁰ (x - z_x) ± M₂ · 2²⁰ (y - z_y),    code = z + M · sum

    with the fixed-point products of `keras_fmc.qat.requantize`.

    Args:
        sign: -1 for SUB.

    Source: tensorflow/lite/kernels/internal/reference/add.h and sub.h.
    """

    def __init__(self, *, sign: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sign = int(sign)

    def kernel_codes(self, *codes: Any) -> Any:
        widest = 2.0 * max(float(np.float32(scale)) for scale, _ in self.inputs_grid)
        one, other = (
            _times((x - zero) * (1 << _SUM_SHIFT), float(np.float32(scale)) / widest)
            for x, (scale, zero) in zip(codes, self.inputs_grid, strict=True)
        )
        scale, zero = self.output_grid
        total = one + self.sign * other
        return _times(total, widest / ((1 << _SUM_SHIFT) * float(np.float32(scale)))) + zero

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sign": self.sign}


_SUM_SHIFT = 20


@register
class DeviceProduct(_FromCodes):
    """BATCH_MATMUL: an int32 sum of products of codes less their zero points, requantised.

    Args:
        transpose_a, transpose_b: as of `MatrixProduct`.

    Source: tensorflow/lite/kernels/internal/reference/batch_matmul.h.
    """

    def __init__(
        self, *, transpose_a: bool = False, transpose_b: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.product = MatrixProduct(transpose_a=transpose_a, transpose_b=transpose_b)

    def get_config(self) -> dict[str, Any]:
        config = {
            "transpose_a": self.product.transpose_a,
            "transpose_b": self.product.transpose_b,
        }
        return {**super().get_config(), **config}

    def kernel_codes(self, *codes: Any) -> Any:
        a, b = (
            ops.cast(x - zero, "float64")
            for x, (_, zero) in zip(codes, self.inputs_grid, strict=True)
        )
        a, b = self.product.operands(a, b)
        acc = ops.cast(ops.round(ops.matmul(a, b)), "int64")
        one, other = (np.float32(scale) for scale, _ in self.inputs_grid)
        scale, zero = self.output_grid
        step = float(one * other)
        return levels(acc, step, scale, unit=_power(step / float(np.float32(scale)))) + zero


@register
class DeviceUnitLength(_FromCodes):
    """L2_NORMALIZATION over the last axis; its output scale is 1/128 and its zero point 0.

    Source: tensorflow/lite/kernels/internal/reference/integer_ops/l2normalization.h.
    """

    def kernel_codes(self, *codes: Any) -> Any:
        x = codes[0] - self.inputs_grid[0][1]
        multiplier, shift = inverse_root(ops.sum(x * x, axis=-1, keepdims=True))
        return times_power(x, multiplier, shift + 7)


def inverse_root(x: Any) -> tuple[Any, Any]:
    """(q, shift) with 1/√x ≈ q · 2^(shift - 31) of int64 x < 2²⁹; 0 counts as 1.

    Source: `GetInvSqrtQuantizedMultiplierExp` of tensorflow/lite/kernels/internal/common.h.
    """
    tiny = x <= 1
    x = ops.where(tiny, _long(2), x)
    above = ops.searchsorted(_SOFTMAX_POWERS, ops.reshape(x, (-1,)), side="right")
    bits = ops.reshape(ops.cast(above, "int64"), ops.shape(x))
    pairs = (31 - bits) // 2 - 1
    shift = 11 - pairs
    raw = (x * _power_of_two(2 * pairs)) // 2
    half = divide(raw, _long(2))
    one, three_halves = 1 << 28, (1 << 28) + (1 << 27)
    root = ops.full_like(raw, one)
    for _ in range(5):
        cube = _saturated(high_mul(high_mul(root, root), root) * (1 << 6))
        step = high_mul(root, _long(three_halves)) - high_mul(half, cube)
        root = _saturated(step * (1 << 3))
    root = high_mul(root, _long(1518500250))
    root = root * _power_of_two(ops.maximum(-shift, 0))
    shift = -ops.maximum(shift, 0)
    largest = (1 << 31) - 1
    return ops.where(tiny, _long(largest), root), ops.where(tiny, _long(0), shift)


def times_power(x: Any, multiplier: Any, shift: Any) -> Any:
    """x · multiplier · 2^(shift - 31), rounded twice."""
    high = high_mul(x * _power_of_two(ops.maximum(shift, 0)), multiplier)
    return divide(high, _power_of_two(ops.maximum(-shift, 0)))


def _power_of_two(exponent: Any) -> Any:
    return ops.take(ops.convert_to_tensor(_SOFTMAX_POWERS), exponent)


def _saturated(x: Any) -> Any:
    return ops.clip(x, -(1 << 31), (1 << 31) - 1)


@register
class DeviceSoftmax(_FromCodes):
    """SOFTMAX over the last axis, in fixed point.

    Source: tensorflow/lite/kernels/internal/reference/softmax.h.
    """

    def kernel_codes(self, *codes: Any) -> Any:
        table, least = _exponentials(self.inputs_grid[0][0])
        below = codes[0] - ops.max(codes[0], axis=-1, keepdims=True)
        counts = below >= least
        exponentials = ops.take(ops.convert_to_tensor(table, "int64"), -below)
        parts = ops.where(counts, divide(exponentials, _long(1 << 12)), _long(0))
        total = ops.sum(parts, axis=-1, keepdims=True)
        # total · 2^zeros lies in [2³¹, 2³²).
        above = ops.searchsorted(_SOFTMAX_POWERS, ops.reshape(total, (-1,)), side="right")
        bits = ops.reshape(ops.cast(above, "int64"), ops.shape(total))
        shifted = total * ops.take(ops.convert_to_tensor(_SOFTMAX_POWERS), 32 - bits) - (1 << 31)
        factor = _reciprocal(shifted)
        product = high_mul(factor, exponentials)
        exponent = 12 - (32 - bits) + 31 - 8
        unsaturated = divide(product, ops.take(ops.convert_to_tensor(_SOFTMAX_POWERS), exponent))
        return ops.where(counts, ops.clip(unsaturated - 128, -128, 127), _long(-128))


_SOFTMAX_POWERS = 1 << np.arange(0, 45, dtype=np.int64)


def _exponentials(scale: float) -> tuple[list[int], int]:
    """e^-d in Q0 of d = 0 … 255 levels, and the least difference that counts."""
    bits = 5
    real = min(float(np.float32(scale)) * (1 << (31 - bits)), float((1 << 31) - 1))
    quantized, shift = quantized_multiplier(real)
    radius = math.floor(((1 << bits) - 1) * 2.0 ** (31 - bits) / 2.0**shift)
    steps = np.arange(256, dtype=np.int64)
    raw = ((-steps << max(shift, 0)) * quantized + (1 << 30)) >> 31
    raw = np.maximum(raw, -(1 << 31))
    return [int(value) for value in exp_on_negative(raw, bits)], -radius


def _reciprocal(raw: Any) -> Any:
    """1 / (1 + a) of a in [0, 1], Q0, on int64 tensors; as `fixed_point.one_over_one_plus`."""
    one = (1 << 31) - 1
    half = (raw + one + 1) // 2
    x = 1515870810 + high_mul(half, _long(-1010580540))
    for _ in range(3):
        rest = (1 << 29) - high_mul(half, x)
        x = x + high_mul(x, rest) * 4
    return ops.clip(x * 2, -one - 1, one)


@register
class DeviceResize(_FromCodes):
    """RESIZE_BILINEAR with half-pixel centres, in 10 bits of fraction.

    Args:
        size: (rows, columns) of the output.

    Source: tensorflow/lite/kernels/internal/reference/resize_bilinear.h.
    """

    def __init__(self, *, size: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = (int(size[0]), int(size[1]))

    def kernel_codes(self, *codes: Any) -> Any:
        x = codes[0]
        sides = [_between(x.shape[axis + 1], self.size[axis]) for axis in range(2)]
        total: Any = 0
        for row, row_weight in sides[0]:
            taken = ops.take(x, row, axis=1) * row_weight[:, None, None]
            for column, column_weight in sides[1]:
                total = total + ops.take(taken, column, axis=2) * column_weight[:, None]
        rounding = 1 << 19
        positive = (ops.abs(total) + rounding) // (1 << 20)
        # Towards zero, with the rounding of 0 below it.
        return ops.where(total > 0, positive, -positive)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


FROM_CODES = (
    *(DeviceTable, DeviceSum, DeviceSoftmax, DeviceResize),
    *(DeviceProduct, DeviceUnitLength),
)
"""Layers that are called on an operator's output and its inputs."""


def _between(length: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(indices, weights of 10 bits) of the lower and the upper neighbour of each output."""
    step = ((1 << 10) * length + size // 2) // size
    place = np.arange(size, dtype=np.int64) * step + step // 2 - (1 << 9)
    lower = np.maximum(np.where(place >= 0, place // 1024, -(-place // 1024)), 0)
    ahead = place + (1 << 10) - 1
    upper = np.minimum(np.where(ahead >= 0, ahead // 1024, -(-ahead // 1024)), length - 1)
    rest = place - (lower << 10)
    return [(lower, (1 << 10) - rest), (upper, rest)]


def _times(x: Any, real: float) -> Any:
    """`fixed_point.multiply` on int64 tensors."""
    quantized, shift = quantized_multiplier(real)
    high = high_mul(x * (1 << max(shift, 0)), _long(quantized))
    return divide(high, _long(1 << max(-shift, 0)))


def _long(value: int) -> Any:
    return ops.convert_to_tensor(value, "int64")


def requantized_mean(*, scale: float, output_scale: float, positions: int, name: str) -> Any:
    """Returns the `DeviceRequantize` of MEAN over so many positions."""
    # Where both have one scale, what float32 leaves of it must not be taken for less than 1.
    ratio = scale / float(np.float32(output_scale))
    exponent = math.frexp(ratio)[1] - math.floor(math.log2(positions))
    unit = min(1.0, math.ldexp(1.0, exponent))
    return DeviceRequantize(step=scale / positions, output_scale=output_scale, unit=unit, name=name)


def _power(multiplier: float) -> float:
    """Returns 2^-s of a multiplier m · 2^-s, ½ ≤ m < 1, and 1 of larger ones."""
    return min(1.0, math.ldexp(1.0, math.frexp(multiplier)[1]))
