"""Reads the data files of runtimes, and refuses what does not make sense; fields of any file."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

from deploy.targets.records import Runtime, Structure
from keras_fmc.errors import BadInputError

FOLDER = Path(__file__).parent
_BLOCK = re.compile(r"(\d+)@(\d+)")


@functools.cache
def runtime_from_file(name: str) -> Runtime:
    """Returns the runtime of a file in ``runtimes``; its name must exist."""
    return read_runtime(read_json(FOLDER / "runtimes" / f"{name}.json"), where=name)


@functools.cache
def names_in(folder: str) -> tuple[str, ...]:
    """Returns the names of the data files in ``runtimes`` or ``kernels``, sorted."""
    return tuple(sorted(path.stem for path in (FOLDER / folder).glob("*.json")))


def read_json(path: Path) -> Any:
    """Returns the parsed file.

    Raises:
        BadInputError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"cannot read {path}", received=error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path} is not JSON", received=error) from error


def read_runtime(data: Any, *, where: str) -> Runtime:
    """Returns the runtime that parsed JSON describes; ``where`` names it in messages."""
    fields = Fields(data, where)
    blocks = {
        key: block(fields.take(key, str), f"{where}: {key}")
        for key in (
            "subgraph",
            "eval_tensor",
            "node",
            "resources",
            "resource",
            "scratch_handle",
            "end_pointer",
            "tensor",
            "quantization",
            "zero_point_item",
            "scratch_request",
            "subgraph_counter",
            "buffer_info",
        )
    }
    parameters = fields.take("parameters", dict)
    result = Runtime(
        name=fields.take("name", str),
        summary=fields.take("summary", str),
        source=fields.take("source", str),
        abi=fields.take("abi", str),
        commit=fields.take("commit", str, default=""),
        arena_alignment_bytes=fields.take("arena_alignment_bytes", int),
        fixed=tuple(block(text, f"{where}: fixed") for text in fields.take("fixed", list)),
        fixed_of_two=tuple(
            block(text, f"{where}: fixed_of_two")
            for text in fields.take("fixed_of_two", list, default=[])
        ),
        kernel_alignment_bytes=fields.take("kernel_alignment_bytes", int),
        scratch_requests=fields.take("scratch_requests", int),
        planner_buffer_bytes=fields.take("planner_buffer_bytes", int),
        parameters={
            opcode: block(text, f"{where}: parameters of {opcode}")
            for opcode, text in parameters.items()
        },
        **blocks,
    )
    fields.finish()
    return result


def block(text: Any, where: str) -> Structure:
    """Returns the block that ``"SIZE@ALIGNMENT"`` means."""
    match = _BLOCK.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[2]) not in (1, 2, 4, 8, 16):
        raise BadInputError(
            f"{where} is not a block", expected="SIZE@ALIGNMENT such as 36@4", received=repr(text)
        )
    return Structure(int(match[1]), int(match[2]))


MISSING = object()


class Fields:
    """Takes typed fields out of a JSON object and complains about what is left."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise BadInputError(
                f"{where} is not an object", expected="{...}", received=type(data).__name__
            )
        self._left = dict(data)
        self.where = where

    def take(self, key: str, kind: type, *, default: Any = MISSING) -> Any:
        value = self._left.pop(key, default)
        if value is MISSING:
            raise BadInputError(f"{self.where} has no {key!r}", expected=kind.__name__)
        if value is not default and (
            not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool)
        ):
            raise BadInputError(
                f"{self.where}: {key!r} has the wrong type",
                expected=kind.__name__,
                received=repr(value),
            )
        return value

    def finish(self) -> None:
        if self._left:
            raise BadInputError(
                f"{self.where} has fields that nobody reads", received=", ".join(sorted(self._left))
            )
