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

    Args:
        function: name in `keras.ops`.
        arguments: numbers behind x.

    Input and output: any shape.
    """

    def __init__(self, function: str, *, arguments: Sequence[float] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not hasattr(keras.ops, function):
            raise BadInputError("no function of keras.ops", received=repr(function))
        self.function = function
        self.arguments = tuple(float(value) for value in arguments)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        return getattr(keras.ops, self.function)(inputs, *self.arguments)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {"function": self.function, "arguments": list(self.arguments)}
        return {**super().get_config(), **config}


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
    "SparseSigmoid": "sparse_sigmoid",
    "Sqrt": "sqrt",
    "Tan": "tan",
}
"""Operation of Keras → function, of those that read one tensor and nothing else."""

ACTIVATIONS: dict[str, str] = {
    "exponential": "exp",
    "softsign": "softsign",
    "sparse_sigmoid": "sparse_sigmoid",
}
"""Activation → function."""
