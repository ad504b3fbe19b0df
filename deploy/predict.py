"""Floats in, floats out: a planned model, run as the device runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deploy import flatbuffer
from deploy.graph import Graph, Tensor
from deploy.pipeline import Result
from deploy.runtime import litert, tflm
from keras_fmc.errors import BadInputError


def predict(result: Result | bytes, x: Any) -> np.ndarray | dict[str, np.ndarray]:
    """Returns the outputs of a planned model in TensorFlow Lite Micro, for many samples.

    Inputs are quantised, q = clip(round(x / scale) + zero_point), and outputs dequantised,
    y = scale * (q - zero_point). Where no wheel of TFLM is installed, LiteRT's reference kernels
    run the model.

    Args:
        result: what `plan` or `convert` returned, or the bytes of an int8 .tflite.
        x: (samples, ...) in floats as in training; for several inputs a dict by their names, or
            a list in their order.

    Returns:
        float32 (samples, ...); a dict by name for a model of several outputs.

    Raises:
        BadInputError: no model in the result, or samples of another shape.
    """
    content = result if isinstance(result, bytes) else result.content
    if content is None:
        raise BadInputError(
            "the result holds no model",
            expected="a plan that fits, for TensorFlow Lite Micro",
            remedy="Give a larger board or arena_bytes=, and leave runtime='c' out",
        )
    graph = flatbuffer.read(content)
    ends = [graph.tensors[index] for index in graph.inputs]
    arrays = [
        _quantised(array, tensor) for array, tensor in zip(_arrays(graph, x), ends, strict=True)
    ]
    if len({len(array) for array in arrays}) != 1:
        raise BadInputError(
            "the inputs differ in their count of samples",
            received=", ".join(str(len(array)) for array in arrays),
        )
    samples = [[array[i : i + 1] for array in arrays] for i in range(len(arrays[0]))]
    if tflm.unavailable_reason() is None:
        rows = tflm.run(content, samples, arena_bytes=tflm.ROOMY_ARENA_BYTES, isolated=True)
    else:
        rows = litert.run(content, samples)
    outputs = {}
    for place, index in enumerate(graph.outputs):
        tensor = graph.tensors[index]
        codes = [np.reshape(row[place], tensor.shape) for row in rows]
        empty = np.zeros((0, *tensor.shape[1:]), np.float32)
        outputs[_name(tensor)] = _dequantised(np.concatenate([empty, *codes]), tensor)
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def _arrays(graph: Graph, x: Any) -> Sequence[Any]:
    """Returns an array for each input, in the model's order."""
    names = [_name(graph.tensors[index]) for index in graph.inputs]
    if isinstance(x, Mapping):
        if set(x) != set(names):
            raise BadInputError("unknown inputs", sorted(names), sorted(map(str, x)))
        return [x[name] for name in names]
    if len(names) == 1:
        return [x]
    if not isinstance(x, (list, tuple)) or len(x) != len(names):
        raise BadInputError(
            "a model of several inputs takes several arrays",
            expected=f"a list of {len(names)}, or a dict of {', '.join(names)}",
            received=type(x).__name__,
        )
    return x


def _quantised(array: Any, tensor: Tensor) -> np.ndarray:
    values = np.asarray(array, np.float32)
    shape = tuple(tensor.shape[1:])
    if values.shape[1:] != shape or values.ndim != len(tensor.shape):
        raise BadInputError(
            f"samples of input {_name(tensor)!r} have another shape",
            expected=("samples", *shape),
            received=values.shape,
        )
    if tensor.quantization is None:
        return values.astype(tensor.dtype)
    scale, zero = _scale(tensor)
    limits = np.iinfo(tensor.dtype)
    return np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(tensor.dtype)


def _dequantised(codes: np.ndarray, tensor: Tensor) -> np.ndarray:
    if tensor.quantization is None:
        return codes.astype(np.float32)
    scale, zero = _scale(tensor)
    return ((codes.astype(np.float32) - zero) * scale).astype(np.float32)


def _scale(tensor: Tensor) -> tuple[np.float32, int]:
    assert tensor.quantization is not None
    return np.float32(tensor.quantization.scales[0]), int(tensor.quantization.zero_points[0])


def _name(tensor: Tensor) -> str:
    return tensor.name
