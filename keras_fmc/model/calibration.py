"""The one check of calibration data, for the PCA start, quantisation and conversion.

Calibration data are samples as the model sees them in training: preprocessed, one batch axis in
front. They come as arrays, or in the ways in which Keras and TensorFlow Lite take data:

| data | read as |
|---|---|
| array, or list or dict of arrays | all samples; float, or uint8 as cameras give them |
| `tf.data.Dataset`, generator, iterable of batches | the first `LIMIT` samples, without targets |
| `keras.utils.PyDataset` | the same |
| function, as TensorFlow Lite's `representative_dataset` | what that yields which it returns |

Whatever else comes in is refused before anything is computed from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_fmc.errors import BadInputError

Shape = tuple[int | None, ...]

LIMIT = 1024
"""Samples that are read of data that come batch by batch, which may be endless."""


def calibration_arrays(model: keras.Model, x: object) -> tuple[np.ndarray, ...]:
    """Returns calibration samples for each input of a model, in the order of ``model.inputs``.

    Args:
        model: a built model.
        x: one array for a model with one input; a list, a tuple or a dict by input name for
            several; or what yields batches of them, see the head of this file.

    Raises:
        BadInputError: as ``check_calibration``; or the number of arrays or of samples differs.
    """
    names = [tensor._keras_history.operation.name for tensor in model.inputs]
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    batches = _batches(x)
    if batches is not None:
        x = _gathered(batches, names, shapes)
    if len(names) == 1 and not isinstance(x, dict):
        if isinstance(x, (list, tuple)) and len(x) == 1 and _fits(shapes[0], x[0]):
            x = x[0]
        return (_checked(shapes[0], x, "calibration data"),)
    if isinstance(x, dict):
        if sorted(x) != sorted(names):
            raise BadInputError(
                "calibration data of other inputs than the model's",
                expected=f"keys {sorted(names)}",
                received=f"keys {sorted(map(str, x))}",
            )
        parts: Sequence[object] = [x[name] for name in names]
    elif isinstance(x, (list, tuple)) and len(x) == len(names):
        parts = x
    else:
        raise BadInputError(
            "calibration data do not match the inputs of the model",
            expected=f"a list of {len(names)} arrays, for {', '.join(names)}",
            received=f"{len(x)} arrays" if isinstance(x, (list, tuple)) else type(x).__name__,
        )
    arrays = tuple(
        _checked(shape, part, f"calibration data of input {name}")
        for name, shape, part in zip(names, shapes, parts, strict=True)
    )
    counts = {len(array) for array in arrays}
    if len(counts) != 1:
        raise BadInputError(
            "calibration data with unequal numbers of samples",
            expected="the same number for every input",
            received=", ".join(str(len(array)) for array in arrays),
        )
    return arrays


def _batches(x: Any) -> Iterator[Any] | None:
    """Returns what yields batches, None for data that are there as a whole."""
    if x is None or hasattr(x, "__array__") or isinstance(x, (list, tuple, Mapping, str)):
        return None
    if isinstance(x, keras.utils.PyDataset):
        return (x[index] for index in range(len(x)))
    if isinstance(x, Callable) and not isinstance(x, Iterable):  # type: ignore[arg-type]
        return iter(x())
    return iter(x) if isinstance(x, Iterable) else None


def _gathered(
    batches: Iterator[Any], names: Sequence[str], shapes: Sequence[Shape]
) -> list[np.ndarray] | np.ndarray:
    """Joins batches, or single samples, of the inputs alone."""
    parts: list[list[np.ndarray]] = [[] for _ in names]
    count = 0
    for batch in itertools.islice(batches, LIMIT):
        inputs = _inputs_of(batch, names, shapes)
        for part, shape, array in zip(parts, shapes, inputs, strict=True):
            part.append(array if array.ndim > len(shape) else array[None])
        count += len(parts[0][-1])
        if count >= LIMIT:
            break
    if not count:
        raise BadInputError(
            "calibration data yield nothing",
            expected="at least 1 batch",
            remedy="Check the data set; a generator can be read only once",
        )
    try:
        arrays = [np.concatenate(part)[:LIMIT] for part in parts]
    except ValueError as error:
        raise BadInputError(
            "calibration data yield batches of different shapes",
            received=", ".join(sorted({_text(array.shape) for part in parts for array in part})),
        ) from error
    return arrays if len(arrays) > 1 else arrays[0]


def _inputs_of(batch: Any, names: Sequence[str], shapes: Sequence[Shape]) -> list[np.ndarray]:
    """The inputs in a batch, which may be (inputs, targets) or (inputs, targets, weights)."""
    candidates = [batch]
    if isinstance(batch, (list, tuple)) and batch:
        candidates.append(batch[0])
    for candidate in candidates:
        if isinstance(candidate, Mapping) and sorted(candidate) == sorted(names):
            return [np.asarray(candidate[name]) for name in names]
        if isinstance(candidate, (list, tuple)):
            if len(candidate) == len(names) and all(map(_fits, shapes, candidate)):
                return [np.asarray(part) for part in candidate]
        elif not isinstance(candidate, Mapping) and len(names) == 1:
            return [np.asarray(candidate)]
    raise BadInputError(
        "calibration data yield batches that do not match the inputs of the model",
        expected=f"inputs {', '.join(names)} as a list or a dict, alone or with targets behind",
        received=type(batch).__name__,
    )


def _fits(shape: Shape, part: Any) -> bool:
    """Whether an array has the shape of one sample or of a batch."""
    try:
        given = tuple(np.shape(part))
    except ValueError:
        return False
    return any(
        len(tail) == len(shape)
        and all(want in (None, size) for want, size in zip(shape, tail, strict=True))
        for tail in (given, given[1:])
    )


def _checked(shape: Shape, x: object, subject: str) -> np.ndarray:
    want = f"float array of shape {_text((None, *shape))}"
    if x is None:
        raise BadInputError(
            f"no {subject}",
            expected=want,
            remedy="Pass calibration= a few hundred training samples, preprocessed as in training",
        )
    try:
        array = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise BadInputError(
            f"{subject} is not an array",
            expected=want,
            received=type(x).__name__,
            remedy="Pass calibration= one NumPy array of samples",
        ) from error
    if array.dtype == np.uint8:
        array = array.astype(np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise BadInputError(
            f"{subject} of the wrong dtype",
            expected=want,
            received=f"dtype {array.dtype}",
            remedy="Preprocess the samples as in training and pass them .astype('float32')",
        )
    if array.ndim != len(shape) + 1 or any(
        want_size not in (None, size)
        for want_size, size in zip(shape, array.shape[1:], strict=True)
    ):
        raise BadInputError(
            f"{subject} of the wrong shape",
            expected=want,
            received=f"shape {_text(array.shape)}",
            remedy="Pass samples of the model's own input size, with the batch axis in front",
        )
    if array.size == 0:
        raise BadInputError(
            f"{subject} is empty",
            expected="at least 1 sample",
            received=f"shape {_text(array.shape)}",
        )
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        raise BadInputError(
            f"{subject} holds NaN or infinity",
            expected="finite values",
            received=f"{int(bad.sum())} of {len(array)} samples with such values, "
            f"the first at index {int(np.argmax(bad))}",
            remedy="Drop these samples or mend the preprocessing",
        )
    return array


def _text(shape: Shape) -> str:
    return "(" + ", ".join("n" if size is None else str(size) for size in shape) + ")"
