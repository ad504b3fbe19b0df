"""Small models as users write them, one of each kind; MODELS: name → function that builds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops


def _unit(x: Any, filters: int, window: Any = 3, strides: int = 1) -> Any:
    x = layers.Conv2D(filters, window, strides, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _head(inputs: Any, x: Any, classes: int = 3) -> keras.Model:
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))


def se_resnet() -> keras.Model:
    """Residual blocks with squeeze and excitation, and a strided shortcut."""
    inputs = keras.Input((12, 12, 3))
    x = _unit(inputs, 6)
    y = layers.BatchNormalization()(layers.Conv2D(8, 3, 2, padding="same")(x))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = layers.Conv2D(2, 1, activation="relu")(gate)
    y = y * layers.Conv2D(8, 1, activation="sigmoid")(gate)
    x = layers.ReLU()(y + layers.Conv2D(8, 1, 2)(x))
    return _head(inputs, x)


def inception() -> keras.Model:
    inputs = keras.Input((10, 10, 3))
    x = _unit(inputs, 6)
    branches = [
        _unit(x, 4, 1),
        _unit(_unit(x, 3, 1), 4, 3),
        _unit(_unit(_unit(x, 3, 1), 4, (1, 5)), 4, (5, 1)),
        _unit(layers.AveragePooling2D(3, 1, padding="same")(x), 4, 1),
    ]
    return _head(inputs, layers.Concatenate()(branches))


def densenet() -> keras.Model:
    inputs = keras.Input((10, 10, 3))
    x = layers.Conv2D(6, 3, padding="same")(inputs)
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same", use_bias=False)(y)])
    x = layers.Conv2D(6, 1)(layers.ReLU()(layers.BatchNormalization()(x)))
    return _head(inputs, layers.AveragePooling2D(2)(x))


def unet_transposed() -> keras.Model:
    inputs = keras.Input((8, 8, 2))
    one = _unit(inputs, 4)
    two = _unit(layers.MaxPooling2D()(one), 6)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(two)
    x = _unit(layers.Concatenate()([x, one]), 4)
    return keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid", name="mask")(x))


def pyramid() -> keras.Model:
    """Two heads on a feature pyramid, whose head layers are shared."""
    inputs = keras.Input((12, 12, 3))
    one = _unit(_unit(inputs, 4, strides=2), 6)
    two = _unit(one, 8, strides=2)
    p2 = layers.Conv2D(6, 1)(two)
    p1 = layers.Add()([layers.Conv2D(6, 1)(one), layers.UpSampling2D(interpolation="nearest")(p2)])
    smooth = layers.Conv2D(6, 3, padding="same", activation="relu")
    boxes, classes = layers.Conv2D(4, 1), layers.Conv2D(3, 1, activation="sigmoid")
    rows = [(layers.Reshape((-1, 4))(boxes(p)), layers.Reshape((-1, 3))(classes(p))) for p in (
        smooth(p1), smooth(p2))]  # fmt: skip
    outputs = {
        "boxes": layers.Concatenate(axis=1, name="boxes")([box for box, _ in rows]),
        "classes": layers.Concatenate(axis=1, name="classes")([kind for _, kind in rows]),
    }
    return keras.Model(inputs, outputs)


def keywords_lstm() -> keras.Model:
    """Convolutions, then an LSTM over time."""
    inputs = keras.Input((5, 6, 1))
    x = layers.MaxPooling2D((1, 2))(_unit(inputs, 3))
    x = layers.LSTM(4)(layers.Reshape((5, 9))(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


def both_ways_gru() -> keras.Model:
    """Two recurrent layers, one of them in both directions and over all steps."""
    inputs = keras.Input((3, 4))
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True))(inputs)
    x = layers.GRU(4, reset_after=False)(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def keywords_conv() -> keras.Model:
    """Time as rows, frequencies as channels."""
    inputs = keras.Input((16, 8, 1))
    x = layers.Reshape((16, 8))(inputs)
    x = layers.Conv1D(8, 5, padding="same", activation="relu")(x)
    x = layers.DepthwiseConv1D(3, padding="same")(x)
    x = layers.Conv1D(6, 1, activation="relu")(layers.AveragePooling1D(2)(x))
    x = layers.SpatialDropout1D(0.1)(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


def tcn() -> keras.Model:
    inputs = keras.Input((16, 3))
    x = layers.Conv1D(6, 1)(inputs)
    for rate in (1, 2, 4):
        y = layers.Conv1D(6, 3, padding="causal", dilation_rate=rate, activation="relu")(x)
        y = layers.Dropout(0.1)(y)
        x = layers.Add()([x, layers.Conv1D(6, 1)(y)])
    return keras.Model(inputs, layers.Dense(2)(x[:, -1]))


def ghost() -> keras.Model:
    """Half of the maps from the other half by depthwise convolutions."""
    inputs = keras.Input((10, 10, 3))
    x = _unit(inputs, 4)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = layers.Concatenate()([x, y])[..., :7]
    return _head(inputs, x)


def shuffle() -> keras.Model:
    """Groups, and a shuffle of channels by `keras.ops`."""
    inputs = keras.Input((8, 8, 3))
    x = _unit(inputs, 8)
    a, b = ops.split(x, 2, axis=-1)
    b = layers.DepthwiseConv2D(3, padding="same")(layers.Conv2D(4, 1, activation="relu")(b))
    x = ops.concatenate([a, b], axis=-1)
    x = ops.reshape(x, (-1, 8, 8, 2, 4))
    x = ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, 8, 8, 8))
    return _head(inputs, layers.Conv2D(8, 3, groups=2, activation="relu")(x))


def mobilenet_v3() -> keras.Model:
    """Inverted residual with hard swish and a gate of hard sigmoids."""
    inputs = keras.Input((10, 10, 3))
    x = layers.Conv2D(4, 3, 2, padding="same", use_bias=False)(
        layers.Rescaling(1 / 127.5, -1)(inputs)
    )
    x = layers.Activation("hard_swish")(layers.BatchNormalization()(x))
    y = layers.Activation("hard_swish")(layers.Conv2D(8, 1)(x))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    y = layers.Activation("hard_swish")(layers.BatchNormalization()(y))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = layers.Conv2D(8, 1)(layers.Conv2D(2, 1, activation="relu")(gate))
    y = layers.Multiply()([y, layers.ReLU(6.0)(gate + 3.0) * (1.0 / 6.0)])
    return _head(inputs, layers.Add()([x, layers.Conv2D(4, 1)(y)]))


def efficientnet_lite() -> keras.Model:
    inputs = keras.Input((9, 9, 3))
    x = layers.ReLU(6.0)(layers.Conv2D(4, 3, 2, padding="same")(inputs))
    y = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(12, 1)(x)))
    y = layers.ReLU(6.0)(layers.DepthwiseConv2D(5, padding="same")(y))
    y = layers.Dropout(0.2, noise_shape=(None, 1, 1, 1))(layers.Conv2D(4, 1)(y))
    return _head(inputs, layers.Add()([x, y]))


def cbam() -> keras.Model:
    """Attention over channels and over positions."""
    inputs = keras.Input((8, 8, 3))
    x = _unit(inputs, 6)
    one, two = layers.Dense(2, activation="relu"), layers.Dense(6)
    sums = two(one(layers.GlobalAveragePooling2D()(x))) + two(one(layers.GlobalMaxPooling2D()(x)))
    x = x * layers.Reshape((1, 1, 6))(ops.sigmoid(sums))
    mean, largest = ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)
    place = layers.Concatenate()([mean, largest])
    x = x * layers.Conv2D(1, 3, padding="same", activation="sigmoid")(place)
    return _head(inputs, x)


def conv_mixer() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 2, 2, activation="gelu")(inputs)
    x = layers.BatchNormalization()(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="gelu")(x)
    x = layers.Add()([layers.BatchNormalization()(y), x])
    return _head(inputs, layers.BatchNormalization()(layers.Conv2D(6, 1, activation="gelu")(x)))


def mlp_mixer() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.Reshape((16, 6))(layers.Conv2D(6, 2, 2)(inputs))
    y = layers.Permute((2, 1))(layers.LayerNormalization(epsilon=1e-6)(x))
    y = layers.Dense(16)(layers.Dense(8, activation="gelu")(y))
    x = x + layers.Permute((2, 1))(y)
    y = layers.Dense(6)(layers.Dense(8, activation="gelu")(layers.LayerNormalization()(x)))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x + y)))


@keras.saving.register_keras_serializable("keras_models")
class Positions(layers.Layer):
    """A trained vector for each position, as vision transformers add them."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.places = self.add_weight(name="places", shape=(1, *shape[1:]))

    def call(self, x: Any) -> Any:
        return x + self.places


@keras.saving.register_keras_serializable("keras_models")
class ClassToken(layers.Layer):
    """A trained token in front, whose positions come from an embedding."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.places = layers.Embedding(5, 8)

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.token = self.add_weight(name="token", shape=(1, 1, shape[-1]))
        self.places.build((5,))

    def call(self, x: Any) -> Any:
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1) + self.places(ops.arange(5))


def vision_transformer() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = Positions()(layers.Reshape((4, 8))(layers.Conv2D(8, 4, 4)(inputs)))
    x = ClassToken()(x)
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 4)(y, y)
    x = x + layers.Dense(8)(layers.Dense(12, activation="relu")(layers.LayerNormalization()(x)))
    return keras.Model(inputs, layers.Dense(3)(layers.LayerNormalization()(x)[:, 0]))


def distance() -> keras.Model:
    """Two inputs, one network, the distance of unit vectors."""
    body = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(6),
            layers.UnitNormalization(),
        ]
    )
    one, other = keras.Input((8, 8, 1), name="one"), keras.Input((8, 8, 1), name="other")
    return keras.Model([one, other], layers.Dot(axes=-1, name="same")([body(one), body(other)]))


def variational() -> keras.Model:
    """The encoder of a variational autoencoder: mean and logarithm of the variance."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Conv2D(4, 3, 2, activation="relu")(inputs))
    x = layers.Dense(8, activation="relu")(x)
    outputs = {"mean": layers.Dense(2, name="mean")(x), "log": layers.Dense(2, name="log")(x)}
    return keras.Model(inputs, outputs)


def regression() -> keras.Model:
    """Keypoints as coordinates, angles by tanh, and a ReLU and others that read one dense layer."""
    inputs = keras.Input((8, 8, 1))
    x = layers.GlobalMaxPooling2D()(_unit(inputs, 6))
    shared = layers.Dense(5, name="shared")(x)
    points = layers.Dense(4, name="points")(layers.ReLU()(shared))
    return keras.Model(inputs, [points, layers.Activation("tanh", name="angle")(shared)])


def nested_twice() -> keras.Model:
    """A functional model in a Sequential one in a functional one."""
    inside = keras.Input((6, 6, 4))
    block = keras.Model(inside, layers.Add()([inside, _unit(inside, 4)]), name="block")
    stack = keras.Sequential([keras.Input((6, 6, 4)), block, layers.MaxPooling2D()], name="stack")
    inputs = keras.Input((6, 6, 3))
    return _head(inputs, stack(_unit(inputs, 4)))


def augmented() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            layers.RandomFlip("horizontal"),
            layers.RandomTranslation(0.1, 0.1),
            layers.RandomBrightness(0.2),
            layers.Rescaling(1 / 255),
            layers.GaussianNoise(0.1),
            layers.SeparableConv2D(6, 3, activation="relu"),
            layers.AlphaDropout(0.1),
            layers.SpatialDropout2D(0.1),
            layers.GlobalMaxPooling2D(),
            layers.Dense(3),
            layers.Softmax(),
        ]
    )


def _swish_of(x: Any) -> Any:
    return x * ops.sigmoid(1.702 * x)


def functions() -> keras.Model:
    """Activations as functions of the user's, and by `keras.ops`."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation=_swish_of)(inputs)
    x = layers.Conv2D(6, 1, activation=lambda t: ops.maximum(t, 0.1 * t))(x)
    x = layers.Lambda(lambda t: ops.clip(t, -1, 2))(x)
    x = ops.exp(-ops.square(x)) + ops.sqrt(ops.relu(x) + 1.0)
    return _head(inputs, x)


def edges() -> keras.Model:
    """Cropping, padding, bilinear and nearest upsampling, PReLU and leaky ReLU."""
    inputs = keras.Input((9, 9, 2))
    x = layers.Cropping2D(((1, 0), (0, 1)))(inputs)
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(4, 3, 2, padding="same")(x))
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.ZeroPadding2D(1)(x))
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Conv2D(4, 3)(x))
    return _head(inputs, layers.UpSampling2D((2, 1))(x))


@keras.saving.register_keras_serializable("keras_models")
class LayerScale(layers.Layer):
    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(
            name="gamma", shape=(shape[-1],), initializer=keras.initializers.Constant(0.5)
        )

    def call(self, x: Any) -> Any:
        return x * self.gamma


@keras.saving.register_keras_serializable("keras_models")
class StochasticDepth(layers.Layer):
    """Drops a path in training."""

    def call(self, x: Any, training: bool | None = None) -> Any:
        if training:
            keep = keras.random.uniform((ops.shape(x)[0], 1, 1, 1)) < 0.9
            return x * ops.cast(keep, x.dtype) / 0.9
        return x


def convnext() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.LayerNormalization()(layers.Conv2D(6, 2, 2)(inputs))
    y = layers.LayerNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
    y = layers.Conv2D(6, 1)(layers.Conv2D(12, 1, activation="gelu")(y))
    x = x + StochasticDepth()(LayerScale()(y))
    return _head(inputs, x)


def bare_norms() -> keras.Model:
    """Batch normalisation without scale or centre, one in front, RMS normalisation behind."""
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(center=False)(inputs)
    x = layers.Conv2D(6, 3)(x)
    x = layers.ReLU()(layers.BatchNormalization(scale=False)(x))
    x = layers.RMSNormalization()(layers.Conv2D(6, 1)(x))
    return _head(inputs, layers.GroupNormalization(3)(layers.Conv2D(6, 1)(x)))


def spectral() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.SpectralNormalization(layers.Conv2D(6, 3, activation="relu"))(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.SpectralNormalization(layers.Dense(3))(x))


def mobilevit() -> keras.Model:
    """Patches of a map unfolded, attended to, and folded back."""
    inputs = keras.Input((8, 8, 3))
    x = _unit(inputs, 6, strides=2)
    t = layers.Reshape((2, 2, 2, 12))(x)
    t = layers.Permute((1, 3, 2, 4))(t)
    t = layers.Reshape((4, 24))(t)
    y = layers.LayerNormalization()(t)
    t = t + layers.MultiHeadAttention(1, 6)(y, y)
    t = layers.Permute((1, 3, 2, 4))(layers.Reshape((2, 2, 2, 12))(t))
    return _head(inputs, layers.Concatenate()([x, layers.Reshape((4, 4, 6))(t)]))


def dense_einsum() -> keras.Model:
    """EinsumDense on a sequence, and a dense layer on the last axis of a map."""
    inputs = keras.Input((6, 5))
    x = layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d")(inputs)
    x = layers.Dense(4, activation="relu")(layers.Reshape((3, 2, 4))(x))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def adapted() -> keras.Model:
    """Sensor values that an adapted layer normalises, each by its own mean and variance."""
    norm = layers.Normalization(mean=[1.0, 2.0, -3.0, 0.5], variance=[1.0, 4.0, 9.0, 0.25])
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="relu")(norm(inputs))
    return keras.Model(inputs, layers.Dense(1)(layers.Dense(8, activation="silu")(x)))


def detector() -> keras.Model:
    """Boxes decoded in the model: places and scores by sigmoids, sizes by an exponential."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(12, 1)(_unit(inputs, 4, strides=2))
    x = layers.Reshape((-1, 6))(x)
    place, size, scores = ops.sigmoid(x[..., :2]), ops.exp(x[..., 2:4]), ops.sigmoid(x[..., 4:])
    return keras.Model(inputs, ops.concatenate([place, size, scores], axis=-1))


@keras.saving.register_keras_serializable("keras_models")
class WeightedSum(layers.Layer):
    """The fused sum of EfficientDet, whose weights are not negative and add up to about one."""

    def build(self, shapes: Any) -> None:
        self.w = self.add_weight(name="w", shape=(len(shapes),), initializer="ones")

    def call(self, maps: Any) -> Any:
        w = ops.relu(self.w)
        w = w / (ops.sum(w) + 1e-4)
        return sum(w[index] * x for index, x in enumerate(maps))


def weighted_pyramid() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    one = _unit(inputs, 4, strides=2)
    two = _unit(one, 4, strides=2)
    down = WeightedSum()([one, layers.UpSampling2D()(two)])
    up = WeightedSum()([two, layers.MaxPooling2D()(layers.Activation("swish")(down))])
    return _head(inputs, up)


@keras.saving.register_keras_serializable("keras_models")
class Coordinates(layers.Layer):
    """CoordConv: two maps of where a position lies."""

    def call(self, x: Any) -> Any:
        batch, rows, columns, _ = ops.shape(x)
        y = ops.broadcast_to(ops.linspace(-1.0, 1.0, rows)[:, None], (rows, columns))
        z = ops.broadcast_to(ops.linspace(-1.0, 1.0, columns), (rows, columns))
        maps = ops.broadcast_to(ops.stack([y, z], axis=-1)[None], (batch, rows, columns, 2))
        return ops.concatenate([x, maps], axis=-1)


def coordinates() -> keras.Model:
    """Constant maps joined, added and multiplied; a shortcut whose further channels are zeros."""
    inputs = keras.Input((8, 6, 2))
    window = np.hanning(10)[1:-1, None, None].astype(np.float32)
    x = _unit(Coordinates()(inputs), 4) * window
    y = layers.AveragePooling2D(2)(x)
    y = ops.pad(y, ((0, 0), (0, 0), (0, 0), (1, 1))) + np.arange(72.0).reshape(4, 3, 6) / 72
    return _head(inputs, layers.ReLU()(layers.Conv2D(6, 3, 2, padding="same")(x) + y))


def statistics() -> keras.Model:
    """Means of one axis, deviations, a softmax of positions, a mean joined to its own map."""
    inputs = keras.Input((8, 6, 1))
    x = ops.mean(_unit(inputs, 4), axis=2)
    scores = layers.Softmax(axis=1)(layers.Dense(1)(layers.Dense(3, activation="tanh")(x)))
    wide = ops.concatenate([x, ops.tile(ops.mean(x, axis=1, keepdims=True), (1, 8, 1))], axis=-1)
    outputs = [ops.sum(x * scores, axis=1), ops.std(x, axis=1), ops.min(x, axis=1), wide]
    return keras.Model(inputs, outputs)


def repeated() -> keras.Model:
    """Attention as tutorials write it, and curves that are tables, one of which changes nothing."""
    inputs = keras.Input((8, 3))
    x = layers.Conv1D(4, 3, padding="same", activation="celu")(inputs)
    x = layers.ReLU(threshold=0.1)(layers.Conv1D(4, 1)(x))
    w = layers.Flatten()(layers.Dense(1, activation="tanh")(x))
    w = layers.Permute((2, 1))(layers.RepeatVector(4)(layers.Activation("softmax")(w)))
    x = layers.Lambda(lambda t: ops.sum(t, axis=1))(layers.Multiply()([x, w]))
    x = ops.maximum(ops.tile(layers.ReLU()(x), (1, 2)), 1e-7)
    return keras.Model(inputs, layers.Dense(2)(x))


def logits_and_more() -> keras.Model:
    """A map, its softmax and its sum put out together."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(3, 3, name="logits")(inputs)
    return keras.Model(inputs, [x, layers.Softmax(name="p")(x), ops.sum(x, axis=(1, 2))])


Build = Callable[[], keras.Model]

MODELS: dict[str, Build] = {
    build.__name__: build
    for build in (
        *(se_resnet, inception, densenet, unet_transposed, pyramid, keywords_lstm),
        *(both_ways_gru, keywords_conv, tcn, ghost, shuffle, mobilenet_v3, efficientnet_lite),
        *(cbam, conv_mixer, mlp_mixer, vision_transformer, distance, variational, regression),
        *(nested_twice, augmented, functions, edges, convnext, bare_norms, spectral, mobilevit),
        *(dense_einsum, adapted, detector, weighted_pyramid, coordinates, statistics, repeated),
        logits_and_more,
    )
}

SCALE: dict[str, float] = {"mobilenet_v3": 60.0, "augmented": 60.0}
