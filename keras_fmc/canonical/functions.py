"""Activations that Keras has as operations only."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_fmc")
def gelu_tanh(x: Any) -> Any:
    """½ x (1 + tanh(√(2/π) (x + 0.044715 x³))): `keras.ops.gelu` with approximate=True."""
    return keras.ops.gelu(x, approximate=True)
