"""What several tests share: where the reference models lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent


def shared_path(relative: str) -> Path:
    """Returns a file of the shared models or data, or skips the test with a reason."""
    shared = Path(os.environ.get("FMC_SHARED", _ROOT.parent / "shared"))
    path = shared / relative
    if not path.exists():
        pytest.skip(f"{relative} is not here; set FMC_SHARED to the folder that holds it")
    return path


MLPERF_TINY = ("ad01_int8", "kws_ref_model", "pretrainedResnet_quant", "vww_96_int8")


def mlperf_tiny(name: str) -> Path:
    """Returns the path of an int8 MLPerf Tiny model by its stem."""
    return shared_path(f"models/mlperf_tiny/{name}.tflite")
