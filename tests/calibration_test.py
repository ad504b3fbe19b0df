"""Calibration data: what is accepted, and what each refusal says."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator

import keras
import numpy as np
import pytest

from keras_fmc.errors import BadInputError
from keras_fmc.model.calibration import LIMIT, calibration_arrays

SHAPE = (4, 5, 2)


def samples(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *SHAPE)).astype(np.float32)


def checked(x: object, shape: tuple[int | None, ...] = SHAPE) -> np.ndarray:
    image = keras.Input(shape)
    (found,) = calibration_arrays(keras.Model(image, keras.layers.ReLU()(image)), x)
    return found


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_become_float32(dtype: str) -> None:
    x = samples().astype(dtype)
    got = checked(x)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, x.astype(np.float32))


def test_float32_is_not_copied() -> None:
    x = samples()
    assert checked(x) is x


def test_lists_and_tensors_are_arrays_too() -> None:
    x = samples()
    np.testing.assert_array_equal(checked(x.tolist()), x)
    np.testing.assert_array_equal(checked(keras.ops.convert_to_tensor(x)), x)


def test_none_stands_for_any_length() -> None:
    assert checked(samples(), (None, None, 2)).shape == (3, *SHAPE)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (None, "no calibration data; expected float array of shape (n, 4, 5, 2).\nPass calib"),
        (samples()[0], "wrong shape; expected float array of shape (n, 4, 5, 2); rec"),
        (samples()[:, :3], "received shape (3, 3, 5, 2)"),
        (samples()[:0], "is empty; expected at least 1 sample; received shape (0, 4, 5, 2)"),
        (np.zeros((2, *SHAPE), np.int8), "2); received dtype int8.\nPreprocess the samples"),
        (np.zeros((2, *SHAPE), np.complex64), "received dtype complex64"),
        (np.array(["a"]), "received dtype <U1"),
        ([[1.0], [1.0, 2.0]], "is not an array; expected float array of shape"),
        (np.where(samples() > 1, np.inf, samples()), "infinity; expected finite values; rec"),
        (np.full((2, *SHAPE), 1e300), "2 of 2 samples with such values, the first at index 0"),
    ],
)
def test_refusals(x: object, message: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(message)):
        checked(x)


def test_nan_is_counted_by_sample() -> None:
    x = samples(5)
    x[1, 0, 0, 0] = x[3, 2, 2, 1] = np.nan
    with pytest.raises(BadInputError, match=r"2 of 5 samples with .* first at index 1"):
        checked(x)


def two_inputs() -> keras.Model:
    left, right = keras.Input((2,), name="left"), keras.Input((3,), name="right")
    return keras.Model([left, right], keras.layers.Concatenate()([left, right]))


def test_several_inputs_by_order_or_name() -> None:
    a, b = np.ones((4, 2), np.float32), np.ones((4, 3), np.float32)
    for x in ([a, b], (a, b), {"right": b, "left": a}):
        got = calibration_arrays(two_inputs(), x)
        assert [array.shape for array in got] == [(4, 2), (4, 3)]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((4, 2), np.float32), "a list of 2 arrays, for left, right; received ndarray"),
        ([np.ones((4, 2))], "received 1 arrays"),
        ({"left": np.ones((4, 2))}, "expected keys ['left', 'right']; received keys ['left']"),
        ([np.ones((4, 2)), np.ones((4, 2))], "calibration data of input right of the wrong shape"),
        ([np.ones((4, 2)), np.ones((5, 3))], "same number for every input; received 4, 5"),
    ],
)
def test_refusals_of_several_inputs(x: object, message: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(message)):
        calibration_arrays(two_inputs(), x)


def test_a_dict_for_a_model_with_one_input() -> None:
    model = keras.Sequential([keras.Input((2,), name="only"), keras.layers.Dense(1)])
    assert calibration_arrays(model, {"only": np.ones((4, 2))})[0].shape == (4, 2)


def image_and_meta() -> keras.Model:
    image, meta = keras.Input(SHAPE, name="image"), keras.Input((3,), name="meta")
    flat = keras.layers.Flatten()(image)
    return keras.Model([image, meta], keras.layers.Concatenate()([flat, meta]))


def data_sets() -> dict[str, object]:
    """Ways in which people hold 8 samples of `image_and_meta`, each once."""
    import tensorflow as tf

    images, metas = samples(8), np.arange(24, dtype=np.float32).reshape(8, 3)
    named, targets = {"image": images, "meta": metas}, np.zeros(8)

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[object, ...]:
            part = slice(2 * index, 2 * index + 2)
            return {key: value[part] for key, value in named.items()}, targets[part]

    def representative() -> Iterator[list[np.ndarray]]:
        for image, meta in zip(images, metas, strict=True):
            yield [image[None], meta[None]]

    both = tf.data.Dataset.from_tensor_slices(((images, metas), targets))
    return {
        "list": [images, metas],
        "dict": named,
        "tf.data, targets": both.batch(3),
        "tf.data, unbatched": both,
        "tf.data, dict": tf.data.Dataset.from_tensor_slices(named).batch(5),
        "PyDataset": Batches(),
        "generator": representative(),
        "function": representative,
    }


def test_data_as_people_have_them() -> None:
    want = (samples(8), np.arange(24, dtype=np.float32).reshape(8, 3))
    model = image_and_meta()
    for name, data in data_sets().items():
        got = calibration_arrays(model, data)
        for mine, theirs in zip(got, want, strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=name)


def test_one_input_from_batches_bytes_and_lists() -> None:
    image = keras.Input(SHAPE)
    model = keras.Model(image, keras.layers.Flatten()(image))
    pixels = np.random.default_rng(0).integers(0, 256, (6, *SHAPE), np.uint8)
    ways = {
        "bytes": pixels,
        "list of one array": [pixels],
        "list of samples": list(pixels),
        "pairs": (pair for pair in [(pixels[:4], np.zeros(4)), (pixels[4:], np.zeros(2))]),
        "single samples": iter(pixels),
    }
    for name, data in ways.items():
        (got,) = calibration_arrays(model, data)
        np.testing.assert_array_equal(got, pixels.astype(np.float32), err_msg=name)


def test_endless_and_empty_data() -> None:
    image = keras.Input(SHAPE)
    model = keras.Model(image, keras.layers.Flatten()(image))
    (got,) = calibration_arrays(model, (samples(100) for _ in itertools.count()))
    assert len(got) == LIMIT
    with pytest.raises(BadInputError, match="yield nothing; expected at least 1 batch"):
        calibration_arrays(model, iter([]))
    with pytest.raises(BadInputError, match="do not match the inputs of the model"):
        calibration_arrays(image_and_meta(), iter([samples(2)]))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
