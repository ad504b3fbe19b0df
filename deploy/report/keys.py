"""The table of the keys of ``report.json``, made from the docstrings that define them.

``python -m deploy.report.keys`` prints it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from dataclasses import dataclass
from typing import Any

from deploy.report.report import FORMAT_VERSION, Report

_ENTRY = re.compile(r"(?P<names>\w+(?:, \w+)*)(?: \((?P<unit>[^)]*)\))?: (?P<text>.*)", re.DOTALL)
_UNITS = {"bytes": "bytes", "macs": "MACs", "ratio": "times"}
_PLAIN = {int: "integer", float: "number", bool: "true or false", str: "text"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of report.json.

    Attributes:
        name: as it stands in the file.
        field: of the dataclass.
        kind: its JSON type, ``null`` included where it may be that; ``{}`` stands for ``rows``.
        unit: of a number, or empty.
        definition: what it says.
        rows: the dataclass of the objects that it holds, or None.
    """

    name: str
    field: str
    kind: str
    unit: str
    definition: str
    rows: type | None


def keys(kind: type) -> tuple[Key, ...]:
    """Returns the keys of a dataclass of the report, in their order.

    Raises:
        LookupError: a field has no definition in the docstring, or one is of no field.
    """
    entries = _entries(kind)
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    unknown = entries.keys() - {field.name for field in fields}
    missing = [field.name for field in fields if field.name not in entries]
    if unknown or missing:
        raise LookupError(f"{kind.__name__}: no definition of {missing}, no field {unknown}")
    found = []
    for field in fields:
        unit, definition = entries[field.name]
        text, rows = _kind(hints[field.name])
        name = str(field.metadata.get("json", field.name))
        found.append(Key(name, field.name, text, unit, definition, rows))
    return tuple(found)


def objects() -> tuple[type, ...]:
    """Returns the dataclasses of the report: the report itself, then what its keys hold."""
    found: list[type] = [Report]
    for kind in found:
        inside = dict.fromkeys(key.rows for key in keys(kind) if key.rows)
        found += [rows for rows in inside if rows not in found]
    return tuple(found)


def to_markdown() -> str:
    """Returns the page of the documentation: a table for each kind of object."""
    lines = [
        "# report.json",
        "",
        "What `fmc plan` and `fmc convert` write beside the model. Operators are counted from 0 in",
        "the order of execution; a MAC is a multiply-accumulate. The definitions stand in",
        "`deploy/report/report.py` and `deploy/outcome.py`; this page is made from them.",
    ]
    for kind in objects():
        title = "The report" if kind is Report else _title(kind)
        lines += ["", f"## {title}", "", _summary(kind), "", "| key | type | unit | definition |"]
        lines.append("|---|---|---|---|")
        if kind is Report:
            text = f"version of these definitions, {FORMAT_VERSION}; another is not read"
            lines.append(f"| `format` | integer |  | {text} |")
        for key in keys(kind):
            link = f"[{_title(key.rows)}](#{_title(key.rows).lower()})" if key.rows else ""
            text = key.definition.removesuffix(".").replace("``", "`").replace("|", "\\|")
            lines.append(f"| `{key.name}` | {key.kind.format(link)} | {key.unit} | {text} |")
        if kind is Report:
            lines.append("| `sha256` | text |  | SHA-256 of this file without this key |")
    return "\n".join(lines) + "\n"


def _entries(kind: type) -> dict[str, tuple[str, str]]:
    """Returns field -> (unit, definition) of the docstring's attributes."""
    text = inspect.getdoc(kind) or ""
    _, _, attributes = text.partition("\nAttributes:\n")
    found = {}
    for entry in re.split(r"\n    (?! )", "\n" + attributes)[1:]:
        match = _ENTRY.fullmatch(" ".join(entry.split()))
        if match is None:
            raise LookupError(f"{kind.__name__}: not a definition: {entry!r}")
        for name in match["names"].split(", "):
            unit = match["unit"] or _UNITS.get(re.split("_", name)[-1], "")
            found[name] = (unit or ("bytes" if "_bytes_" in name else ""), match["text"])
    return found


def _kind(hint: Any) -> tuple[str, type | None]:
    """Returns the JSON type of a type hint, and the dataclass inside."""
    if isinstance(hint, types.UnionType):
        inner = next(part for part in typing.get_args(hint) if part is not type(None))
        text, rows = _kind(inner)
        return f"{text} or null", rows
    if typing.get_origin(hint) is tuple:
        text, rows = _kind(typing.get_args(hint)[0])
        return ("list of {}" if rows else f"list of {text}s".replace("texts", "text")), rows
    if dataclasses.is_dataclass(hint):
        return "{}", typing.cast(type, hint)
    return _PLAIN[hint], None


def _title(kind: type) -> str:
    return kind.__name__.removeprefix("Report").removesuffix("Entry")


def _summary(kind: type) -> str:
    text = (inspect.getdoc(kind) or "").split("\n\n", 1)[0]
    return " ".join(text.split()).replace("``", "`")


if __name__ == "__main__":
    print(to_markdown(), end="")
