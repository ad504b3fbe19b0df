"""A copy of CMSIS-NN that the user of the tests has: FMC_CMSIS_NN names its folder.

    FMC_CMSIS_NN=~/CMSIS-NN python -m pytest tests/c_library_test.py

Its int8 functions are compiled for this machine or for a core; without it tests skip, or take the
stand-in.
"""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

VARIABLE = "FMC_CMSIS_NN"
_FAMILIES = (
    *("BasicMath", "Convolution", "FullyConnected", "NNSupport", "Pooling", "Softmax"),
    "Transpose",
)
_OTHER_TYPES = ("_s4", "_s16", "_s64", "_f32", "_f16", "_flt")


def folder() -> Path | None:
    """Returns where the copy is, or None."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def require_folder() -> Path:
    """Returns where the copy is; skips the test where there is none."""
    found = folder()
    if found is None:
        pytest.skip(f"{VARIABLE} names no copy of CMSIS-NN")
    return found


def include() -> str:
    """Returns the option by which a compiler finds its headers, without warnings of theirs."""
    return f"-isystem{require_folder() / 'Include'}"


@functools.cache
def archive(command: str, *options: str) -> Path:
    """Returns the library compiled by a command with options."""
    root = require_folder() / "Source"
    sources = sorted(
        path
        for family in _FAMILIES
        for path in (root / f"{family}Functions").glob("*.c")
        if "_s8" in path.stem or not any(kind in path.stem for kind in _OTHER_TYPES)
    )
    assert sources, f"{root} holds no source of CMSIS-NN"
    target = Path(tempfile.mkdtemp(prefix="fmc-cmsis-nn-"))
    base = [command, "-std=c99", *options, "-ffunction-sections", include(), "-w", "-c"]
    subprocess.run([*base, *map(str, sources)], cwd=target, check=True, capture_output=True)
    tool = command.removesuffix("gcc") + "ar"
    objects = [f"{path.stem}.o" for path in sources]
    subprocess.run([tool, "rcs", "libcmsis-nn.a", *objects], cwd=target, check=True)
    return target / "libcmsis-nn.a"
