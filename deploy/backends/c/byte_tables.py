"""What operators from bytes to bytes do to each of the 256 values, in the kernels' arithmetic.

Each function returns the output for the input codes -128 … 127 (for uint8: for the codes with
those bytes), as signed bytes; the arithmetic is that of ``keras_fmc.fixed_point``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from deploy.backends.c.fixed_point import (
    float32_ratio,
    limits,
    round_half_away,
    scale,
    zero_point,
)
from deploy.graph import Operator, Tensor
from keras_fmc import fixed_point
from keras_fmc.fixed_point import CODES

Table = Callable[[Operator, Tensor, Tensor], np.ndarray]


def relu(operator: Operator, x: Tensor, y: Tensor) -> np.ndarray:
    return fixed_point.relu_table(*_grids(x, y), None)


def relu6(operator: Operator, x: Tensor, y: Tensor) -> np.ndarray:
    """Its kernel copies codes, whatever the scale of the output."""
    zero = zero_point(x)
    return np.clip(CODES, zero, zero + round_half_away(float32_ratio(6.0, scale(x))))


def leaky_relu(operator: Operator, x: Tensor, y: Tensor) -> np.ndarray:
    alpha = operator.option("alpha", 0.0)
    assert isinstance(alpha, float)
    return fixed_point.leaky_table(*_grids(x, y), alpha)


def quantize(operator: Operator, x: Tensor, y: Tensor) -> np.ndarray:
    codes = CODES % 256 if x.dtype == "uint8" else CODES
    values = fixed_point.multiply(codes - zero_point(x), scale(x) / scale(y)) + zero_point(y)
    return (np.clip(values, *limits(y)) + 128) % 256 - 128


def logistic(operator: Operator, x: Tensor, y: Tensor) -> np.ndarray:
    return fixed_point.sigmoid_table(scale(x), zero_point(x))


def tanh(operator: Operator, x: Tensor, y: Tensor) -> np.ndarray:
    return fixed_point.tanh_table(scale(x), zero_point(x))


def hard_swish(operator: Operator, x: Tensor, y: Tensor) -> np.ndarray:
    return fixed_point.hard_swish_table(*_grids(x, y))


def _grids(x: Tensor, y: Tensor) -> tuple[float, int, float, int]:
    return scale(x), zero_point(x), scale(y), zero_point(y)


TABLES: Mapping[str, Table] = {
    "RELU": relu,
    "RELU6": relu6,
    "LEAKY_RELU": leaky_relu,
    "QUANTIZE": quantize,
    "LOGISTIC": logistic,
    "TANH": tanh,
    "HARD_SWISH": hard_swish,
}
