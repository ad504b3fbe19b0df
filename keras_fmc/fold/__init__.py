"""Batch normalisation, restorations and projections become part of their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_fmc.lazy import export_lazily

_EXPORTS = {"fold": "keras_fmc.fold.fold", "FoldResult": "keras_fmc.fold.report"}

__all__ = list(_EXPORTS)

if TYPE_CHECKING:
    from keras_fmc.fold.fold import fold
    from keras_fmc.fold.report import FoldResult

export_lazily(__name__, _EXPORTS)
