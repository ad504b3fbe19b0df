"""Frozen dataclasses to JSON and back, with types checked on the way in."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from typing import Any, TypeVar

from deploy.report.report import FORMAT_VERSION, Report
from keras_fmc.errors import BadInputError

_REMEDY = "Give the report.json of a run of fmc plan or fmc convert"


T = TypeVar("T")


def encode(report: object) -> str:
    """Returns the JSON of a report, a frozen dataclass, indented, one row of a table on one line.

    The last key, ``sha256``, is the digest of the text without that key.
    """
    value = {"format": FORMAT_VERSION, **_plain(report)}
    digest = hashlib.sha256(_text(value, 0).encode()).hexdigest()
    return _text({**value, "sha256": digest}, 0) + "\n"


def decode(text: str, *, source: str) -> Report:
    """Returns the report that ``encode`` wrote.

    Raises:
        BadInputError: not JSON, or a key is missing or holds the wrong type.
    """
    return decode_as(Report, text, source=source)


def decode_as(kind: type[T], text: str, *, source: str) -> T:
    """Returns the report of another kind that ``encode`` wrote; as ``decode``."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInputError(f"{source} is not JSON", received=error, remedy=_REMEDY) from error
    if not isinstance(value, dict):
        raise BadInputError(f"{source} is not a report", "an object", value, remedy=_REMEDY)
    version = value.get("format")
    if version != FORMAT_VERSION:
        raise BadInputError(
            f"{source} has another format",
            expected=f'"format": {FORMAT_VERSION}',
            received=json.dumps(version),
            remedy=_REMEDY,
        )
    return typing.cast(T, _read(kind, value, source))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {_key(f): _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such numbers.
    return value


def _text(value: Any, depth: int) -> str:
    """Like json.dumps with indent, but what holds only numbers and strings stays on a line."""
    if not isinstance(value, (dict, list)) or not value:
        return json.dumps(value)
    items = value.values() if isinstance(value, dict) else value
    flat = not any(
        isinstance(item, dict)
        or (isinstance(item, list) and any(isinstance(i, (dict, list)) for i in item))
        for item in items
    )
    if depth and flat:
        return json.dumps(value)
    outer, inner = "  " * depth, "  " * (depth + 1)
    if isinstance(value, dict):
        rows = [f"{inner}{json.dumps(k)}: {_text(v, depth + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{outer}}}"
    rows = [inner + _text(item, depth + 1) for item in value]
    return "[\n" + ",\n".join(rows) + f"\n{outer}]"


def _key(field: dataclasses.Field[Any]) -> str:
    return str(field.metadata.get("json", field.name))


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _read(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_object(kind, value, where)
    origin = typing.get_origin(kind)
    if origin is types.UnionType:
        if value is None:
            return None
        (kind,) = (k for k in typing.get_args(kind) if k is not type(None))
        return _read(kind, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        item = typing.get_args(kind)[0]
        return tuple(_read(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _wrong(where, kind.__name__, value)
    return value


def _read_object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    arguments = {}
    for field in dataclasses.fields(kind):
        key = _key(field)
        if key in value:
            arguments[field.name] = _read(_hints(kind)[field.name], value[key], f"{where}.{key}")
        elif field.default is dataclasses.MISSING:
            raise BadInputError(f"{where} has no {key}", remedy=_REMEDY)
    return kind(**arguments)


def _wrong(where: str, expected: str, value: Any) -> BadInputError:
    received = json.dumps(value)
    short = received if len(received) <= 40 else received[:37] + "..."
    return BadInputError(f"{where} has the wrong type", expected, short, remedy=_REMEDY)
