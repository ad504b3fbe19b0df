"""``fmc profile`` and ``fmc convert`` on what Keras saves, as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from support import mlperf_tiny

import deploy
import keras_fmc
from deploy.runtime import tflm

ROOT = Path(__file__).resolve().parent.parent


def fmc(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs ``fmc`` in a process of its own."""
    code = "import sys; from deploy.cli import main; sys.exit(main())"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP")}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small network in every format, and calibration data."""
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input((16, 16, 3)),
            layers.Conv2D(8, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax"),
        ],
        name="small",
    )
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.export(folder / "saved_model", verbose=False)
    samples = np.random.default_rng(0).random((64, 16, 16, 3), np.float32)
    np.save(folder / "samples.npy", samples)
    return folder


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "saved_model"])
def test_profile_of_every_format_is_the_same_and_quiet(saved: Path, name: str) -> None:
    done = fmc("profile", saved / name, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    profile = json.loads(done.stdout)
    # The first convolution reads the image and writes its map.
    assert profile["peak_bytes"] == 16 * 16 * 3 + 16 * 16 * 8


def test_profile_names_the_operator_of_the_peak() -> None:
    done = fmc("profile", mlperf_tiny("vww_96_int8"))
    assert done.returncode == 0
    assert "peak (*): 55,296 B at CONV_2D" in done.stdout


@pytest.mark.skipif(tflm.unavailable_reason() is not None, reason="no tflite_micro")
def test_convert_goes_from_keras_to_a_verified_plan(saved: Path, tmp_path: Path) -> None:
    done = fmc(
        *("convert", saved / "model.keras", "--calibration", saved / "samples.npy"),
        *("--board", "pico", "--out", tmp_path / "out"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["bit_exact"] is True
    assert report["verified_arena_bytes"] == report["predicted_arena_bytes_wheel"]
    assert fmc("verify", tmp_path / "out").returncode == 0


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_plan_sends_keras_files_to_convert(saved: Path, name: str) -> None:
    done = fmc("plan", saved / name)
    assert done.returncode == 2
    assert "is not a TFLite model" in done.stderr
    assert "fmc convert MODEL --calibration" in done.stderr


def test_gf2_of_a_signed_map_is_planned_though_a_look_up_took_its_clip() -> None:
    """The look-up of the bit planes makes the map of codes itself unneeded."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input((16, 16, 3)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(16, 3, padding="same"),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )
    samples = np.random.default_rng(0).random((32, 16, 16, 3), np.float32)
    plan = keras_fmc.choose_bottlenecks(model, ceiling="2KB", kind="gf2", bits=4)
    assert any(spec.signed for spec in plan.bottlenecks)
    rewritten = keras_fmc.insert_bottlenecks(model, plan, calibration=samples).model
    quantised = keras_fmc.quantize(rewritten, calibration=samples)
    report = deploy.convert(quantised, board="pico", strips=False).report
    assert report.bit_exact
    assert [code.packed_bytes for code in report.codes] == [16 * 16 * 64 // 8] * len(report.codes)
    assert report.codes


def test_convert_says_what_is_missing(saved: Path, tmp_path: Path) -> None:
    done = fmc("convert", saved / "model.keras", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "calibration" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert list(tmp_path.rglob("*.*")) == []
    done = fmc("convert", saved / "saved_model", "--calibration", saved / "samples.npy")
    assert done.returncode == 2
    assert "SavedModel, which holds no Keras layers" in done.stderr


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
