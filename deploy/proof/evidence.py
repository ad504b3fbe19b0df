"""What was seen when the emitted model ran: the smallest arena, and whether outputs are equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.graph import Graph
from deploy.runtime import litert, tflm
from keras_fmc.errors import VerificationError

RANDOM_SAMPLES = 12
_SEED = 2022


@dataclass(frozen=True, slots=True)
class Evidence:
    """The outcome of running a planned model beside its source.

    Attributes:
        verified: the model ran in TFLM in an arena of ``arena_bytes``, outputs equal.
        reason: how that was seen, or why it was not tried.
        arena_bytes: the smallest arena that ran in the wheel; None without a wheel.
        bit_exact: outputs equal the source model's byte for byte.
        samples: how many inputs were compared, random and extreme.
    """

    verified: bool
    reason: str
    arena_bytes: int | None
    bit_exact: bool
    samples: int


def sample_inputs(graph: Graph) -> list[list[np.ndarray]]:
    """Returns random inputs and extreme ones: constants at both ends, zero point, stripes."""
    rng = np.random.default_rng(_SEED)
    tensors = [graph.tensors[i] for i in graph.inputs]

    def fill(value: str) -> list[np.ndarray]:
        arrays = []
        for tensor in tensors:
            low, high = _limits(tensor.dtype)
            zero = tensor.quantization.zero_points[0] if tensor.quantization else 0
            size = tensor.elements
            stripes = np.where(np.arange(size) % 2, high, low)
            values = {
                "lowest": np.full(size, low),
                "highest": np.full(size, high),
                "zero": np.full(size, zero),
                "stripes": stripes,
                "halves": np.sort(stripes),
                "random": rng.integers(low, high, size, endpoint=True),
            }[value]
            arrays.append(values.astype(tensor.dtype).reshape(tensor.shape))
        return arrays

    extremes = [fill(name) for name in ("lowest", "highest", "zero", "stripes", "halves")]
    return extremes + [fill("random") for _ in range(RANDOM_SAMPLES)]


def _limits(dtype: str) -> tuple[int, int]:
    """The smallest and the largest value of an integer type or of bool."""
    if dtype == "bool":
        return 0, 1
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def collect(planned: bytes, source: bytes, *, graph: Graph, predicted_bytes: int) -> Evidence:
    """Runs both models on the same inputs and finds the smallest arena of the planned one.

    Raises:
        VerificationError: an output differs, or TFLM refuses the planned model.
    """
    samples = sample_inputs(graph)
    missing = tflm.unavailable_reason()
    if missing is not None:
        _compare(litert.run(source, samples), litert.run(planned, samples), graph)
        return Evidence(
            verified=False,
            reason=f"not run in TFLM: {missing}; outputs compared in LiteRT only",
            arena_bytes=None,
            bit_exact=True,
            samples=len(samples),
        )
    expected = tflm.run(source, samples, arena_bytes=tflm.ROOMY_ARENA_BYTES, isolated=True)
    smallest = tflm.smallest_arena(planned, guess=predicted_bytes)
    actual = tflm.run(planned, samples, arena_bytes=smallest, isolated=True)
    _compare(expected, actual, graph)
    return Evidence(
        verified=True,
        reason=f"ran in the tflite_micro wheel {tflm.version()} in an arena of {smallest:,} bytes, "
        f"{len(samples)} inputs, outputs equal byte for byte",
        arena_bytes=smallest,
        bit_exact=True,
        samples=len(samples),
    )


def _compare(
    expected: Sequence[Sequence[np.ndarray]], actual: Sequence[Sequence[np.ndarray]], graph: Graph
) -> None:
    for number, (wanted, found) in enumerate(zip(expected, actual, strict=True)):
        for index, w, f in zip(graph.outputs, wanted, found, strict=True):
            if w.shape != f.shape or not np.array_equal(w, f):
                raise VerificationError(
                    f"output {graph.tensors[index].name} differs from the source model's "
                    f"on input {number}",
                    expected="equal bytes",
                    received=f"{np.count_nonzero(w != f)} of {w.size} values differ",
                    remedy="This is a defect of the planner; please report it with the model",
                )
