"""A progress bar on stderr for steps that take more than a moment."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any, Self

_SECONDS_A_FRAME = 0.1
_LOG = logging.getLogger("keras_fmc")


class Progress:
    """Shows what is being done and how far it is; silent unless ``enabled``."""

    def __init__(self, *, enabled: bool) -> None:
        self._bar: Any = None
        self._doing = self._told = ""
        self._next_frame = 0.0
        if enabled:
            from tqdm.auto import tqdm

            self._bar = tqdm(
                total=1.0, bar_format="{desc:<40.40} {bar} {percentage:3.0f}% {elapsed}"
            )

    def say(self, doing: str, fraction: float | None = None) -> None:
        """Names the present step and, where it is known, the part of it that is done, 0 to 1."""
        if doing != self._told:
            self._told = doing
            _LOG.debug("%s", doing)
        if self._bar is None:
            return
        now = time.monotonic()
        if doing == self._doing and now < self._next_frame:
            return
        self._doing, self._next_frame = doing, now + _SECONDS_A_FRAME
        self._bar.set_description_str(doing, refresh=False)
        self._bar.n = self._bar.n if fraction is None else min(max(fraction, 0.0), 1.0)
        self._bar.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.leave = False
            self._bar.close()
