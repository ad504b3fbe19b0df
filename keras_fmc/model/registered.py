"""How classes of the project are made known to `keras.saving`.

Keras is imported in the function: this module must not be the first to import it
(`keras_fmc.model.registration`).
"""

from __future__ import annotations

from typing import Any, TypeVar

_KEY = "loading"
_TEXT = "import keras_fmc, then load the model"

Class = TypeVar("Class", bound=type)


def register(cls: Class) -> Class:
    """Registers a class under `keras_fmc>Name`, and writes into its configuration how to load it.

    Who loads the model without this package gets Keras' error, which shows the configuration.
    """
    import keras

    inner_get, inner_from = cls.get_config, cls.from_config  # type: ignore[attr-defined]

    def get_config(self: Any) -> dict[str, Any]:
        return {_KEY: _TEXT, **inner_get(self)}

    def from_config(cls: type, config: dict[str, Any], *args: Any) -> Any:
        rest = {key: value for key, value in config.items() if key != _KEY}
        return inner_from.__func__(cls, rest, *args)

    cls.get_config = get_config  # type: ignore[attr-defined]
    cls.from_config = classmethod(from_config)  # type: ignore[attr-defined]
    return keras.saving.register_keras_serializable(package="keras_fmc")(cls)
