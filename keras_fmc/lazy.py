"""Packages whose public names are imported on first use (in the spirit of PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType


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
            value = getattr(importlib.import_module(exports[name]), name)
            self.__dict__[name] = value
            return value

        def __setattr__(self, name: str, value: object) -> None:
            if name in exports and isinstance(value, ModuleType):
                return
            super().__setattr__(name, value)

        def __dir__(self) -> list[str]:
            return sorted({*exports, *self.__dict__})

    sys.modules[package].__class__ = LazyPackage
