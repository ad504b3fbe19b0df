"""TensorFlow Lite Micro as its wheel runs it: outputs, allocations, the smallest arena.

An overlapping plan is obeyed and a plan that leaves the arena, or an arena that is too small,
can crash the process. ``fits`` and ``smallest_arena`` therefore try arenas in a child process;
``run`` and ``allocations`` do so when asked with ``isolated=True``, and are otherwise as fast as
the runtime. What it prints on file descriptors 1 and 2 is captured and becomes part of errors.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploy.operators.check import LARGEST_ARENA_BYTES
from deploy.runtime import isolation
from keras_fmc.errors import (
    BadInputError,
    DoesNotFitError,
    UnsupportedModelError,
    VerificationError,
)

ARENA_STEP_BYTES = 16
"""Arenas are measured in steps of the runtime's buffer alignment."""

ROOMY_ARENA_BYTES = LARGEST_ARENA_BYTES
"""An arena in which every model that a microcontroller can hold has room; never touched whole."""

_SMALLEST_ARENA_BYTES = 512
_TOTALS = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
# RuntimeError is the runtime's; the rest comes of reading bytes that are no flatbuffer.
_REFUSALS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, struct.error)
_CAPTURE_LOCK = threading.Lock()


class ArenaTooSmallError(DoesNotFitError):
    """TensorFlow Lite Micro ran out of memory while it allocated in the arena it was given."""


@dataclass(frozen=True, slots=True)
class Allocations:
    """What the runtime reports once a model stands in its arena.

    Attributes:
        total_bytes: head and tail together; the arena that works can be larger, because
            allocation itself needs memory that is given back.
        head_bytes: the planned part, reused by the tensors.
        tail_bytes: the persistent part.
        details: cause -> bytes, as the recording allocator names them; parts of the tail.
    """

    total_bytes: int
    head_bytes: int
    tail_bytes: int
    details: dict[str, int] = field(default_factory=dict)


def unavailable_reason() -> str | None:
    """Returns why models cannot be run in TensorFlow Lite Micro here, or None if they can."""
    if importlib.util.find_spec("tflite_micro") is None:
        return (
            f"tflite_micro is not installed (no wheel exists for every platform; "
            f"this is {platform.system()} {platform.machine()})"
        )
    return None


def load() -> None:
    """Imports the runtime, where it is installed, before the first model needs it."""
    if unavailable_reason() is None:
        importlib.import_module("tflite_micro.python.tflite_micro.runtime")


def version() -> str | None:
    """Returns the version of the installed wheel, or None where there is none."""
    from importlib import metadata

    try:
        return metadata.version("tflite_micro")
    except metadata.PackageNotFoundError:
        return None


def run(
    content: bytes,
    inputs: Sequence[Sequence[np.ndarray]],
    *,
    arena_bytes: int,
    isolated: bool = False,
) -> list[list[np.ndarray]]:
    """Runs a model and returns its outputs.

    Args:
        content: the bytes of a .tflite file, with or without an offline plan.
        inputs: samples; each holds one array for each input of the model, in its dtype. An empty
            one resets the state, and has no outputs.
        arena_bytes: the whole arena.
        isolated: in a child process, for a model or a plan that is not trusted.

    Returns:
        For each sample one array for each output.

    Raises:
        ArenaTooSmallError: the model does not allocate in the arena.
        UnsupportedModelError: the runtime refuses the model whatever the arena.
        BadInputError: a sample does not match the model's inputs, or no wheel is installed.
        VerificationError: the model allocates, but invoking it fails.
        CrashedError: the child process ended; without ``isolated`` this one ends instead.
    """
    if isolated:
        return isolation.call(__name__, "run", content, inputs, arena_bytes=arena_bytes)
    with _captured() as noise:
        interpreter = _construct(content, arena_bytes, noise)
        ends = _details(interpreter.get_input_details), _details(interpreter.get_output_details)
        outputs = []
        for sample in inputs:
            if sample or not ends[0]:
                outputs.append(_invoke(interpreter, sample, ends, noise))
            else:
                interpreter.reset()
        return outputs


def allocations(content: bytes, arena_bytes: int, *, isolated: bool = False) -> Allocations:
    """Returns what the runtime says it allocated for a model in an arena of this size.

    Raises:
        ArenaTooSmallError, UnsupportedModelError, BadInputError: as ``run``.
        VerificationError: the runtime printed something else than allocations.
    """
    if isolated:
        return isolation.call(__name__, "allocations", content, arena_bytes)
    with _captured() as noise:
        interpreter = _construct(content, arena_bytes, noise)
        before = len(noise())
        interpreter.print_allocations()
        text = noise()[before:]
    totals = {name: int(size) for name, size in _TOTALS.findall(text)}
    if totals.keys() != {"total", "head", "tail"}:
        raise VerificationError(
            "cannot read the allocations of TensorFlow Lite Micro",
            expected="lines such as 'Arena allocation head N bytes'",
            received=repr(text[:200]),
        )
    causes = re.findall(r"'([^']+)' used (\d+) bytes", text)
    return Allocations(
        total_bytes=totals["total"],
        head_bytes=totals["head"],
        tail_bytes=totals["tail"],
        details={cause: int(size) for cause, size in causes},
    )


def fits(content: bytes, arena_bytes: int) -> bool:
    """Returns whether the runtime allocates the model in an arena of this size.

    A crash of the child process that tries it counts as no.
    """
    try:
        return isolation.call(__name__, "allocates", content, arena_bytes)
    except isolation.CrashedError:
        return False


def allocates(content: bytes, arena_bytes: int) -> bool:
    """As ``fits``, in this process, which ends where the runtime crashes."""
    with _captured():
        return _attempt(content, arena_bytes)[0] is not None


def smallest_arena(
    content: bytes,
    *,
    guess: int | None = None,
    inputs: Sequence[Sequence[np.ndarray]] | None = None,
    expected: Sequence[Sequence[np.ndarray]] | None = None,
) -> int:
    """Returns the smallest multiple of 16 bytes in which a model allocates and runs right.

    A right ``guess`` costs two constructions (it works, 16 bytes less do not); a wrong one is
    the start of a bisection. At the result the model is run, and its outputs must be those of
    an arena with room to spare.

    Args:
        content: the bytes of a .tflite file.
        guess: expected arena in bytes.
        inputs: samples to run; by default two of random values.
        expected: outputs for ``inputs``; by default those that a roomy arena gives.

    Raises:
        UnsupportedModelError: the runtime refuses the model whatever the arena.
        VerificationError: the outputs change in the smallest arena.
    """
    if guess is None:
        guess = allocations(content, ROOMY_ARENA_BYTES, isolated=True).total_bytes
    samples = inputs
    if samples is None:
        samples = isolation.call(__name__, "random_inputs", content)
    if expected is None:
        expected = run(content, samples, arena_bytes=ROOMY_ARENA_BYTES, isolated=True)
    size = _smallest(lambda bytes_: fits(content, bytes_), guess)
    actual = run(content, samples, arena_bytes=size, isolated=True)
    for sample, (want, got) in enumerate(zip(expected, actual, strict=True)):
        for output, (a, b) in enumerate(zip(want, got, strict=True)):
            if a.shape != b.shape or a.tobytes() != b.tobytes():
                raise VerificationError(
                    f"output {output} of sample {sample} differs in an arena of {size} bytes",
                    expected="the outputs of a roomy arena",
                    received=f"{np.count_nonzero(a != b)} of {a.size} values changed",
                )
    return size


def random_inputs(content: bytes, *, samples: int = 2, seed: int = 0) -> list[list[np.ndarray]]:
    """Returns ``samples`` sets of inputs of the model's shapes, uniform over integer types."""
    with _captured() as noise:
        interpreter = _construct(content, ROOMY_ARENA_BYTES, noise)
        inputs = _details(interpreter.get_input_details)
    generator = np.random.default_rng(seed)
    result = []
    for _ in range(samples):
        sample = []
        for shape, dtype in inputs:
            if np.issubdtype(dtype, np.integer):
                limits = np.iinfo(dtype)
                values = generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
            elif dtype == np.bool_:
                values = generator.integers(0, 2, shape).astype(dtype)
            else:
                values = generator.standard_normal(shape).astype(dtype)
            sample.append(values)
        result.append(sample)
    return result


def _smallest(works: Callable[[int], bool], guess: int) -> int:
    """Returns the smallest multiple of 16 that works, searched around ``guess``."""
    step = ARENA_STEP_BYTES
    high = max(-(-guess // step) * step, step)
    low = 0
    stride = step
    if works(high):
        while high - stride > 0:
            if not works(high - stride):
                low = high - stride
                break
            high -= stride
            stride *= 2
    else:
        low = high
        while not works(low + stride):
            low += stride
            stride *= 2
            if low > ROOMY_ARENA_BYTES:
                raise UnsupportedModelError(
                    f"the model does not fit an arena of {ROOMY_ARENA_BYTES} bytes"
                )
        high = low + stride
    while high - low > step:
        middle = (low + high) // (2 * step) * step
        if works(middle):
            high = middle
        else:
            low = middle
    return high


def _construct(content: bytes, arena_bytes: int, noise: Callable[[], str]) -> Any:
    interpreter, message = _attempt(content, arena_bytes)
    if interpreter is not None:
        return interpreter
    text = _last_lines(noise())
    # Messages differ with the place where memory ran out; another try is the sure sign.
    if arena_bytes < ROOMY_ARENA_BYTES and _attempt(content, ROOMY_ARENA_BYTES)[0] is not None:
        raise ArenaTooSmallError(
            f"the model does not allocate in {arena_bytes} bytes", received=text
        )
    raise UnsupportedModelError(
        "TensorFlow Lite Micro refuses the model", received=f"{message}: {text}"
    )


def _attempt(content: bytes, arena_bytes: int) -> tuple[Any, str]:
    """Returns the interpreter, or None and the message of the runtime."""
    reason = unavailable_reason()
    if reason is not None:
        raise BadInputError("cannot run TensorFlow Lite Micro", received=reason)
    if arena_bytes < _SMALLEST_ARENA_BYTES:
        # The allocator's own structures do not fit, and the runtime does not check that.
        return None, f"the runtime itself needs {_SMALLEST_ARENA_BYTES} bytes"
    from tflite_micro.python.tflite_micro import runtime

    try:
        return runtime.Interpreter.from_bytes(content, arena_size=arena_bytes), ""
    except _REFUSALS as error:
        return None, str(error)


_Ends = list[tuple[tuple[int, ...], np.dtype]]


def _invoke(
    interpreter: Any,
    sample: Sequence[np.ndarray],
    ends: tuple[_Ends, _Ends],
    noise: Callable[[], str],
) -> list[np.ndarray]:
    inputs, outputs = ends
    received = [(tuple(values.shape), values.dtype) for values in sample]
    if received != inputs:
        raise BadInputError(
            "a sample does not match the inputs of the model",
            expected=_describe(inputs),
            received=_describe(received),
        )
    for index, values in enumerate(sample):
        interpreter.set_input(np.array(values, order="C"), index)
    try:
        interpreter.invoke()
    except RuntimeError as error:
        raise VerificationError(
            "TensorFlow Lite Micro fails to invoke the model",
            received=f"{error}: {_last_lines(noise())}",
        ) from error
    return [np.array(interpreter.get_output(index)) for index in range(len(outputs))]


def _describe(ends: _Ends) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for shape, dtype in ends) or "nothing"


def _details(read: Callable[[int], dict[str, Any]]) -> _Ends:
    """Returns (shape, dtype) of every input or output; the wheel has no count of them."""
    found: _Ends = []
    while True:
        try:
            details = read(len(found))
        except IndexError:
            return found
        found.append((tuple(int(d) for d in details["shape"]), np.dtype(details["dtype"])))


@contextmanager
def _captured() -> Iterator[Callable[[], str]]:
    """Sends file descriptors 1 and 2 to a file; yields a reader of what came so far."""
    with _CAPTURE_LOCK, tempfile.TemporaryFile() as sink:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        saved = (os.dup(1), os.dup(2))

        def text() -> str:
            return os.pread(sink.fileno(), 1 << 24, 0).decode("utf-8", "replace")

        try:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            yield text
        finally:
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])


def _last_lines(text: str, count: int = 3) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-count:]) or "no message"
