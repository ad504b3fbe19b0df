"""What codes cost: the sum over codes orders plans as models that were trained do."""

from __future__ import annotations

import sys

import fit_models
import keras
import numpy as np
import pytest

from keras_fmc import BottleneckSpec, CompressionPlan, finetune, insert_bottlenecks
from keras_fmc.choose.cost import CodeCosts
from keras_fmc.qat.float_model import trace_float

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def task(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth noise, and where the mean of 3x3 of it is positive."""
    (x,) = fit_models.samples(fit_models.unet(), count, seed=seed)
    padded = np.pad(x[..., 0], ((0, 0), (1, 1), (1, 1)), mode="edge")
    mean = sum(padded[:, i : i + 24, j : j + 24] for i in range(3) for j in range(3))
    return x, (mean > 0).astype(np.int32)


def change(model: keras.Model, small: keras.Model, x: np.ndarray) -> float:
    """E|x' - x|^2 / E|x - E x|^2, by NumPy."""
    before, after = (m.predict(x, verbose=0).astype(np.float64) for m in (model, small))
    return float(((after - before) ** 2).mean() / ((before - before.mean(axis=0)) ** 2).mean())


def test_the_sum_over_codes_orders_plans_as_trained_models_do():
    keras.utils.set_random_seed(0)
    model = fit_models.unet()
    x, y = task(1, 48)
    unseen, _ = task(2, 24)
    finetune(model, x, y, loss=LOSS, epochs=10, rate=1e-2, batch_size=8)
    costs = CodeCosts(trace_float(model, purpose="a test"), [x])
    activations = [layer for layer in model.layers if isinstance(layer, keras.layers.Activation)]
    shapes = [tuple(layer.output.shape[1:]) for layer in activations]
    wide, deep = (activations[shapes.index(s)].name for s in ((24, 24, 8), (12, 12, 12)))

    def first(rank: int, bits: int) -> BottleneckSpec:
        return BottleneckSpec(wide, (24, 24, 8), rank, bits)

    second = BottleneckSpec(deep, (12, 12, 12), 1, 8)
    plans = ((first(8, 4),), (first(4, 8),), (first(1, 8),), (first(1, 8), second))
    predicted, at_once, trained = [], [], []
    for specs in plans:
        predicted.append(sum(costs.cost(spec).change for spec in specs))
        plan = CompressionPlan(model.name, 0, specs, (), 0, 0)
        small = insert_bottlenecks(model, plan, calibration=x).model
        at_once.append(change(model, small, x))
        finetune(
            small, x, y, loss=LOSS, epochs=3, rate=1e-3, batch_size=8, teacher=model, weight=1.0
        )
        trained.append(change(model, small, unseen))
    # Of one code it is the change itself, of several the sum of independent errors.
    assert predicted[:3] == pytest.approx(at_once[:3], rel=0.1)
    assert predicted[3] == pytest.approx(at_once[3], rel=0.5)
    # Training mends much of it and leaves the order.
    assert predicted == sorted(predicted)
    assert trained == sorted(trained)
    assert all(after < before for after, before in zip(trained[2:], at_once[2:], strict=True))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
