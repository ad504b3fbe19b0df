"""Runs functions of the runtimes in a child process, because a bad plan can crash the runtime.

TensorFlow Lite Micro obeys offsets that overlap or leave the arena, and some of its kernels
follow null pointers when an arena is too small. A crash of the child becomes ``CrashedError``;
the next call starts another child. Starting one costs the import of NumPy and of the runtime
(0.3 s where it was measured), a call about a millisecond.
"""

from __future__ import annotations

import atexit
import importlib
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from deploy.runtime.child import Child
from keras_fmc.errors import FmcError, VerificationError

TIMEOUT_SECONDS = 120.0
"""A call that takes longer is given up: a broken model may never return."""

_PATIENCE_SECONDS = 5.0
"""How long a child that ends by itself is waited for, to tell how it ended."""

_LOADED = "loaded"

_MODULES = ("deploy.runtime.tflm", "deploy.runtime.litert")


class CrashedError(VerificationError):
    """The process that ran the model ended, or did not answer in time."""


class _Worker(Child):
    """The child that runs models."""

    def call(self, module: str, function: str, args: tuple, kwargs: dict) -> Any:
        try:
            self.connection.send((module, function, args, kwargs))
            if not self.connection.poll(TIMEOUT_SECONDS):
                self.close(patience_seconds=_PATIENCE_SECONDS)
                raise CrashedError(
                    f"{function} did not return within {TIMEOUT_SECONDS:.0f} seconds"
                )
            return self.connection.recv()
        except (EOFError, OSError) as error:
            self.close(patience_seconds=_PATIENCE_SECONDS)
            raise CrashedError(
                f"the process that ran the model ended during {function}",
                received=_ending(self.process.returncode),
                remedy="The plan or the arena made the runtime touch memory that is not its own",
            ) from error


_LOCK = threading.Lock()
_worker: _Worker | None = None


def start() -> None:
    """Starts the child, so that it imports the runtimes while the caller does something else."""
    global _worker
    with _LOCK:
        if _worker is None:
            _worker = _Worker(__name__, _LOADED)


def call(module: str, function: str, *args: object, **kwargs: object) -> Any:
    """Calls ``module.function(*args, **kwargs)`` in the child process and returns its result.

    Raises:
        CrashedError: the child ended by a signal, or took longer than ``TIMEOUT_SECONDS``.
        FmcError: what the function itself raised.
    """
    global _worker
    with _LOCK:
        if _worker is None:
            _worker = _Worker(__name__)
        try:
            error, result = _worker.call(module, function, args, kwargs)
        except CrashedError:
            _worker = None
            raise
    if error is not None:
        raise error
    return result


def close() -> None:
    """Ends the child process, if there is one."""
    global _worker
    with _LOCK:
        if _worker is not None:
            # Between calls nothing of it is worth waiting for.
            _worker.close()
            _worker = None


atexit.register(close)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit status {code}"


def _serve(descriptor: int, *, loaded: bool = False) -> None:
    """The child: answers calls until the parent closes the connection.

    Args:
        loaded: imports all runtimes at once, not with the first call of each.
    """
    # Ctrl-C in a terminal reaches this process, too, and is meant for its parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    if loaded:
        for name in _MODULES:
            importlib.import_module(name).load()
    while True:
        try:
            module, function, args, kwargs = connection.recv()
        except EOFError:
            return
        if module not in _MODULES:
            raise ValueError(module)
        answer: tuple[FmcError | None, object]
        try:
            answer = (None, getattr(importlib.import_module(module), function)(*args, **kwargs))
        except FmcError as error:
            answer = (error, None)
        connection.send(answer)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), loaded=_LOADED in sys.argv[2:])
