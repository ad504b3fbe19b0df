"""Reading models from files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import sklearn
import tensorflow as tf
import zoo
from ai_edge_litert.interpreter import Interpreter
from support import shared_path

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.maps.feature_maps import profile
from keras_fmc.model.loading import ModelFormat, load_model, model_format, saved_model_to_tflite


def photos(count: int, size: int) -> np.ndarray:
    """Random crops of the two photographs inside scikit-learn, in [0, 255]."""
    folder = Path(sklearn.__file__).parent / "datasets" / "images"
    pictures = [
        tf.io.decode_jpeg((folder / name).read_bytes()).numpy().astype("float32")
        for name in ("china.jpg", "flower.jpg")
    ]
    rng = np.random.default_rng(0)
    crops = []
    for index in range(count):
        picture = pictures[index % 2]
        side = rng.integers(60, 400)
        top, left = (rng.integers(0, full - side) for full in picture.shape[:2])
        crop = picture[top : top + side, left : left + side]
        crops.append(keras.ops.image.resize(crop, (size, size)))
    return np.stack(crops)


def run_int8(path: Path, x: np.ndarray) -> np.ndarray:
    """Float outputs of an int8 .tflite model for float inputs, one by one."""
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = source["quantization"]
    out_scale, out_zero = target["quantization"]
    outputs = []
    for image in x:
        codes = np.clip(np.round(image / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], codes[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(target["index"])[0])
    return (np.stack(outputs).astype(np.float32) - out_zero) * out_scale


@pytest.mark.parametrize(
    ("h5", "tflite", "size", "scale"),
    [
        ("vww_96.h5", "vww_96_int8.tflite", 96, 1 / 255),
        ("pretrainedResnet.h5", "pretrainedResnet_quant.tflite", 32, 1.0),
    ],
)
def test_keras2_files_agree_with_their_int8_versions(h5, tflite, size, scale):
    folder = "models/mlperf_tiny/"
    model = load_model(shared_path(folder + h5))
    x = photos(40, size) * scale
    ours = np.asarray(model([x]))
    theirs = run_int8(shared_path(folder + tflite), x)
    assert np.abs(ours - theirs).mean() < 0.02
    spread, other = (scores - scores.mean(axis=0) for scores in (ours, theirs))
    assert np.corrcoef(spread.ravel(), other.ravel())[0, 1] > 0.95
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.85


def test_depthwise_layers_of_keras2_become_plain_ones():
    model = load_model(shared_path("models/mlperf_tiny/vww_96.h5"))
    depthwise = [layer for layer in model.layers if "depthwise" in layer.name]
    assert len(depthwise) == 13
    assert {type(layer) for layer in depthwise} == {keras.layers.DepthwiseConv2D}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_saved_models_come_back(tmp_path, suffix):
    model = zoo.randomize(zoo.small_cnn())
    path = tmp_path / f"model{suffix}"
    model.save(path)
    x = np.random.default_rng(0).random((2, 16, 16, 3), "float32")
    np.testing.assert_array_equal(load_model(path)(x), model(x))
    assert profile(path).peak_bytes == profile(model).peak_bytes


def keras2_file(path: Path, groups: int) -> None:
    """An .h5 file whose depthwise layer has the `groups` key of Keras 2."""
    keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.DepthwiseConv2D(3, name="dw")], name="m"
    ).save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["config"]["name"] == "dw":
                layer["config"]["groups"] = groups
        file.attrs["model_config"] = json.dumps(config)


def test_groups_key_of_keras2_is_dropped(tmp_path):
    keras2_file(tmp_path / "m.h5", groups=1)
    assert load_model(tmp_path / "m.h5").get_layer("dw").kernel.shape == (3, 3, 3, 1)


def test_groups_that_mean_something_are_refused(tmp_path):
    keras2_file(tmp_path / "m.h5", groups=3)
    with pytest.raises(BadInputError, match=r"m\.h5 cannot be loaded as a Keras model"):
        load_model(tmp_path / "m.h5")


def test_class_unknown_here_is_refused_and_can_be_passed(tmp_path):
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x + 1.0

    path = tmp_path / "mine.keras"
    keras.Sequential([keras.Input((4,)), Mine(name="mine")]).save(path)
    with pytest.raises(BadInputError, match=r"(?s)mine\.keras cannot be loaded.*custom_objects"):
        load_model(path)
    np.testing.assert_array_equal(
        load_model(path, custom_objects={"Mine": Mine})(np.zeros((1, 4))), np.ones((1, 4))
    )


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "noise"])
def test_damaged_files_are_refused(tmp_path, suffix, damage):
    path = tmp_path / f"model{suffix}"
    zoo.small_cnn().save(path)
    data = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "truncated": data[: len(data) // 2], "noise": b"\x7f" * 999}[damage]
    )
    with pytest.raises(BadInputError, match=f"model{suffix} cannot be loaded as a Keras model"):
        load_model(path)


def test_missing_file_unknown_suffix_and_plain_folder_are_refused(tmp_path):
    with pytest.raises(BadInputError, match=r"no such model; expected a \.keras, \.h5 or \.tflite"):
        model_format(tmp_path / "none.keras")
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(BadInputError, match=r"unknown kind of model file.*model\.onnx"):
        model_format(tmp_path / "model.onnx")
    with pytest.raises(BadInputError, match=r"a folder without saved_model\.pb is no model"):
        model_format(tmp_path)


@pytest.mark.long
def test_saved_model_holds_no_layers_but_converts(tmp_path):
    model = zoo.randomize(zoo.small_cnn())
    model.export(tmp_path / "export", verbose=False)
    assert model_format(tmp_path / "export") is ModelFormat.SAVED_MODEL
    with pytest.raises(UnsupportedModelError, match=r"holds no Keras layers\.\nSave .* \.keras"):
        profile(tmp_path / "export")
    interpreter = Interpreter(model_content=saved_model_to_tflite(tmp_path / "export"))
    interpreter.allocate_tensors()
    x = np.random.default_rng(0).random((1, 16, 16, 3), "float32")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(got, model(x), atol=1e-5)


def test_broken_saved_model_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"not a graph")
    with pytest.raises(BadInputError, match=r"cannot be converted: .*\n.*model\.export"):
        saved_model_to_tflite(tmp_path)


def test_tflite_file_is_left_to_deploy(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"")
    with pytest.raises(UnsupportedModelError, match=r"m\.tflite is a \.tflite file.*\n.*fmc plan"):
        load_model(tmp_path / "m.tflite")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
