"""Floats in, floats out: a planned model, run as the device runs it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from deploy import flatbuffer
from deploy.graph import Graph, Tensor
from deploy.macs import graph_macs
from deploy.progress import Progress
from deploy.runtime import litert, tflm
from keras_fmc.errors import BadInputError


class HasContent(Protocol):
    """What `plan` and `convert` return, as far as running goes."""

    @property
    def content(self) -> bytes | None:
        """The planned model, None where there is none."""


def predict(
    result: HasContent | bytes, x: Any, *, progress: bool | None = None
) -> np.ndarray | dict[str, np.ndarray]:
    """Returns the outputs of a planned model in TensorFlow Lite Micro, for many samples.

    Inputs are quantised, q = clip(round(x / scale) + zero_point), and outputs dequantised,
    y = scale * (q - zero_point). Where no wheel of TFLM is installed, LiteRT's reference kernels
    run the model.

    Args:
        result: what `plan` or `convert` returned, or the bytes of an int8 .tflite.
        x: (samples, ...) in floats as in training; for several inputs a dict by their names, or
            a list in their order.
        progress: whether a bar shows how far it is; None where stderr is a terminal.

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
        codes_of(array, tensor) for array, tensor in zip(arrays_of(graph, x), ends, strict=True)
    ]
    if len({len(array) for array in arrays}) != 1:
        raise BadInputError(
            "the inputs differ in their count of samples",
            received=", ".join(str(len(array)) for array in arrays),
        )
    rows = run_codes(content, arrays, progress=progress)
    outputs = {}
    for place, index in enumerate(graph.outputs):
        tensor = graph.tensors[index]
        codes = [np.reshape(row[place], tensor.shape) for row in rows]
        empty = np.zeros((0, *tensor.shape[1:]), np.float32)
        outputs[_name(tensor)] = _dequantised(np.concatenate([empty, *codes]), tensor)
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


_SAMPLES_A_STEP = 64
_PRODUCTS_A_STEP = 5_000_000_000
"""Ten seconds of reference kernels, or so: far from the time after which a run counts as hung."""


def run_codes(
    content: bytes, arrays: Sequence[np.ndarray], *, progress: bool | None = False
) -> list[list[np.ndarray]]:
    """Returns the outputs of an int8 model for each sample; `arrays` holds codes for each input.

    Samples of a model that keeps state run in one go, one after the other.
    """
    graph = flatbuffer.read(content)
    samples = [[array[i : i + 1] for array in arrays] for i in range(len(arrays[0]))]
    in_wheel = tflm.unavailable_reason() is None
    shown = sys.stderr.isatty() if progress is None else progress
    step = max(1, min(_SAMPLES_A_STEP, _PRODUCTS_A_STEP // max(graph_macs(graph), 1)))
    if graph.keeps_state:
        step = max(len(samples), 1)
    rows: list[list[np.ndarray]] = []
    with Progress(enabled=shown) as bar:
        for start in range(0, len(samples), step):
            bar.say(f"{start:,} of {len(samples):,} samples", start / len(samples))
            part = samples[start : start + step]
            if in_wheel:
                arena = tflm.ROOMY_ARENA_BYTES
                rows += tflm.run(content, part, arena_bytes=arena, isolated=True)
            else:
                rows += litert.run(content, part)
    return rows


def arrays_of(graph: Graph, x: Any) -> Sequence[Any]:
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


def codes_of(array: Any, tensor: Tensor) -> np.ndarray:
    """Returns the codes of samples of an input: clip(round(x / scale) + zero_point)."""
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
