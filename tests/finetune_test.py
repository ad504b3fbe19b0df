"""`finetune`: the teacher's pull, flags left alone, ranges that stand still at the end."""

from __future__ import annotations

import contextlib
import sys

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmc import BadInputError, finetune, quantize
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.projection import ProjectionBottleneck


def classifier(activation: str | None = None) -> keras.Model:
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu", name="hidden")(inputs)
    return keras.Model(inputs, layers.Dense(3, activation=activation, name="classes")(x))


def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int32) + (x[:, 1] > 0)


def divergence(teacher: keras.Model, student: keras.Model, x: np.ndarray, t: float) -> float:
    """KL of softened outputs by NumPy, times T²."""
    p, q = (m.predict(x, verbose=0).astype(np.float64) / t for m in (teacher, student))
    p, q = (np.exp(z - z.max(-1, keepdims=True)) for z in (p, q))
    p, q = (z / z.sum(-1, keepdims=True) for z in (p, q))
    return float(t**2 * (p * np.log(p / q)).sum(-1).mean())


def test_the_loss_is_the_mixture_that_is_documented_and_the_teacher_stays():
    x, y = data()
    keras.utils.set_random_seed(1)
    teacher, student = classifier(), classifier()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    task = float(loss(y, student(x)))
    pull = divergence(teacher, student, x, 2.0)
    before = [w.numpy().copy() for w in teacher.weights]
    history = finetune(
        student, x, y, loss=loss, epochs=1, teacher=teacher, weight=0.3, temperature=2.0,
        batch_size=64,
    )  # fmt: skip
    assert history["loss"][0] == pytest.approx(0.7 * task + 0.3 * pull, rel=1e-4)
    assert teacher.trainable
    assert all(layer.trainable for layer in teacher.layers)
    for weight, kept in zip(teacher.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), kept)
    assert len(student.trainable_variables) == 4


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_a_student_is_pulled_to_its_teacher(activation):
    x, y = data()
    keras.utils.set_random_seed(2)
    teacher, student = classifier(activation), classifier(activation)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
    before = np.abs(teacher(x) - student(x)).mean()
    finetune(student, x, y, loss=loss, epochs=30, teacher=teacher, weight=1.0, rate=3e-2)
    assert np.abs(teacher(x) - student(x)).mean() < 0.5 * before


def test_ranges_stand_still_in_the_last_epochs():
    x, y = data()
    keras.utils.set_random_seed(3)
    qat = quantize(classifier(), calibration=x, momentum=0.9)
    ranges: list[list[tuple[float, float]]] = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            ranges.append([layer.range for layer in qat.layers if isinstance(layer, FakeQuant)])

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    finetune(qat, x, y, loss=loss, epochs=4, frozen_share=0.5, rate=3e-2, callbacks=[Look()])
    assert len(ranges) == 4
    assert ranges[0] != ranges[1]
    assert ranges[1] == ranges[2] == ranges[3]
    assert any(layer.momentum == 0.9 for layer in qat.layers if isinstance(layer, FakeQuant))


@pytest.mark.parametrize("stopped", [2, 3])
def test_a_training_that_was_stopped_goes_on_where_it_was(stopped, tmp_path):
    """With all samples in a batch their order does not matter; ranges stand still from epoch 3 on,
    so both halves are stopped once."""
    x, y = data()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == stopped:
                raise KeyboardInterrupt

    def training(*callbacks):
        keras.utils.set_random_seed(4)
        qat = quantize(classifier(), calibration=x, momentum=0.9)
        ranges = [layer for layer in qat.layers if isinstance(layer, FakeQuant)]
        history = {}
        with contextlib.suppress(KeyboardInterrupt):
            history = finetune(
                qat, x, y, loss=loss, epochs=4, frozen_share=0.25, rate=3e-2, batch_size=64,
                callbacks=callbacks,
            )  # fmt: skip
        assert all(layer.momentum == 0.9 for layer in ranges)
        return qat, history

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    training(backup, Stop())
    again, history = training(keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    whole, _ = training()
    assert len(history["loss"]) == 4 - stopped
    for one, other in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-5)


def test_student_and_teacher_see_what_augmentation_returns():
    """Samples of zeros become ones, where the mixture is that of ones and not of zeros."""
    x, y = data()
    keras.utils.set_random_seed(5)
    teacher, student = classifier(), classifier()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ones = np.ones_like(x)
    expected = 0.5 * float(loss(y, student(ones))) + 0.5 * divergence(teacher, student, ones, 4.0)
    zeros = np.zeros_like(x)
    history = finetune(
        student, zeros, y, loss=loss, epochs=1, teacher=teacher, augment=lambda x: x + 1,
        batch_size=64, validation_data=(zeros, y),
    )  # fmt: skip
    assert history["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert history["val_loss"][0] == pytest.approx(float(loss(y, student(zeros))), rel=1e-4)


def test_layers_of_augmentation_run_as_in_training_and_stay_out_of_the_model():
    x, y = data()
    keras.utils.set_random_seed(6)
    seen = []

    class Look(layers.Layer):
        def call(self, inputs, training=None):
            seen.append(training)
            return inputs

    student = classifier()
    before = len(student.weights)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    finetune(student, x, y, loss=loss, epochs=1, augment=keras.Sequential([Look()]))
    assert True in seen
    assert False not in seen
    assert len(student.weights) == before


@pytest.mark.parametrize(("noise", "expected"), [(0.0, 3e-4), (0.02, 3e-4), (3.0, 1e-3)])
def test_the_rate_is_lower_where_the_start_is_nearly_right(noise, expected):
    x, y = data()
    keras.utils.set_random_seed(7)
    teacher, student = classifier("softmax"), classifier("softmax")
    rng = np.random.default_rng(0)
    student.set_weights(
        [w + noise * rng.normal(size=w.shape).astype(np.float32) for w in teacher.get_weights()]
    )
    assert first_rate(student, x, y, teacher=teacher) == pytest.approx(expected, rel=1e-3)


def test_the_rate_is_the_higher_one_without_a_teacher_and_ones_own_where_given():
    x, y = data()
    assert first_rate(classifier("softmax"), x, y) == pytest.approx(1e-3, rel=1e-3)
    assert first_rate(classifier("softmax"), x, y, rate=0.5) == pytest.approx(0.5, rel=1e-3)


def test_kernels_behind_images_of_bytes_move_in_units_of_their_size():
    """Adam's first step is rate times unit: the size of a channel over that of He's start."""
    x = np.random.default_rng(1).integers(0, 256, (32, 6, 6, 3)).astype(np.float32)
    y = np.arange(32) % 3
    keras.utils.set_random_seed(9)
    inputs = keras.Input((6, 6, 3))
    hidden = layers.Conv2D(4, 3, name="hidden")(inputs)
    hidden = layers.BatchNormalization(name="normed")(hidden)
    hidden = layers.GlobalAveragePooling2D()(layers.ReLU()(hidden))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="classes")(hidden))
    finetune(model, x, y, loss="sparse_categorical_crossentropy", epochs=3)
    qat = quantize(model, calibration=x)
    before = {name: qat.get_layer(name).get_weights() for name in ("hidden", "classes")}
    loss = "sparse_categorical_crossentropy"
    finetune(qat, x, y, loss=loss, epochs=1, batch_size=32)
    for name, axes, products in (("hidden", (0, 1, 2), 27), ("classes", None, 4)):
        (kernel, bias), (old, old_bias) = qat.get_layer(name).get_weights(), before[name]
        unit = np.sqrt((old**2).mean(axis=axes, keepdims=True)) / np.sqrt(2 / products)
        assert unit.max() < 0.1 or name == "classes"
        step = np.abs(kernel - old).max(axis=axes, keepdims=True)
        # A channel that its ReLU never lets through has no gradient.
        assert (step > 0).mean() > 0.5
        np.testing.assert_allclose(step[step > 0], 3e-4 * unit[step > 0], rtol=2e-2)
        assert np.abs(bias - old_bias).max() == pytest.approx(3e-4, rel=1e-2)


def coded() -> keras.Model:
    """A bottleneck that makes zeros of the map behind it."""
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu", name="hidden")(inputs)
    bottleneck = ProjectionBottleneck(
        2, bits=None, projection_initializer="zeros", restoration_initializer="zeros", name="code"
    )
    return keras.Model(inputs, layers.Dense(3, name="classes")(bottleneck(hidden)))


def test_bottlenecks_enter_in_equal_steps_and_stay():
    """Outputs are linear in the share, as the bottleneck puts out zeros and nothing else trains."""
    x, y = data()
    keras.utils.set_random_seed(8)
    model = coded()
    model.trainable = False
    hidden = keras.Model(model.inputs, model.get_layer("hidden").output)(x).numpy()
    kernel, bias = model.get_layer("classes").get_weights()
    losses = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(float(logs["loss"]))

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {"loss": loss, "epochs": 6, "batch_size": 64, "callbacks": [Look()]}
    finetune(model, x, y, entering_share=4 / 6, **options)
    shares = [0, 1 / 4, 2 / 4, 3 / 4, 1, 1]
    expected = [float(loss(y, (1 - share) * hidden @ kernel + bias)) for share in shares]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    np.testing.assert_allclose(model(x), np.broadcast_to(bias, (64, 3)), atol=1e-6)


def first_rate(student, x, y, **options) -> float:
    """Adam's first step is as long as its rate, whatever the gradient."""
    before = student.get_weights()
    loss = "sparse_categorical_crossentropy"
    finetune(student, x, y, loss=loss, epochs=1, batch_size=64, **options)
    steps = zip(student.get_weights(), before, strict=True)
    return float(max(np.abs(after - start).max() for after, start in steps))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs; expected at least 1; received 0"),
        ({"weight": 1.5}, "weight of the teacher; expected 0 to 1"),
        ({"temperature": 0}, "temperature; expected above 0"),
        ({"entering_share": 2}, "entering_share; expected 0 to 1"),
        ({"augment": "flip"}, "augment; expected a function or layer; received flip"),
        ({"rate": 0.0}, "rate; expected above 0"),
        ({"frozen_share": 1}, "frozen_share; expected 0 to below 1"),
        ({"teacher": keras.Sequential([keras.Input((6,)), layers.Dense(5)])}, "other outputs"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    x, y = data()
    options = {"epochs": 1, "loss": "mse", **arguments}
    with pytest.raises(BadInputError, match=message):
        finetune(classifier(), x, y, **options)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
