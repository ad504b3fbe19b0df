"""Models with bottlenecks train as any Keras model does."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo
from sklearn.datasets import load_digits

from keras_fmc.choose.ceiling import choose_bottlenecks
from keras_fmc.choose.plan import CompressionPlan
from keras_fmc.rewrite import freeze_base, insert_bottlenecks

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@functools.cache
def digits() -> Split:
    """Training and test halves of scikit-learn's digits: 8×8×1 in [0, 1], and their labels."""
    data = load_digits()
    x = (data.images[..., None] / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], data.target[order]
    return x[:1200], y[:1200], x[1200:], y[1200:]


def compiled(
    model: keras.Model, rate: float = 1e-3, *, jit_compile: bool | str = False
) -> keras.Model:
    """Compiles; without XLA by default, whose compilation costs more than these trainings."""
    model.compile(
        keras.optimizers.Adam(rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    return model


@functools.cache
def trained() -> keras.Model:
    """The small CNN after a few epochs on digits."""
    x, y, x_test, y_test = digits()
    keras.utils.set_random_seed(1)
    model = compiled(zoo.small_cnn(8, channels=1), 1e-2)
    model.fit(x, y, batch_size=64, epochs=12, verbose=0)
    assert model.evaluate(x_test, y_test, verbose=0)[1] > 0.9
    return model


def plan() -> CompressionPlan:
    chosen = choose_bottlenecks(trained(), ceiling=0.25)
    assert [spec.rank for spec in chosen.bottlenecks] == [2, 2, 8]
    return chosen


def rewritten(initializer: str = "pca") -> keras.Model:
    x = digits()[0][:200]
    return insert_bottlenecks(trained(), plan(), calibration=x, initializer=initializer).model


def fit(model: keras.Model, epochs: int, **options) -> dict[str, list[float]]:
    """Trains on digits with everything seeded; returns the history."""
    x, y, x_test, y_test = digits()
    keras.utils.set_random_seed(2)
    return model.fit(
        x, y, batch_size=64, epochs=epochs, verbose=0, validation_data=(x_test, y_test), **options
    ).history


def test_pca_start_is_better_than_random_before_and_after_training():
    x_test, y_test = digits()[2:]
    before, after = {}, {}
    for initializer in ("pca", "random"):
        model = compiled(rewritten(initializer), 2e-3)
        before[initializer] = model.evaluate(x_test, y_test, verbose=0)[0]
        history = fit(model, 4)
        after[initializer] = history["val_loss"][-1]
        assert history["loss"] == sorted(history["loss"], reverse=True)
        assert history["val_loss"][-1] < before[initializer]
    assert before["pca"] < before["random"]
    assert after["pca"] < after["random"]


def test_bottlenecks_alone_learn_on_a_frozen_base():
    x_test, y_test = digits()[2:]
    model = compiled(freeze_base(rewritten()), 1e-2)
    base = {w.path: w.numpy() for w in model.weights if "_bottleneck" not in w.path}
    before = model.evaluate(x_test, y_test, verbose=0)[0]
    history = fit(model, 3)
    assert history["val_loss"][-1] < before
    for weight in model.weights:
        if weight.path in base:
            np.testing.assert_array_equal(weight.numpy(), base[weight.path])


def test_fit_takes_tf_data_and_callbacks(tmp_path):
    x, y, x_test, y_test = digits()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(1200, seed=0).batch(64).prefetch(2)
    checks = tf.data.Dataset.from_tensor_slices((x_test, y_test)).batch(64)
    model = compiled(rewritten(), jit_compile="auto")
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True),
        keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", patience=1),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    history = model.fit(
        batches, validation_data=checks, epochs=3, callbacks=callbacks, verbose=0
    ).history
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + len(history["loss"])
    best = keras.saving.load_model(tmp_path / "best.keras")
    loss = best.evaluate(checks, verbose=0)[0]
    assert loss == pytest.approx(min(history["val_loss"]), rel=1e-4)


def test_saved_model_goes_on_training_where_it_stopped(tmp_path):
    straight = compiled(rewritten())
    fit(straight, 1)
    straight.save(tmp_path / "half.keras")
    resumed = keras.saving.load_model(tmp_path / "half.keras")
    x = digits()[2][:50]
    np.testing.assert_array_equal(resumed(x), straight(x))
    assert fit(resumed, 1)["loss"] == pytest.approx(fit(straight, 1)["loss"], rel=1e-4)
    for ours, theirs in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


MIRRORED = """
import json, sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import training_test
from keras_fmc.rewrite import freeze_base, insert_bottlenecks

keras.utils.set_random_seed(0)
x, y, x_test, y_test = training_test.digits()
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    source = training_test.zoo.small_cnn(8, channels=1)
    plan = training_test.choose_bottlenecks(source, ceiling=0.5)
    model = insert_bottlenecks(source, plan, calibration=x[:100]).model
    training_test.compiled(model, 5e-3)
quantizer = model.get_layer("stem_relu_bottleneck").quantizer
before = quantizer.range
batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(64, drop_remainder=True)
loss = model.fit(batches, epochs=4, verbose=0).history["loss"]
copies = [[float(value) for value in weight.value.values]
          for weight in (quantizer.low, quantizer.high)]
model.save(sys.argv[1])
single = keras.saving.load_model(sys.argv[1], compile=False)
same = [bool((ours.numpy() == theirs.numpy()).all())
        for ours, theirs in zip(single.weights, model.weights, strict=True)]
print(json.dumps({"replicas": strategy.num_replicas_in_sync, "loss": loss, "before": before,
                  "copies": copies, "same": same}))
"""


def test_mirrored_strategy_needs_no_change(tmp_path):
    tests = Path(__file__).resolve().parent
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(tmp_path / "m.keras")],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}",
        },
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["replicas"] == 2
    assert result["loss"] == sorted(result["loss"], reverse=True)
    assert result["loss"][-1] < 0.8 * result["loss"][0]
    for (first, second), start in zip(result["copies"], result["before"], strict=True):
        assert first == second, "the replicas must agree on the range of the code"
        assert first != start, "the range must follow the batches"
    assert all(result["same"])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
