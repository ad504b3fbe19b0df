"""Inputs to try a model with: random ones and extreme ones."""

from __future__ import annotations

import numpy as np

from deploy.graph import Graph, Tensor
from deploy.operators.sets import CHANGES_TYPE

RANDOM_SAMPLES = 12
RESET: list[np.ndarray] = []
"""Stands among samples where the state is reset; a model that has no inputs is none."""
_AFTER_RESET = 3
_EXTREMES = ("lowest", "highest", "zero", "stripes", "halves")
_SEED = 2022
_FLOATS = (-1.0, 1.0)
"""Range of float inputs that are computed with as they are: that of a normalised image."""
_COUNTS = (0, 8)
"""Range of integers that may say how often a loop runs."""
_MOST_BYTES = 256 * 2**20
"""Of all samples together; models of usual size come nowhere near."""


def sample_inputs(graph: Graph) -> list[list[np.ndarray]]:
    """Returns random inputs and extreme ones: constants at both ends, zero point, stripes.

    There are 17, and fewer where the inputs are so large that these would fill the memory. A graph
    that keeps state is reset after them, and gets the last ones again.
    """
    rng = np.random.default_rng(_SEED)
    inputs = [(graph.tensors[i], _limits(graph, i)) for i in graph.inputs]
    size_bytes = sum(tensor.size_bytes for tensor, _ in inputs)
    names = _EXTREMES + ("random",) * RANDOM_SAMPLES
    count = max(2, _MOST_BYTES // max(size_bytes, 1))
    # Where there is room for a few only, the random ones say most.
    samples = [[_values(name, *given, rng) for given in inputs] for name in names[-count:]]
    return [*samples, RESET, *samples[-_AFTER_RESET:]] if graph.keeps_state else samples


def _values(
    name: str, tensor: Tensor, limits: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    low, high = limits
    size, dtype = tensor.elements, np.dtype(tensor.dtype)
    if name == "random" and dtype.kind == "f":
        values = rng.uniform(low, high, size).astype(dtype)
    elif name == "random":
        kind = dtype if dtype != np.bool_ else np.int8
        drawn = rng.integers(int(low), int(high), size, kind, True)
        values = drawn.astype(dtype, copy=False)
    elif name == "zero":
        zero = tensor.quantization.zero_points[0] if tensor.quantization else 0
        values = np.full(size, zero if dtype.kind != "f" else 0, dtype)
    else:
        values = np.full(size, high if name == "highest" else low, dtype)
        if name == "stripes":
            values[1::2] = high
        elif name == "halves":
            values[(size + 1) // 2 :] = high
    return values.reshape(tensor.shape)


def _limits(graph: Graph, index: int) -> tuple[float, float]:
    """The smallest and the largest value of an input.

    Those of its type; of a float they are what the QUANTIZE that reads it can tell apart,
    scale · (lowest code - zero point) to scale · (highest code - zero point), or -1 to 1.
    """
    dtype = graph.tensors[index].dtype
    if dtype == "bool":
        return 0, 1
    if graph.branches and dtype in ("int32", "int64"):
        return _COUNTS
    if not np.issubdtype(dtype, np.floating):
        limits = np.iinfo(dtype)
        return int(limits.min), int(limits.max)
    for operator in graph.operators:
        if operator.opcode in CHANGES_TYPE and operator.inputs[0] == index:
            made = graph.tensors[operator.outputs[0]]
            if made.quantization is not None:
                codes = np.iinfo(made.dtype)
                scale, zero = made.quantization.scales[0], made.quantization.zero_points[0]
                return scale * (int(codes.min) - zero), scale * (int(codes.max) - zero)
    return _FLOATS
