"""Inputs to try a model with: random ones and extreme ones."""

from __future__ import annotations

import numpy as np

from deploy.graph import Graph, Tensor

RANDOM_SAMPLES = 12
_EXTREMES = ("lowest", "highest", "zero", "stripes", "halves")
_SEED = 2022
_MOST_BYTES = 256 * 2**20
"""Of all samples together; models of usual size come nowhere near."""


def sample_inputs(graph: Graph) -> list[list[np.ndarray]]:
    """Returns random inputs and extreme ones: constants at both ends, zero point, stripes.

    There are 17, and fewer where the inputs are so large that these would fill the memory.
    """
    rng = np.random.default_rng(_SEED)
    tensors = [graph.tensors[i] for i in graph.inputs]
    size_bytes = sum(tensor.size_bytes for tensor in tensors)
    names = _EXTREMES + ("random",) * RANDOM_SAMPLES
    count = max(2, _MOST_BYTES // max(size_bytes, 1))
    # Where there is room for a few only, the random ones say most.
    return [[_values(name, t, rng) for t in tensors] for name in names[-count:]]


def _values(name: str, tensor: Tensor, rng: np.random.Generator) -> np.ndarray:
    low, high = _limits(tensor.dtype)
    size, dtype = tensor.elements, np.dtype(tensor.dtype)
    if name == "random":
        drawn = rng.integers(low, high, size, dtype if dtype != np.bool_ else np.int8, True)
        values = drawn.astype(dtype, copy=False)
    elif name == "zero":
        zero = tensor.quantization.zero_points[0] if tensor.quantization else 0
        values = np.full(size, zero, dtype)
    else:
        values = np.full(size, high if name == "highest" else low, dtype)
        if name == "stripes":
            values[1::2] = high
        elif name == "halves":
            values[(size + 1) // 2 :] = high
    return values.reshape(tensor.shape)


def _limits(dtype: str) -> tuple[int, int]:
    """The smallest and the largest value of an integer type or of bool."""
    if dtype == "bool":
        return 0, 1
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)
