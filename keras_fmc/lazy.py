"""Packages whose public names are imported on first use (in the spirit of PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).resolve().parent.parent
_EXTRA = {"keras", "tensorflow"}
"""What the base installation goes without."""


def export_lazily(package: str, exports: Mapping[str, str]) -> None:
    """Makes the names of ``exports`` (name -> module that defines it) attributes of a package.

    A function may have the name of the submodule it stands in, such as ``keras_fmc.fold``:
    Python binds a submodule to its package's attribute when it is imported, and here the public
    name keeps it.
    """

    class LazyPackage(ModuleType):
        def __getattr__(self, name: str) -> object:
            if name not in exports:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            value = getattr(load(exports[name], wanted=f"{package}.{name}"), name)
            self.__dict__[name] = value
            return value

        def __setattr__(self, name: str, value: object) -> None:
            if name in exports and isinstance(value, ModuleType):
                return
            super().__setattr__(name, value)

        def __dir__(self) -> list[str]:
            return sorted({*exports, *self.__dict__})

    sys.modules[package].__class__ = LazyPackage


def load(module: str, *, wanted: str) -> ModuleType:
    """Imports a module of this installation for the name ``wanted``.

    Raises:
        ImportError: another package of that name stands in the way.
        ModuleNotFoundError: Keras or TensorFlow is not installed.
    """
    top = importlib.import_module(module.partition(".")[0])
    places = [Path(place).resolve() for place in top.__path__]
    if _ROOT / top.__name__ not in places:
        raise ImportError(
            f"{wanted} needs the package {top.__name__!r} of keras_fmc, and another one stands in "
            f"the way: {', '.join(map(str, places))}. Rename it, or move it behind "
            f"{_ROOT} in sys.path."
        )
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        raise ModuleNotFoundError(
            f"{wanted} needs {error.name}, which is not installed: pip install 'keras-fmc[keras]'.",
            name=error.name,
        ) from error
