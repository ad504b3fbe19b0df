"""Codes: their levels against NumPy, their gradient, and what leaves the converter."""

from __future__ import annotations

import sys

import gf2_reference as reference
import keras
import numpy as np
import pytest

from deploy.graph import Activation
from deploy.runtime import litert, tflm
from keras_fmc.errors import BadInputError
from keras_fmc.layers.code_quantizer import CodeForm, CodeQuantizer, sign_thresholds
from tests import int8_export
from tests.int8_export import QuantizedConv2D, convert, int8_input, random_codes

RANGES = {
    "unit": ((-1.0, 1.0), (-0.35, 1.0), (-1.0, 0.4), (0.0, 0.9), (-2.0, 3.0)),
    "unsigned": ((0.0, 0.83), (0.0, 6.0)),
    "free": ((-0.47, 0.83), (-0.8, 0.3)),
}
CASES = [
    (bits, form, limits)
    for form, ranges in RANGES.items()
    for limits in ranges
    for bits in (8, 6, 4, 2, 1)
    if (bits, form) != (1, "free")
]


def _quantizer(
    bits: int, form: str, limits: tuple[float, float], channels: int = 4
) -> CodeQuantizer:
    layer = CodeQuantizer(bits, form=form)
    layer.build((None, 8, 8, channels))
    layer.set_range(*limits)
    return layer


def _samples(layer: CodeQuantizer, seed: int) -> np.ndarray:
    """Values beyond both ends, none within 1/1000 of a step of where a code changes."""
    rng = np.random.default_rng(seed)
    levels = layer.levels
    x = rng.uniform(levels[0] * 1.5 - 0.2, levels[-1] * 1.5 + 0.2, (3, 8, 8, 4))
    step = levels[1] - levels[0]
    edges = (levels[1:] + levels[:-1]) / 2
    near = np.abs(x[..., None] - edges).min(-1) < step / 1000 + layer.is_sign / 128
    return np.where(near, x + step / 50, x).astype(np.float32)


@pytest.mark.parametrize(("bits", "form", "limits"), CASES)
def test_levels_are_those_of_the_formula(bits, form, limits):
    layer = _quantizer(bits, form, limits)
    levels = reference.code_levels(bits, form, *limits)
    assert len(levels) == 2**bits
    np.testing.assert_allclose(layer.levels, levels, rtol=1e-6, atol=1e-7)
    x = _samples(layer, seed=bits)
    y = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(y, reference.nearest_level(x, levels), atol=2e-5 * np.ptp(levels))
    assert len(np.unique(np.rint(y / layer.scale))) == (2**bits if bits < 8 else len(np.unique(y)))


@pytest.mark.parametrize(("bits", "form", "limits"), CASES)
def test_gradient_is_one_within_the_levels_and_zero_outside(bits, form, limits):
    import tensorflow as tf

    layer = _quantizer(bits, form, limits)
    x = tf.constant(_samples(layer, seed=bits + 50))
    upstream = np.random.default_rng(bits).normal(size=x.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) * upstream)
    low, high = layer.levels[[0, -1]]
    if layer.is_sign:
        low, high = -1 + 2 * sign_thresholds(4)[-1], 1.0
    inside = (x.numpy() >= low) & (x.numpy() <= high)
    near_end = np.minimum(np.abs(x - low), np.abs(x - high)) < 0.02 * (high - low)
    wanted = upstream * inside
    np.testing.assert_array_equal(tape.gradient(loss, x).numpy()[~near_end], wanted[~near_end])
    assert inside.any()
    assert (~inside).any()


@pytest.mark.parametrize(("bits", "form", "limits"), CASES)
def test_zero_stays_zero_or_becomes_plus_one(bits, form, limits):
    layer = _quantizer(bits, form, limits)
    y = keras.ops.convert_to_numpy(layer(np.zeros((1, 2, 2, 4), np.float32)))
    np.testing.assert_allclose(y, 1.0 if layer.is_sign else 0.0, atol=1e-6)


def _code_model(layer: CodeQuantizer, kernel: np.ndarray) -> keras.Model:
    image, x = int8_input((32, 32, kernel.shape[2]))
    conv = QuantizedConv2D(kernel.shape[3], 1, use_bias=False)
    y = layer(conv(x))
    conv.kernel.assign(kernel)
    return keras.Model(image, y)


DEVICE_CASES = [
    *((bits, "unit", (-1.0, 1.0)) for bits in (8, 6, 4, 2, 1)),
    *((bits, "unsigned", (0.0, 0.83)) for bits in (8, 6, 4, 2, 1)),
    (4, "unit", (-0.35, 1.0)),
    (4, "unit", (-1.0, 0.4)),
    (2, "unit", (0.0, 1.0)),
    *((bits, "free", (-0.47, 0.83)) for bits in (8, 6, 4, 2)),
]


@pytest.mark.parametrize(("bits", "form", "limits"), DEVICE_CASES)
def test_codes_that_leave_the_converter_are_those_of_the_layer(bits, form, limits):
    rng = np.random.default_rng(bits)
    kernel = rng.uniform(-0.7, 0.7, (1, 1, 8, 4)).astype(np.float32)
    layer = CodeQuantizer(bits, form=form)
    model = _code_model(layer, kernel)
    layer.set_range(*limits)
    content, graph = convert(model)

    codes, values = random_codes((32, 32, 8), seed=bits)
    device = litert.run(content, [[codes]])[0][0]
    np.testing.assert_array_equal(device, tflm.run(content, [[codes]], arena_bytes=1 << 20)[0][0])
    scale, zero_point = int8_export.output_quantization(graph)
    assert scale == pytest.approx(layer.scale, rel=1e-5)
    assert zero_point == layer.zero_point
    wanted = np.rint(keras.ops.convert_to_numpy(model(values)) / layer.scale) + zero_point
    difference = np.abs(device - wanted)
    # Eight bits are finer than the sums of the device; a code that is coarser hides that.
    assert (difference == 0).mean() >= (0.99 if bits == 8 else 0.999)
    assert difference.max() <= (2 if layer.is_sign else 1)
    if bits < 8:
        step = 2 if layer.is_sign else 1
        allowed = layer.first_code + step * np.arange(2**bits)
        np.testing.assert_array_equal(np.unique(device), allowed)
    assert {t.dtype for t in (graph.tensors[i] for i in graph.activations())} == {"int8"}


def _operators(graph) -> list[tuple[str, int]]:
    return [(op.opcode, op.integer("fused_activation_function")) for op in graph.operators]


@pytest.mark.parametrize(
    ("bits", "form", "wanted"),
    [
        (4, "unit", [("CONV_2D", Activation.RELU_N1_TO_1)]),
        (4, "unsigned", [("CONV_2D", Activation.RELU)]),
        (4, "free", [("CONV_2D", Activation.NONE), ("MINIMUM", 0)]),
        (1, "unit", [("CONV_2D", Activation.RELU), ("SUB", 0)]),
        (8, "unit", [("CONV_2D", Activation.NONE)]),
    ],
)
def test_what_a_clip_costs_on_the_device(bits, form, wanted):
    kernel = np.random.default_rng(1).uniform(-0.7, 0.7, (1, 1, 8, 4)).astype(np.float32)
    layer = CodeQuantizer(bits, form=form)
    model = _code_model(layer, kernel)
    layer.set_range(0.0 if form == "unsigned" else -0.6, 1.0)
    assert _operators(convert(model)[1]) == wanted


def test_dead_pixels_are_plus_one_on_the_device_too():
    """All sums are exactly 0 there, so a threshold at 0 would hang on the rounding of a bias."""
    rng = np.random.default_rng(5)
    layer = CodeQuantizer(1)
    kernel = rng.uniform(-0.7, 0.7, (1, 1, 8, 16)).astype(np.float32)
    content, _ = convert(_code_model(layer, kernel))
    dead = np.zeros((1, 32, 32, 8), np.int8)
    np.testing.assert_array_equal(litert.run(content, [[dead]])[0][0], 1)


def test_thresholds_of_the_sign_differ_between_channels_but_hardly():
    thresholds = sign_thresholds(16)
    assert len(set(thresholds.tolist())) == 16
    assert thresholds.max() == pytest.approx(-1 / 256)
    assert thresholds.min() >= -1.125 / 256


def test_range_of_an_unsigned_code_follows_the_batches():
    layer = CodeQuantizer(4, form="unsigned", momentum=0.75)
    layer(np.array([[-3.0, 2.0]], np.float32), training=True)
    assert layer.range == pytest.approx((0.0, 2.0))
    layer(np.array([[-3.0, 4.0]], np.float32), training=True)
    assert layer.range == pytest.approx((0.0, 0.75 * 2 + 0.25 * 4))
    layer(np.array([[-3.0, 9.0]], np.float32))
    assert layer.range == pytest.approx((0.0, 2.5))


def test_range_of_a_free_code_follows_both_ends():
    layer = CodeQuantizer(4, form="free", momentum=0.5)
    layer(np.array([[-3.0, 2.0]], np.float32), training=True)
    layer(np.array([[-1.0, 4.0]], np.float32), training=True)
    assert layer.range == pytest.approx((-2.0, 3.0))


def test_a_unit_code_has_its_range_from_the_start_and_keeps_it():
    layer = CodeQuantizer(2, momentum=0.5)
    layer(np.array([[-9.0, 9.0]], np.float32), training=True)
    assert layer.calibrated
    assert layer.range == (-1.0, 1.0)
    assert layer.levels_below_zero == 2
    assert layer.zero_point == 127 - 1


@pytest.mark.parametrize("form", list(CodeForm))
def test_save_and_load(form, tmp_path):
    layer = CodeQuantizer(4, form=form, momentum=0.9)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layer(inputs))
    layer.set_range(0.0 if form is CodeForm.UNSIGNED else -0.3, 0.8)
    path = tmp_path / "code.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    again = loaded.layers[-1]
    assert (again.bits, again.form, again.momentum) == (4, form, 0.9)
    np.testing.assert_array_equal(again.levels, layer.levels)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(x), loaded(x))


@pytest.mark.parametrize("bits", [3, 0, 16, True, "4", None])
def test_other_widths_are_refused(bits):
    with pytest.raises(BadInputError, match="width of a code; expected bits of 8, 6, 4, 2, 1"):
        CodeQuantizer(bits)


def test_unknown_form_is_refused():
    with pytest.raises(BadInputError, match="expected unit or unsigned or free; received 'half'"):
        CodeQuantizer(4, form="half")


def test_one_free_bit_is_refused():
    with pytest.raises(BadInputError, match="one bit in free form"):
        CodeQuantizer(1, form="free")


def test_negative_values_in_an_unsigned_code_are_refused():
    layer = CodeQuantizer(4, form="unsigned", name="code")
    layer.build((None, 4))
    with pytest.raises(BadInputError, match=r"unsigned code 'code' of a map with negative values"):
        layer.set_range(-0.5, 1.0)
    with pytest.raises(BadInputError, match=r"Put a ReLU before it"):
        CodeQuantizer(4, form="unsigned", fixed_range=(-1.0, 1.0))


def test_zero_point_before_calibration_is_refused():
    layer = CodeQuantizer(4, form="free", name="code")
    layer.build((None, 4))
    with pytest.raises(BadInputError, match="CodeQuantizer 'code' has no range yet"):
        _ = layer.zero_point


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
