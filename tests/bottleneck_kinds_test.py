"""Every kind of bottleneck through insertion, training, saving and distribution."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import zoo
from keras import layers

import keras_fmc as fmc
from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec, CompressionPlan
from keras_fmc.errors import BadInputError
from keras_fmc.rewrite import freeze_base, insert_bottlenecks
from keras_fmc.start.code_range import code_range
from keras_fmc.start.window_start import window_start

OPTIONS: dict[str, dict] = {
    "6 bits": {"bits": 6},
    "2 bits": {"bits": 2},
    "1 bit": {"bits": 1},
    "float, 2×2": {"bits": None, "strides": 2},
    "8 bits, 2×2": {"bits": 8, "strides": 2},
    "4 bits, 3×3": {"bits": 4, "strides": 2, "kernel_size": 3},
    "gf2": {"kind": "gf2", "bits": 4},
    "gf2, 2×2": {"kind": "gf2", "bits": 4, "strides": 2},
    "gf2, hidden": {"kind": "gf2", "bits": 4, "hidden": (40,)},
    "plain": {"kind": "plain", "bits": 4},
}


def images(count: int, seed: int = 0) -> np.ndarray:
    """Smooth images, so that neighbouring positions have something in common."""
    coarse = np.random.default_rng(seed).random((count, 3, 3, 3), "float32")
    return np.asarray(keras.ops.image.resize(coarse, (8, 8)))


def model_() -> keras.Model:
    return zoo.randomize(zoo.small_cnn(8))


def map_of(model: keras.Model, layer: keras.Layer, x: np.ndarray) -> np.ndarray:
    return np.asarray(keras.Model(model.input, layer.input)(x))


@pytest.mark.parametrize("initializer", ["pca", "identity", "random"])
@pytest.mark.parametrize("name", OPTIONS)
def test_layers_are_what_the_plan_says_and_keep_the_energy_that_is_said(name, initializer):
    model, x = model_(), images(48)
    plan = fmc.choose_bottlenecks(model, ceiling=0.5, **OPTIONS[name])
    result = insert_bottlenecks(model, plan, calibration=x, initializer=initializer, seed=3)
    assert [item.spec for item in result.inserted] == list(plan.bottlenecks)
    kinds = {"gf2": fmc.GF2Bottleneck, "plain": fmc.CodeQuantizer}
    for item in result.inserted:
        layer = result.model.get_layer(item.layer)
        kind = kinds.get(item.spec.kind.value, fmc.ProjectionBottleneck)
        assert type(layer) is kind
        assert layer.bits == item.spec.bits
        if kind is not fmc.CodeQuantizer:
            assert layer.strides == item.spec.strides
            assert layer.stored_shape(item.spec.shape) == item.spec.stored_shape
        source = map_of(result.model, layer, x)
        restored = np.asarray(layer(source))
        kept = 1 - ((source - restored) ** 2).sum() / (source**2).sum()
        assert kept == pytest.approx(item.energy_kept, abs=5e-3)
    if initializer == "pca":
        least = 0.5 if OPTIONS[name]["bits"] in (1, 2) else 0.75
        assert min(item.energy_kept for item in result.inserted) > least


@pytest.mark.parametrize("name", [n for n in OPTIONS if n not in ("plain", "gf2, hidden")])
def test_a_start_from_data_keeps_more_than_the_others(name):
    model, x = model_(), images(48)
    plan = fmc.choose_bottlenecks(model, ceiling=0.25, **OPTIONS[name])
    plan = dataclasses.replace(plan, bottlenecks=plan.bottlenecks[:1])
    first = {}
    for initializer in ("pca", "identity", "random"):
        result = insert_bottlenecks(model, plan, calibration=x, initializer=initializer)
        first[initializer] = result.inserted[0].energy_kept
    assert first["pca"] >= first["identity"] - 1e-6
    assert first["pca"] > first["random"] + 0.05


def test_float_windows_of_all_channels_change_nothing():
    model, x = model_(), images(16)
    plan = fmc.choose_bottlenecks(model, ceiling=1.0)
    specs = [
        BottleneckSpec(s.name, s.shape, 4 * s.shape[-1], None, strides=2, kernel_size=2)
        for s in plan.skipped
        if s.reason.name == "BELOW_CEILING" and len(s.shape) == 3
    ]
    assert len(specs) >= 3
    full = CompressionPlan(model.name, 0, tuple(specs), (), 0, 0)
    for initializer in ("pca", "identity"):
        result = insert_bottlenecks(model, full, calibration=x, initializer=initializer)
        scale = np.abs(model(x)).max()
        tolerance = 1e-2 if initializer == "pca" else 1e-5  # R is a ridge regression
        np.testing.assert_allclose(result.model(x) / scale, model(x) / scale, atol=tolerance)


@pytest.mark.parametrize("rank", [3, 9])
def test_windows_without_overlap_keep_what_principal_components_of_blocks_keep(rank):
    x = np.random.default_rng(0).normal(size=(12, 6, 8, 3)) @ np.diag([1.0, 2.0, 3.0])
    blocks = x.reshape(12, 3, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 12)
    values = np.linalg.svd(blocks, compute_uv=False) ** 2
    start = window_start(
        lambda: [x[:5], x[5:]], None, None, rank=rank, window=2, strides=2, bits=None,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert start.energy_kept == pytest.approx(values[:rank].sum() / values.sum(), abs=1e-3)
    assert start.projection.shape == (2, 2, 3, rank)
    assert start.restoration.shape == (2, 2, rank, 3)


@pytest.mark.parametrize("name", ["4 bits, 3×3", "gf2, 2×2", "6 bits"])
def test_profiles_count_the_bytes_of_codes(name):
    model, x = model_(), images(8)
    plan = fmc.choose_bottlenecks(model, ceiling=0.5, **OPTIONS[name])
    # Where the values start has no part in it.
    result = insert_bottlenecks(model, plan, calibration=x, initializer="identity")
    maps = fmc.profile(result.model)
    for spec in plan.bottlenecks:
        code = maps[f"{spec.name}_bottleneck:code"]
        assert (code.shape, code.size_bytes) == (spec.stored_shape, spec.code_bytes)


def test_ranges_of_plain_codes_are_those_of_least_error():
    model, x = model_(), images(32)
    plan = fmc.choose_bottlenecks(model, ceiling=0.5, kind="plain", bits=2)
    result = insert_bottlenecks(model, plan, calibration=x)
    layer = result.model.get_layer(result.inserted[0].layer)
    values = map_of(result.model, layer, x)
    assert layer.range == pytest.approx(code_range(lambda: [values], bits=2, signed=False))
    assert len(np.unique(np.asarray(layer(values)))) == 4


def signed_map() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="linear")(inputs)
    return keras.Model(inputs, layers.Conv2D(2, 1, name="out")(x), name="signed")


@pytest.mark.parametrize("kind", [BottleneckKind.GF2, BottleneckKind.PLAIN])
def test_unsigned_codes_of_signed_maps_are_refused_and_signed_ones_work(kind):
    model, x = signed_map(), images(16)
    spec = BottleneckSpec("linear", (8, 8, 8), 8, 4, kind)
    with pytest.raises(
        BadInputError,
        match=rf"unsigned {kind.value} bottleneck for map 'linear', which can be negative; expected"
        r" a map behind a ReLU\.\nPut a ReLU behind .* signed=True; choose_bottlenecks does so",
    ):
        insert_bottlenecks(model, CompressionPlan("signed", 0, (spec,), (), 0, 0), calibration=x)
    plan = fmc.choose_bottlenecks(model, ceiling=0.5, kind=kind, bits=4)
    result = insert_bottlenecks(model, plan, calibration=x)
    layer = result.model.get_layer("linear_bottleneck")
    assert np.asarray(layer(map_of(result.model, layer, x))).min() < 0
    assert result.inserted[0].energy_kept > 0.9


@pytest.mark.parametrize("kind", ["gf2", "plain"])
def test_codes_with_ranges_need_data(kind):
    model = model_()
    plan = fmc.choose_bottlenecks(model, ceiling=0.5, kind=kind, bits=4)
    with pytest.raises(BadInputError, match="no calibration data"):
        insert_bottlenecks(model, plan, initializer="identity")


def mixed(model: keras.Model, x: np.ndarray) -> keras.Model:
    """One bottleneck of each kind in one model."""
    plan = fmc.choose_bottlenecks(model, ceiling=1.0)
    shapes = {s.name: s.shape for s in plan.skipped if len(s.shape) == 3}
    names = [name for name in shapes if name.endswith("_relu")]
    assert len(names) >= 3
    options = (
        {"bits": 4, "strides": 2, "kernel_size": 2, "rank": 6},
        {"bits": 4, "kind": BottleneckKind.GF2, "rank": 24},
        {"bits": 4, "kind": BottleneckKind.PLAIN},
    )
    specs = [
        BottleneckSpec(name, shapes[name], **{"rank": shapes[name][-1], **option})
        for name, option in zip(names, options, strict=False)
    ]
    full = CompressionPlan(model.name, 0, tuple(specs), (), 0, 0)
    return insert_bottlenecks(model, full, calibration=x).model


def test_frozen_base_trains_projections_and_gf2_alone():
    x = images(32)
    model = freeze_base(mixed(zoo.randomize(zoo.resnet8(8)), x))
    trained = {weight.path.split("/")[0] for weight in model.trainable_weights}
    codes = (fmc.ProjectionBottleneck, fmc.GF2Bottleneck)
    assert trained == {layer.name for layer in model.layers if isinstance(layer, codes)}
    assert len(trained) == 2
    plain = fmc.choose_bottlenecks(model_(), ceiling=0.5, kind="plain", bits=4)
    with pytest.raises(BadInputError, match="has no bottleneck to train"):
        freeze_base(insert_bottlenecks(model_(), plain, calibration=x).model)


def test_saved_models_load_where_the_package_is_imported_and_say_so_where_not(tmp_path):
    x = images(8)
    model = mixed(zoo.randomize(zoo.resnet8(8)), x)
    path = tmp_path / "mixed.keras"
    model.save(path)
    np.testing.assert_array_equal(fmc.load_model(path)(x), model(x))
    np.testing.assert_array_equal(keras.saving.load_model(path)(x), model(x))
    script = (
        "import sys, keras\n"
        "try:\n    keras.saving.load_model(sys.argv[1])\n"
        "except TypeError as error:\n    print(error)\n"
        "import keras_fmc\n"
        "print(len(keras.saving.load_model(sys.argv[1]).layers))\n"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    *message, count = done.stdout.strip().splitlines()
    text = "\n".join(message)
    assert "make sure they are all imported" in text
    assert "'module': 'keras_fmc.layers." in text
    assert int(count) == len(model.layers)


MIRRORED = """
import json, sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import bottleneck_kinds_test as kinds

keras.utils.set_random_seed(0)
x = kinds.images(64)
y = (x.mean(axis=(1, 2)).argmax(-1)).astype("int32")
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = kinds.mixed(kinds.zoo.randomize(kinds.zoo.resnet8(8)), x)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
before = [w.numpy() for w in model.trainable_weights]
batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(16).repeat(4)
loss = model.fit(batches, epochs=2, verbose=0).history["loss"]
moved = [bool((a != b.numpy()).any()) for a, b in zip(before, model.trainable_weights)]
model.save(sys.argv[1])
single = keras.saving.load_model(sys.argv[1], compile=False)
same = [bool((a.numpy() == b.numpy()).all()) for a, b in zip(single.weights, model.weights)]
print(json.dumps({"replicas": strategy.num_replicas_in_sync, "loss": loss,
                  "moved": sum(moved) / len(moved), "same": all(same)}))
"""


def test_mirrored_strategy_needs_no_change(tmp_path):
    tests = Path(__file__).resolve().parent
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(tmp_path / "m.keras")],
        capture_output=True, text=True, timeout=240, check=False,
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["replicas"] == 2
    assert result["same"]
    assert result["moved"] > 0.9
    assert result["loss"][1] < result["loss"][0]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
