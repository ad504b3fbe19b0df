"""What was seen when generated C ran beside the model it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.backends.c.build import GeneratedModel, stand_in_files
from deploy.graph import Graph
from deploy.proof.names import short_name
from deploy.proof.source import SourceRun
from deploy.runtime import compiled, tflm
from keras_fmc.errors import VerificationError


@dataclass(frozen=True, slots=True)
class CEvidence:
    """The outcome of compiling and running generated C.

    Attributes:
        verified: it ran on this machine, and its outputs are TFLM's.
        reason: how that was seen, or why it was not tried.
        bit_exact: outputs equal the source model's byte for byte; None: not compared.
        samples: how many inputs were compared, random and extreme.
        warnings: what is odd about the source model itself.
    """

    verified: bool
    reason: str
    bit_exact: bool | None
    samples: int
    warnings: tuple[str, ...] = ()


def collect(model: GeneratedModel, source: SourceRun) -> CEvidence:
    """Compiles a generated model and compares its outputs with those of its source.

    Raises:
        VerificationError: it does not compile, stops with an error, or an output differs.
    """
    missing = compiled.unavailable_reason()
    if missing is not None:
        return CEvidence(False, f"not compiled: {missing}", None, 0, source.warnings)
    files = {**stand_in_files(), **model.files} if model.uses_library else model.files
    actual = compiled.run(
        files,
        source.samples,
        name=model.name,
        graph=model.graph,
        fed_rows=model.fed_rows,
        fed_input=model.fed_input,
        check=model.uses_library,
    )
    _compare(source.outputs, actual, model.graph)
    way = _way(model)
    library = ", a stand-in for CMSIS-NN's functions" if model.uses_library else ""
    there = tflm.unavailable_reason() is None
    runtime = f"the tflite_micro wheel {tflm.version()}" if there else "LiteRT"
    return CEvidence(
        verified=True,
        reason=f"compiled and run on this machine with {way}{library}, "
        f"{len(source.samples)} inputs, outputs equal byte for byte to those of {runtime}",
        bit_exact=True,
        samples=len(source.samples),
        warnings=source.warnings,
    )


def _way(model: GeneratedModel) -> str:
    """How the inputs are handed over; of several, which."""
    if model.fed_rows is None:
        return "the image in RAM"
    names = [short_name(model.graph.tensors[t].name) for t in model.graph.inputs]
    fed = names.pop(model.fed_input)
    if not names:
        return "the image fed row by row"
    return f"input {fed} fed row by row and {', '.join(names)} filled in place before it"


def _compare(
    expected: Sequence[Sequence[np.ndarray]],
    actual: Sequence[Sequence[np.ndarray]],
    graph: Graph,
) -> None:
    for number, (wanted, found) in enumerate(zip(expected, actual, strict=True)):
        for index, w, f in zip(graph.outputs, wanted, found, strict=True):
            if not np.array_equal(w.reshape(f.shape), f):
                raise VerificationError(
                    f"output {graph.tensors[index].name} of the generated C differs from the "
                    f"model's on input {number}",
                    expected="equal bytes",
                    received=f"{np.count_nonzero(w.reshape(f.shape) != f)} of {f.size} values "
                    "differ",
                    remedy="This is a defect of the generator; please report it with the model",
                )
