"""Bytes of a camera and floats at the ends; a scale in front that costs nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import keras_fmc as fmc
from deploy import cli, flatbuffer
from deploy.convert import to_int8_tflite
from deploy.profile import profile_graph
from deploy.runtime import tflm
from keras_fmc.errors import BadInputError

if tflm.unavailable_reason() is not None:
    pytest.skip(str(tflm.unavailable_reason()), allow_module_level=True)


def camera(scale: float = 1 / 255) -> keras.Model:
    inputs = keras.Input((10, 10, 3), name="image")
    x = layers.Rescaling(scale)(inputs)
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    outputs = [layers.Dense(3, activation="softmax", name="kind")(x), layers.Dense(2, name="at")(x)]
    return keras.Model(inputs, outputs)


IMAGES = np.random.default_rng(0).integers(0, 256, (8, 10, 10, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def quantised() -> keras.Model:
    keras.utils.set_random_seed(2)
    return fmc.quantize(camera(), calibration=IMAGES)


def run(content: bytes, images: np.ndarray) -> list[np.ndarray]:
    """Raw outputs for all images."""
    rows = tflm.run(content, [[image[None]] for image in images], arena_bytes=1 << 20)
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def test_the_scale_in_front_is_no_operator(quantised: keras.Model) -> None:
    content = to_int8_tflite(quantised)
    graph = flatbuffer.read(content)
    assert [operator.opcode for operator in graph.operators][:2] == ["CONV_2D", "MEAN"]
    grid = graph.tensors[graph.inputs[0]].quantization
    assert (grid.scales, grid.zero_points) == ((1.0,), (-128,)), "a code for each byte"
    rounded = fmc.device_rounding(quantised)(IMAGES.astype(np.float32), training=False)
    codes = (IMAGES.astype(int) - 128).astype(np.int8)
    for made, mine, index in zip(run(content, codes), rounded, graph.outputs, strict=True):
        grid = graph.tensors[index].quantization
        ours = np.rint(np.asarray(mine) / grid.scales[0]) + grid.zero_points[0]
        np.testing.assert_array_equal(made, ours)
    maps = fmc.profile(camera())
    assert maps.peak_bytes == profile_graph(graph, name="converted").maps.peak_bytes
    assert [item.size_bytes for item in maps.kept][:2] == [10 * 10 * 3, 5 * 5 * 6]


def test_what_reads_a_scaled_image_without_weights_keeps_the_operator() -> None:
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, layers.Activation("tanh")(layers.Rescaling(1 / 255)(inputs)))
    content = to_int8_tflite(model, calibration=IMAGES[:, :6, :6])
    opcodes = [operator.opcode for operator in flatbuffer.read(content).operators]
    assert opcodes == ["DEPTHWISE_CONV_2D", "TANH"]


@pytest.mark.parametrize(("scale", "offset"), [(1 / 127.5, -1.0), (-1 / 255, 0.0)])
def test_other_scales_keep_their_operator(scale: float, offset: float) -> None:
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(2, 3, padding="same")(layers.Rescaling(scale, offset)(inputs))
    content = to_int8_tflite(fmc.quantize(keras.Model(inputs, x), calibration=IMAGES[:, :6, :6]))
    opcodes = [operator.opcode for operator in flatbuffer.read(content).operators]
    assert opcodes == ["DEPTHWISE_CONV_2D", "CONV_2D"]


def test_bytes_and_floats_give_what_int8_gives(quantised: keras.Model) -> None:
    codes = (IMAGES.astype(int) - 128).astype(np.int8)
    plain = to_int8_tflite(quantised)
    graph = flatbuffer.read(plain)
    want = run(plain, codes)
    as_bytes = to_int8_tflite(quantised, input_type="uint8", output_type="uint8")
    for made, theirs in zip(run(as_bytes, IMAGES), want, strict=True):
        np.testing.assert_array_equal(made.astype(int) - 128, theirs)
    as_floats = to_int8_tflite(quantised, input_type="float32", output_type="float32")
    floats = run(as_floats, IMAGES.astype(np.float32))
    for made, theirs, index in zip(floats, want, graph.outputs, strict=True):
        grid = graph.tensors[index].quantization
        real = np.float32(grid.scales[0]) * (theirs.astype(np.float32) - grid.zero_points[0])
        np.testing.assert_array_equal(made, real)
    for content, kind in ((as_bytes, "uint8"), (as_floats, "float32")):
        made = flatbuffer.read(content)
        ends = [made.tensors[index] for index in (*made.inputs, *made.outputs)]
        assert [(end.name, end.dtype) for end in ends] == [
            (name, kind) for name in ("image", "kind", "at")
        ]
        (signature,) = made.signatures
        assert [index for _, index in (*signature.inputs, *signature.outputs)] == [
            *made.inputs,
            *made.outputs,
        ]
    with pytest.raises(BadInputError, match="unknown type of inputs"):
        to_int8_tflite(quantised, input_type="uint16")


def test_the_command_takes_them(
    quantised: keras.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantised.save(tmp_path / "m.keras")
    out = tmp_path / "plan"
    command = ["convert", str(tmp_path / "m.keras"), "--board=nano33ble", f"--out={out}"]
    assert cli.main([*command, "--input-type=uint8", "--output-type=float32"]) == 0
    planned = flatbuffer.read((out / "model.tflite").read_bytes())
    dtypes = [planned.tensors[index].dtype for index in (*planned.inputs, *planned.outputs)]
    assert dtypes == ["uint8", "float32", "float32"]
    capsys.readouterr()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
