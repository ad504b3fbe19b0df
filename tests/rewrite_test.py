"""Putting bottlenecks into models."""

from __future__ import annotations

import dataclasses
import re
import sys

import keras
import numpy as np
import pytest
import zoo
from keras import layers

from keras_fmc.choose.ceiling import choose_bottlenecks
from keras_fmc.choose.plan import BottleneckSpec, CompressionPlan
from keras_fmc.errors import BadInputError
from keras_fmc.layers import ProjectionBottleneck
from keras_fmc.qat import quantize
from keras_fmc.rewrite import freeze_base, insert_bottlenecks
from tests import bottleneck_reference as reference


def images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *shape), "float32")


def plan_for(model: keras.Model, *specs: BottleneckSpec) -> CompressionPlan:
    return CompressionPlan(model.name, 0, specs, (), 0, 0)


def full_rank(model: keras.Model) -> CompressionPlan:
    """A bottleneck of float codes and k = C at every map that can have one."""
    plan = choose_bottlenecks(model, ceiling=1.0)
    specs = [
        BottleneckSpec(skip.name, skip.shape, skip.shape[-1], bits=None)
        for skip in plan.skipped
        if skip.reason.name == "BELOW_CEILING"
    ]
    return dataclasses.replace(plan, bottlenecks=tuple(specs), skipped=())


def concatenating() -> keras.Model:
    inputs = keras.Input((8, 8, 3), name="image")
    a = layers.Conv2D(6, 3, padding="same", activation="relu", name="a")(inputs)
    b = layers.Conv2D(4, 1, activation="relu", name="b")(a)
    c = layers.Conv2D(4, 3, padding="same", activation="relu", name="c")(a)
    x = layers.Concatenate(name="join")([b, c, a])
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Flatten(name="flat")(layers.Dropout(0.5, name="drop")(x))
    return keras.Model(inputs, layers.Dense(5, name="out")(x), name="concatenating")


def nested() -> keras.Model:
    inner = zoo.small_cnn(8)
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(3, 3, padding="same", activation="relu", name="front")(inputs)
    return keras.Model(inputs, inner(x) + inner(inputs), name="nested")


def raw_operations() -> keras.Model:
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(6, 3, padding="same", name="conv")(inputs)
    y = keras.ops.relu(layers.Conv2D(6, 3, padding="same", name="conv2")(x) + x * 2.0)
    return keras.Model(inputs, layers.GlobalAveragePooling2D(name="mean")(y), name="raw")


@pytest.mark.parametrize(
    "build",
    [lambda: zoo.resnet8(8), lambda: zoo.small_cnn(8), concatenating, nested, raw_operations],
)
@pytest.mark.parametrize("initializer", ["pca", "identity"])
def test_full_rank_float_bottlenecks_change_nothing(build, initializer):
    model = zoo.randomize(build())
    plan = full_rank(model)
    x = images(16, 8, 8, 3)
    result = insert_bottlenecks(model, plan, calibration=x, initializer=initializer)
    count = sum(isinstance(layer, ProjectionBottleneck) for layer in result.model.layers)
    assert count == len(result.inserted) == len(plan.bottlenecks) >= 3
    expected = np.asarray(model(x))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(result.model(x) / scale, expected / scale, atol=2e-5)
    assert all(item.energy_kept == pytest.approx(1, abs=1e-5) for item in result.inserted)


def test_bottleneck_stands_where_a_model_written_by_hand_has_it():
    """Behind the activation, before max pooling, in front of both readers of a skip connection."""

    def write(bottlenecks: bool) -> keras.Model:
        def maybe(x, name):
            return ProjectionBottleneck(2, name=f"{name}_bottleneck")(x) if bottlenecks else x

        inputs = keras.Input((8, 8, 3), name="image")
        x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
        x = layers.BatchNormalization(name="bn")(x)
        x = maybe(layers.ReLU(name="relu")(x), "relu")
        x = layers.MaxPooling2D(name="pool")(x)
        x = maybe(x, "pool")
        y = layers.Conv2D(6, 3, padding="same", name="branch")(x)
        x = maybe(layers.Add(name="add")([x, maybe(y, "branch")]), "add")
        return keras.Model(inputs, layers.Conv2D(2, 1, name="out")(x), name="m")

    model = zoo.randomize(write(False))
    shapes = {"relu": (8, 8, 6), "pool": (4, 4, 6), "branch": (4, 4, 6), "add": (4, 4, 6)}
    plan = plan_for(model, *(BottleneckSpec(name, shape, 2) for name, shape in shapes.items()))
    x = images(10, 8, 8, 3)
    rewritten = insert_bottlenecks(model, plan, calibration=x, initializer="random", seed=7).model
    by_hand = write(True)
    for layer in by_hand.layers:
        layer.set_weights(rewritten.get_layer(layer.name).get_weights())
    np.testing.assert_array_equal(rewritten(x), by_hand(x))
    assert np.ptp(rewritten(x)) > 0.01


def test_result_lists_what_was_inserted_and_what_was_skipped():
    model = zoo.resnet8(8)
    plan = choose_bottlenecks(model, ceiling=0.5)
    result = insert_bottlenecks(model, plan, calibration=images(8, 8, 8, 3))
    assert [item.spec for item in result.inserted] == list(plan.bottlenecks)
    assert [item.layer for item in result.inserted] == [
        f"{spec.name}_bottleneck" for spec in plan.bottlenecks
    ]
    assert result.skipped == plan.skipped
    for item in result.inserted:
        layer = result.model.get_layer(item.layer)
        assert (layer.rank, layer.bits) == (item.spec.rank, 8)
        assert 0 < item.energy_kept <= 1


def test_each_bottleneck_is_fitted_to_what_the_earlier_ones_leave():
    model = zoo.randomize(zoo.resnet8(8))
    plan = choose_bottlenecks(model, ceiling=0.25)
    x = images(40, 8, 8, 3)
    result = insert_bottlenecks(model, plan, calibration=x)
    last = result.model.get_layer(result.inserted[-1].layer)
    compressed = keras.Model(result.model.input, last.input)(x)
    original = keras.Model(model.input, model.get_layer(plan.bottlenecks[-1].name).output)(x)
    got = np.asarray(last.projection) @ np.asarray(last.restoration)
    fitted, unfitted = (
        reference.principal_directions(np.asarray(maps), last.rank)
        for maps in (compressed, original)
    )
    np.testing.assert_allclose(got, fitted @ fitted.T, atol=1e-4)
    assert np.abs(got - unfitted @ unfitted.T).max() > 0.01


def test_ranges_of_codes_are_those_of_the_calibration_data():
    model = zoo.randomize(zoo.resnet8(8))
    x = images(40, 8, 8, 3)
    result = insert_bottlenecks(model, choose_bottlenecks(model, ceiling=0.5), calibration=x)
    for item in result.inserted:
        layer = result.model.get_layer(item.layer)
        maps = np.asarray(keras.Model(result.model.input, layer.input)(x))
        code = maps @ np.asarray(layer.projection)
        low, high = layer.quantizer.range
        assert high == pytest.approx(1, rel=1e-4)
        assert low == pytest.approx(min(code.min(), 0), rel=1e-3, abs=1e-6)


def test_large_calibration_data_are_gone_over_twice_to_the_same_end(monkeypatch):
    model = zoo.randomize(zoo.resnet8(8))
    plan = choose_bottlenecks(model, ceiling=0.5)
    x = images(40, 8, 8, 3)
    held = insert_bottlenecks(model, plan, calibration=x).model
    monkeypatch.setattr("keras_fmc.rewrite._HELD_BYTES", 0)
    computed = insert_bottlenecks(model, plan, calibration=x).model
    for ours, theirs in zip(held.get_weights(), computed.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_pca_start_is_closer_to_the_model_than_random_or_identity():
    model = zoo.randomize(zoo.resnet8(16))
    plan = choose_bottlenecks(model, ceiling=0.5)
    x = images(64, 16, 16, 3)
    hidden = keras.Model(model.input, model.get_layer("stage2_relu").output)(x)
    errors = {}
    for initializer in ("pca", "random", "identity"):
        rewritten = insert_bottlenecks(model, plan, calibration=x, initializer=initializer).model
        got = keras.Model(rewritten.input, rewritten.get_layer("stage2_relu").output)(x)
        errors[initializer] = float(np.square(got - hidden).mean() / np.square(hidden).mean())
    assert errors["pca"] < 0.5 * min(errors["random"], errors["identity"])


def test_seed_fixes_the_random_start_and_needs_no_data():
    model = zoo.resnet8(8)
    plan = choose_bottlenecks(model, ceiling=0.5)
    first, same, other = (
        insert_bottlenecks(model, plan, initializer="random", seed=seed).model for seed in (3, 3, 4)
    )
    name = f"{plan.bottlenecks[0].name}_bottleneck"
    value, equal, unequal = (m.get_layer(name).get_weights()[0] for m in (first, same, other))
    np.testing.assert_array_equal(value, equal)
    assert not np.array_equal(value, unequal)
    assert not first.get_layer(name).quantizer.calibrated
    second = first.get_layer(f"{plan.bottlenecks[1].name}_bottleneck").get_weights()[0]
    assert not np.array_equal(value, second)


def test_source_model_is_left_alone():
    model = zoo.randomize(zoo.small_cnn(8))
    weights = model.get_weights()
    names = [layer.name for layer in model.layers]
    plan = choose_bottlenecks(model, ceiling=0.5)
    result = insert_bottlenecks(model, plan, calibration=images(8, 8, 8, 3))
    for weight in result.model.weights:
        weight.assign(np.zeros(weight.shape))
    assert [layer.name for layer in model.layers] == names
    for ours, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, before)


def test_each_call_of_a_shared_layer_has_its_own_bottleneck():
    inputs = keras.Input((8, 8, 4), name="image")
    shared = layers.Conv2D(4, 1, name="conv")
    x = shared(shared(inputs))
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="out")(x))
    plan = choose_bottlenecks(model, ceiling=8 * 8 * 2)
    result = insert_bottlenecks(model, plan, calibration=images(4, 8, 8, 4))
    assert [item.layer for item in result.inserted] == ["conv_bottleneck", "conv_1_bottleneck"]


def test_bottleneck_gets_a_free_name():
    inputs = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    x = layers.Conv2D(4, 1, name="conv_bottleneck")(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="out")(x))
    plan = plan_for(model, BottleneckSpec("conv", (8, 8, 4), 2))
    result = insert_bottlenecks(model, plan, initializer="identity")
    assert result.inserted[0].layer == "conv_bottleneck_1"


def test_several_inputs_take_a_list_of_calibration_data():
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    x = layers.Conv2D(6, 1, name="left")(a)
    y = layers.Conv2D(6, 1, name="right")(b)
    model = keras.Model([a, b], layers.Conv2D(2, 1, name="out")(layers.Add(name="add")([x, y])))
    plan = choose_bottlenecks(model, ceiling=0.5)
    data = [images(8, 8, 8, 3), images(8, 8, 8, 3, seed=1)]
    result = insert_bottlenecks(model, plan, calibration=data)
    # Each map has three dimensions at most, as each branch is linear in three channels.
    assert [item.energy_kept for item in result.inserted[:2]] == pytest.approx([1, 1], abs=1e-2)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (None, "no calibration data"),
        (np.zeros((4, 8, 9, 3), "float32"), r"wrong shape.*received shape \(4, 8, 9, 3\)"),
        (np.zeros((4, 8, 8, 3), "int32"), "wrong dtype"),
        (np.full((4, 8, 8, 3), np.nan, "float32"), "NaN"),
        (np.zeros((0, 8, 8, 3), "float32"), "empty"),
    ],
)
def test_bad_calibration_data_are_refused(calibration, message):
    model = zoo.resnet8(8)
    plan = choose_bottlenecks(model, ceiling=0.5)
    with pytest.raises(BadInputError, match=message):
        insert_bottlenecks(model, plan, calibration=calibration)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (BottleneckSpec("nowhere", (8, 8, 16), 2), "map 'nowhere'.*received no such map"),
        (
            BottleneckSpec("stem_relu", (9, 9, 16), 2),
            r"map 'stem_relu'; .*received shape \(8, 8, 16\)",
        ),
        (BottleneckSpec("image", (8, 8, 3), 2), "map 'image'"),
    ],
)
def test_plan_of_another_model_is_refused(spec, message):
    model = zoo.resnet8(8)
    with pytest.raises(BadInputError, match=f"the plan is not for model 'resnet8': {message}"):
        insert_bottlenecks(model, plan_for(model, spec), initializer="identity")


def test_unknown_initializer_is_refused():
    model = zoo.resnet8(8)
    plan = choose_bottlenecks(model, ceiling=0.5)
    with pytest.raises(BadInputError, match="expected pca or random or identity; received 'svd'"):
        insert_bottlenecks(model, plan, initializer="svd")


def test_frozen_base_trains_the_bottlenecks_alone():
    model = zoo.randomize(zoo.resnet8(8))
    x = images(32, 8, 8, 3)
    plan = choose_bottlenecks(model, ceiling=0.5)
    rewritten = insert_bottlenecks(model, plan, calibration=x).model
    assert freeze_base(rewritten) is rewritten
    assert len(rewritten.trainable_weights) == 2 * len(plan.bottlenecks)
    before = {weight.path: weight.numpy() for weight in rewritten.weights}
    rewritten.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    rewritten.fit(x, np.arange(32) % 10, verbose=0)
    changed = {
        weight.path
        for weight in rewritten.weights
        if not np.array_equal(weight.numpy(), before[weight.path])
    }
    assert {path for path in changed if "/quantizer/" not in path} == {
        f"{spec.name}_bottleneck/{matrix}"
        for spec in plan.bottlenecks
        for matrix in ("projection", "restoration")
    }


def test_frozen_base_reaches_into_nested_models_and_composite_layers():
    inner = keras.Sequential(
        [keras.Input((8, 4)), layers.Dense(4, name="dense"), ProjectionBottleneck(2, name="b")],
        name="inner",
    )
    inner.trainable = False

    class Block(layers.Layer):
        """A layer that holds layers and a weight of its own."""

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(4, name="inside")
            self.bottleneck = ProjectionBottleneck(3, name="b3")

        def build(self, shape):
            self.dense.build(shape)
            self.bottleneck.build(shape)
            self.gain = self.add_weight(name="gain", shape=())

        def call(self, x):
            return self.bottleneck(self.dense(x)) * self.gain

    inputs = keras.Input((8, 4))
    model = keras.Model(inputs, layers.Dense(2, name="out")(Block(name="block")(inner(inputs))))
    freeze_base(model)
    assert ["/".join(weight.path.split("/")[-2:]) for weight in model.trainable_weights] == [
        "b/projection",
        "b/restoration",
        "b3/projection",
        "b3/restoration",
    ]


def test_freezing_a_model_without_bottlenecks_is_refused():
    with pytest.raises(BadInputError, match="'small_cnn' has no bottleneck to train"):
        freeze_base(zoo.small_cnn())


REMEDY = "Choose and insert bottlenecks into the float model first, then call quantize()"


def test_a_quantised_model_is_refused_at_once():
    model = zoo.resnet8()
    plan = choose_bottlenecks(model, ceiling=0.5)
    quantised = quantize(model, calibration=images(4, 32, 32, 3))
    tail = "; expected a float model; received FakeQuantConv2D.\n" + re.escape(REMEDY)
    layer = f"layer 'stem_conv' of model '{quantised.name}' is quantised already"
    with pytest.raises(BadInputError, match=f"^choice of bottlenecks: {layer}{tail}"):
        choose_bottlenecks(quantised, ceiling=0.5)
    with pytest.raises(BadInputError, match=f"^choice of bottlenecks: {layer}{tail}"):
        choose_bottlenecks(quantised, ceiling=0.5, kind="plain", bits=4)
    with pytest.raises(BadInputError, match=f"^insertion of bottlenecks: {layer}{tail}"):
        insert_bottlenecks(quantised, plan, initializer="random")
    # Inserted before, all is well, and a second plan is refused as well.
    small = insert_bottlenecks(model, plan, initializer="random").model
    with pytest.raises(BadInputError, match="is quantised already"):
        choose_bottlenecks(quantize(small, calibration=images(4, 32, 32, 3)), ceiling=0.5)


def test_a_model_of_the_backend_tfmot_is_refused_at_once():
    """A stand-in: the toolkit's models are of this class, and it is an extra."""
    functional = type("Functional", (), {"__module__": "tf_keras.src.engine.functional"})
    model = functional()
    model.name = "small"
    message = (
        "choice of bottlenecks: model 'small' is one of tf_keras, as quantize() makes them with "
        "the backend 'tfmot'; expected a float model of Keras 3; received tf_keras Functional.\n"
        + REMEDY
    )
    with pytest.raises(BadInputError, match=re.escape(message)):
        choose_bottlenecks(model, ceiling=0.5)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
