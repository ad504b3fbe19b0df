"""Functional models whose outputs are called what the user called them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_fmc")
class NamedOutputs(keras.Model):
    """A functional model with names for its outputs that are not those of its last layers.

    Keras calls an output after the layer that makes it, and `compile(loss={"a": …})` and
    `fit(x, {"a": …})` look outputs up by that name. Quantisation and folding put other layers
    last; the name of the user's stays here, and is saved with the model.

    Args:
        inputs, outputs, name: as of `keras.Model`.
        output_names: one for each of the flattened outputs; None takes those of the layers.
        loading: ignored; it stands in the configuration for whoever loads the model without this
            package, as Keras' error shows the configuration.
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        name: str | None = None,
        *,
        output_names: Sequence[str] | None = None,
        loading: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs, outputs, name=name, **kwargs)
        if output_names is not None:
            self.output_names = list(output_names)

    def get_config(self) -> dict[str, Any]:
        return {
            "loading": "import keras_fmc, then load the model",
            **super().get_config(),
            "output_names": list(self.output_names),
        }
