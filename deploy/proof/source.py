"""The source model, run as it stands in its file: what the plan has to repeat, and whose fault
it is where that cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from deploy import flatbuffer
from deploy.graph import Graph
from deploy.macs import graph_macs
from deploy.operators.custom import own_kernels
from deploy.passes.reference_versions import with_reference_versions
from deploy.passes.stand_ins import with_stand_ins
from deploy.proof.samples import RESET, sample_inputs
from deploy.runtime import isolation, litert, tflm
from keras_fmc.errors import FmcError, UnsupportedModelError, VerificationError
from keras_fmc.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

Outputs = Sequence[Sequence[np.ndarray]]

_FEWEST_COMPARED = 2
_PRODUCTS_COMPARED = 200_000_000
"""Multiply-accumulates, of all samples, that LiteRT's reference kernels are given: a second."""


@dataclass(frozen=True, slots=True)
class SourceRun:
    """The outputs of a source model.

    Attributes:
        content: the model that was run.
        samples: the inputs.
        outputs: for each sample one array for each output.
        warnings: what is odd about the model itself.
        defects: what the runtime's own kernels are known to get wrong in it.
        not_run: why it was not run at all, which is no fault of its own.
    """

    content: bytes = field(repr=False)
    samples: list[list[np.ndarray]] = field(repr=False)
    outputs: Outputs = field(repr=False)
    warnings: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()
    not_run: str | None = None


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A model file as TensorFlow Lite Micro is given it.

    Attributes:
        graph: the model, with stand-ins for what the runtime lacks.
        content: its bytes: the file, or the file with stand-ins.
        reference: the file, where that is not what the runtime is given: LiteRT can run it, and
            says what it computes.
        source: names the file in messages.
    """

    graph: Graph
    content: bytes = field(repr=False)
    reference: bytes | None = field(default=None, repr=False)
    source: str = "the model"

    @classmethod
    def read(cls, content: bytes, *, source: str = "the model") -> SourceFile:
        """Reads the bytes of a .tflite file.

        Raises:
            BadInputError, UnsupportedModelError: it cannot be read, or nothing can stand for what
                the runtime lacks.
        """
        original = flatbuffer.read(content, source=source)
        graph = with_stand_ins(original, source)
        if graph is original:
            return cls(graph, content, source=source)
        return cls(graph, flatbuffer.write(graph), content, source)

    def run(self, *, without_plan: bytes | None = None, defects: tuple[str, ...] = ()) -> SourceRun:
        """Runs it, as `run_source` does, whose arguments these are.

        Raises:
            UnsupportedModelError: as `run_source`.
        """
        return run_source(
            self.content,
            self.graph,
            source=self.source,
            reference=self.reference,
            without_plan=without_plan,
            defects=defects,
        )


def run_source(
    content: bytes,
    graph: Graph,
    *,
    source: str = "the model",
    reference: bytes | None = None,
    without_plan: bytes | None = None,
    defects: tuple[str, ...] = (),
) -> SourceRun:
    """Runs the bytes of a file in TensorFlow Lite Micro, and beside it in LiteRT.

    Where the two differ, TensorFlow Lite Micro is followed, and a warning says so. A plan that
    the file brings is obeyed, unless the model computes something else without it. Without the
    wheel LiteRT's outputs are what the plan has to repeat.

    Args:
        content: of the file.
        graph: the model in it.
        source: names the file in messages.
        reference: the same model with operators that only LiteRT runs; its outputs have to be
            the same.
        without_plan: the same model without the offline plan that the file brings, if it does.
        defects: what the runtime's own kernels are known to get wrong in it.

    Raises:
        UnsupportedModelError: the runtime refuses the model, crashes, or does not come to an end.
    """
    own = own_kernels(graph)
    if own:
        reason = (
            f"kernels of {', '.join(own)} are the firmware's own: neither the tflite_micro wheel "
            "nor LiteRT can run the model"
        )
        return SourceRun(content, [], [], (_UNKNOWN_MEMORY.format(", ".join(own)),), (), reason)
    samples = sample_inputs(graph)
    in_litert = _in_litert(content if reference is None else reference, graph)
    if tflm.unavailable_reason() is not None:
        samples = _until_reset(samples)
        outputs = _blamed(lambda: in_litert(samples), source, "LiteRT")
        return SourceRun(content, samples, outputs)

    def run(model: bytes, inputs: list[list[np.ndarray]]) -> Outputs:
        return tflm.run(model, inputs, arena_bytes=tflm.ROOMY_ARENA_BYTES, isolated=True)

    outputs = _blamed(lambda: run(content, samples), source, "TensorFlow Lite Micro")
    warnings = []
    if without_plan is not None:
        plain = without_plan
        without = _blamed(lambda: run(plain, samples), source, "TensorFlow Lite Micro")
        if not _equal(outputs, without):
            warnings.append(
                "the memory plan that the model brings is wrong: without it TensorFlow Lite Micro "
                "computes other outputs, which were taken as right"
            )
            content, outputs = plain, without
    count = max(_FEWEST_COMPARED, _PRODUCTS_COMPARED // max(graph_macs(graph), 1))
    # What keeps state has to run from its first sample on.
    compared = slice(count) if graph.keeps_state else slice(-count, None)
    given = _until_reset(samples[compared])
    try:
        others = in_litert(given)
    except FmcError as error:
        reason = one_line(str(error.received or error.what))
        warnings.append(f"not compared with LiteRT, which cannot run the model: {reason}")
    else:
        if not _equal(outputs[compared][: len(given)], others):
            warnings.append(
                "TensorFlow Lite Micro and LiteRT compute different outputs of the model as it "
                "is; the plan repeats those of TensorFlow Lite Micro"
            )
    return SourceRun(content, samples, outputs, tuple(warnings), defects)


_UNKNOWN_MEMORY = (
    "what the kernels of {} keep, and their scratch buffers, are not known and count as nothing: "
    "compare arena_used_bytes() of the firmware with the plan, and enlarge the arena by the "
    "difference"
)


def check_repeats(run: SourceRun) -> None:
    """Runs the source again where a plan of it went wrong, its samples in another order unless it
    keeps state.

    Raises:
        UnsupportedModelError: its outputs are others now, as it reads what nobody wrote, or may
            be others in another arena, as one of the runtime's own kernels is known to read that.
    """
    if tflm.unavailable_reason() is not None:
        return
    if run.defects:
        raise UnsupportedModelError(
            "the model computes other outputs of the same inputs in another arena",
            received=run.defects[0],
            remedy="The model itself is at fault, not its plan",
        )
    order = slice(None) if flatbuffer.read(run.content).keeps_state else slice(None, None, -1)
    again = _blamed(
        lambda: tflm.run(
            run.content, run.samples[order], arena_bytes=tflm.ROOMY_ARENA_BYTES, isolated=True
        ),
        "the model",
        "TensorFlow Lite Micro",
    )
    if not _equal(run.outputs, again[order]):
        raise UnsupportedModelError(
            "the model computes other outputs of the same inputs each time it runs in TensorFlow "
            "Lite Micro: an operator leaves values unwritten",
            remedy="The model itself is at fault, not its plan: convert it again",
        )


def _until_reset(samples: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """LiteRT resets other things than TensorFlow Lite Micro does."""
    return samples[: samples.index(RESET)] if RESET in samples else samples


def _in_litert(content: bytes, graph: Graph) -> Callable[[list[list[np.ndarray]]], Outputs]:
    """Runs the file, or, where only its operator versions are too new, the same with older ones."""

    def run(samples: list[list[np.ndarray]]) -> Outputs:
        call = isolation.call
        try:
            return call(litert.__name__, "run", content, samples)
        except UnsupportedModelError:
            older = with_reference_versions(graph)
            if older == graph:
                raise
            return call(litert.__name__, "run", flatbuffer.write(older), samples)

    return run


def _blamed(run: Callable[[], Outputs], source: str, runtime: str) -> Outputs:
    try:
        return run()
    except isolation.CrashedError as error:
        raise UnsupportedModelError(
            f"{runtime} does not survive {source} as it is",
            received=error.received or error.what,
            remedy="The model itself is at fault, not its plan: convert it again, or simplify it",
        ) from error
    except (UnsupportedModelError, VerificationError) as error:
        raise UnsupportedModelError(
            f"{runtime} cannot run {source} as it is",
            received=error.received,
            remedy="The model itself is at fault, not its plan: convert it again, or replace the "
            "operator that is named",
        ) from error


def _equal(one: Outputs, other: Outputs) -> bool:
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left, right, strict=True)
    )
