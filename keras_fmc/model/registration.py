"""Makes the project's layers known to Keras, so that saved models find them."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_MODULES = (
    "keras_fmc.canonical.functions",
    "keras_fmc.layers.centre",
    "keras_fmc.layers.channel_scale",
    "keras_fmc.layers.elementwise",
    "keras_fmc.layers.inverse_root",
    "keras_fmc.layers.look_up",
    "keras_fmc.layers.matrix_product",
    "keras_fmc.layers.unit_length",
    "keras_fmc.layers.code_quantizer",
    "keras_fmc.layers.fake_quant",
    "keras_fmc.layers.gf2",
    "keras_fmc.layers.projection",
    "keras_fmc.layers.slice",
    "keras_fmc.layers.transposed",
    "keras_fmc.model.named_outputs",
    "keras_fmc.qat.kernel_rounding",
    "keras_fmc.qat.weight_layers",
)


def register_layers() -> None:
    """Imports every module that registers a class with ``keras.saving``.

    What these modules import of the project must not be a module that may itself be the first to
    import Keras, for it is half done then; so packages with such modules import Keras first.
    """
    for module in _MODULES:
        importlib.import_module(module)


def register_with_keras() -> None:
    """Registers the layers now if Keras is imported already, otherwise right after it is.

    So whoever imports ``keras_fmc``, before or after Keras, can go on to
    ``keras.saving.load_model``; and ``import keras_fmc`` alone does not wait for Keras.
    """
    if "keras" in sys.modules:
        register_layers()
    elif not any(isinstance(finder, _AfterKeras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterKeras())


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Finds Keras as the other finders do, and has the layers registered once it is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                register_layers()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
