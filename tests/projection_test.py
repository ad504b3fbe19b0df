"""The projection bottleneck as a layer."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layers import ProjectionBottleneck
from tests import bottleneck_reference as reference


def signal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def built(layer: ProjectionBottleneck, shape: tuple[int | None, ...]) -> ProjectionBottleneck:
    layer.build(shape)
    return layer


@pytest.mark.parametrize("shape", [(5,), (6, 5), (4, 3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("code_range", [None, (-0.5, 0.7)])
def test_output_equals_the_formula_for_every_rank_of_input(shape, code_range):
    layer = built(ProjectionBottleneck(3, bits=8 if code_range else None), (None, *shape))
    if code_range:
        layer.quantizer.set_range(*code_range)
    x = signal(7, *shape)
    expected = reference.projection_bottleneck(x, layer.projection, layer.restoration, code_range)
    np.testing.assert_allclose(layer(x), expected, atol=2e-6)
    assert tuple(layer(x).shape) == layer.compute_output_shape(x.shape) == x.shape


def test_reference_rounds_to_256_levels_with_zero_among_them():
    levels = np.unique(reference.fake_quant(np.linspace(-2, 2, 100_001), -0.5, 0.7))
    assert len(levels) == 256
    assert 0.0 in levels
    np.testing.assert_allclose(np.diff(levels), 1.2 / 255)


def test_code_takes_at_most_256_values_and_k_channels():
    layer = built(ProjectionBottleneck(2), (None, 16, 16, 6))
    layer.quantizer.set_range(-1, 1)
    code = np.asarray(layer.encode(signal(4, 16, 16, 6)))
    assert code.shape == (4, 16, 16, 2)
    assert 200 < len(np.unique(code)) <= 256


def test_code_stays_in_float_until_its_range_is_known():
    layer = built(ProjectionBottleneck(2), (None, 8, 8, 4))
    x = signal(2, 8, 8, 4)
    np.testing.assert_allclose(layer.encode(x), x @ np.asarray(layer.projection), atol=1e-6)
    layer(x, training=True)
    assert layer.quantizer.calibrated
    code = x @ np.asarray(layer.projection)
    np.testing.assert_allclose(layer.quantizer.range, (code.min(), code.max()), rtol=1e-5)


def test_range_follows_the_batches_in_training_only():
    layer = built(ProjectionBottleneck(1, momentum=0.9), (None, 1))
    layer.projection.assign([[1.0]])
    layer.quantizer.set_range(-1, 1)
    layer(np.array([[-3.0], [5.0]], "float32"))
    assert layer.quantizer.range == (-1, 1)
    layer(np.array([[-3.0], [5.0]], "float32"), training=True)
    np.testing.assert_allclose(
        layer.quantizer.range, (-1 * 0.9 - 3 * 0.1, 1 * 0.9 + 5 * 0.1), rtol=1e-6
    )


def test_gradient_passes_the_rounding_where_the_code_is_in_range():
    import tensorflow as tf

    layer = built(ProjectionBottleneck(1), (None, 1))
    layer.projection.assign([[1.0]])
    layer.restoration.assign([[2.0]])
    layer.quantizer.set_range(-1, 1)
    x = tf.constant([[-3.0], [0.3], [0.9], [4.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(layer(x))
    np.testing.assert_array_equal(tape.gradient(y, x), [[0], [2], [2], [0]])


def test_zeros_restore_to_zeros():
    layer = built(ProjectionBottleneck(3), (None, 4, 4, 6))
    layer.quantizer.set_range(-0.3, 0.9)
    np.testing.assert_array_equal(layer(np.zeros((1, 4, 4, 6))), np.zeros((1, 4, 4, 6)))


def test_layer_survives_saving_and_json(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((4, 4, 6)),
            ProjectionBottleneck(
                2,
                projection_initializer=keras.initializers.HeNormal(seed=3),
                momentum=0.9,
                name="b",
            ),
            ProjectionBottleneck(6, bits=None, name="float"),
        ]
    )
    model.layers[0].quantizer.set_range(-0.5, 1.5)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    x = signal(3, 4, 4, 6)
    np.testing.assert_array_equal(loaded(x), model(x))
    first, second = loaded.layers
    assert (first.rank, first.bits, first.momentum) == (2, 8, 0.9)
    assert first.projection_initializer.seed == 3
    assert first.quantizer.range == (-0.5, 1.5)
    assert (second.rank, second.bits, second.quantizer) == (6, None, None)
    again = ProjectionBottleneck.from_config(first.get_config())
    assert again.get_config() == first.get_config()


@pytest.fixture
def mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.usefixtures("mixed_precision")
def test_mixed_precision_keeps_weights_range_and_rounding_in_float32():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 6)),
            ProjectionBottleneck(3, name="b"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1, dtype="float32"),
        ]
    )
    layer = model.get_layer("b")
    assert layer.output.dtype == "float16"
    assert layer.quantizer.compute_dtype == "float32"
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    model.compile("sgd", "mse")
    x = signal(16, 4, 4, 6)
    history = model.fit(x, x.mean(axis=(1, 2, 3)), epochs=5, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    low, high = layer.quantizer.range
    assert low < 0 < high


def test_weights_are_two_matrices_without_bias():
    layer = built(ProjectionBottleneck(3), (None, 8, 8, 12))
    assert [tuple(weight.shape) for weight in layer.trainable_weights] == [(12, 3), (3, 12)]
    assert layer.count_params() == 12 * 3 + 3 * 12 + 2  # and the range of the code


@pytest.mark.parametrize("rank", [0, -1, 2.0, "3", True])
def test_rank_must_be_a_positive_integer(rank):
    with pytest.raises(BadInputError, match="rank of bottleneck 'b'; expected an integer of at"):
        ProjectionBottleneck(rank, name="b")


def test_rank_above_the_channels_is_refused():
    with pytest.raises(
        BadInputError,
        match=r"bottleneck 'b' of rank 5; expected an input of known channels, at least 5; "
        r"received shape \(None, 8, 8, 4\)",
    ):
        ProjectionBottleneck(5, name="b").build((None, 8, 8, 4))


def test_unknown_channels_are_refused():
    with pytest.raises(BadInputError, match="expected an input of known channels"):
        ProjectionBottleneck(1).build((None, 8, 8, None))


@pytest.mark.parametrize("bits", [3, 5, 0, 16, True, "8"])
def test_other_code_widths_are_refused_with_those_allowed(bits):
    with pytest.raises(BadInputError, match=f"bits of 8, 6, 4, 2, 1, or bits=None for .*{bits!r}"):
        ProjectionBottleneck(2, bits=bits)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(UnsupportedModelError, match="'b' with channels first"):
            ProjectionBottleneck(2, name="b")
    finally:
        keras.config.set_image_data_format("channels_last")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
