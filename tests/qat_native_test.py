"""Native quantisation-aware training: ranges and rounding layers, against NumPy and float maps."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_fmc as fmc
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.model.layer_graph import trace
from keras_fmc.model.ranges import TensorRecord, best_range
from keras_fmc.qat.device_form import device_form
from keras_fmc.qat.native import group_ranges, off_ties
from keras_fmc.qat.placement import SIGMOID_RANGE, scale_groups


def model_of_two(last: str = "linear") -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 5, 3), name="in")
    x = layers.ReLU(name="r")(layers.Conv2D(4, 3, name="a")(inputs))
    return keras.Model(inputs, layers.Conv2D(2, 1, activation=last, name="b")(x))


def maps(seed: int = 0, count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0.3, 1.0, (count, 6, 5, 3)).astype(np.float32)


def ranges_of(model: keras.Model, data: np.ndarray) -> dict[str, tuple[float, float]]:
    """Name of the map that a group rounds -> its range."""
    graph = device_form(trace(model))
    groups = scale_groups(graph)
    found = group_ranges(graph, groups, (data,))
    return {
        graph.values[group.sources[0]].name: range_
        for group, range_ in zip(groups, found, strict=True)
    }


def best_of(values: np.ndarray) -> tuple[float, float]:
    seen = TensorRecord()
    seen.widen(values)
    seen.count(values)
    return best_range(seen)


def test_a_range_is_the_best_for_what_the_float_model_makes() -> None:
    model, data = model_of_two(), maps()
    found = ranges_of(model, data)
    inside = keras.Model(model.inputs, [model.get_layer("r").output, model.output])
    relu, output = (np.asarray(values) for values in inside.predict(data, verbose=0))
    expected = {"in": data, "r": relu, "b": output}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(best_of(values), rel=1e-3, abs=1e-6)
        assert all(float(np.float32(end)) == end for end in found[name])
    assert found["r"][0] == 0.0


def test_what_a_kernel_fixes_no_data_change() -> None:
    for seed in range(2):
        found = ranges_of(model_of_two("sigmoid"), maps(seed))
        assert SIGMOID_RANGE in found.values()


def test_an_image_of_bytes_has_a_code_for_each_byte() -> None:
    rng = np.random.default_rng(1)
    data = rng.integers(0, 256, (20, 6, 5, 3)).astype(np.uint8)
    assert ranges_of(model_of_two(), data)["in"] == (0.0, 255.0)
    halved = data.astype(np.float32) / 2
    assert ranges_of(model_of_two(), halved)["in"] == pytest.approx((0.0, 127.5), rel=0.05)


def test_each_group_has_one_layer_and_the_output_is_on_its_grid() -> None:
    model, data = model_of_two(), maps()
    qat = fmc.quantize(model, calibration=data)
    quantizers = [layer for layer in qat.layers if isinstance(layer, FakeQuant)]
    assert len(quantizers) == 3
    output = np.asarray(qat.predict(data, verbose=0), np.float64)
    last = quantizers[-1]
    low, high = last.range
    assert (low, high) == pytest.approx(ranges_of(model, data)["b"], abs=(high - low) / 255)
    steps = output / last.scale
    assert np.abs(steps - np.round(steps)).max() < 1e-3
    codes = np.round(steps) + last.zero_point
    assert codes.min() >= -128
    assert codes.max() <= 127
    # Half a step of the output, and what the roundings before it add up to.
    error = np.abs(output - np.clip(model.predict(data, verbose=0), low, high))
    assert error.mean() < last.scale
    assert 0 < error.max() < 5 * last.scale


def test_the_float_model_stays_as_it_was() -> None:
    model, data = model_of_two(), maps()
    before = [np.asarray(weight).copy() for weight in model.get_weights()]
    fmc.quantize(model, calibration=data)
    for one, other in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_zero_never_lies_between_two_codes() -> None:
    rng = np.random.default_rng(0)
    for place in rng.integers(0, 255, 50) + 0.5:
        step = rng.uniform(0.001, 0.1)
        low, high = off_ties(-place * step, (255 - place) * step)
        now = -low / ((high - low) / 255)
        assert 0.005 < abs(now - place) < 0.025
        assert low <= -place * step
        assert high >= (255 - place) * step
    assert off_ties(-1.0, 1.1) == (-1.0, 1.1)
    assert off_ties(0.0, 255.0) == (0.0, 255.0)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
