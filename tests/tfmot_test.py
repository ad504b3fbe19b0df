"""The tests of the QAT backends, run in the environment that has the toolkit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from qat_test import HAS_TFMOT

ROOT = Path(__file__).resolve().parent.parent
PYTHON = Path(os.environ.get("FMC_TFMOT_PYTHON", ROOT / ".venv-tfmot" / "bin" / "python"))


@pytest.mark.skipif(HAS_TFMOT, reason="tests/qat_test.py runs them here")
@pytest.mark.skipif(not PYTHON.exists(), reason="make .venv-tfmot/.ready builds the environment")
def test_the_backend_tfmot_passes_the_tests_of_both_backends() -> None:
    command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/qat_test.py"]
    run = subprocess.run(
        [*map(str, command), "-k", "tfmot or toolkit"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout.splitlines()[-1], run.stdout.splitlines()[-1]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
