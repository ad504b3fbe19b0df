"""What was seen when the emitted model ran: the smallest arena, and whether outputs are equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.graph import Graph
from deploy.proof.samples import RESET
from deploy.proof.source import SourceFile, SourceRun, check_repeats
from deploy.runtime import litert, tflm
from keras_fmc.errors import UnsupportedModelError, VerificationError

_TRIED = 2
"""Samples that are run in the smallest arena while that is looked for."""
_DEFECT = "This is a defect of the planner; please report it with the model"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The outcome of running a planned model beside its source.

    Attributes:
        verified: the model ran in TFLM in an arena of ``arena_bytes``, outputs equal.
        reason: how that was seen, or why it was not tried.
        arena_bytes: the smallest arena that ran in the wheel; None without a wheel.
        bit_exact: outputs equal the source model's byte for byte; None where neither was run.
        samples: how many inputs were compared, random and extreme.
        warnings: what is odd about the source model itself.
    """

    verified: bool
    reason: str
    arena_bytes: int | None
    bit_exact: bool | None
    samples: int
    warnings: tuple[str, ...] = ()


def collect(
    planned: bytes, source: bytes | SourceRun, *, graph: Graph, predicted_bytes: int
) -> Evidence:
    """Runs a planned model on the inputs of its source, in the smallest arena in which it works.

    Args:
        planned: the model with its plan.
        source: the run of its source, or the source, which is run first.
        graph: of the model; names its outputs in messages.
        predicted_bytes: the arena to try first.

    Raises:
        VerificationError: an output differs, or TFLM refuses the planned model.
        UnsupportedModelError: the source cannot be run.
    """
    if isinstance(source, bytes):
        source = SourceFile.read(source).run()
    if source.not_run is not None:
        return Evidence(False, source.not_run, None, None, 0, source.warnings)
    count = len(source.outputs)
    missing = tflm.unavailable_reason()
    if missing is not None:
        _compare(source.outputs, litert.run(planned, source.samples), graph)
        return Evidence(
            verified=False,
            reason=f"not run in TFLM: {missing}; outputs compared in LiteRT only",
            arena_bytes=None,
            bit_exact=True,
            samples=count,
            warnings=source.warnings,
        )
    try:
        smallest = tflm.smallest_arena(
            planned, guess=predicted_bytes, inputs=source.samples[-_TRIED:]
        )
        actual = tflm.run(planned, source.samples, arena_bytes=smallest, isolated=True)
        _compare(source.outputs, actual, graph)
    except VerificationError:
        check_repeats(source)
        raise
    except UnsupportedModelError as error:
        # The source ran: what is refused now is our doing.
        raise VerificationError(
            "TensorFlow Lite Micro refuses the planned model",
            received=error.received,
            remedy=_DEFECT,
        ) from error
    return Evidence(
        verified=True,
        reason=f"ran in the tflite_micro wheel {tflm.version()} in an arena of {smallest:,} bytes, "
        f"{count} inputs{_in_sequence(source)}, outputs equal byte for byte",
        arena_bytes=smallest,
        bit_exact=True,
        samples=count,
        warnings=source.warnings,
    )


def _in_sequence(source: SourceRun) -> str:
    """What is said of a model that keeps state."""
    if RESET not in source.samples:
        return ""
    after = len(source.outputs) - source.samples.index(RESET)
    return f" in sequence with its state, {after} of them after a reset"


def _compare(
    expected: Sequence[Sequence[np.ndarray]], actual: Sequence[Sequence[np.ndarray]], graph: Graph
) -> None:
    for number, (wanted, found) in enumerate(zip(expected, actual, strict=True)):
        for index, w, f in zip(graph.outputs, wanted, found, strict=True):
            if w.shape != f.shape or w.tobytes() != f.tobytes():
                raise VerificationError(
                    f"output {graph.tensors[index].name} differs from the source model's "
                    f"on input {number}",
                    expected="equal bytes",
                    received=f"{np.count_nonzero(w != f)} of {w.size} values differ",
                    remedy=_DEFECT,
                )
