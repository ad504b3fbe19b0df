"""Compiles the search with numba where it is installed; without it the same code runs as Python.

Import this module only inside functions: it costs a good tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _compiler() -> Any:
    try:
        import numba
    except ImportError:
        return None
    return numba


_NUMBA = _compiler()

IS_COMPILED = _NUMBA is not None
"""Whether the search runs as machine code; Python takes about a hundred times as long."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: machine code, kept on disk between runs, that lets other threads run."""
    if _NUMBA is None:
        return function
    return _NUMBA.njit(cache=True, nogil=True, error_model="numpy")(function)
