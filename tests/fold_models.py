"""Models for tests of folding, and the check that folding leaves their function alone."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from keras_fmc import ProjectionBottleneck
from keras_fmc.fold.fold import FoldResult, fold

BOUND = 1e-10
STOCK = """Activation Add AveragePooling2D Concatenate Conv2D Conv2DTranspose Cropping2D Dense
    DepthwiseConv2D Dropout Flatten GlobalAveragePooling2D InputLayer LeakyReLU MaxPooling2D ReLU
    Reshape UpSampling2D ZeroPadding2D FakeQuant"""


def randomise(model: keras.Model, seed: int) -> None:
    """Weights of which no BN is near the identity; variances and a few scales are positive."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.normal(size=weight.shape) * 0.5
        if weight.name in ("moving_variance", "variance"):
            value = np.abs(value) + 0.3
        if weight.name == "gamma":
            value = np.where(rng.random(weight.shape) < 0.3, -1.0, 1.0) * (np.abs(value) + 0.3)
        if weight.name not in ("low", "high", "count", "seed_generator_state"):
            weight.assign(value)


def folded_equally(model: keras.Model, *, seed: int = 0) -> FoldResult:
    """Folds a model with random weights and checks that its function stays to 1e-10."""
    randomise(model, seed)
    before = [np.array(weight) for weight in model.weights]
    result = fold(model)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, np.array(weight), err_msg="the source model changed")
    x = np.random.default_rng(seed + 1).normal(size=(2, *model.input_shape[1:]))
    want, got = (keras.tree.flatten(m(x, training=False)) for m in (model, result.model))
    for a, b in zip(want, got, strict=True):
        a, b = np.array(a), np.array(b)
        assert a.dtype == np.float64
        assert np.abs(a).max() > 1e-6, "a dead model shows nothing"
        np.testing.assert_allclose(b, a, rtol=0, atol=BOUND * max(1.0, np.abs(a).max()))
    kinds = {type(layer).__name__ for layer in result.model.layers}
    assert kinds <= set(STOCK.split()), kinds - set(STOCK.split())
    return result


def functional(
    build: Callable[[keras.KerasTensor], object], shape: tuple[int, ...] = (8, 9, 4)
) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, build(inputs))


def names(result: FoldResult) -> set[str]:
    return {folded.layer for folded in result.folded}


def bottleneck(rank: int, name: str = "p") -> ProjectionBottleneck:
    return ProjectionBottleneck(rank, bits=None, name=name)
