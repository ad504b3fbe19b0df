"""Reads the data files of runtimes and kernel libraries, and refuses what does not make sense."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.targets.expression import Expression
from deploy.targets.records import (
    OVERLAP_RULES,
    Block,
    KernelRule,
    Kernels,
    Runtime,
    Step,
    StepKind,
)
from keras_fmc.errors import BadInputError

_FOLDER = Path(__file__).parent
_BLOCK = re.compile(r"(\d+)@(\d+)")
_OPCODE = re.compile(r"[A-Z0-9_]+")


@functools.cache
def runtime_from_file(name: str) -> Runtime:
    """Returns the runtime of a file in ``runtimes``; its name must exist."""
    return read_runtime(read_json(_FOLDER / "runtimes" / f"{name}.json"), where=name)


@functools.cache
def kernels_from_file(name: str) -> Kernels:
    """Returns the kernel library of a file in ``kernels``; its name must exist."""
    return read_kernels(read_json(_FOLDER / "kernels" / f"{name}.json"), where=name)


@functools.cache
def names_in(folder: str) -> tuple[str, ...]:
    """Returns the names of the data files in ``runtimes`` or ``kernels``, sorted."""
    return tuple(sorted(path.stem for path in (_FOLDER / folder).glob("*.json")))


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
        arena_alignment_bytes=fields.take("arena_alignment_bytes", int),
        fixed=tuple(block(text, f"{where}: fixed") for text in fields.take("fixed", list)),
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


def read_kernels(data: Any, *, where: str) -> Kernels:
    """Returns the kernel library that parsed JSON describes; ``where`` names it in messages."""
    fields = Fields(data, where)
    base = fields.take("extends", str, default="")
    definitions = fields.take("definitions", dict, default={})
    rules: dict[str, KernelRule] = dict(kernels_from_file(base).rules) if base else {}
    for opcode, entry in fields.take("operators", dict).items():
        if not _OPCODE.fullmatch(opcode):
            raise BadInputError(f"{where}: not an opcode", received=repr(opcode))
        rules[opcode] = _rule(entry, definitions, f"{where}: {opcode}", int16=not base)
    overlap = fields.take("overlap", dict)
    for opcode, rule in overlap.items():
        if rule not in OVERLAP_RULES:
            raise BadInputError(
                f"{where}: not a rule of overlap for {opcode}",
                expected=" or ".join(OVERLAP_RULES),
                received=repr(rule),
            )
    result = Kernels(
        name=fields.take("name", str),
        summary=fields.take("summary", str),
        source=fields.take("source", str),
        rules=rules,
        in_place=frozenset(fields.take("in_place", list)),
        view_alignment_bytes=fields.take("view_alignment_bytes", int),
        overlap=overlap,
    )
    fields.finish()
    return result


def _rule(data: Any, definitions: Mapping[str, str], where: str, *, int16: bool) -> KernelRule:
    fields = Fields(data, where)
    sizes = fields.take("data", dict, default={})
    if not all(isinstance(size, int) and size > 0 for size in sizes.values()):
        raise BadInputError(
            f"{where}: sizes are bytes by ABI", expected='{"ilp32": 60}', received=repr(sizes)
        )
    steps = tuple(
        _step(text, definitions, where) for text in fields.take("prepare", list, default=[])
    )
    temporaries = [step for step in steps if step.kind is StepKind.TEMPORARY]
    each = sum(step.index is None for step in temporaries)
    rule = KernelRule(
        data_bytes=sizes,
        steps=steps,
        temporaries=len(temporaries) - each,
        temporary_inputs=each,
        int16=fields.take("int16", bool, default=int16),
    )
    fields.finish()
    return rule


def _step(text: Any, definitions: Mapping[str, str], where: str) -> Step:
    kind, _, rest = str(text).partition(" ")
    if kind not in {k.value for k in StepKind}:
        raise BadInputError(
            f"{where}: not a step",
            expected="temp SIDE INDEX, keep SIZE, scratch SIZE or request SIZE",
            received=repr(text),
        )
    if kind != StepKind.TEMPORARY.value:
        return Step(StepKind(kind), size_bytes=Expression(rest, definitions))
    rest, _, condition = rest.partition(" if ")
    side, _, index = rest.partition(" ")
    if side not in ("input", "output") or not (index == "*" or index.isdecimal()):
        raise BadInputError(
            f"{where}: not a temporary",
            expected="temp input 0 or temp input *",
            received=repr(text),
        )
    return Step(
        StepKind.TEMPORARY,
        side=side,
        index=None if index == "*" else int(index),
        condition=Expression(condition, definitions) if condition else None,
    )


def block(text: Any, where: str) -> Block:
    """Returns the block that ``"SIZE@ALIGNMENT"`` means."""
    match = _BLOCK.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[2]) not in (1, 2, 4, 8, 16):
        raise BadInputError(
            f"{where} is not a block", expected="SIZE@ALIGNMENT such as 36@4", received=repr(text)
        )
    return Block(int(match[1]), int(match[2]))


_MISSING = object()


class Fields:
    """Takes typed fields out of a JSON object and complains about what is left."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise BadInputError(
                f"{where} is not an object", expected="{...}", received=type(data).__name__
            )
        self._left = dict(data)
        self.where = where

    def take(self, key: str, kind: type, *, default: Any = _MISSING) -> Any:
        value = self._left.pop(key, default)
        if value is _MISSING:
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
