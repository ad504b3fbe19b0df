"""Makes the project's layers known to Keras, so that saved models find them."""

from __future__ import annotations

import importlib

_MODULES = (
    "keras_fmc.layers.code_quantizer",
    "keras_fmc.layers.fake_quant",
    "keras_fmc.layers.gf2",
    "keras_fmc.layers.projection",
    "keras_fmc.layers.transposed",
    "keras_fmc.qat.kernel_rounding",
    "keras_fmc.qat.weight_layers",
)


def register_layers() -> None:
    """Imports every module that registers a layer with ``keras.saving``.

    ``import keras_fmc`` does this where Keras is imported already, and `keras_fmc.load_model`
    always does.
    """
    for module in _MODULES:
        importlib.import_module(module)
