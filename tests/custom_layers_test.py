"""Layers of the user's own that `register_layer` names: the whole way, level for level."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from support import went_the_whole_way

import keras_fmc as fmc
from deploy import flatbuffer
from deploy.convert import to_int8_tflite
from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.model import custom_layers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
from keras_coverage import row

saved = keras.saving.register_keras_serializable("custom_layers_test")


@saved
class Snake(layers.Layer):
    """x + sin²(a x) / a with one trained a: nothing that the device has."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.a = self.add_weight(name="a", shape=(), initializer=keras.initializers.Constant(1.5))

    def call(self, x: Any) -> Any:
        return x + ops.square(ops.sin(self.a * x)) / self.a


@saved
class Noise(layers.Layer):
    """Something of training, written in a way that cannot be followed."""

    def call(self, x: Any, training: bool | None = None) -> Any:
        if training:
            return x + np.random.default_rng().normal() * 0.01
        return ops.scatter_update(x, [[0, 0, 0, 0]], [x[0, 0, 0, 0]])


@saved
class Mixing(layers.Layer):
    """A 1×1 convolution with a kernel of its own, written as an einsum."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.mix = self.add_weight(name="mix", shape=(shape[-1], self.units))

    def call(self, x: Any) -> Any:
        return ops.einsum("bhwc,cd->bhwd", x, self.mix)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@saved
def bent(x: Any) -> Any:
    return ops.sign(x) * ops.log1p(ops.abs(x))


def mixed(layer: Mixing, x: Any) -> Any:
    convolution = layers.Conv2D(layer.units, 1, use_bias=False)
    y = convolution(x)
    convolution.kernel.assign(layer.mix[None, None])
    return y


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom_layers, "_REGISTERED", {})


def model_of(*middle: Any, shape: tuple[int, ...] = (8, 8, 3)) -> keras.Model:
    inputs = keras.Input(shape)
    x = layers.Conv2D(6, 3, padding="same")(inputs)
    for layer in middle:
        x = layer(x)
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def elementwise() -> keras.Model:
    fmc.register_layer(Snake, elementwise=True)
    snake = Snake()
    return model_of(snake, layers.Conv2D(6, 1), snake, layers.MaxPooling2D(2))


def function() -> keras.Model:
    """As the function of a Lambda layer, and as an activation."""
    fmc.register_layer(bent, elementwise=True)
    return model_of(layers.Lambda(bent), layers.Conv2D(5, 1, activation=bent))


def absent() -> keras.Model:
    fmc.register_layer(Noise, absent=True)
    return model_of(layers.BatchNormalization(), Noise(), layers.ReLU())


def expanded() -> keras.Model:
    """Called twice, so that its layers are shared."""
    fmc.register_layer(Mixing, expand=mixed)
    mixing = Mixing(6)
    return model_of(mixing, layers.ReLU(), mixing)


def behind_a_bottleneck() -> keras.Model:
    """On a vector, and as the last layer."""
    fmc.register_layer(Snake, elementwise=True)
    inputs = keras.Input((10,))
    return keras.Model(inputs, Snake(name="last")(layers.Dense(5)(Snake()(inputs))))


BUILT = (elementwise, function, absent, expanded, behind_a_bottleneck)


@pytest.mark.parametrize("build", BUILT, ids=lambda function: function.__name__)
def test_the_whole_way_level_for_level(build: Callable[[], keras.Model]) -> None:
    found = row(build)
    went_the_whole_way(found)


@pytest.mark.parametrize(
    "statistic",
    [
        lambda x: ops.mean(x),
        lambda x: ops.max(x),
        lambda x: ops.mean(ops.square(x)),
        lambda x: ops.mean(x, axis=-1, keepdims=True),
    ],
)
def test_a_layer_that_looks_at_all_values_is_not_elementwise(statistic: Any) -> None:
    """Sums over all values are the same in any order of them: values have to change as well."""

    class Shifted(layers.Layer):
        def call(self, x: Any) -> Any:
            return x - statistic(x)

    fmc.register_layer(Shifted, elementwise=True)
    inputs = keras.Input((4, 3))
    with pytest.raises(fmc.FmcError, match=r"the other values matter"):
        fmc.check(keras.Model(inputs, Shifted()(inputs)))


def test_the_table_is_the_function_of_the_codes() -> None:
    fmc.register_layer(Snake, elementwise=True)
    inputs = keras.Input((10,))
    snake = Snake()
    model = keras.Model(inputs, layers.Dense(4)(snake(inputs)))
    x = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    qat = fmc.quantize(model, calibration=x)
    qat.get_layer(snake.name).a.assign(0.7)
    graph = flatbuffer.read(to_int8_tflite(qat))
    assert [item.opcode for item in graph.operators[:3]] == ["CAST", "ADD", "GATHER"]
    gather = graph.operators[2]
    source, target = graph.tensors[graph.inputs[0]], graph.tensors[gather.outputs[0]]
    (scale,), (zero,) = source.quantization.scales, source.quantization.zero_points
    (unit,), (origin,) = target.quantization.scales, target.quantization.zero_points
    values = scale * (np.arange(-128, 128) - zero)
    expected = values + np.sin(0.7 * values) ** 2 / 0.7
    codes = np.clip(np.rint(expected / unit) + origin, -128, 127)
    table = graph.tensors[gather.inputs[0]].array()
    # Ties of float32 against float64.
    assert np.abs(table - codes).max() <= 1
    assert np.mean(table != codes) < 0.02


def test_weights_of_an_expansion_train() -> None:
    model = expanded()
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype(np.float32)
    qat = fmc.quantize(model, calibration=x)
    kernels = [weight for weight in qat.trainable_weights if weight.shape == (1, 1, 6, 6)]
    assert len(kernels) == 1
    before = np.array(kernels[0])
    qat.compile("adam", "mse", jit_compile=False)
    qat.fit(x, np.ones((32, 3), np.float32), verbose=0)
    assert np.abs(np.array(kernels[0]) - before).max() > 1e-4


def test_what_is_not_registered_says_how() -> None:
    with pytest.raises(UnsupportedModelError, match=r"Mixing does on the device: keras") as refused:
        fmc.check(model_of(Mixing(6), Noise()))
    assert str(refused.value).count("register_layer") == 3


@pytest.mark.parametrize(
    ("how", "layer", "message"),
    [
        ({"elementwise": True}, lambda: Mixing(6), "as elementwise, which it is not: a value's"),
        ({"elementwise": True}, lambda: Mixing(5), r"it makes shape \(8, 8, 5\)"),
        ({"absent": True}, lambda: Mixing(6), "as absent, which it is not: it changes"),
        ({"expand": lambda layer, x: layers.ReLU()(x)}, lambda: Mixing(6), "something else: val"),
        ({"expand": lambda layer, x: layer.mix}, lambda: Mixing(6), "something else than tensors"),
    ],
    ids=["mixes", "shape", "changes", "other values", "no tensor"],
)
def test_what_is_said_is_held_against_the_layer(how: Any, layer: Any, message: str) -> None:
    fmc.register_layer(Mixing, **how)
    with pytest.raises(UnsupportedModelError, match=message):
        fmc.check(model_of(layer()))


@pytest.mark.parametrize(
    ("layer", "how", "message"),
    [
        (Snake, {}, "0 of them"),
        (Snake, {"elementwise": True, "absent": True}, "2 of them"),
        (3, {"absent": True}, "neither a layer nor a function"),
        (layers.Dense, {"absent": True}, "Dense is no layer of one's own"),
    ],
)
def test_a_wrong_entry_is_refused(layer: Any, how: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        fmc.register_layer(layer, **how)


def test_it_decorates() -> None:
    @fmc.register_layer(absent=True)
    class Nothing(layers.Layer):
        pass

    assert custom_layers.is_absent(Nothing())
    assert not custom_layers.is_elementwise(Nothing())


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
