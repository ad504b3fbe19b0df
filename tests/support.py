"""What several tests share: where the reference models lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_SHARED = Path(os.environ.get("FMC_SHARED", _ROOT.parent / "shared"))


def shared_path(relative: str) -> Path:
    """Returns a file of the shared models or data, or skips the test with a reason."""
    path = _SHARED / relative
    if not path.exists():
        pytest.skip(f"{relative} is not here; set FMC_SHARED to the folder that holds it")
    return path


MLPERF_TINY = ("ad01_int8", "kws_ref_model", "pretrainedResnet_quant", "vww_96_int8")


def mlperf_tiny(name: str) -> Path:
    """Returns the path of an int8 MLPerf Tiny model by its stem.

    Where the shared models are missing it is a network of the same shapes with random weights
    (`tiny_models`), so that a clone tests the same; what holds for the weights alone asks
    `shared_path`.
    """
    path = _SHARED / f"models/mlperf_tiny/{name}.tflite"
    if path.exists():
        return path
    from tests.tiny_models import stand_in

    return stand_in(name)


def went_the_whole_way(found: dict[str, str], *, profile_equal: bool = True) -> None:
    """Asserts that a line of the coverage table (`examples/keras_coverage.py`) has all in order."""
    found = dict(found)
    assert found.pop("result") == "whole way"
    one, fold = (float(part.split()[-1]) for part in found.pop("k = C").split(","))
    assert max(one, fold) < 1e-5
    assert (found.pop("profile") == "equal") == profile_equal
    assert found == {"names": "yes", "training": "yes", "levels off": "0.00%", "worst": "0"}
