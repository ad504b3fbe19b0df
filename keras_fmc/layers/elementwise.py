"""A function of each value alone, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_fmc.errors import BadInputError
from keras_fmc.model.registered import register


@register
class Elementwise(keras.layers.Layer):
    """y = f(x, *arguments), f of `keras.ops`; on the device a table of 256 codes.

    Roots, logarithms and broken powers are those of 10⁻¹² below it: a bottleneck in front may turn
    a variance of 0 negative, and slopes at 0 are infinite.

    Args:
        function: name in `keras.ops`, or "activations.NAME", which is one of `keras.activations`.
        arguments: numbers behind x.

    Input and output: any shape.
    """

    def __init__(self, function: str, *, arguments: Sequence[float] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if _found(function) is None:
            raise BadInputError("no function of keras.ops", received=repr(function))
        self.function = function
        self.arguments = tuple(float(value) for value in arguments)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        function = _found(self.function)
        assert function is not None
        if self._wants_positive():
            inputs = keras.ops.maximum(inputs, _TINY)
        return function(inputs, *self.arguments)

    def _wants_positive(self) -> bool:
        broken = self.function == "power" and not float(self.arguments[0]).is_integer()
        return broken or self.function in _POSITIVE

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {"function": self.function, "arguments": list(self.arguments)}
        return {**super().get_config(), **config}


_TINY = 1e-12
_POSITIVE = ("log", "log10", "log2", "rsqrt", "sqrt")


def _found(name: str) -> Any:
    own = name.removeprefix("activations.")
    return getattr(keras.ops if own == name else keras.activations, own, None)


FUNCTIONS: dict[str, str] = {
    "Arcsinh": "arcsinh",
    "Arctan": "arctan",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Exp": "exp",
    "Expm1": "expm1",
    "Floor": "floor",
    "Log": "log",
    "Log10": "log10",
    "Log1p": "log1p",
    "Log2": "log2",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Rsqrt": "rsqrt",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Softsign": "softsign",
    "SparsePlus": "sparse_plus",
    "SparseSigmoid": "sparse_sigmoid",
    "Sqrt": "sqrt",
    "Tan": "tan",
}
"""Operation of Keras → function, of those that read one tensor and nothing else."""

WITH_ARGUMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Celu": ("celu", ("alpha",)),
    "HardShrink": ("hard_shrink", ("threshold",)),
    "SoftShrink": ("soft_shrink", ("threshold",)),
    "Squareplus": ("squareplus", ("b",)),
    "Threshold": ("threshold", ("threshold", "default_value")),
}
"""Operation of Keras → function, and the attributes that are its arguments behind x."""

ACTIVATIONS: dict[str, str] = {
    "celu": "celu",
    "exponential": "exp",
    "hard_shrink": "hard_shrink",
    "soft_shrink": "soft_shrink",
    "softsign": "softsign",
    "sparse_plus": "sparse_plus",
    "sparse_sigmoid": "sparse_sigmoid",
    "squareplus": "squareplus",
}
"""Activation → function."""
