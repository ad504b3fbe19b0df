"""What came out: metrics on the device, and map by map beside the Keras model."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import deploy
import keras_fmc as fmc
from deploy.compare import compare
from deploy.evaluate import evaluate
from deploy.predict import predict
from deploy.runtime import tflm
from keras_fmc.errors import BadInputError
from keras_fmc.qat import fixed_point

if tflm.unavailable_reason() is not None:
    pytest.skip(str(tflm.unavailable_reason()), allow_module_level=True)


def model() -> keras.Model:
    inputs = keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(6, 3, activation="relu", name="first")(inputs)
    x = layers.Conv2D(6, 3, padding="same", name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Activation("tanh", name="bend")(x))
    return keras.Model(
        inputs,
        [
            layers.Dense(3, activation="softmax", name="kind")(x),
            layers.Dense(2, name="place")(x),
        ],
    )


@pytest.fixture(scope="module")
def quantised() -> tuple[keras.Model, np.ndarray, deploy.Result]:
    keras.utils.set_random_seed(3)
    x = np.random.default_rng(0).normal(size=(12, 8, 8, 2)).astype(np.float32)
    qat = fmc.quantize(model(), calibration=x)
    return qat, x, deploy.convert(qat, board="host")


def test_a_model_that_rounds_as_the_device_differs_nowhere(quantised, tmp_path: Path) -> None:
    qat, x, _ = quantised
    result = deploy.convert(qat, board="nano33ble", out=tmp_path)
    found = compare(fmc.device_rounding(qat), result, x, out=tmp_path)
    assert [row.name for row in found] == [
        *("first", "second", "bend", "pool", "kind", "place", "kind_softmax")
    ]
    assert found.worst.worst_levels == 0
    assert [row.shape for row in found][:2] == [(6, 6, 6), (6, 6, 6)]
    text = (tmp_path / "report.txt").read_text()
    assert str(found).rstrip() in text
    page = (tmp_path / "report.html").read_text()
    assert "Keras beside the device" in page
    assert deploy.Report.from_json((tmp_path / "report.json").read_text()).comparison == tuple(
        found
    )
    assert deploy.verify(tmp_path)


def test_the_first_map_that_differs_is_the_one_that_was_changed(
    quantised, monkeypatch: pytest.MonkeyPatch
) -> None:
    qat, x, result = quantised
    once = compare(qat, result, x)
    assert once.worst.worst_levels <= 2, "single rounding"

    # Keras computes a map otherwise than the kernel: that map is the first to differ.
    table = fixed_point.tanh_table
    monkeypatch.setattr(fixed_point, "tanh_table", lambda *grid: np.minimum(table(*grid) + 3, 127))
    found = compare(fmc.device_rounding(qat), result, x)
    assert next((row.name, row.worst_levels) for row in found if row.worst_levels) == ("bend", 3)
    other = fmc.quantize(model(), calibration=x)
    with pytest.raises(BadInputError, match="not that of this model"):
        compare(other, result, x)
    with pytest.raises(BadInputError, match="quantised natively"):
        compare(model(), result, x)


def test_metrics_by_hand(quantised) -> None:
    _, x, result = quantised
    outputs = predict(result, x)
    kinds = np.arange(12) % 3
    places = np.random.default_rng(2).normal(size=(12, 2))
    found = result.evaluate(x, {"kind": kinds, "place": places})
    error = places - outputs["place"]
    assert found == {
        "kind/accuracy": pytest.approx((outputs["kind"].argmax(1) == kinds).mean()),
        "place/mean_absolute_error": pytest.approx(np.abs(error).mean()),
        "place/mean_squared_error": pytest.approx((error**2).mean()),
    }
    one_hot = [np.eye(3)[kinds], places]
    assert evaluate(result, x, one_hot)["kind/accuracy"] == found["kind/accuracy"]
    own = evaluate(result, x, one_hot, metrics={"bias": lambda y, out: (out - y).mean()})
    assert own["place/bias"] == pytest.approx(-error.mean())
    with pytest.raises(BadInputError, match="unknown outputs"):
        result.evaluate(x, {"kind": kinds})
    with pytest.raises(BadInputError, match="differ in their count"):
        result.evaluate(x, [kinds[:3], places])


def test_a_bar_shows_how_far_it_is(quantised, capfd: pytest.CaptureFixture[str]) -> None:
    _, x, result = quantised
    many = np.concatenate([x] * 12)
    shown = predict(result, many, progress=True)
    assert "of 144 samples" in capfd.readouterr().err
    silent = predict(result, many, progress=False)
    assert capfd.readouterr().err == ""
    np.testing.assert_array_equal(shown["kind"], silent["kind"])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
