"""Models as people write them, in canonical form: the same function, in layers of the table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_fmc as fmc
from deploy.ends import output_names
from keras_fmc.canonical.form import canonical
from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.fold.fold import fold_for_device
from keras_fmc.model.operations import row_of
from keras_fmc.model.surgery import rebuild, trace
from keras_fmc.qat.device_form import device_form

MAP, SEQUENCE = (6, 5, 4), (9, 4)
Build = Callable[[keras.KerasTensor], object]


@keras.saving.register_keras_serializable("canonical_test")
class Gate(layers.Layer):
    """A custom layer with layers, operations and another custom layer inside."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.dense = layers.Conv2D(4, 1)
        self.norm = layers.BatchNormalization()

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.dense.build(shape)
        self.norm.build(shape)

    def call(self, x: object, training: bool | None = None) -> object:
        return x * ops.sigmoid(self.norm(self.dense(x), training=training)) + 0.5


@keras.saving.register_keras_serializable("canonical_test")
class Twice(layers.Layer):
    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.gate = Gate()

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gate.build(shape)

    def call(self, x: object) -> object:
        return self.gate(self.gate(x))


@keras.saving.register_keras_serializable("canonical_test")
class Scaled(layers.Layer):
    """The layer scale of ConvNeXt, an offset, and a path that is dropped in training."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(name="gamma", shape=(shape[-1],))
        self.shift = self.add_weight(name="shift", shape=(1, 1, shape[-1]))

    def call(self, x: object, training: bool | None = None) -> object:
        if training:
            return x
        return x + self.gamma * x + self.shift


def of_tensorflow(x: object) -> object:
    x = tf.nn.depth_to_space(tf.pad(x, [[0, 0], [0, 1], [0, 0], [0, 0]]), 2)
    one, other = tf.split(tf.concat([x, tf.nn.leaky_relu(x)], axis=-1), [1, 1], axis=-1)
    largest = tf.reduce_max(tf.math.maximum(one, other), axis=[1, 2], keepdims=True)
    x = tf.subtract(tf.clip_by_value(x, -1.0, 1.0), largest)
    return tf.math.l2_normalize(tf.transpose(tf.reshape(x, (-1, 14, 10)), (0, 2, 1)), -1)


def hard_swish(x: object) -> object:
    return x * ops.relu6(x + 3.0) / 6.0


@keras.saving.register_keras_serializable("canonical_test")
class Own(layers.Layer):
    """Computes of a weight and of an embedding what stands beside the map, for each sample."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.table = layers.Embedding(5, 4)

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.w = self.add_weight(name="w", shape=(shape[-1],))
        self.table.build((5,))

    def call(self, x: object) -> object:
        rows = ops.broadcast_to(ops.relu(self.w), (ops.shape(x)[0], 1, 5, 4))
        return ops.concatenate([rows, x * ops.sum(self.w) - self.table(ops.arange(5))], axis=1)


def _grid(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).uniform(0.5, 1.5, shape).astype(np.float32)


@keras.saving.register_keras_serializable("canonical_test")
class Standardised(layers.Layer):
    """A convolution whose kernel has mean 0 and variance 1 in each channel."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(3, 3, shape[-1], 5))

    def call(self, x: object) -> object:
        mean, variance = ops.moments(self.kernel, axes=(0, 1, 2), keepdims=True)
        return ops.conv(x, (self.kernel - mean) / ops.sqrt(variance + 1e-5), padding="same")


MAPS: dict[str, Build] = {
    "x / c - 1": lambda x: x / 127.5 - 1.0,
    "c - x": lambda x: 1.0 - x,
    "per channel": lambda x: x * np.arange(1, 5, dtype="float32") + np.ones(4, "float32"),
    "-x, x ** 2": lambda x: -x + x**2,
    "|x - y|": lambda x: ops.abs(x - ops.square(x)),
    "maximum, minimum": lambda x: ops.minimum(ops.maximum(x, 0.0), 0.7),
    "max of two": lambda x: ops.maximum(x, 1 - x),
    "clip to a ceiling": lambda x: ops.clip(x, 0, 2),
    "mean": lambda x: ops.mean(x, axis=(1, 2)),
    "mean, keepdims": lambda x: ops.mean(x, axis=[1, 2], keepdims=True),
    "mean of channels": lambda x: ops.mean(x, axis=-1, keepdims=True),
    "max": lambda x: ops.max(x, axis=(1, 2)),
    "sum": lambda x: ops.sum(x, axis=(1, 2)),
    "strides": lambda x: x[:, ::2, 1::2],
    "rows": lambda x: x[:, 1:-1, :3],
    "channels": lambda x: x[..., 1:3],
    "one row": lambda x: x[:, 2],
    "new axis": lambda x: x[:, 1, :, None],
    "split": lambda x: ops.split(x, 2, axis=-1)[1],
    "split, both": lambda x: ops.split(x, [1], axis=1),
    "unstack": lambda x: ops.unstack(x, axis=1)[3],
    "pad": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0))),
    "transpose": lambda x: ops.transpose(x, (0, 3, 1, 2)),
    "swapaxes, moveaxis": lambda x: ops.moveaxis(ops.swapaxes(x, 1, 2), 3, 1),
    "reshape": lambda x: ops.reshape(x, (-1, 30, 4)),
    "expand, squeeze": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    "stack": lambda x: ops.stack([x, 2 * x], axis=3),
    "concatenate": lambda x: ops.concatenate([x, ops.relu(x)], axis=-1),
    "activations": lambda x: ops.softmax(ops.tanh(ops.leaky_relu(ops.silu(x), 0.3))),
    "keras.activations": lambda x: keras.activations.relu(x, max_value=0.4),
    "pools": lambda x: ops.max_pool(ops.average_pool(x, 2, 1), 2, padding="same"),
    "resize": lambda x: ops.image.resize(x, (3, 10), interpolation="nearest"),
    "average": lambda x: layers.Average()([x, ops.relu(x), x * 3]),
    "three": lambda x: layers.Multiply()([x, layers.Add()([x, x + 1, -x]), x]),
    "tables": lambda x: ops.exp(x) + ops.maximum(x, -0.5) + ops.power(ops.relu(x) + 1.0, 0.5),
    "quotients": lambda x: x / (2.0 + ops.square(x)) + 1.0 / (1.0 + ops.relu(x)),
    "softsign": layers.Conv2D(3, 1, activation="softsign"),
    "hard sigmoid": layers.Conv2D(3, 1, activation="hard_sigmoid"),
    "hard swish": hard_swish,
    "hard swish of a gate": lambda x: x * keras.activations.hard_sigmoid(x),
    "hard swish, layers": lambda x: layers.Multiply()([x, layers.ReLU(6.0)(x + 3)]) * (1 / 6),
    "ReLU(1)": layers.ReLU(max_value=1.0),
    "lambda": layers.Lambda(lambda t: ops.relu(t) * 2 - 1),
    "function": layers.Conv2D(4, 3, activation=lambda t: ops.relu(t - 0.5)),
    "layer as activation": layers.Conv2D(4, 3, activation=layers.LeakyReLU(0.2)),
    "custom": Gate(),
    "custom, nested, shared": Twice(),
    "layer norm": layers.LayerNormalization(),
    "layer norm, plain": layers.LayerNormalization(center=False, scale=False),
    "layer norm, offset only": layers.LayerNormalization(scale=False, epsilon=0.1),
    "layer norm of features": lambda x: layers.LayerNormalization()(layers.Flatten()(x)),
    "rms norm": layers.RMSNormalization(),
    "unit norm": layers.UnitNormalization(),
    "group norm": layers.GroupNormalization(2),
    "instance norm": layers.GroupNormalization(-1, scale=False),
    "attention": lambda x: layers.MultiHeadAttention(2, 3, value_dim=5)(x, x),
    "attention, another key": lambda x: layers.MultiHeadAttention(2, 3, output_shape=6)(
        x, ops.relu(x), key=1 - x
    ),
    "attention of one head": lambda x: layers.MultiHeadAttention(1, 4, use_bias=False)(x, x),
    "product of maps": lambda x: ops.matmul(x, ops.transpose(x, (0, 1, 3, 2))),
    "product with a matrix": lambda x: ops.matmul(x, np.eye(4, 3, dtype="float32")),
    "gelu": lambda x: layers.Conv2D(4, 1, activation="gelu")(ops.gelu(x)),
    "gelu, exact": lambda x: ops.gelu(x, approximate=False),
    "curves": lambda x: layers.Activation("mish")(ops.softplus(ops.log_sigmoid(x))),
    "elu, selu": lambda x: layers.ELU(0.4)(ops.selu(ops.elu(x))),
    "hard tanh": layers.Conv2D(4, 1, activation="hard_tanh"),
    "clip": lambda x: ops.clip(x, -0.3, 0.5),
    "tanh shrink, glu": lambda x: ops.glu(layers.Activation("tanh_shrink")(x)),
    "weights per channel": Scaled(),
    "largest channel": lambda x: ops.max(x, axis=-1, keepdims=True),
    "distance": lambda x: ops.sum(ops.square(x[:, 0, 0]), axis=-1, keepdims=True),
    "ops.normalize": lambda x: ops.normalize(x, axis=-1),
    "functions of TensorFlow": layers.Lambda(of_tensorflow),
    "padding": lambda x: layers.Conv2D(3, 3, 2)(layers.ZeroPadding2D(((0, 1), (1, 1)))(x)),
    "map + constant": lambda x: (x + _grid(6, 5, 4)) * _grid(1, 6, 1, 4) - _grid(5, 1),
    "constant / map": lambda x: ops.divide(_grid(6, 5, 4), 1.0 + ops.relu(x)) + x / _grid(6, 1, 1),
    "map on constant": lambda x: ops.subtract(
        _grid(6, 5, 4), ops.mean(x, axis=(1, 2), keepdims=True)
    ),
    "joined with constants": lambda x: ops.concatenate(
        [2 * ops.ones_like(x)[..., :1], x, ops.full_like(x, 0.3), ops.zeros_like(x)], axis=-1
    ),
    "of weights": Own(),
    "pad channels": lambda x: ops.pad(x, ((0, 0), (1, 0), (0, 0), (2, 1))),
    "rows or columns alone": lambda x: ops.sum(x, axis=1) + ops.max(x, axis=2)[:, :5],
    "least": lambda x: ops.min(x, axis=(1, 2)) + ops.min(x, axis=1)[:, 0],
    "norms": lambda x: (
        ops.norm(x, axis=-1, keepdims=True) * ops.norm(x[:, 0], ord=1, axis=1)[:, None, None]
    ),
    "deviation": lambda x: ops.std(x, axis=(1, 2)) + ops.var(x, axis=(1, 2)),
    "largest of halves": lambda x: ops.max(ops.reshape(x, (-1, 6, 5, 2, 2)), axis=-1),
    "tile": lambda x: ops.tile(ops.mean(x, axis=1, keepdims=True), (1, 3, 1, 2)),
    "repeat rows": lambda x: ops.repeat(ops.repeat(x, 2, axis=1), 3, axis=2),
    "roll": lambda x: ops.roll(ops.roll(x, 2, axis=1), -1, axis=-1),
    "mirrors": lambda x: ops.pad(
        ops.pad(x, ((0, 0), (1, 2), (2, 0), (0, 0)), mode="reflect"),
        ((0, 0), (1, 0), (1, 1), (0, 2)),
        mode="symmetric",
    ),
    "pad with ones": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), constant_values=1.0),
    "grey": lambda x: ops.image.rgb_to_grayscale(x[..., :3]),
    "ops.dot": lambda x: ops.dot(x, _grid(4, 3)),
    "kernels of one's own": lambda x: ops.depthwise_conv(Standardised()(x), _grid(3, 3, 5, 2), 2),
    "ops.conv": lambda x: ops.conv(x, _grid(2, 1, 4, 3), dilation_rate=2),
    "softmax of positions": layers.Softmax(axis=(1, 2)),
    "softmax of rows": lambda x: ops.softmax(x, axis=1) + layers.Softmax(axis=-2)(x),
    "ReLU from a threshold": layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.2),
    "curves with arguments": lambda x: (
        ops.celu(ops.hard_shrink(x, 0.2), 0.5)
        + ops.threshold(ops.soft_shrink(x, 0.1), 0.3, -0.2) * ops.squareplus(x, 2)
    ),
    "names of curves": lambda x: layers.Conv2D(4, 1, activation="sparse_plus")(
        layers.Activation("celu")(layers.Activation("squareplus")(x))
    ),
    "central crop": lambda x: layers.CenterCrop(3, 2)(layers.RandomCrop(6, 5)(x)),
    "augmentation": keras.Sequential([layers.RandomFlip(), layers.RandomZoom(0.2)]),
}

SEQUENCES: dict[str, Build] = {
    "conv": layers.Conv1D(5, 3, padding="same", activation="relu"),
    "strides": layers.Conv1D(6, 4, strides=2, groups=2),
    "causal, dilated": layers.Conv1D(5, 3, padding="causal", dilation_rate=2),
    "depthwise": layers.DepthwiseConv1D(3, 2, padding="same", depth_multiplier=2),
    "separable": layers.SeparableConv1D(5, 3, padding="same", activation="relu"),
    "separable, dilated": layers.SeparableConv1D(5, 3, dilation_rate=2),
    "transposed": layers.Conv1DTranspose(5, 4, strides=2, padding="same"),
    "transposed, valid": layers.Conv1DTranspose(3, 3, strides=2, output_padding=1),
    "pools": lambda x: layers.AveragePooling1D(2)(layers.MaxPooling1D(3, 1, "same")(x)),
    "global": lambda x: [
        layers.GlobalAveragePooling1D()(x),
        layers.GlobalMaxPooling1D(keepdims=True)(x),
    ],
    "shapes": lambda x: layers.UpSampling1D(2)(layers.Cropping1D(1)(layers.ZeroPadding1D(2)(x))),
    "mean": lambda x: ops.mean(layers.Conv1D(3, 1)(x), axis=1, keepdims=True),
    "pad": lambda x: layers.Conv1D(3, 3)(ops.pad(x, ((0, 0), (2, 0), (0, 0)))),
    "residual": lambda x: layers.ReLU()(
        layers.Add()([x, layers.BatchNormalization()(layers.Conv1D(4, 3, padding="same")(x))])
    ),
    "dense": lambda x: layers.Dense(3, activation="relu")(layers.Conv1D(4, 3)(x)),
    "flatten": lambda x: layers.Dense(2)(layers.Flatten()(layers.Conv1D(4, 3)(x))),
    "map and sequence": lambda x: layers.Reshape((3, 3, 5))(layers.Conv1D(5, 1)(x)),
    "shared": lambda x: (lambda c: c(c(x)))(layers.Conv1D(4, 3, padding="same")),
    "shared around a convolution": lambda x: (lambda d, b: b(d(layers.Conv1D(4, 3)(b(d(x))))))(
        layers.Dense(4), layers.BatchNormalization()
    ),
    "dropout": lambda x: layers.SpatialDropout1D(0.2)(layers.Conv1D(4, 3)(x)),
    "prelu": lambda x: layers.PReLU(shared_axes=[1])(layers.Conv1D(4, 3)(x)),
    "layer norm": lambda x: layers.LayerNormalization()(layers.Conv1D(4, 3)(x)),
    "layer norm first": layers.LayerNormalization(),
    "group norm": layers.GroupNormalization(2),
    "tokens": lambda x: layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)]),
    "dot attention": lambda x: layers.Attention()([layers.Dense(3)(x), x, layers.Dense(3)(x)]),
    "dot of sequences": lambda x: layers.Dot(axes=2)([x, ops.relu(x)]),
    "cosine": lambda x: layers.Dot(axes=1, normalize=True)([x[:, 0], x[:, 3]]),
    "scaled tokens": lambda x: ops.softmax(ops.matmul(x, ops.transpose(x, (0, 2, 1))) * 0.5),
    "steps": layers.TimeDistributed(layers.Dense(3, activation="relu")),
    "frames": lambda x: layers.TimeDistributed(layers.Conv2D(2, 2))(
        layers.Reshape((3, 3, 4, 1))(x)
    ),
    "positions": lambda x: layers.Conv1D(4, 3)(x) + _grid(7, 4),
    "repeat": lambda x: layers.RepeatVector(3)(layers.GlobalMaxPooling1D()(x)),
    "scores": lambda x: ops.sum(x * layers.Softmax(axis=1)(layers.Dense(1)(x)), axis=1),
    "means of steps": lambda x: ops.mean(x, axis=-1) + ops.sum(x, axis=2),
    "pad features": lambda x: ops.pad(x, ((0, 0), (1, 0), (2, 3))),
    "join": lambda x: layers.Concatenate(axis=1)([layers.Conv1D(4, 3)(x), x]),
    "two outputs": lambda x: (lambda y: [y, layers.MaxPooling1D()(y)])(layers.Conv1D(4, 3)(x)),
}

CASES = {
    **{f"map: {name}": (MAP, build) for name, build in MAPS.items()},
    **{f"sequence: {name}": (SEQUENCE, build) for name, build in SEQUENCES.items()},
}


def model_of(shape: tuple[int, ...], build: Build) -> keras.Model:
    inputs = keras.Input(shape, name="in")
    model = keras.Model(inputs, build(inputs))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        values = rng.normal(size=weight.shape) * 0.5
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.name else values)
    return model


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_canonical_form_is_the_same_function_in_known_layers(name: str) -> None:
    shape, build = CASES[name]
    model = model_of(shape, build)
    before = {id(layer): len(layer._inbound_nodes) for layer in model._flatten_layers()}
    form = canonical(model)
    assert form.refusals == ()
    assert before == {id(layer): len(layer._inbound_nodes) for layer in model._flatten_layers()}
    small = rebuild(form.graph)
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    got, want = (keras.tree.flatten(m(x, training=False)) for m in (small, model))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-5, atol=1e-5)
    assert small.output_names == model.output_names
    device = device_form(fold_for_device(form.graph).graph)
    assert [node.name for node in device.nodes if row_of(node.operation) is None] == []
    fmc.check(small)


def test_patterns_end_in_one_operator() -> None:
    for name in ("hard swish", "hard swish of a gate", "hard swish, layers"):
        graph = canonical(model_of(MAP, MAPS[name])).graph
        assert [node.operation.activation.__name__ for node in graph.nodes] == ["hard_silu"], name
    graph = canonical(model_of(MAP, MAPS["x / c - 1"])).graph
    (node,) = graph.nodes
    assert (node.operation.scale, node.operation.offset) == (1 / 127.5, -1.0)
    graph = canonical(model_of(MAP, MAPS["padding"])).graph
    assert [node.operation.padding for node in graph.nodes] == ["same"]


def test_custom_layers_train_and_stay_shared() -> None:
    model = model_of(MAP, lambda x: layers.GlobalAveragePooling2D()(Twice(name="twice")(x)))
    small = rebuild(canonical(model).graph)
    assert len(small.trainable_weights) == len(model.trainable_weights)
    assert sum(isinstance(layer, layers.Conv2D) for layer in small.layers) == 1
    small.compile("sgd", "mse", jit_compile=False)
    x = np.random.default_rng(1).normal(size=(8, *MAP)).astype(np.float32)
    moving = [np.array(w) for w in small.non_trainable_weights]
    small.fit(x, np.zeros((8, 4)), verbose=0)
    after = [np.array(w) for w in small.non_trainable_weights]
    assert any(not np.array_equal(a, b) for a, b in zip(moving, after, strict=True))


class OfWeight(layers.Layer):
    """What a function makes of a map and of one weight."""

    def __init__(self, function: Callable[[Any, Any], Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.w = self.add_weight(name="w", shape=(shape[-1],) * 2, initializer="random_normal")

    def call(self, x: Any) -> Any:
        return self.function(x, self.w)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: x + w,
        lambda x, w: x - w,
        lambda x, w: w - x,
        lambda x, w: ops.matmul(x, w),
        lambda x, w: x * ops.softmax(w),
        lambda x, w: ops.concatenate([x, w[None] * ops.ones_like(x)], axis=1)[:, 1:5],
    ],
)
def test_weights_of_a_layer_that_is_called_twice_stay_one(function: Callable[..., Any]) -> None:
    def calls(x: Any, one: layers.Layer, other: layers.Layer) -> Any:
        return other(layers.Conv1D(4, 3, padding="same")(one(x)))

    layer = OfWeight(function)
    model = model_of((4, 4), lambda x: calls(x, layer, layer))
    rows = np.random.default_rng(2).normal(size=(3, 4, 4)).astype(np.float32)
    small = rebuild(canonical(model).graph)
    assert len(small.trainable_weights) == 3
    found, expected = (m.predict(rows, verbose=0) for m in (small, model))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    two = model_of((4, 4), lambda x: calls(x, OfWeight(function), OfWeight(function)))
    assert len(rebuild(canonical(two).graph).trainable_weights) == 4


class InTraining(layers.Layer):
    """Has a weight that inference knows nothing of."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.w = self.add_weight(name="w", shape=(shape[-1],))

    def call(self, x: object, training: bool | None = None) -> object:
        return x * self.w if training else x * 2.0


class Mixed(layers.Layer):
    """What a sample becomes depends on the others."""

    def call(self, x: object) -> object:
        return x - ops.mean(x, axis=0, keepdims=True) * ops.ones((ops.shape(x)[0], 1, 1, 1))


REFUSED: dict[str, tuple[Build, str]] = {
    "cells": (
        lambda x: layers.RNN(layers.StackedRNNCells([layers.LSTMCell(3)]))(
            layers.Reshape((6, 20))(x)
        ),
        "RNN cannot be unrolled: a cell of kind StackedRNNCells.*\n.*Conv1D",
    ),
    "backward states": (
        lambda x: layers.Bidirectional(layers.GRU(3, return_state=True))(
            layers.Reshape((6, 20))(x)
        )[0],
        "Bidirectional cannot be unrolled: Bidirectional returns its states",
    ),
    "layernorm": (layers.LayerNormalization(axis=1), "Layer.*axes \\[1\\].*\n.*BatchNormalization"),
    "masked": (
        lambda x: layers.MultiHeadAttention(1, 2)(x, x, use_causal_mask=True),
        "MultiHeadAttention with a causal mask has no int8 form.*\n.*without masks",
    ),
    "weights in training": (
        InTraining(name="own"),
        "'own': custom layer InTraining .*weights of its own.*\n.*keras.ops",
    ),
    "samples together": (Mixed(name="own"), "'own': custom layer Mixed cannot be followed"),
    "log softmax": (
        layers.Conv2D(3, 1, activation="log_softmax"),
        "activation 'log_softmax'.*\n.*hard_swish",
    ),
    "softmax of the batch": (lambda x: layers.Softmax(axis=0)(x), "Softmax over axes 0"),
    "random crop": (layers.RandomCrop(3, 3), "RandomCrop of another size.*\n.*data pipeline"),
    "larger crop": (layers.CenterCrop(9, 9), "CenterCrop.*enlarges a map of 6x5.*\n.*Resizing"),
    "choice": (lambda x: ops.where(x > 0, x, 2 * x), "2 layers.*\n.*elementwise=True"),
    "least with a bound": (lambda x: ops.min(x, axis=(1, 2), initial=0.0), "Min"),
    "place": (lambda x: ops.argmax(x, axis=-1), "Argmax has no int8 form.*\n.*on the host"),
    "grouped queries": (
        lambda x: layers.GroupQueryAttention(2, 2, 1)(x[:, 0], x[:, 0]),
        "GroupedQueryAttention has no int8 form.*\n.*MultiHeadAttention",
    ),
    "ops.cumsum": (lambda x: ops.cumsum(x, axis=1), "Cumsum has no int8 form here.*\n.*supported"),
    "matmul": (lambda x: ops.matmul(np.ones((3, 5), "float32"), x), "Matmul.*\n.*constant"),
    "backwards": (lambda x: x[:, ::-1], "GetItem with these arguments has no int8 form"),
    "training": (
        lambda x: layers.BatchNormalization()(x, training=True),
        "without a fixed scale per channel",
    ),
    "first": (layers.Conv2D(2, 1, data_format="channels_first"), "channels first.*\n.*_last"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_is_refused_at_every_first_call(name: str) -> None:
    build, message = REFUSED[name]
    model = model_of(MAP, build)
    calls = (
        fmc.check,
        fmc.profile,
        lambda m: fmc.choose_bottlenecks(m, ceiling="1KB"),
        lambda m: fmc.quantize(m, calibration=np.zeros((1, *MAP), "float32")),
    )
    for call in calls:
        with pytest.raises(UnsupportedModelError, match=message):
            call(model)


def test_all_reasons_come_at_once() -> None:
    model = model_of(
        MAP,
        lambda x: layers.Activation("log_softmax", name="b")(
            ops.cumsum(layers.LayerNormalization(axis=1, name="a")(x), axis=1)
        ),
    )
    with pytest.raises(UnsupportedModelError) as caught:
        fmc.check(model)
    text = str(caught.value)
    assert "has 3 layers that cannot come to the device" in text
    assert all(f"layer '{name}" in text for name in ("a'", "cumsum", "b'"))
    half = keras.Sequential([keras.Input((4, 4, 1), dtype="float16"), layers.Flatten()])
    with pytest.raises(BadInputError, match="expected float32"):
        fmc.check(half)


class Stepping(keras.Model):
    """A functional model with a training step of its own."""

    def train_step(self, data: object) -> object:
        return super().train_step(data)


class Closed(keras.Model):
    """The same, made without inputs and outputs."""

    def __init__(self) -> None:
        inputs = keras.Input(MAP)
        super().__init__(inputs, layers.Conv2D(2, 1)(inputs))

    def train_step(self, data: object) -> object:
        return super().train_step(data)


def test_a_training_step_is_kept_or_refused() -> None:
    inputs = keras.Input(MAP)
    model = Stepping(inputs, layers.Conv2D(2, 1)(inputs))
    assert type(rebuild(trace(model))) is Stepping
    with pytest.raises(UnsupportedModelError, match=r"a Closed with a train_step\(\) of its own"):
        fmc.check(Closed())


def test_what_the_table_lists_is_taken_and_the_rest_names_the_table() -> None:
    import keras_fmc as fmc

    rows = {row.layer: row for row in fmc.supported()}
    assert {"Conv2D", "Conv1D", "BatchNormalization", "keras.ops: Pad"} <= set(rows)
    assert "Conv3D" not in rows
    assert rows["Dropout"].device == "does nothing at inference"
    text = str(fmc.supported())
    assert text.count("\n") == 2 + len(rows)
    assert "| `Conv1D` | its 2-D twin on maps (length, 1, channels) |  |" in text
    inputs = keras.Input((8, 8, 2))
    model = keras.Model(inputs, keras.ops.cumsum(inputs, axis=1))
    with pytest.raises(fmc.FmcError, match=r"keras_fmc\.supported\(\)"):
        fmc.check(model)


def _sequence(layer: keras.Layer, **kwargs: object) -> Build:
    return lambda x: layer(layers.Reshape((6, 20))(x), **kwargs)


def _normal(cls: type[keras.Layer], *args: object) -> tuple[list[Build], list[Build]]:
    return [cls(*args, axis=-1), cls(*args)], [cls(*args, axis=1)]


def _attended(layer: keras.Layer, **kwargs: object) -> Build:
    def call(x: object) -> object:
        x = layers.Reshape((6, 20))(x)
        is_pair = isinstance(layer, layers.Attention)
        return layer([x, x], **kwargs) if is_pair else layer(x, x, **kwargs)

    return call


def _pair(layer: keras.Layer) -> Build:
    return lambda x: layer([x[:, 0], x[:, 1]])


_SMOOTH = (["nearest", "bilinear"], ["bicubic", "lanczos3"])

CONDITIONS: dict[str, tuple[list[Build], list[Build]]] = {
    "UpSampling2D": tuple(  # type: ignore[dict-item]
        [layers.UpSampling2D(interpolation=name) for name in names] for names in _SMOOTH
    ),
    "Resizing": tuple(  # type: ignore[dict-item]
        [layers.Resizing(3, 4, interpolation=name) for name in names] for names in _SMOOTH
    ),
    "BatchNormalization": (
        [layers.BatchNormalization()],
        [
            layers.BatchNormalization(axis=1),
            lambda x: layers.BatchNormalization()(x, training=True),
        ],
    ),
    "CenterCrop": ([layers.CenterCrop(6, 5)], [layers.CenterCrop(7, 5)]),
    "EinsumDense": (
        [layers.EinsumDense("abcd,de->abce", output_shape=(None, None, 3))],
        [layers.EinsumDense("abcd,be->aecd", output_shape=(3, None, None))],
    ),
    "LayerNormalization": _normal(layers.LayerNormalization),
    "RMSNormalization": _normal(layers.RMSNormalization),
    "UnitNormalization": _normal(layers.UnitNormalization),
    "GroupNormalization": _normal(layers.GroupNormalization, 2),
    "MultiHeadAttention": (
        [_attended(layers.MultiHeadAttention(1, 2))],
        [_attended(layers.MultiHeadAttention(1, 2), use_causal_mask=True)],
    ),
    "Attention": (
        [_attended(layers.Attention())],
        [_attended(layers.Attention(), use_causal_mask=True)],
    ),
    "Dot": (
        [_pair(layers.Dot(2)), lambda x: layers.Dot(1, normalize=True)([x[:, 0, 0], x[:, 1, 1]])],
        [_pair(layers.Dot(2, normalize=True)), lambda x: layers.Dot(3)([x, x])],
    ),
    **{
        cls.__name__: ([_sequence(cls(2))], [_sequence(cls(2, stateful=True))])
        for cls in (layers.LSTM, layers.GRU, layers.SimpleRNN)
    },
    "RNN": (
        [_sequence(layers.RNN(layers.GRUCell(2)))],
        [_sequence(layers.RNN(layers.GRUCell(2), stateful=True))],
    ),
    "Bidirectional": (
        [_sequence(layers.Bidirectional(layers.GRU(2)))],
        [_sequence(layers.Bidirectional(layers.GRU(2, stateful=True)))],
    ),
}
"""Layer of a row with a condition → calls that keep it, calls that do not."""


def test_integers_at_the_front_are_refused_with_what_to_feed() -> None:
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(20, 3, name="words")(tokens))
    text = "rows of 'words' up outside.*\n?.*keras.Input\\(\\(7, 3\\)\\)"
    with pytest.raises(BadInputError, match=text):
        fmc.check(keras.Model(tokens, x))
    image = keras.Input(MAP, dtype="uint8")
    with pytest.raises(BadInputError, match=r"no float32 tensor.*\n?.*input_type='uint8'"):
        fmc.check(keras.Model(image, layers.Rescaling(1 / 255)(image)))


def test_names_that_no_layer_can_have_are_refused_and_inputs_have_any() -> None:
    def model(name: str, first: str, last: str) -> keras.Model:
        inputs = keras.Input((6, 5, 1), name="_größe, links")
        x = layers.Flatten()(layers.Conv2D(2, 3, name=first)(inputs))
        return keras.Model(inputs, layers.Dense(2, name=last)(x), name=name)

    for wrong in ("my model!", "_model"):
        with pytest.raises(BadInputError, match=f"model '{wrong}' has a name.*\n?.*name='m"):
            fmc.check(model(wrong, "conv.1-a", "out>1"))
    text = "layer '_größe' has a name .*received layer '_größe', layer 'a b'.*\n?.*name='gr__e'"
    with pytest.raises(BadInputError, match=text):
        fmc.quantize(model("m", "_größe", "a b"), calibration=np.zeros((2, 6, 5, 1), "float32"))
    good = model("m", "conv.1-a", "out>1")
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 1)).astype(np.float32)
    assert fmc.quantize(good, calibration=x).output_names == ["out>1"]
    plan = fmc.choose_bottlenecks(good, ceiling=0.5)
    small = fmc.insert_bottlenecks(good, plan, calibration=x).model
    assert [tensor.name for tensor in small.inputs] == ["_größe, links"]


def test_a_tensor_that_is_put_out_under_two_keys_has_both_names() -> None:
    inputs = keras.Input((3,))
    x = layers.Dense(2)(inputs)
    assert output_names(keras.Model(inputs, {"b": x, "a": x})) == ["a", "b"]


def test_constants_of_weights_train_and_samples_stay_apart() -> None:
    model = model_of(MAP, lambda x: layers.GlobalAveragePooling2D()(Own(name="own")(x)))
    before = [np.array(weight) for weight in model.weights]
    small = rebuild(canonical(model).graph)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.weights, strict=True))
    counts = sorted(int(np.prod(weight.shape)) for weight in small.trainable_weights)
    assert counts == [4, 5 * 4, 1 * 5 * 4]
    fixed = model_of(MAP, lambda x: layers.Conv2D(2, 1)(x + _grid(6, 5, 4)))
    assert len(rebuild(canonical(fixed).graph).trainable_weights) == 2


@keras.saving.register_keras_serializable("canonical_test")
class Frozen(layers.Layer):
    """Weights that are not trained, as they are and after a function."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        kind = {"shape": shape[1:], "trainable": False, "initializer": "random_normal"}
        self.w, self.v = self.add_weight(name="w", **kind), self.add_weight(name="v", **kind)

    def call(self, x: object) -> object:
        return x * self.w + ops.square(self.v)


def test_constants_of_frozen_weights_stay_frozen() -> None:
    assert not rebuild(canonical(model_of(MAP, Frozen())).graph).trainable_weights


def test_conditions_of_the_table_are_those_that_hold() -> None:
    rows = {row.layer for row in fmc.supported() if row.condition and ":" not in row.layer}
    assert rows == set(CONDITIONS)
    for name, (kept, broken) in CONDITIONS.items():
        for build in kept:
            fmc.check(model_of(MAP, build))
        for build in broken:
            inputs = keras.Input(batch_shape=(2, *MAP))
            model = keras.Model(inputs, build(inputs), name=name)
            with pytest.raises(UnsupportedModelError):
                fmc.check(model)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
