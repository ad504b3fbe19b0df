"""Native QAT models train, save and distribute as any Keras model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import qat_models
import tensorflow as tf

import keras_fmc as fmc
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.projection import ProjectionBottleneck
from keras_fmc.qat.weight_layers import FAKE_QUANT_LAYERS


def qat_model(momentum: float | None = None) -> keras.Model:
    """A small net with a bottleneck, a depthwise convolution and a concatenation, quantised."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    inputs = keras.Input((16, 16, 1))
    x = layers.ReLU()(layers.Conv2D(8, 3, 2, padding="same")(inputs))
    x = ProjectionBottleneck(4, name="p")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = layers.Concatenate()([layers.Conv2D(8, 1)(x), y])
    x = layers.Dropout(0.1)(layers.AveragePooling2D(2)(x))
    outputs = layers.Dense(10, activation="softmax")(layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    return fmc.quantize(model, calibration=qat_models.digits()[0][:100], momentum=momentum)


def compiled(model: keras.Model) -> keras.Model:
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def test_fit_with_arrays_callbacks_and_validation(tmp_path: Path) -> None:
    x, y, x_test, y_test = qat_models.digits()
    model = compiled(qat_model())
    before = {layer.name: layer.range for layer in model.layers if isinstance(layer, FakeQuant)}
    callbacks = [
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor="val_loss", save_best_only=True
        ),
        keras.callbacks.ReduceLROnPlateau(monitor="loss"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    history = model.fit(
        x, y, batch_size=64, epochs=3, validation_data=(x_test, y_test), callbacks=callbacks,
        verbose=0,
    ).history  # fmt: skip
    assert history["loss"] == sorted(history["loss"], reverse=True)
    assert history["val_accuracy"][-1] > 0.6
    for name, range_ in before.items():
        assert model.get_layer(name).range == range_, "calibrated ranges stay"
    best = keras.saving.load_model(tmp_path / "best.keras")
    loss = best.evaluate(x_test, y_test, verbose=0)[0]
    assert loss == pytest.approx(min(history["val_loss"]), rel=1e-4)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + 3


def test_fit_with_tf_data_and_following_ranges() -> None:
    x, y, _, _ = qat_models.digits()
    model = compiled(qat_model(momentum=0.9))
    before = {layer.name: layer.range for layer in model.layers if isinstance(layer, FakeQuant)}
    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(300, seed=1).batch(32).prefetch(2)
    loss = model.fit(batches, epochs=2, verbose=0).history["loss"]
    assert loss[-1] < loss[0]
    after = {name: model.get_layer(name).range for name in before}
    moved = {name for name, range_ in before.items() if after[name] != range_}
    # Every batch of digits spans [0, 1], so the range of the input stays.
    assert set(before) - moved == {f"{model.inputs[0].name}_quant"}
    assert all(low <= 0 < high for low, high in after.values())


def test_saved_model_is_the_same_and_goes_on_training(tmp_path: Path) -> None:
    x, y, x_test, _ = qat_models.digits()
    model = compiled(qat_model())
    model.fit(x, y, batch_size=64, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    np.testing.assert_array_equal(
        loaded.predict(x_test, verbose=0), model.predict(x_test, verbose=0)
    )
    assert loaded.optimizer.iterations == model.optimizer.iterations
    kernels = [layer.kernel for layer in loaded.layers if isinstance(layer, FAKE_QUANT_LAYERS)]
    before = [kernel.numpy().copy() for kernel in kernels]
    loaded.fit(x, y, batch_size=64, epochs=1, verbose=0)
    assert all((kernel.numpy() != old).any() for kernel, old in zip(kernels, before, strict=True))


MIRRORED = """
import json, sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import qat_training_test as here

x, y, _, _ = here.qat_models.digits()
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = here.compiled(here.qat_model(momentum=0.9))
quantizer = model.get_layer("p_projection_quant")
before = quantizer.range
batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(64, drop_remainder=True)
loss = model.fit(batches, epochs=3, verbose=0).history["loss"]
copies = [[float(value) for value in weight.value.values]
          for weight in (quantizer.low, quantizer.high)]
model.save(sys.argv[1])
print(json.dumps({"replicas": strategy.num_replicas_in_sync, "loss": loss, "before": before,
                  "copies": copies}))
"""


def test_mirrored_strategy_needs_no_change(tmp_path: Path) -> None:
    tests = Path(__file__).resolve().parent
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(tmp_path / "m.keras")],
        capture_output=True,
        text=True,
        timeout=300,
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
    for (first, second), start in zip(result["copies"], result["before"], strict=True):
        assert first == second, "replicas disagree on a range"
        assert first != start, "the range does not follow"
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    low, high = loaded.get_layer("p_projection_quant").range
    assert (low, high) == (result["copies"][0][0], result["copies"][1][0])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
