"""What users address: order and names of inputs and outputs, state, saving, importing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import deploy
import keras_fmc as fmc
from deploy import flatbuffer
from deploy.convert import convert_path, to_int8_tflite
from deploy.runtime import tflm
from keras_fmc.errors import UnsupportedModelError


def heads(kind: str) -> keras.Model:
    """Outputs whose names, order and shapes disagree; one is read further on, one is put out
    twice."""
    image = keras.Input((8, 8, 2), name="zebra")
    meta = keras.Input((5,), name="ant")
    x = layers.Conv2D(4, 3, name="trunk")(image)
    x = layers.ReLU(name="middle")(layers.BatchNormalization(name="norm")(x))
    flat = layers.Concatenate(name="join")([layers.GlobalAveragePooling2D(name="pool")(x), meta])
    zeta = layers.Dense(3, activation="softmax", name="zeta")(flat)
    alpha = layers.BatchNormalization(name="alpha")(layers.Dense(2, name="inner")(flat))
    beta = layers.Dense(3, activation="tanh", name="beta")(zeta)
    if kind == "dict":
        outputs = {"zeta": zeta, "mid": x, "alpha": alpha}
        return keras.Model({"zebra": image, "ant": meta}, outputs, name="heads")
    return keras.Model([image, meta], [zeta, x, beta, alpha, zeta], name="heads")


def samples(model: keras.Model, count: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(count, *t.shape[1:])).astype(np.float32) for t in model.inputs]


def dequantised(content: bytes, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs in TensorFlow Lite Micro, for inputs in the order of the file."""
    graph = flatbuffer.read(content)
    grids = [graph.tensors[index].quantization for index in graph.inputs]
    codes = [
        np.clip(np.round(x / q.scales[0]) + q.zero_points[0], -128, 127).astype(np.int8)
        for x, q in zip(inputs, grids, strict=True)
    ]
    runs = tflm.run(
        content, [[c[i][None] for c in codes] for i in range(len(codes[0]))], arena_bytes=1 << 20
    )
    outputs = []
    for place, index in enumerate(graph.outputs):
        q = graph.tensors[index].quantization
        made = np.concatenate([run[place] for run in runs]).astype(np.float64)
        outputs.append(q.scales[0] * (made - q.zero_points[0]))
    return outputs


NAMES = {
    "list": ["zeta", "middle", "beta", "alpha", "zeta_1"],
    "dict": ["alpha", "mid", "zeta"],
}


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_order_and_names_are_those_of_the_model(kind: str, tmp_path: Path) -> None:
    model = heads(kind)
    x = samples(model)
    content = to_int8_tflite(fmc.quantize(model, calibration=x))
    graph = flatbuffer.read(content)
    names = [tensor._keras_history.operation.name for tensor in model.inputs]
    want = [np.asarray(y) for y in keras.tree.flatten(
        model(keras.tree.pack_sequence_as(model.input, x), training=False))]  # fmt: skip
    for mine, theirs in zip(dequantised(content, x), want, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, atol=0.12)
    assert [graph.tensors[index].name for index in graph.inputs] == names
    (signature,) = graph.signatures
    assert signature.inputs == tuple(zip(names, graph.inputs, strict=True))
    assert signature.outputs == tuple(zip(NAMES[kind], graph.outputs, strict=True))
    result = deploy.plan(content, out=tmp_path, board="nano33ble")
    planned = flatbuffer.read(result.content)
    ends = [planned.tensors[index].name for index in (*planned.inputs, *planned.outputs)]
    assert ends[: len(names)] == names
    assert [name for name in ends[2:] if name in NAMES[kind]] == ends[2:]
    header = (tmp_path / "arena_plan.h").read_text().lower()
    assert all(name in header for name in ("zebra", "ant", "zeta", "alpha"))


def test_names_serve_compile_and_fit_and_are_saved(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 2))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    model = keras.Model(
        image,
        [
            layers.Dense(3, activation="softmax", name="a")(x),
            layers.BatchNormalization(name="b")(layers.Dense(2, name="c")(x)),
        ],
    )
    (data,) = samples(model)
    qat = fmc.device_rounding(fmc.quantize(model, calibration=data))
    qat = fmc.device_rounding(qat, on=False)
    assert qat.output_names == ["a", "b"]
    assert {"a", "c"} <= {layer.name for layer in qat.layers}, "layers keep their names"
    targets = {"a": np.eye(3)[[0, 1, 2, 0, 1, 2]], "b": np.zeros((6, 2))}
    qat.compile(
        "adam", loss={"a": "categorical_crossentropy", "b": "mse"}, loss_weights={"a": 1, "b": 3}
    )
    qat.fit(data, targets, verbose=0)
    qat.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.output_names == ["a", "b"]
    assert loaded.evaluate(data, targets, verbose=0) == qat.evaluate(data, targets, verbose=0)
    assert fmc.fold(model).model.output_names == ["a", "b"]


class Doubled(keras.Model):
    """A functional model of the user's, with a step of its own."""

    steps = 0

    def train_step(self, data: object) -> object:
        Doubled.steps += 1
        return super().train_step(data)


def test_names_of_a_users_own_class_are_saved(tmp_path: Path) -> None:
    image = keras.Input((4,))
    outputs = [
        layers.Dense(3, activation="tanh", name="a")(image),
        layers.Dense(2, name="b")(image),
    ]
    model = Doubled(image, outputs)
    data = np.ones((4, 4), "float32")
    qat = fmc.quantize(model, calibration=data)
    qat = fmc.device_rounding(fmc.device_rounding(qat), on=False)
    assert isinstance(qat, Doubled)
    qat.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", custom_objects={"Doubled": Doubled})
    assert isinstance(loaded, Doubled)
    assert loaded.output_names == ["a", "b"]
    loaded.compile("sgd", {"a": "mse", "b": "mae"}, run_eagerly=True)
    before = Doubled.steps
    loaded.fit(data, {"a": np.zeros((4, 3)), "b": np.zeros((4, 2))}, verbose=0)
    assert Doubled.steps == before + 1
    assert [out.shape for out in fmc.fold(loaded).model.outputs] == [(None, 3), (None, 2)]
    names = [
        graph.tensors[i].name
        for graph in [flatbuffer.read(to_int8_tflite(loaded))]
        for i in graph.outputs
    ]
    assert names == ["a", "b"]


@keras.saving.register_keras_serializable("keras_ends_test")
class Counted(layers.Layer):
    """Works with what it loads, beside its weights."""

    factor = 1.0

    def call(self, x: object) -> object:
        return x * self.factor

    def save_own_variables(self, store: dict[str, object]) -> None:
        store["factor"] = np.float64(self.factor)

    def load_own_variables(self, store: dict[str, object]) -> None:
        self.factor = float(np.asarray(store["factor"]))


def test_state_that_weights_do_not_carry_comes_along(tmp_path: Path) -> None:
    norm = layers.Normalization()
    norm.adapt(np.random.default_rng(0).normal(128, 40, (64, 8, 8, 3)).astype("float32"))
    counted = Counted()
    counted.factor = 2.5
    inputs = keras.Input((8, 8, 3))
    x = counted(layers.Conv2D(6, 3, activation="relu")(norm(inputs)))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(x)))
    data = np.random.default_rng(1).normal(128, 40, (4, 8, 8, 3)).astype("float32")
    plan = fmc.choose_bottlenecks(model, ceiling=1.0, bits=None)
    small = fmc.insert_bottlenecks(model, plan, calibration=data).model
    np.testing.assert_allclose(small.predict(data, verbose=0), model.predict(data, verbose=0), 1e-4)
    small.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(
        loaded.predict(data, verbose=0), model.predict(data, verbose=0), 1e-4
    )


def test_an_input_that_does_nothing_is_refused() -> None:
    used, idle = keras.Input((4,), name="used"), keras.Input((4,), name="idle")
    y = layers.Dense(2)(used) + 0 * layers.Dense(2)(idle)
    qat = fmc.quantize(keras.Model([used, idle], y), calibration=[np.ones((2, 4), "float32")] * 2)
    try:
        graph = flatbuffer.read(to_int8_tflite(qat))
    except UnsupportedModelError as error:
        assert "'idle' is not in the converted model" in str(error)  # noqa: PT017
    else:
        assert [graph.tensors[i].name for i in graph.inputs] == ["used", "idle"]


@pytest.mark.parametrize("imports", ["import keras_fmc, keras", "import keras, keras_fmc"])
def test_saved_models_load_in_a_fresh_process(imports: str, tmp_path: Path) -> None:
    inputs = keras.Input((6, 6, 2))
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="c")(inputs))
    qat = fmc.quantize(model, calibration=np.ones((2, 6, 6, 2), "float32"))
    qat.compile("adam", "mae", jit_compile=False)
    qat.fit(np.ones((2, 6, 6, 2)), np.zeros((2, 4, 4, 2)), verbose=0)
    qat.save(tmp_path / "m.keras")
    script = (
        f"{imports}\nmodel = keras.saving.load_model(r'{tmp_path / 'm.keras'}')\n"
        "print(model.loss, int(model.optimizer.iterations), model.output_names)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("mae 1 ['c']")


@pytest.mark.parametrize("kind", ["bottlenecks", "slice", "quantised"])
def test_keras_alone_names_the_import(kind: str, tmp_path: Path) -> None:
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(4, 3, name="c", activation="relu")(inputs)
    if kind == "slice":
        x = ops.split(x, 2, axis=-1)[0]
    model = keras.Model(inputs, layers.Conv2D(2, 3)(x))
    data = np.ones((2, 6, 6, 4), "float32")
    if kind == "bottlenecks":
        plan = fmc.choose_bottlenecks(model, ceiling=40)
        model = fmc.insert_bottlenecks(model, plan, calibration=data).model
        assert type(model).__module__.startswith("keras."), "only its layers are the project's"
    elif kind == "slice":
        model = fmc.fold(model).model
    else:
        model = fmc.quantize(model, calibration=data)
    model.save(tmp_path / "m.keras")
    script = f"import keras\nkeras.saving.load_model(r'{tmp_path / 'm.keras'}')"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert "import keras_fmc" in run.stderr


def test_several_inputs_from_an_npz_file(tmp_path: Path) -> None:
    model = heads("dict")
    model.save(tmp_path / "m.keras")
    named = dict(zip(("ant", "zebra"), samples(model), strict=True))
    np.savez(tmp_path / "x.npz", **named)
    content = convert_path(tmp_path / "m.keras", calibration=tmp_path / "x.npz")
    assert content == to_int8_tflite(model, calibration=named)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
