"""Keras on JAX and PyTorch: bottlenecks, QAT, device_rounding, conversion, levels of the device."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.runtime import tflm

ROOT = Path(__file__).resolve().parent.parent
WITHOUT_64_BITS = """
import numpy as np
import keras_fmc as fmc
from tests.keras_models import MODELS

samples = np.random.default_rng(1).random((8, 12, 12, 3), np.float32)
model = fmc.quantize(MODELS["se_resnet"](), calibration=samples)
try:
    fmc.device_rounding(model)
except fmc.FmcError as error:
    print(error)
"""


def run(backend: str, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_model_goes_the_whole_way(backend: str) -> None:
    if tflm.unavailable_reason() is not None:
        pytest.skip(str(tflm.unavailable_reason()))
    names = ("se_resnet", "own_layer")
    done = run(backend, "-m", "tests.backend_way", *names, JAX_ENABLE_X64="1")
    assert done.returncode == 0, done.stderr
    expected = {"backend": backend, "compressed": True, "moved": True, "off": 0, "of": 72}
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [{name: expected} for name in names]


def test_device_rounding_names_the_switch_of_jax() -> None:
    done = run("jax", "-c", WITHOUT_64_BITS, JAX_ENABLE_X64="0")
    assert "Set JAX_ENABLE_X64=1" in done.stdout, done.stderr


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
