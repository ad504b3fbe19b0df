"""Which tensor of the int8 model is which map of the Keras model: found by their values.

Names do not tell: the converter joins, splits and drops them. Values do, as both models are run on
the same samples and no two maps of a network are alike. A map that no tensor is close to, such as
one that exists inside an operator only, is no site.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deploy.graph import Graph, Tensor
from deploy.runtime.all_tensors import run_all

_CLOSE = 0.2
"""Share of a map's energy up to which the int8 model may be off; other maps are off by more."""


@dataclass(frozen=True, slots=True)
class CodeSite:
    """A map that may get a code.

    Attributes:
        name: of the map in the Keras model.
        shape: without the batch axis.
        tensor: index in the int8 graph.
        signed: whether the map can be negative.
        plain: whether it may be a plain code.
    """

    name: str
    shape: tuple[int, ...]
    tensor: int
    signed: bool
    plain: bool

    @property
    def size_bytes(self) -> int:
        return int(np.prod(self.shape))


def find_tensors(
    content: bytes,
    graph: Graph,
    inputs: Sequence[np.ndarray],
    values: Callable[[str], np.ndarray],
    names: Sequence[str],
) -> dict[str, int]:
    """Returns map name → tensor of the int8 graph; maps that are not found are left out.

    Args:
        inputs: some samples, one float array for each input of the model.
        values: returns a map of the Keras model for these samples.
        names: of the maps to look for.
    """
    wanted = [
        index
        for index in graph.activations()
        if graph.tensors[index].dtype == "int8" and index in graph.producers()
    ]
    count = len(inputs[0])
    runs = [
        run_all(
            content,
            [
                _quantised(graph.tensors[index], array[n : n + 1])
                for index, array in zip(graph.inputs, inputs, strict=True)
            ],
            wanted,
        )
        for n in range(count)
    ]
    held = {
        index: np.stack([_real(graph.tensors[index], run[index]).ravel() for run in runs])
        for index in wanted
    }
    order = graph.producers()
    found = {}
    for name in names:
        value = np.asarray(values(name))[:count]
        flat = value.reshape(count, -1).astype(np.float64)
        energy = float((flat**2).sum())
        shape = _squeezed(value.shape[1:])
        errors = [
            (float(((held[index] - flat) ** 2).sum()), order[index], index)
            for index in wanted
            if _squeezed(graph.tensors[index].shape[1:]) == shape
        ]
        if errors and energy > 0 and min(errors)[0] <= _CLOSE * energy:
            found[name] = min(errors)[2]
    return found


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _quantised(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    quantization = tensor.quantization
    assert quantization is not None
    kind = np.iinfo(tensor.dtype)
    codes = np.rint(values / quantization.scales[0]) + quantization.zero_points[0]
    return np.clip(codes, kind.min, kind.max).astype(tensor.dtype).reshape(tensor.shape)


def _real(tensor: Tensor, codes: np.ndarray) -> np.ndarray:
    quantization = tensor.quantization
    assert quantization is not None
    return (codes.astype(np.float64) - quantization.zero_points[0]) * quantization.scales[0]
