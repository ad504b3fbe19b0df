"""Keras to int8 .tflite: what comes out, and what is refused."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import qat_models
from keras import layers
from qat_test import accuracy, run_int8

import keras_fmc as fmc
from deploy import flatbuffer
from deploy.convert import convert_path, to_int8_tflite
from deploy.graph import Graph, Quantization
from deploy.int8_check import check_int8
from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.qat.placement import SIGMOID_RANGE, TANH_RANGE


def model_of(
    build: Callable[[keras.KerasTensor], object], shape: tuple[int, ...] = (8, 8, 4)
) -> keras.Model:
    """A model with random weights, biases and BN statistics."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input(shape, name="image")
    model = keras.Model(inputs, build(inputs))
    rng = np.random.default_rng(4)
    for weight in model.weights:
        if weight.name in ("bias", "beta", "moving_mean", "alpha"):
            weight.assign(rng.normal(size=weight.shape) * 0.3)
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, size=weight.shape))
    return model


def samples(shape: tuple[int, ...] = (8, 8, 4), count: int = 64) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)


def opcodes(content: bytes) -> list[str]:
    return [operator.opcode for operator in flatbuffer.read(content).operators]


def assert_agrees(model: keras.Model, content: bytes, x: np.ndarray, *, steps: float) -> None:
    """The int8 outputs lie within some steps of the QAT model's, on average far below one."""
    qat = model if _is_qat(model) else fmc.quantize(model, calibration=x)
    graph = flatbuffer.read(content)
    step = graph.tensors[graph.outputs[0]].quantization.scales[0]
    difference = np.abs(run_int8(content, x) - qat.predict(x, verbose=0)) / step
    assert difference.max() <= steps, difference.max()
    assert difference.mean() < 0.5, difference.mean()


def _is_qat(model: keras.Model) -> bool:
    return any(isinstance(layer, FakeQuant) for layer in model.layers)


@pytest.mark.parametrize("name", ["small_cnn", "residual_bottlenecks"])
def test_quantisation_after_training(name: str) -> None:
    x, _, x_test, _ = qat_models.digits()
    model = qat_models.trained(name)
    content = to_int8_tflite(model, calibration=x[:300])
    want = accuracy(model.predict(x_test, verbose=0))
    assert accuracy(run_int8(content, x_test)) > want - 0.03


def test_codes_have_the_scales_that_they_were_trained_with() -> None:
    x = qat_models.digits()[0][:100]
    model = qat_models.trained("residual_bottlenecks")
    graph = flatbuffer.read(to_int8_tflite(model, calibration=x))
    for name in ("first", "second"):
        quantizer = model.get_layer(name).quantizer
        (tensor,) = (
            tensor
            for index in graph.activations()
            for tensor in [graph.tensors[index]]
            if tensor.shape == (1, 16, 16, 8)
            and abs(tensor.quantization.scales[0] - quantizer.scale) < 1e-6 * quantizer.scale
        )
        assert tensor.quantization.zero_points == (quantizer.zero_point,)


def _squeeze_excite(x: keras.KerasTensor) -> keras.KerasTensor:
    x = layers.Conv2D(6, 3)(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return layers.Multiply()([x, layers.Conv2D(6, 1, activation="sigmoid")(gate)])


def _two_outputs_of_one_map(x: keras.KerasTensor) -> keras.KerasTensor:
    x = layers.Conv2D(4, 3, padding="same")(x)
    return layers.Add()([layers.ReLU()(x), x])


def _dense_block(x: keras.KerasTensor) -> keras.KerasTensor:
    for _ in range(3):
        x = layers.Concatenate()([x, layers.Conv2D(2, 3, padding="same", activation="relu")(x)])
    return layers.Conv2D(3, 1)(x)


CASES: dict[str, tuple[Callable[[keras.KerasTensor], object], list[str]]] = {
    "transposed": (
        lambda x: layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="relu")(x),
        ["TRANSPOSE_CONV"],
    ),
    "nearest": (
        lambda x: layers.Conv2D(3, 1)(layers.UpSampling2D(2)(x)),
        ["RESIZE_NEAREST_NEIGHBOR", "CONV_2D"],
    ),
    "bilinear": (
        lambda x: layers.Conv2D(3, 1)(layers.UpSampling2D(2, interpolation="bilinear")(x)),
        ["RESIZE_BILINEAR", "CONV_2D"],
    ),
    "squeeze_excite": (_squeeze_excite, ["CONV_2D", "MEAN", "CONV_2D", "LOGISTIC", "MUL"]),
    "silu": (lambda x: layers.Conv2D(3, 3, activation="silu")(x), ["CONV_2D", "LOGISTIC", "MUL"]),
    "tanh": (
        lambda x: layers.Conv2D(3, 1)(layers.Conv2D(3, 3, activation="tanh")(x)),
        ["CONV_2D", "TANH", "CONV_2D"],
    ),
    "hard_swish": (
        lambda x: layers.Activation("hard_swish")(layers.Conv2D(3, 3)(x)),
        ["CONV_2D", "HARD_SWISH"],
    ),
    "leaky": (lambda x: layers.LeakyReLU(0.2)(layers.Conv2D(3, 3)(x)), ["CONV_2D", "LEAKY_RELU"]),
    "prelu": (
        lambda x: layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(3, 3)(x)),
        ["CONV_2D", "PRELU"],
    ),
    "relu_after_max_pooling": (
        lambda x: layers.ReLU()(layers.MaxPooling2D()(layers.Conv2D(3, 3)(x))),
        ["CONV_2D", "MAX_POOL_2D"],
    ),
    "relu_after_average_pooling": (
        lambda x: layers.ReLU()(layers.AveragePooling2D(2)(layers.Conv2D(3, 3)(x))),
        ["CONV_2D", "AVERAGE_POOL_2D"],
    ),
    "map_read_twice": (_two_outputs_of_one_map, ["CONV_2D", "RELU", "ADD"]),
    "lone_bn": (
        lambda x: layers.Conv2D(3, 3, padding="same")(layers.BatchNormalization()(x)),
        ["DEPTHWISE_CONV_2D", "CONV_2D"],
    ),
    "bn_on_features": (
        lambda x: layers.ReLU()(
            layers.BatchNormalization()(layers.ReLU()(layers.Dense(5)(layers.Flatten()(x))))
        ),
        ["RESHAPE", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D", "RESHAPE", "RELU"],
    ),
    "separable": (
        lambda x: layers.SeparableConv2D(3, 3, activation="relu")(x),
        ["DEPTHWISE_CONV_2D", "CONV_2D"],
    ),
    "dense_block": (_dense_block, ["CONV_2D", "CONCATENATION"] * 3 + ["CONV_2D"]),
    "raw_operations": (
        lambda x: keras.ops.relu(layers.Conv2D(4, 1)(x) + x) * layers.Conv2D(4, 1)(x),
        ["CONV_2D", "CONV_2D", "ADD", "MUL"],
    ),
    "pad_and_crop": (
        lambda x: layers.Conv2D(3, 1)(
            layers.Cropping2D(((1, 2), (0, 1)))(layers.ZeroPadding2D(1)(layers.Conv2D(3, 3)(x)))
        ),
        ["CONV_2D", "PAD", "STRIDED_SLICE", "CONV_2D"],
    ),
    "rescaled_input": (
        lambda x: layers.Conv2D(3, 3)(layers.Rescaling(1 / 64, -0.5)(x)),
        ["DEPTHWISE_CONV_2D", "CONV_2D"],
    ),
    "global_max": (
        lambda x: layers.Dense(3)(layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3)(x))),
        ["CONV_2D", "REDUCE_MAX", "FULLY_CONNECTED"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_operators_and_outputs(case: str) -> None:
    """int8 throughout is asserted by `to_int8_tflite` itself; here the operators by name, and the
    outputs against the QAT model."""
    build, expected = CASES[case]
    model = model_of(build)
    x = samples() * (64 if case == "rescaled_input" else 1)
    qat = fmc.quantize(model, calibration=x)
    content = to_int8_tflite(qat)
    assert sorted(opcodes(content)) == sorted(expected)
    assert_agrees(qat, content, x, steps=6)


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense"])
def test_channels_of_no_weights_keep_their_bias(kind: str) -> None:
    """A scale of next to nothing would make the int32 bias overflow."""
    layer = {
        "Conv2D": lambda: layers.Conv2D(4, 3),
        "DepthwiseConv2D": lambda: layers.DepthwiseConv2D(3),
        "Conv2DTranspose": lambda: layers.Conv2DTranspose(4, 3),
        "Dense": lambda: layers.Dense(4),
    }[kind]()
    model = model_of(lambda x: layer(x))
    kernel = layer.kernel.numpy()
    axis = 2 if kind in ("DepthwiseConv2D", "Conv2DTranspose") else -1
    kernel = np.moveaxis(kernel, axis, 0)
    kernel[1], kernel[2] = 0, kernel[2] * 1e-7
    if kind == "Dense":
        kernel[:] = 0
    layer.kernel.assign(np.moveaxis(kernel, 0, axis))
    layer.bias.assign([0.5, 0.7, -0.9, 0.1])
    x = samples() * 0.1
    qat = fmc.quantize(model, calibration=x)
    assert_agrees(qat, to_int8_tflite(qat), x, steps=2)


def test_dead_maps_convert() -> None:
    """A map of zeros has no range; the converter widens ranges that are too small for it."""

    def build(x: keras.KerasTensor) -> keras.KerasTensor:
        x = layers.Conv2D(3, 3, kernel_initializer="zeros", activation="relu", name="dead")(x)
        return layers.Conv2D(3, 3)(x)

    model = model_of(build)
    model.get_layer("dead").bias.assign([-1.0, -1, -1])
    assert opcodes(to_int8_tflite(model, calibration=samples())) == ["CONV_2D", "CONV_2D"]


def test_several_inputs_and_outputs() -> None:
    left, right = keras.Input((4, 4, 2), name="left"), keras.Input((4, 4, 3), name="right")
    x = layers.Concatenate()([left, layers.Conv2D(2, 1)(right)])
    model = keras.Model([left, right], [layers.Conv2D(1, 3)(x), layers.ReLU()(x)])
    x_left, x_right = samples((4, 4, 2)), samples((4, 4, 3))
    graph = flatbuffer.read(to_int8_tflite(model, calibration=[x_left, x_right]))
    assert sorted(graph.tensors[index].shape for index in graph.inputs) == [
        (1, 4, 4, 2),
        (1, 4, 4, 3),
    ]
    assert len(graph.outputs) == 2


def test_sigmoid_and_tanh_have_the_scales_of_the_kernels() -> None:
    """LiteRT fixes 1/256 and -128 for sigmoid and softmax, 1/128 and 0 for tanh."""
    for (low, high), scale, zero_point in (
        (SIGMOID_RANGE, 1 / 256, -128),
        (TANH_RANGE, 1 / 128, 0),
    ):
        layer = FakeQuant(fixed_range=(low, high))
        layer.build((None, 1))
        assert layer.scale == pytest.approx(scale, rel=1e-6)
        assert layer.zero_point == zero_point


def test_unquantised_model_needs_calibration() -> None:
    with pytest.raises(BadInputError, match=r"no calibration data; .*\n.*--calibration X.npy"):
        to_int8_tflite(qat_models.small_cnn())
    with pytest.raises(BadInputError, match="wrong shape"):
        to_int8_tflite(qat_models.small_cnn(), calibration=samples())


def test_quantising_twice() -> None:
    model = model_of(lambda x: layers.Conv2D(3, 3)(x))
    qat = fmc.quantize(model, calibration=samples())
    with pytest.raises(BadInputError, match="quantised already"):
        fmc.quantize(qat, calibration=samples())


def test_uncalibrated_rounding() -> None:
    qat = fmc.quantize(model_of(lambda x: layers.Conv2D(3, 3)(x)), calibration=samples())
    layer = next(layer for layer in qat.layers if isinstance(layer, FakeQuant))
    layer.low.assign(0.0)
    layer.high.assign(0.0)
    with pytest.raises(BadInputError, match=f"'{layer.name}' has no range yet"):
        to_int8_tflite(qat)


def test_dynamic_and_non_float_inputs() -> None:
    inputs = keras.Input((None, 8, 4))
    model = keras.Model(inputs, layers.Conv2D(2, 3)(inputs))
    with pytest.raises(BadInputError, match="no fixed size"):
        to_int8_tflite(model, calibration=samples())
    inputs = keras.Input((8, 8, 4), dtype="float16")
    model = keras.Model(inputs, layers.Conv2D(2, 3)(inputs))
    with pytest.raises(BadInputError, match="expected float32; received float16"):
        to_int8_tflite(model, calibration=samples())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda x: layers.Lambda(lambda y: keras.ops.sort(y), name="twice")(x),
            "layer 'twice': Sort has no int8 form",
        ),
        (
            lambda x: layers.Activation("log_softmax", name="act")(x),
            "layer 'act': activation 'log_softmax' has no",
        ),
        (lambda x: keras.ops.sort(x), ": Sort has no int8 form"),
        (
            lambda x: layers.BatchNormalization(axis=1, name="rows")(x),
            "layer 'rows': BatchNormalization has no int8 form",
        ),
    ],
)
def test_layers_without_an_int8_form(
    build: Callable[[keras.KerasTensor], object], message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=re.escape(message)):
        to_int8_tflite(model_of(build), calibration=samples())


class TestCheck:
    """`check_int8` on graphs with one thing wrong."""

    @pytest.fixture(scope="class")
    def graph(self) -> Graph:
        return flatbuffer.read(
            to_int8_tflite(
                model_of(lambda x: layers.ReLU()(layers.Conv2D(3, 3)(layers.Conv2D(4, 1)(x)))),
                calibration=samples(),
            )
        )

    @staticmethod
    def with_tensor(graph: Graph, index: int, **changes: object) -> Graph:
        tensors = list(graph.tensors)
        tensors[index] = dataclasses.replace(tensors[index], **changes)
        return graph.replace(tensors=tuple(tensors))

    def test_passes_as_it_is(self, graph: Graph) -> None:
        check_int8(graph)

    def test_float_tensor(self, graph: Graph) -> None:
        index = graph.operators[0].outputs[0]
        broken = self.with_tensor(graph, index, dtype="float32", name="between")
        with pytest.raises(UnsupportedModelError, match=r"'between' of CONV_2D #0 .* is float32"):
            check_int8(broken)

    def test_float_constant(self, graph: Graph) -> None:
        index = graph.operators[1].inputs[2]
        broken = self.with_tensor(graph, index, dtype="float32", name="bias")
        with pytest.raises(
            UnsupportedModelError, match=r"'bias' of CONV_2D #1 .* expected int8 or"
        ):
            check_int8(broken)

    def test_requantisation(self, graph: Graph) -> None:
        second = dataclasses.replace(
            graph.operators[1], opcode="QUANTIZE", inputs=graph.operators[1].inputs[:1]
        )
        broken = graph.replace(operators=(graph.operators[0], second))
        with pytest.raises(UnsupportedModelError, match=r"left QUANTIZE #1 .*int8 to int8"):
            check_int8(broken)

    def test_clipped_bias(self, graph: Graph) -> None:
        index = graph.operators[0].inputs[2]
        bias = np.array([5, -7, 2**31 - 1, -(2**31)], np.int32)
        broken = self.with_tensor(graph, index, data=bias.tobytes())
        with pytest.raises(UnsupportedModelError, match=r"CONV_2D #0 .* overflows int32 in 2 chan"):
            check_int8(broken)

    def test_batch(self, graph: Graph) -> None:
        index = graph.inputs[0]
        broken = self.with_tensor(graph, index, shape=(2, 8, 8, 4))
        with pytest.raises(UnsupportedModelError, match="expected int8 with batch 1"):
            check_int8(broken)

    def test_scales(self, graph: Graph) -> None:
        scales = {
            str(index): (quantization.scales[0], quantization.zero_points[0])
            for index in graph.activations()
            for quantization in [graph.tensors[index].quantization]
        }
        check_int8(graph, scales=scales, complete=True)
        with pytest.raises(UnsupportedModelError, match=r"has the range of layer 'code'; .*0.125"):
            check_int8(graph, scales={**scales, "code": (0.125, 0)})
        last = str(graph.outputs[0])
        fewer = {name: scale for name, scale in scales.items() if name != last}
        with pytest.raises(UnsupportedModelError, match="has a scale that was not trained"):
            check_int8(graph, scales=fewer, complete=True)
        check_int8(graph, scales=fewer, complete=False)
        moved = self.with_tensor(
            graph, graph.outputs[0], quantization=Quantization((scales[last][0] * 1.001,), (-128,))
        )
        with pytest.raises(UnsupportedModelError, match=f"range of layer '{last}'"):
            check_int8(moved, scales=scales)


def test_model_files(tmp_path: Path) -> None:
    model = model_of(lambda x: layers.Conv2D(3, 3)(x))
    model.save(tmp_path / "float.keras")
    x = samples()
    np.save(tmp_path / "x.npy", x)
    content = convert_path(tmp_path / "float.keras", calibration=tmp_path / "x.npy")
    assert content == to_int8_tflite(model, calibration=x)
    fmc.quantize(model, calibration=x).save(tmp_path / "qat.keras")
    assert opcodes(convert_path(tmp_path / "qat.keras")) == ["CONV_2D"]


def test_bad_calibration_files(tmp_path: Path) -> None:
    model = model_of(lambda x: layers.Conv2D(3, 3)(x))
    model.save(tmp_path / "m.keras")

    def convert(name: str) -> None:
        convert_path(tmp_path / "m.keras", calibration=tmp_path / name)

    with pytest.raises(BadInputError, match=r"none\.npy cannot be read as calibration data"):
        convert("none.npy")
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(BadInputError, match=r"numpy.save"):
        convert("text.npy")
    np.savez(tmp_path / "two.npz", a=samples(), b=samples())
    with pytest.raises(BadInputError, match=r"of other inputs.*received keys \['a', 'b'\]"):
        convert("two.npz")
    np.save(tmp_path / "bytes.npy", np.zeros((4, 8, 8, 4), np.int16))
    with pytest.raises(BadInputError, match="received dtype int16"):
        convert("bytes.npy")


def test_converting_is_quiet_and_repeats(capfd: pytest.CaptureFixture[str]) -> None:
    qat = fmc.quantize(model_of(lambda x: layers.Conv2D(3, 3)(x)), calibration=samples())
    capfd.readouterr()
    first = to_int8_tflite(qat)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert to_int8_tflite(qat) == first


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
