"""Where the device rounds: scale groups of small graphs, by name."""

from __future__ import annotations

import sys
from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import layers

import keras_fmc as fmc
from keras_fmc.errors import UnsupportedModelError
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.model.layer_graph import trace
from keras_fmc.model.ranges import TensorRecord, best_range
from keras_fmc.qat.device_form import device_form
from keras_fmc.qat.placement import SIGMOID_RANGE, TANH_RANGE, ScaleGroup, scale_groups
from keras_fmc.qat.weight_layers import smallest_magnitude

Groups = dict[str, dict[str, object]]


def groups_of(build: Callable[[keras.KerasTensor], object]) -> Groups:
    """Group name → names of its sources, of what is rounded again, and the fixed range."""
    inputs = keras.Input((8, 8, 4), name="in")
    graph = device_form(trace(keras.Model(inputs, build(inputs))))

    def names(values: tuple[int, ...]) -> list[str]:
        return [graph.values[value].name for value in values]

    def described(group: ScaleGroup) -> dict[str, object]:
        found: dict[str, object] = {"sources": names(group.sources)}
        if group.rounded_again:
            found["again"] = names(group.rounded_again)
        if group.fixed:
            found["fixed"] = group.fixed
        return found

    return {group.name: described(group) for group in scale_groups(graph)}


def conv(name: str, filters: int = 4, **options: object) -> layers.Conv2D:
    return layers.Conv2D(filters, 1, name=name, **options)


INPUT = {"in_quant": {"sources": ["in"]}}


@pytest.mark.parametrize("relu", [layers.ReLU, lambda **k: layers.Activation("relu6", **k)])
def test_relu_fuses_into_its_producer(relu: Callable[..., layers.Layer]) -> None:
    assert groups_of(lambda x: relu(name="r")(conv("c")(x))) == {
        **INPUT,
        "r_quant": {"sources": ["r"]},
    }


def test_relu_fuses_across_dropout_and_into_additions() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.ReLU(name="r1")(layers.Dropout(0.5)(conv("c")(x)))
        return layers.ReLU(name="r2")(layers.Add(name="a")([x, conv("d")(x)]))

    assert groups_of(build) == {
        **INPUT,
        "r1_quant": {"sources": ["r1"]},
        "d_quant": {"sources": ["d"]},
        "r2_quant": {"sources": ["r2"]},
    }


def test_map_read_twice_or_given_out_is_rounded_before_its_relu() -> None:
    def read_twice(x: keras.KerasTensor) -> keras.KerasTensor:
        x = conv("c")(x)
        return layers.Add(name="a")([layers.ReLU(name="r")(x), x])

    def given_out(x: keras.KerasTensor) -> list[keras.KerasTensor]:
        x = conv("c")(x)
        return [layers.ReLU(name="r")(x), x]

    for build in (read_twice, given_out):
        groups = groups_of(build)
        assert groups["c_quant"] == {"sources": ["c"]}
        assert groups["r_quant"] == {"sources": ["r"]}


def test_activations_that_do_not_fuse_are_rounded_on_both_sides() -> None:
    assert groups_of(lambda x: layers.LeakyReLU(name="l")(conv("c")(x))) == {
        **INPUT,
        "c_quant": {"sources": ["c"]},
        "l_quant": {"sources": ["l"]},
    }


def test_activation_inside_a_layer_is_taken_out() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = conv("c", activation="tanh")(x)
        return layers.Dense(3, activation="softmax", name="d")(layers.Flatten()(x))

    assert groups_of(build) == {
        **INPUT,
        "c_quant": {"sources": ["c"]},
        "c_tanh_quant": {"sources": ["c_tanh"], "fixed": TANH_RANGE},
        "d_quant": {"sources": ["d"]},
        "d_softmax_quant": {"sources": ["d_softmax"], "fixed": SIGMOID_RANGE},
    }


def test_silu_is_a_sigmoid_and_a_product() -> None:
    assert groups_of(lambda x: conv("c", activation="silu")(x)) == {
        **INPUT,
        "c_quant": {"sources": ["c"]},
        "c_sigmoid_quant": {"sources": ["c_sigmoid"], "fixed": SIGMOID_RANGE},
        "c_multiply_quant": {"sources": ["c_multiply"]},
    }


def test_layers_that_hand_on_their_scale() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.MaxPooling2D()(layers.ZeroPadding2D()(conv("c")(x)))
        x = layers.UpSampling2D()(layers.Cropping2D(1)(x))
        return layers.Flatten()(layers.Reshape((-1, 4))(x))

    assert groups_of(build) == {**INPUT, "c_quant": {"sources": ["c"]}}


def test_averages_of_the_same_scale_are_rounded_again() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.AveragePooling2D(2, name="p")(conv("c")(x))
        return layers.UpSampling2D(2, interpolation="bilinear", name="u")(x)

    assert groups_of(build) == {**INPUT, "c_quant": {"sources": ["c"], "again": ["p", "u"]}}


def test_mean_over_all_positions_chooses_its_scale() -> None:
    assert groups_of(lambda x: layers.GlobalAveragePooling2D(name="g")(x)) == {
        **INPUT,
        "g_quant": {"sources": ["g"]},
    }


def test_relu_behind_a_pool_has_the_scale_of_the_pool() -> None:
    def build(x: keras.KerasTensor, pool: layers.Layer) -> keras.KerasTensor:
        return layers.ReLU(name="r")(pool(conv("c")(x)))

    assert groups_of(lambda x: build(x, layers.MaxPooling2D())) == {
        **INPUT,
        "c_quant": {"sources": ["c"]},
    }
    assert groups_of(lambda x: build(x, layers.AveragePooling2D(2))) == {
        **INPUT,
        "c_quant": {"sources": ["c"], "again": ["r"]},
    }
    # Not a pool of the converter's: the ReLU is an operator of its own.
    assert groups_of(lambda x: build(x, layers.GlobalMaxPooling2D()))["r_quant"] == {
        "sources": ["r"]
    }


def test_relu_behind_a_pool_that_is_read_twice_is_on_its_own() -> None:
    def build(x: keras.KerasTensor) -> list[keras.KerasTensor]:
        x = layers.MaxPooling2D(name="p")(conv("c")(x))
        return [layers.ReLU(name="r")(x), conv("d")(x)]

    assert groups_of(build)["r_quant"] == {"sources": ["r"]}


def test_concatenations_share_one_scale_as_far_as_it_reaches() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        a, b = conv("a")(x), layers.ReLU(name="rb")(conv("b")(x))
        first = layers.Concatenate(name="first")([a, b])
        c = conv("c")(first)
        return layers.Concatenate(name="second")(
            [layers.MaxPooling2D()(first), conv("d", strides=2)(c)]
        )

    assert groups_of(build) == {
        **INPUT,
        "a_quant": {"sources": ["a", "rb", "d"]},
        "c_quant": {"sources": ["c"]},
    }


def test_input_of_the_model_can_share_a_scale() -> None:
    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.Concatenate()([conv("c")(x), x])

    assert groups_of(build) == {"in_quant": {"sources": ["in", "c"]}}


def test_fixed_scales_cannot_be_shared_with_others() -> None:
    def build(x: keras.KerasTensor, other: str) -> keras.KerasTensor:
        gate = layers.Activation("sigmoid", name="s")(x)
        second = layers.Activation(other, name="o")(x) if other else conv("o")(x)
        return layers.Concatenate()([gate, second])

    for other in ("", "tanh"):
        with pytest.raises(UnsupportedModelError, match=r"'o', 's' must have one scale"):
            groups_of(lambda x, other=other: build(x, other))
    groups = groups_of(lambda x: build(x, "sigmoid"))
    assert groups["s_quant"] == {"sources": ["s", "o"], "fixed": SIGMOID_RANGE}


def test_quantiser_of_a_code_takes_the_place_of_its_group() -> None:
    inputs = keras.Input((8, 8, 4), name="in")
    code = FakeQuant(name="code")
    x = conv("after")(layers.MaxPooling2D()(code(conv("before")(inputs))))
    model = keras.Model(inputs, x)
    code.set_range(-0.25, 0.5)
    data = np.random.default_rng(0).normal(size=(8, 8, 8, 4)).astype(np.float32)
    qat = fmc.quantize(model, calibration=data)
    quantisers = [layer.name for layer in qat.layers if isinstance(layer, FakeQuant)]
    assert quantisers == ["in_quant", "code", "after_quant"]
    assert qat.get_layer("code").range == (-0.25, 0.5)


def test_codes_of_one_concatenation_get_a_range_that_holds_both() -> None:
    inputs = keras.Input((8, 8, 4), name="in")
    left, right = FakeQuant(name="left"), FakeQuant(name="right")
    x = layers.Concatenate()([left(conv("a")(inputs)), right(conv("b")(inputs))])
    model = keras.Model(inputs, conv("c")(x))
    left.set_range(-0.25, 0.5)
    right.set_range(-0.1, 3.0)
    data = np.random.default_rng(0).normal(size=(8, 8, 8, 4)).astype(np.float32)
    qat = fmc.quantize(model, calibration=data)
    assert qat.get_layer("left").range == (-0.25, 3.0)
    assert len([layer for layer in qat.layers if isinstance(layer, FakeQuant)]) == 3


def test_range_of_a_code_is_widened_for_what_it_is_joined_with() -> None:
    inputs = keras.Input((8, 8, 4), name="in")
    code = FakeQuant(name="code")
    model = keras.Model(inputs, layers.Concatenate()([code(conv("a")(inputs)), inputs]))
    code.set_range(-0.25, 1.5)
    data = np.random.default_rng(0).uniform(-1, 2, (64, 8, 8, 4)).astype(np.float32)
    low, high = fmc.quantize(model, calibration=data).get_layer("code").range
    assert (low, high) == (pytest.approx(-1, abs=0.1), pytest.approx(2, abs=0.1))


def test_quantiser_that_was_never_calibrated_is_calibrated_like_any_other() -> None:
    inputs = keras.Input((8, 8, 4), name="in")
    identity = keras.initializers.Constant(np.eye(4)[None, None])
    x = FakeQuant(name="code")(conv("a", kernel_initializer=identity)(inputs))
    model = keras.Model(inputs, conv("b", kernel_initializer=identity)(x))
    data = np.random.default_rng(0).uniform(-1, 2, (64, 8, 8, 4)).astype(np.float32)
    qat = fmc.quantize(model, calibration=data)
    for name in ("code", "b_quant"):
        low, high = qat.get_layer(name).range
        assert (low, high) == (pytest.approx(-1, abs=0.1), pytest.approx(2, abs=0.1))


def record(x: np.ndarray) -> TensorRecord:
    seen = TensorRecord()
    seen.widen(x)
    seen.count(x)
    return seen


def squared_error(x: np.ndarray, low: float, high: float) -> float:
    """Of rounding and clipping every value, by the grid itself."""
    scale = (high - low) / 255
    zero = np.round(-low / scale)
    rounded = (np.clip(np.round(x / scale) + zero, 0, 255) - zero) * scale
    return float(((rounded - x) ** 2).sum())


@pytest.mark.parametrize("kind", ["normal", "relu", "sparse", "outlier", "uniform", "negative"])
def test_best_range_beats_the_extremes_and_any_scaled_range(kind: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=40_000)
    if kind == "relu":
        x = np.maximum(x, 0)
    elif kind == "sparse":
        x[rng.random(x.size) < 0.995] = 0
    elif kind == "outlier":
        x[0] = 12
    elif kind == "uniform":
        x = rng.uniform(-1, 2, 40_000)
    elif kind == "negative":
        x = -np.abs(x)
    low, high = best_range(record(x))
    assert x.min() <= low <= 0 <= high <= max(x.max(), 0)
    best = squared_error(x, low, high)
    candidates = [
        (x.min() * a if x.min() < 0 else 0.0, x.max() * b if x.max() > 0 else 0.0)
        for a in np.linspace(0.1, 1, 10)
        for b in np.linspace(0.1, 1, 10)
    ]
    assert best <= 1.02 * min(squared_error(x, *limits) for limits in candidates)
    if kind == "uniform":
        assert (low, high) == (pytest.approx(-1, abs=0.05), pytest.approx(2, abs=0.05))


def test_ranges_of_nothing_and_of_one_side() -> None:
    assert best_range(record(np.zeros(10))) == (0.0, 0.0)
    assert best_range(record(np.full(10, 3.0)))[0] == 0.0
    assert best_range(record(np.full(10, 3.0)))[1] == pytest.approx(3.0, rel=0.05)


def test_smallest_magnitude_holds_the_bias() -> None:
    smallest = smallest_magnitude(0.01, 2.0)
    assert 2.0 * 8 / (0.01 * smallest / 127) == pytest.approx(2**31)
    assert smallest_magnitude(1e9, 2.0) == pytest.approx(1e-5)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
