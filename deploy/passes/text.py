"""Passes as text: ``plain_slices,drop_dead,order_for_memory:states=20000``.

passes  = pass {"," pass}        pass = name {":" option "=" integer}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from deploy.passes.context import Pass
from keras_fmc.errors import BadInputError


def passes_text(passes: Sequence[Pass]) -> str:
    """Returns passes with all their options, as ``parse_passes`` reads them."""
    return ",".join(
        ":".join((p.name, *(f"{name}={value}" for name, value in _options(p).items())))
        for p in passes
    )


def parse_passes(text: str, known: Mapping[str, type[Pass]]) -> tuple[Pass, ...]:
    """Returns the passes of a text, in its order; none for an empty one.

    Raises:
        BadInputError: a pass or option that is not known, or no integer above 0.
    """
    return tuple(_pass(part.strip(), known) for part in text.split(",") if part.strip())


def _pass(text: str, known: Mapping[str, type[Pass]]) -> Pass:
    name, *assignments = text.split(":")
    kind = known.get(name)
    if kind is None:
        raise BadInputError(
            f"unknown pass {name!r}",
            expected=", ".join(known),
            remedy="fmc plan --verbose prints the usual passes",
        )
    names = list(_options(kind()))
    options = {}
    for assignment in assignments:
        option, _, value = assignment.partition("=")
        if option not in names or not value.isdecimal() or int(value) < 1:
            raise BadInputError(
                f"pass {name} has a wrong option",
                expected=" or ".join(f"{n}=NUMBER" for n in names) or "no option",
                received=assignment,
            )
        options[option] = int(value)
    return kind(**options)


def _options(subject: Pass) -> dict[str, int]:
    fields = dataclasses.fields(subject)  # type: ignore[arg-type]
    return {field.name: getattr(subject, field.name) for field in fields}
