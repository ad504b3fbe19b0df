"""Functional models whose outputs are called what the user called them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import keras

from keras_fmc.errors import BadInputError
from keras_fmc.model.registered import register


class _Names:
    """Adds to a functional model the names of its outputs, which are saved with it."""

    own_class: type[keras.Model] | None = None
    """The user's class that the model is of, None if it is none but `keras.Model`."""

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        name: str | None = None,
        *,
        output_names: Sequence[str] | None = None,
        own_class: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)  # type: ignore[call-arg]
        if output_names is not None:
            self.output_names = list(output_names)

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),  # type: ignore[misc]
            "output_names": list(self.output_names),
        }
        if self.own_class is None:
            return config
        cls = self.own_class
        names = {"registered": keras.saving.get_registered_name(cls), "class": cls.__name__}
        return {**config, "own_class": {**names, "module": cls.__module__}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        if cls.own_class is None and config.get("own_class"):
            return named(_found(config["own_class"], custom_objects)).from_config(
                config, custom_objects
            )
        return super().from_config(config, custom_objects)  # type: ignore[misc]


@register
class NamedOutputs(_Names, keras.Model):
    """A functional model with names for its outputs that are not those of its last layers.

    Keras calls an output after the layer that makes it, and `compile(loss={"a": …})` and
    `fit(x, {"a": …})` look outputs up by that name. Quantisation and folding put other layers
    last; the name of the user's stays here, and is saved with the model.

    Args:
        inputs, outputs, name: as of `keras.Model`.
        output_names: one for each of the flattened outputs; None takes those of the layers.
        own_class: in the configuration of a model of the user's class (`named`), which one.
    """


def named(cls: type[keras.Model] | None) -> type[keras.Model]:
    """Returns `NamedOutputs` of a class: a subclass that saves and loads by way of it."""
    if cls is None or cls is keras.Model:
        return NamedOutputs
    made = type("NamedOutputs", (_Names, cls), {"__module__": __name__, "own_class": cls})
    # Saved under one name; whoever loads it gets the plain class, which finds the user's.
    for each in (made, NamedOutputs):
        keras.saving.register_keras_serializable(package="keras_fmc", name="NamedOutputs")(each)
    return made


def own_class(model: keras.Model) -> type[keras.Model]:
    """Returns the class of a model as the user knows it."""
    return getattr(model, "own_class", None) or type(model)


def _found(names: dict[str, str], custom_objects: Any) -> type[keras.Model]:
    """The user's class: registered, handed over, or in the module that it came from."""
    for name in (names["registered"], names["class"]):
        known = keras.saving.get_registered_object(name, custom_objects)
        if known is not None:
            return known
    try:
        return vars(importlib.import_module(names["module"]))[names["class"]]
    except (ImportError, KeyError) as error:
        raise BadInputError(
            f"the model is of a class {names['class']!r} that is unknown here",
            remedy="Import the module that defines it, or pass it as custom_objects",
        ) from error
