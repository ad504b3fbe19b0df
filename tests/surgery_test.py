"""Building models from the graph of another."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
import zoo
from keras import layers

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.model.surgery import clone, copy_weights, rebuild, trace


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def nested_model() -> keras.Model:
    """Shared layers, a nested model called twice, raw operations, two inputs and outputs."""
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(name="relu"),
        ],
        name="inner",
    )
    a = keras.Input((8, 8, 3), name="a")
    b = keras.Input((8, 8, 3), name="b")
    shared = layers.Conv2D(4, 1, name="shared")
    left, right = inner(shared(a)), inner(shared(b))
    total = left + right * 0.5
    doubled = layers.Lambda(lambda x: np.float32(2) * x, name="double")(total)
    outputs = {"crop": total[:, 1:-1], "flat": layers.Flatten(name="flat")(doubled)}
    return zoo.randomize(keras.Model({"a": a, "b": b}, outputs, name="nested"))


@pytest.mark.parametrize("training", [False, True])
def test_copy_computes_the_same_bit_for_bit(training):
    model = nested_model()
    copy = rebuild(trace(model))
    x = {"a": images(2, 8, 8, 3), "b": images(2, 8, 8, 3, seed=1)}
    expected, got = model(x, training=training), copy(x, training=training)
    assert sorted(got) == ["crop", "flat"]
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value)


def test_copy_has_its_own_weights_and_leaves_the_source_alone():
    model = zoo.randomize(zoo.small_cnn())
    before = model.get_weights()
    calls = {layer.name: len(layer._inbound_nodes) for layer in model.layers}
    copy = rebuild(trace(model))
    for weight in copy.weights:
        weight.assign(np.zeros(weight.shape))
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert {layer.name: len(layer._inbound_nodes) for layer in model.layers} == calls
    assert copy.name == model.name
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]


def test_copy_has_raw_operations_of_its_own():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, inputs * 2.0 + inputs)
    before = [len(operation._inbound_nodes) for operation in model.operations]
    copy = rebuild(trace(model))
    assert [len(operation._inbound_nodes) for operation in model.operations] == before
    assert not set(map(id, copy.operations)) & set(map(id, model.operations))


def test_copy_can_be_saved_and_loaded(tmp_path):
    inner = zoo.small_cnn(8)
    inputs = keras.Input((8, 8, 3), name="image")
    model = zoo.randomize(keras.Model(inputs, inner(inputs) * 2.0, name="outer"))
    copy = rebuild(trace(model))
    copy.save(tmp_path / "copy.keras")
    loaded = keras.saving.load_model(tmp_path / "copy.keras")
    x = images(3, 8, 8, 3)
    np.testing.assert_array_equal(loaded(x), model(x))


def test_trainable_flags_are_kept_for_layers_sublayers_and_weights():
    inputs = keras.Input((4, 3))
    x = layers.Dense(3, name="frozen", trainable=False)(inputs)
    x = layers.Bidirectional(layers.LSTM(2), name="both")(x)
    model = keras.Model(inputs, layers.Dense(2, name="partly")(x))
    model.get_layer("both").forward_layer.trainable = False
    model.get_layer("partly").kernel.trainable = False
    copy = rebuild(trace(model))

    flags = [weight.trainable for weight in model.weights]
    assert [weight.trainable for weight in copy.weights] == flags
    assert len(copy.trainable_weights) == len(model.trainable_weights) == 3 + 1
    x = images(2, 4, 3)
    np.testing.assert_array_equal(copy(x), model(x))


def test_mixed_precision_policies_are_kept():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(4, 1, dtype="mixed_float16", name="half")(inputs)
    model = keras.Model(inputs, layers.Dense(2, dtype="float32", name="full")(x))
    copy = rebuild(trace(model))
    assert copy.get_layer("half").compute_dtype == "float16"
    x = images(2, 4, 4, 3)
    np.testing.assert_array_equal(copy(x), model(x))


def test_call_hook_adds_a_layer_behind_a_call_for_all_its_readers():
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="dense")(inputs)
    model = keras.Model(inputs, layers.Add(name="add")([layers.ReLU(name="relu")(x), x]))
    extra = layers.Rescaling(3.0, name="extra")

    def call(node, layer, tensors):
        output = node.replay(layer, tensors)
        return extra(output) if node.name == "dense" else output

    changed = rebuild(trace(model), call=call)
    x = images(2, 4)
    dense = x @ model.get_layer("dense").get_weights()[0]
    np.testing.assert_allclose(changed(x), 3 * dense + np.maximum(3 * dense, 0), rtol=1e-5)


def test_layer_hook_replaces_removes_and_keeps_built_layers():
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="old")(inputs)
    x = layers.ReLU(name="gone")(x)
    model = keras.Model(inputs, layers.Dense(2, name="preset")(x))
    preset = layers.Dense(2, name="preset")
    preset.build((None, 3))
    preset_kernel = preset.get_weights()[0]

    class Wider(layers.Dense):
        """A dense layer with a weight of its own."""

        def build(self, input_shape):
            super().build(input_shape)
            self.gain = self.add_weight(name="gain", shape=(), initializer="ones")

    def layer(node):
        if node.name == "old":
            return Wider(3, name="new")
        return {"gone": None, "preset": preset}[node.name]

    changed = rebuild(trace(model), layer=layer)
    assert [layer.name for layer in changed.layers[1:]] == ["new", "preset"]
    np.testing.assert_array_equal(
        changed.get_layer("new").kernel, model.get_layer("old").get_weights()[0]
    )
    np.testing.assert_array_equal(changed.get_layer("preset").kernel, preset_kernel)


def test_layer_hook_is_asked_once_for_a_shared_layer():
    asked = []

    def layer(node):
        asked.append(node.layer_name)
        return clone(node)

    rebuild(trace(nested_model()), layer=layer)
    assert sorted(asked) == sorted(set(asked))
    assert "inner_conv" in asked


def test_input_hook_wraps_each_input_for_all_readers():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], [a - b, a])
    graph = trace(model)

    def wrap(id_, tensor):
        return tensor * (10.0 if graph.values[id_].name == "a" else 1.0)

    difference, first = rebuild(graph, wrap_input=wrap)([np.ones((1, 3)), np.ones((1, 3))])
    np.testing.assert_array_equal(difference, [[9, 9, 9]])
    np.testing.assert_array_equal(first, [[10, 10, 10]])


def test_call_hook_with_a_wrong_number_of_outputs_is_refused():
    model = keras.Sequential([keras.Input((4,)), layers.ReLU(name="a")])
    with pytest.raises(BadInputError, match="call 'a'; expected 1 outputs; received 2"):
        rebuild(trace(model), call=lambda node, layer, inputs: [*inputs, *inputs])


def test_layer_that_cannot_be_cloned_is_named():
    class Opaque(layers.Layer):
        def __init__(self, function, **kwargs):
            super().__init__(**kwargs)
            self.function = function

        def call(self, x):
            return self.function(x)

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Opaque(lambda x: x, name="mine")(inputs))
    with pytest.raises(UnsupportedModelError, match=r"(?s)'mine' \(Opaque\).*get_config\(\)"):
        rebuild(trace(model))


def test_layer_that_refuses_without_a_word_is_named():
    class Silent(layers.Layer):
        def call(self, x):
            return x

        def get_config(self):
            raise NotImplementedError

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Silent(name="mine")(inputs))
    with pytest.raises(UnsupportedModelError, match=r"'mine' \(Silent\).*: NotImplementedError"):
        rebuild(trace(model))


def test_copy_weights_refuses_a_layer_without_the_weight():
    dense, plain = layers.Dense(3, name="dense"), layers.Dense(3, use_bias=False, name="plain")
    dense.build((None, 4))
    plain.build((None, 4))
    with pytest.raises(UnsupportedModelError, match=r"bias' has no counterpart in layer 'plain'"):
        copy_weights(dense, plain)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
