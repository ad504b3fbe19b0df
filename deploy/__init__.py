"""deploy: int8 TFLite models in, a proven memory plan for TensorFlow Lite Micro out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_EXPORTS = {
    "convert": "deploy.pipeline",
    "plan": "deploy.pipeline",
    "verify": "deploy.pipeline",
    "Result": "deploy.pipeline",
    "Graph": "deploy.graph",
}

__all__ = list(_EXPORTS)

if TYPE_CHECKING:
    from deploy.graph import Graph
    from deploy.pipeline import Result, convert, plan, verify


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'deploy' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
