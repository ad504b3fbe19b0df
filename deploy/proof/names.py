"""Names of models and tensors as C identifiers, comments and string literals."""

from __future__ import annotations

import re

import numpy as np

from deploy.memory.plan import PlannedTensor

_TENSOR_NAME_CHARACTERS = 28
_PREFIX_CHARACTERS = 32


def c_prefix(model_name: str) -> str:
    """Returns the upper-case prefix of a model's macros.

    ``"vww-96 int8"`` becomes ``VWW_96_INT8``; a name that begins with a digit gets ``M_`` in
    front, one without a letter or digit becomes ``MODEL``; at most 32 characters are kept.
    """
    prefix = re.sub(r"[^A-Z0-9]+", "_", model_name.upper()).strip("_")
    prefix = prefix[:_PREFIX_CHARACTERS].strip("_")
    if not prefix:
        return "MODEL"
    return f"M_{prefix}" if prefix[0].isdigit() else prefix


def tensor_identifiers(prefix: str, tensors: tuple[PlannedTensor, ...]) -> dict[int, str]:
    """Returns index -> ``VWW_T5_CONV2D_RELU``; the index makes it unique, the name readable."""
    return {t.index: f"{prefix}_T{t.index}{_readable(t.name)}" for t in tensors}


def short_name(name: str) -> str:
    """Returns the first of the names that a converter joined with ";" for fused operators."""
    parts = [part for part in name.split(";") if part.strip()]
    return parts[0] if parts else name


def c_comment(text: str) -> str:
    """Returns printable ASCII that can stand inside a comment."""
    plain = _ascii(text).replace("\\", "/")
    return plain.replace("*/", "* /").replace("/*", "/ *")


def c_string(text: str) -> str:
    """Returns a string literal of printable ASCII, free of trigraphs."""
    escaped = _ascii(text).replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
    return f'"{escaped}"'


def float_literal(value: float) -> str:
    """Returns a literal of a 32-bit float; nine digits tell all of them apart."""
    text = f"{np.float32(value):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def _ascii(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _readable(name: str) -> str:
    # Of a path, the last components say most.
    words = re.sub(r"[^A-Z0-9]+", "_", short_name(name).upper()).strip("_").split("_")
    short = ""
    for word in reversed(words):
        if short and len(word) + len(short) + 1 > _TENSOR_NAME_CHARACTERS:
            break
        short = f"{word}_{short}" if short else word[-_TENSOR_NAME_CHARACTERS:]
    return f"_{short}" if short else ""
