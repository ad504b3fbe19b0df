"""How hard a plan is looked for, and what may end that before the work is done.

Effort is counted in work, never in seconds, so a plan is a function of its input and settings. A
clock runs only where the user asks for a limit, and who it ends says so.
"""

from __future__ import annotations

import signal
import threading
import time
from enum import Enum
from types import FrameType, TracebackType
from typing import Any, Self

from keras_fmc.errors import BadInputError


class Effort(Enum):
    """How much work a search may do; each includes all that the one before does."""

    QUICK = "quick"
    NORMAL = "normal"
    THOROUGH = "thorough"

    @property
    def grade(self) -> int:
        """0, 1, 2: a place in tables."""
        return list(Effort).index(self)


def effort_named(name: str) -> Effort:
    """Returns the effort of that name.

    Raises:
        BadInputError: there is none.
    """
    try:
        return Effort(name)
    except ValueError:
        raise BadInputError(
            "unknown effort", expected=", ".join(e.value for e in Effort), received=repr(name)
        ) from None


class Guard:
    """Says when a search has to end early, and remembers why: a time limit, or Ctrl-C.

    As a context it takes the first Ctrl-C as a wish for the best plan so far; the second one
    interrupts as ever. Outside the main thread Ctrl-C is left alone.

    Args:
        time_limit_seconds: from now on; None: as long as the work takes.
    """

    def __init__(self, time_limit_seconds: float | None = None) -> None:
        if time_limit_seconds is not None and not time_limit_seconds > 0:
            raise BadInputError(
                "the time limit is not positive", "seconds above 0", time_limit_seconds
            )
        self.reason: str | None = None
        self._limit = time_limit_seconds
        self._end = None if time_limit_seconds is None else time.monotonic() + time_limit_seconds
        self._before: Any = None

    def __call__(self) -> bool:
        """Whether to end now."""
        if self.reason is None and self._end is not None and time.monotonic() >= self._end:
            self.reason = f"the time limit of {self._limit:g} s"
        return self.reason is not None

    def interrupt(self) -> None:
        """Ends the search as Ctrl-C does."""
        self.reason = self.reason or "Ctrl-C"

    def __enter__(self) -> Self:
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if usual and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        signal.signal(signal.SIGINT, self._before)
        self.interrupt()
