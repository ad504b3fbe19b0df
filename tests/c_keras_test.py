"""From a Keras model with bottlenecks to generated C: ``fmc convert --runtime=c``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import deploy
import keras_fmc as fmc
from deploy import cli
from deploy.runtime import compiled
from keras_fmc.layers.code_quantizer import CodeQuantizer
from keras_fmc.layers.gf2 import GF2Bottleneck

CODES = {
    "four": lambda: CodeQuantizer(4, form="unsigned", momentum=0.9),
    "bits": lambda: GF2Bottleneck(16, bits=8, momentum=0.9, start="random"),
}


def quantised(name: str, samples: np.ndarray) -> keras.Model:
    """A gate behind a stored code, so that the code has to stand until its mean is known."""
    keras.utils.set_random_seed(0)
    image = keras.Input(samples.shape[1:], name="image")
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    x = CODES[name]()(layers.Conv2D(8, 1, activation="relu")(x))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(8, 1)(x))
    x = layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(gate)])
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    scores = layers.Dense(4, name="scores")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, scores, name=name)
    model(samples, training=True)
    return fmc.quantize(model, calibration=samples)


@pytest.mark.parametrize("name", CODES)
def test_a_bottleneck_goes_from_keras_to_c(name: str, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(size=(16, 12, 12, 3)).astype(np.float32)
    model = quantised(name, samples)
    out = tmp_path / "out"
    result = deploy.convert(model, runtime="c", board="nano33ble", out=out)
    report = result.report
    (code,) = report.codes
    # 12 x 12 positions of 8 codes of 4 bits, or of 16 bits.
    assert code.packed_bytes == 12 * 12 * (8 * 4 if name == "four" else 16) // 8
    assert (code.bits, code.unpacked_bytes) == ((4, 1152) if name == "four" else (1, 2304))
    assert report.arena_bytes < report.baseline.arena_bytes
    assert report.macs_ratio == 1.0
    shown = (out / "report.txt").read_text()
    assert "stored as codes" in shown
    if compiled.unavailable_reason() is None:
        assert report.bit_exact is True
        assert cli.main(["verify", str(out)]) == 0


def test_the_command_takes_a_saved_model(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(size=(16, 12, 12, 3)).astype(np.float32)
    quantised("four", samples).save(tmp_path / "gated.keras")
    out = tmp_path / "out"
    assert cli.main(["convert", str(tmp_path / "gated.keras"), "--runtime=c", f"--out={out}"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert (report["runtime"], report["verified"]) == ("c", compiled.unavailable_reason() is None)
    assert {"gated.h", "gated.c", "model.tflite"} <= {path.name for path in out.iterdir()}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
