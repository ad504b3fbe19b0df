"""Another process of ours, and the connection to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


class Child:
    """Runs a module of this package as a process of its own.

    It is not a fork, so threads and locks of the caller stay out of it; it finds the packages that
    the caller finds. ``connection`` ends with either side.

    Args:
        module: is run with the descriptor of its end of the connection as first argument.
        arguments: those that follow.
        environment: variables that are not the caller's.

    Raises:
        OSError: no process can be started.
    """

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join([str(_ROOT), *(p for p in sys.path if p)])
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), *arguments],
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **(environment or {}), "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.connection = Connection(ours.detach())

    def close(self, *, patience_seconds: float = 0.0) -> None:
        """Ends the connection, and after so many seconds the process."""
        self.connection.close()
        try:
            self.process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
