"""The GF(2) bottleneck after conversion: the device stores the bits that the layer stores."""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np
import pytest

from deploy import flatbuffer
from deploy.graph import Activation
from deploy.passes.reference_versions import with_reference_versions
from deploy.runtime import litert, tflm
from keras_fmc.layers.bit_planes import ONE
from keras_fmc.layers.gf2 import GF2Bottleneck
from tests import int8_export
from tests.int8_export import QuantizedConv2D, int8_input, random_codes


class _Stored(keras.layers.Layer):
    """What a bottleneck stores, as an output."""

    def __init__(self, bottleneck: GF2Bottleneck) -> None:
        super().__init__()
        self.bottleneck = bottleneck

    def call(self, inputs: Any) -> Any:
        return self.bottleneck._encode(inputs, False)


def _model(layer: GF2Bottleneck, size: int, kernel: np.ndarray) -> keras.Model:
    """A model with the stored bits and the restored map as outputs."""
    image, x = int8_input((size, size, kernel.shape[2]))
    conv = QuantizedConv2D(
        kernel.shape[3], 1, use_bias=False, activation=None if layer.signed else "relu"
    )
    x = conv(x)
    y = layer(x)
    conv.kernel.assign(kernel)
    return keras.Model(image, [_Stored(layer)(x), y])


def _convert(model: keras.Model):
    graph = with_reference_versions(int8_export.convert(model)[1])
    return flatbuffer.write(graph), graph


def _exact_kernel() -> np.ndarray:
    """Keeps 4 of 8 channels; with `_set_exact_range`, codes on the device are exact."""
    kernel = np.zeros((1, 1, 8, 4), np.float32)
    kernel[0, 0, range(4), range(4)] = 127 / 128
    return kernel


def _set_exact_range(layer: GF2Bottleneck) -> None:
    # One code is an odd number of input codes, so that nothing lies half way between two codes.
    step = 127 / 128 * {8: 1, 6: 1, 4: 15 if layer.signed else 7}[layer.bits] / 128
    below = 2 ** (layer.bits - 1) if layer.signed else 0
    layer.quantizer.set_range(-below * step, (2**layer.bits - 1 - below) * step)


# bits, kernel_size, strides, size, hidden, signed, operators besides convolutions and planes
CASES = [
    (4, 1, 1, 8, (), False, []),
    (8, 1, 1, 8, (), False, []),
    (6, 2, 2, 8, (), False, ["DEPTH_TO_SPACE"]),
    (4, 2, 2, 7, (24,), False, ["DEPTH_TO_SPACE", "STRIDED_SLICE"]),
    (4, 3, 2, 8, (), False, ["PAD", "DEPTH_TO_SPACE"]),
    (4, 3, 2, 9, (), False, ["PAD", "DEPTH_TO_SPACE", "STRIDED_SLICE"]),
    (4, 1, 1, 8, (), True, ["MINIMUM"]),
]


@pytest.mark.parametrize(
    ("bits", "kernel_size", "strides", "size", "hidden", "signed", "operators"), CASES
)
def test_device_and_layer_agree_on_every_bit(
    bits, kernel_size, strides, size, hidden, signed, operators
):
    layer = GF2Bottleneck(
        16, bits=bits, kernel_size=kernel_size, strides=strides, hidden=hidden, signed=signed,
        start="random", seed=bits,
    )  # fmt: skip
    model = _model(layer, size, _exact_kernel())
    _set_exact_range(layer)
    rng = np.random.default_rng(bits)
    for kernel, bias in (*layer.compression, *layer.restoration):
        kernel.assign(np.asarray(kernel) + rng.normal(0, 0.05, kernel.shape))
        bias.assign(np.asarray(bias) + rng.normal(0, 0.1, bias.shape))
    content, graph = _convert(model)
    codes, values = random_codes((size, size, 8), seed=bits)
    device = litert.run(content, [[codes]])[0]
    micro = tflm.run(content, [[codes]], arena_bytes=1 << 21)[0]
    by_shape = {tuple(array.shape[1:]): index for index, array in enumerate(device)}
    wanted = {tuple(y.shape[1:]): keras.ops.convert_to_numpy(y) for y in model(values)}
    stored_shape = layer.stored_shape((size, size, 4))
    assert wanted.keys() == {stored_shape, (size, size, 4)}
    for shape, values_wanted in wanted.items():
        index = by_shape[shape]
        scale, zero_point = int8_export.output_quantization(graph, index)
        unit = ONE if shape == stored_shape else layer.quantizer.scale
        assert scale == pytest.approx(unit, rel=1e-5)
        np.testing.assert_array_equal(
            device[index], np.rint(values_wanted / scale).astype(int) + zero_point
        )
        np.testing.assert_array_equal(device[index], micro[index])
    stored = device[by_shape[stored_shape]]
    np.testing.assert_array_equal(np.unique(stored), [126, 127])
    assert 0.2 < (stored == 127).mean() < 0.8
    assert {t.dtype for t in (graph.tensors[i] for i in graph.activations())} == {"int8"}

    found = int8_export.opcodes(graph)
    planes = ["DEPTHWISE_CONV_2D", "DEPTHWISE_CONV_2D", "SUB"]
    assert [code for code in found if code != "CONV_2D"] == (
        operators[: int(signed)] + planes + operators[int(signed) :]
    )
    # One before it, P, R and eq. 4.
    assert found.count("CONV_2D") == 1 + 3 + 2 * len(hidden)
    clips = [o.integer("fused_activation_function") for o in graph.operators if "CONV" in o.opcode]
    expected = [Activation.RELU] * len(clips)
    for place in (1, 2, -1, *([0] if signed else [])):
        expected[place] = Activation.NONE
    assert clips == expected


def test_planes_that_are_not_restored_have_biases_that_fit():
    """Their channels of R have no weights, so that a scale of their own would be next to 0."""
    layer = GF2Bottleneck(8, bits=4)
    model = _model(layer, 8, _exact_kernel())
    _set_exact_range(layer)
    content, graph = _convert(model)
    for tensor in graph.tensors:
        if tensor.is_constant and tensor.dtype == "int32" and tensor.quantization is not None:
            assert np.abs(tensor.array().astype(np.int64)).max() < 2**20
    codes, values = random_codes((8, 8, 8), seed=1)
    device = next(y for y in litert.run(content, [[codes]])[0] if y.shape[-1] == 4)
    scale = layer.quantizer.scale
    wanted = np.rint(keras.ops.convert_to_numpy(model(values)[1]) / scale) - 128
    np.testing.assert_array_equal(device, wanted)
    # Two planes of each of 4 channels.
    assert set(np.unique(device.astype(int) + 128)) <= {0, 4, 8, 12}


def test_bits_behind_a_real_convolution_agree_to_a_thousandth():
    """The codes before them differ where sums of the device round otherwise than floats."""
    rng = np.random.default_rng(2)
    layer = GF2Bottleneck(16, bits=4, start="random")
    kernel = rng.uniform(-0.7, 0.7, (1, 1, 8, 4)).astype(np.float32)
    model = _model(layer, 32, kernel)
    layer.quantizer.set_range(0.0, 1.3)
    content, _ = _convert(model)
    codes, values = random_codes((32, 32, 8), seed=2)
    device = next(y for y in litert.run(content, [[codes]])[0] if y.shape[-1] == 16) - 126
    wanted = keras.ops.convert_to_numpy(model(values)[0]) / ONE
    assert (device == wanted).mean() > 0.999


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
