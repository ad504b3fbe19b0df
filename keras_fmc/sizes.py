"""Sizes in bytes as users write them."""

from __future__ import annotations

import re

from keras_fmc.errors import BadInputError

_UNITS = {"": 1, "B": 1, "KB": 1024, "KIB": 1024, "MB": 1024**2, "MIB": 1024**2}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: str | int) -> int:
    """Returns bytes for ``65536``, ``"64KB"`` or ``"64KiB"`` (both 65,536), ``"1.5MB"``.

    Raises:
        BadInputError: not a positive whole number of bytes.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        size = float(text)
    else:
        match = _PATTERN.fullmatch(str(text))
        unit = match.group(2).upper() if match else None
        if match is None or unit not in _UNITS:
            raise BadInputError(
                "not a size", expected="bytes such as 65536, 64KB or 64KiB", received=repr(text)
            )
        size = float(match.group(1)) * _UNITS[unit]
    if size <= 0 or size != int(size):
        raise BadInputError("a size must be a positive whole number of bytes", received=repr(text))
    return int(size)


def format_size(size_bytes: int) -> str:
    """Returns ``"55,296 B"``."""
    return f"{size_bytes:,} B"
