"""Reads the data files of kernel libraries, and refuses what does not make sense."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from deploy.targets.expression import Expression
from deploy.targets.load import FOLDER, MISSING, Fields, read_json
from deploy.targets.records import (
    OVERLAP_RULES,
    Defect,
    KernelRule,
    Kernels,
    PrepareStep,
    Selection,
    StepKind,
    Time,
)
from keras_fmc.errors import BadInputError

_OPCODE = re.compile(r"[A-Z0-9_]+|CUSTOM [A-Za-z0-9_-]+")


@functools.cache
def kernels_from_file(name: str) -> Kernels:
    """Returns the kernel library of a file in ``kernels``; its name must exist."""
    return read_kernels(read_json(FOLDER / "kernels" / f"{name}.json"), where=name)


def read_kernels(data: Any, *, where: str) -> Kernels:
    """Returns the kernel library that parsed JSON describes; ``where`` names it in messages.

    A library that extends another one inherits all that it does not say itself, and its known
    defects but for those that it lists as mended.
    """
    fields = Fields(data, where)
    base_name = fields.take("extends", str, default="")
    base = kernels_from_file(base_name) if base_name else None
    definitions = {
        **(_definitions_of(base_name) if base_name else {}),
        **fields.take("definitions", dict, default={}),
    }

    def inherited(key: str, kind: type, default: Any) -> Any:
        return fields.take(key, kind, default=default if base is not None else MISSING)

    rules: dict[str, KernelRule] = dict(base.rules) if base else {}
    for opcode, entry in inherited("operators", dict, {}).items():
        rules[_opcode(opcode, where)] = _rule(
            entry, definitions, f"{where}: {opcode}", int16=base is None
        )
    overlap = inherited("overlap", dict, base and base.overlap)
    for opcode, rule in overlap.items():
        if rule not in OVERLAP_RULES:
            raise BadInputError(
                f"{where}: not a rule of overlap for {opcode}",
                expected=" or ".join(OVERLAP_RULES),
                received=repr(rule),
            )
    selections = dict(base.selections) if base else {}
    for opcode, entries in fields.take("selections", dict, default={}).items():
        selections[_opcode(opcode, where)] = tuple(
            _selection(entry, definitions, f"{where}: selection of {opcode}") for entry in entries
        )
    mended = set(fields.take("mended", list, default=[]))
    known = {defect.name: defect for defect in (base.defects if base else ())}
    if unknown := mended - known.keys():
        raise BadInputError(f"{where} mends what is not known", received=", ".join(sorted(unknown)))
    known = {name: defect for name, defect in known.items() if name not in mended}
    for entry in fields.take("defects", list, default=[]):
        defect = _defect(entry, definitions, f"{where}: defect")
        known[defect.name] = defect
    times = dict(base.times) if base else {}
    for opcode, entry in fields.take("times", dict, default={}).items():
        times[opcode if opcode == "*" else _opcode(opcode, where)] = _time(
            entry, f"{where}: time of {opcode}"
        )
    result = Kernels(
        name=fields.take("name", str),
        summary=fields.take("summary", str),
        source=fields.take("source", str),
        rules=rules,
        in_place=frozenset(inherited("in_place", list, base and base.in_place)),
        view_alignment_bytes=inherited(
            "view_alignment_bytes", int, base and base.view_alignment_bytes
        ),
        overlap=overlap,
        library=fields.take("library", str, default=base.library if base else ""),
        version=fields.take("version", str, default=base.version if base else ""),
        selections=selections,
        defects=tuple(known.values()),
        build=tuple(fields.take("build", list, default=list(base.build) if base else [])),
        times=times,
        times_source=fields.take("times_source", str, default=base.times_source if base else ""),
        note=fields.take("note", str, default=base.note if base else ""),
    )
    fields.finish()
    functions = {s.function for entries in selections.values() for s in entries}
    for defect in result.defects:
        if defect.function not in functions:
            raise BadInputError(
                f"{where}: the defect {defect.name!r} is of a function that nothing selects",
                expected=f"one of {', '.join(sorted(functions))}",
                received=repr(defect.function),
            )
    return result


def _definitions_of(name: str) -> dict[str, str]:
    """The named formulas of a library in ``kernels``, those that it inherits among them."""
    data = read_json(FOLDER / "kernels" / f"{name}.json")
    base = _definitions_of(data["extends"]) if data.get("extends") else {}
    return {**base, **data.get("definitions", {})}


def _opcode(text: str, where: str) -> str:
    if not _OPCODE.fullmatch(text):
        raise BadInputError(f"{where}: not an opcode", received=repr(text))
    return text


def _selection(data: Any, definitions: Mapping[str, str], where: str) -> Selection:
    fields = Fields(data, where)
    when = fields.take("when", str, default=None)
    function = fields.take("function", str)
    fields.finish()
    return Selection(function, None if when is None else Expression(when, definitions))


def _defect(data: Any, definitions: Mapping[str, str], where: str) -> Defect:
    fields = Fields(data, where)
    name = fields.where = fields.take("name", str)
    result = Defect(
        name=name,
        function=fields.take("function", str),
        when=Expression(fields.take("when", str), definitions),
        effect=fields.take("effect", str),
        remedy=fields.take("remedy", str),
        source=fields.take("source", str),
        library=fields.take("library", str, default=""),
        harmless_with_room=fields.take("harmless_with_room", bool, default=False),
    )
    fields.finish()
    return result


def _time(data: Any, where: str) -> Time:
    fields = Fields(data, where)
    figures = {}
    for key in ("product", "output_byte", "call", "asserted_byte"):
        value = fields.take(key, object, default=0)
        if not isinstance(value, (int, float)) or value < 0:
            raise BadInputError(
                f"{where}: {key!r} is not a count", expected="0 or more", received=repr(value)
            )
        figures[key] = float(value)
    fields.finish()
    return Time(**figures)


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
    initial = tuple(
        _step(text, definitions, where) for text in fields.take("initial", list, default=[])
    )
    if any(step.kind is not StepKind.KEEP for step in initial):
        raise BadInputError(f"{where}: initialisation keeps only", expected="keep SIZE")
    temporaries = [step for step in steps if step.kind is StepKind.TEMPORARY]
    each = sum(step.index is None for step in temporaries)
    rule = KernelRule(
        data_bytes=sizes,
        steps=steps,
        temporaries=len(temporaries) - each,
        temporary_inputs=each,
        int16=fields.take("int16", bool, default=int16),
        initial=initial,
    )
    fields.finish()
    return rule


def _step(text: Any, definitions: Mapping[str, str], where: str) -> PrepareStep:
    kind, _, rest = str(text).partition(" ")
    if kind not in {k.value for k in StepKind}:
        raise BadInputError(
            f"{where}: not a step",
            expected="temp SIDE INDEX, keep SIZE, scratch SIZE, request SIZE or room SIZE",
            received=repr(text),
        )
    if kind != StepKind.TEMPORARY.value:
        return PrepareStep(StepKind(kind), size_bytes=Expression(rest, definitions))
    rest, _, condition = rest.partition(" if ")
    side, _, index = rest.partition(" ")
    if side not in ("input", "output") or not (index == "*" or index.isdecimal()):
        raise BadInputError(
            f"{where}: not a temporary",
            expected="temp input 0 or temp input *",
            received=repr(text),
        )
    return PrepareStep(
        StepKind.TEMPORARY,
        side=side,
        index=None if index == "*" else int(index),
        condition=Expression(condition, definitions) if condition else None,
    )
