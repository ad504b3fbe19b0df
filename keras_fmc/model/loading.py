"""Reading models from files.

| format | what `load_model` does |
|---|---|
| `.keras` | loads it |
| `.h5`, `.hdf5` of Keras 3 or Keras 2 | loads it; drops the `groups` key that Keras 2 wrote |
| SavedModel folder | refuses: it holds no Keras layers; `saved_model_to_tflite` converts it |
| `.tflite` | refuses: `deploy` reads those |
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_fmc.errors import BadInputError, UnsupportedModelError

if TYPE_CHECKING:
    import keras


class ModelFormat(Enum):
    """How a model is stored."""

    KERAS = ".keras"
    HDF5 = ".h5"
    SAVED_MODEL = "SavedModel"
    TFLITE = ".tflite"


_SUFFIXES = {
    ".keras": ModelFormat.KERAS,
    ".h5": ModelFormat.HDF5,
    ".hdf5": ModelFormat.HDF5,
    ".tflite": ModelFormat.TFLITE,
}


def model_format(path: str | os.PathLike[str]) -> ModelFormat:
    """Returns the format of a model by its suffix, or for a folder by what it holds.

    Raises:
        BadInputError: nothing there, or of no known format.
    """
    path = Path(path)
    known = "a .keras, .h5 or .tflite file or a SavedModel folder"
    if not path.exists():
        raise BadInputError("no such model", known, f"{path}")
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return ModelFormat.SAVED_MODEL
        raise BadInputError("a folder without saved_model.pb is no model", known, f"{path}")
    if path.suffix.lower() not in _SUFFIXES:
        raise BadInputError("unknown kind of model file", known, f"{path}")
    return _SUFFIXES[path.suffix.lower()]


def load_model(
    path: str | os.PathLike[str], *, custom_objects: Mapping[str, Any] | None = None
) -> keras.Model:
    """Returns the Keras model in a `.keras` or `.h5` file, not compiled.

    Args:
        path: of the file.
        custom_objects: class name → class, for layers that are not registered.

    Raises:
        BadInputError: no such file, damaged, or it names a class that is unknown here.
        UnsupportedModelError: a SavedModel or a `.tflite` file, which hold no Keras layers.
    """
    import keras

    from keras_fmc.model.registration import register_layers

    register_layers()
    kind = model_format(path)
    if kind is ModelFormat.SAVED_MODEL:
        raise UnsupportedModelError(
            f"{path} is a SavedModel, which holds no Keras layers",
            remedy="Save the model as .keras where it was made; `fmc profile` also reads a "
            "SavedModel by way of .tflite",
        )
    if kind is ModelFormat.TFLITE:
        raise UnsupportedModelError(
            f"{path} is a .tflite file, which holds no Keras layers",
            remedy="Use `fmc profile` or `fmc plan`, which read it as it is",
        )
    objects = dict(custom_objects or {})
    if kind is ModelFormat.HDF5:
        objects = {**_keras2_layers(), **objects}
    try:
        return keras.saving.load_model(os.fspath(path), custom_objects=objects, compile=False)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise BadInputError(
            f"{path} cannot be loaded as a Keras model: {str(error).strip().splitlines()[0]}",
            remedy="Check that the file is whole; import the module that defines its own layers, "
            "or pass them as custom_objects",
        ) from error


def saved_model_to_tflite(path: str | os.PathLike[str]) -> bytes:
    """Returns a SavedModel as a float .tflite model, to look at its operators and tensors.

    Raises:
        BadInputError: not a SavedModel that the converter takes; with its message.
    """
    import tensorflow as tf

    if model_format(path) is not ModelFormat.SAVED_MODEL:
        raise BadInputError("not a SavedModel", "a folder with saved_model.pb", f"{path}")
    try:
        return tf.lite.TFLiteConverter.from_saved_model(os.fspath(path)).convert()
    except (OSError, ValueError, KeyError, RuntimeError, tf.errors.OpError) as error:
        raise BadInputError(
            f"{path} cannot be converted: {str(error).strip().splitlines()[0]}",
            remedy="Export it anew with model.export(path)",
        ) from error


def _keras2_layers() -> dict[str, type]:
    """Layers to which Keras 2 gave a `groups` key that Keras 3 refuses; it never meant anything
    but 1."""
    import keras

    def tolerant(layer: type[keras.layers.Layer]) -> type[keras.layers.Layer]:
        def from_config(cls: type, config: dict[str, Any]) -> keras.layers.Layer:
            config = dict(config)
            groups = config.pop("groups", 1)
            if groups != 1:
                raise ValueError(f"{layer.__name__} {config.get('name')!r} has groups={groups}")
            return layer.from_config(config)

        return type(layer.__name__, (layer,), {"from_config": classmethod(from_config)})

    layers = keras.layers
    return {
        layer.__name__: tolerant(layer)
        for layer in (
            layers.DepthwiseConv2D,
            layers.SeparableConv1D,
            layers.SeparableConv2D,
            layers.Conv1DTranspose,
            layers.Conv2DTranspose,
        )
    }
