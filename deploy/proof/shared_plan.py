"""``shared_plan.h`` and ``shared_plan.c``: the arena that models share, and its proof.

Each model's own ``arena_plan.h/.c`` stands in a folder of its own and proves what is inside its
head. The source here states, over the constants of all of them, that the shared head holds every
head, that the tails add up, and that both fit the arena and its memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from deploy.proof.arena_plan import ArenaSizes
from deploy.proof.names import c_comment
from deploy.proof.statements import ARENA_ALIGNMENT
from keras_fmc.errors import VerificationError

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class SharedPart:
    """A model in a shared arena, sizes in bytes.

    Attributes:
        folder: of its files.
        prefix: of its macros.
        head_bytes: its own head.
        tail_bytes: what it adds to the tail.
        used_bytes: head so far and tails so far, once it is ready.
    """

    folder: str
    prefix: str
    head_bytes: int
    tail_bytes: int
    used_bytes: int


def shared_plan_files(sizes: ArenaSizes, parts: Sequence[SharedPart]) -> dict[str, str]:
    """Returns ``shared_plan.h`` and ``shared_plan.c``.

    Raises:
        VerificationError: the sizes do not hold the parts.
    """
    _check(sizes, parts)
    limit = sizes.limit_bytes
    common = {
        "target": c_comment(sizes.target),
        "arena": sizes.arena_bytes,
        "head": sizes.head_bytes,
        "tail": sizes.tail_bytes,
        "alignment": ARENA_ALIGNMENT,
        "limit": ""
        if limit is None
        else f"\n/* What the arena may use: {c_comment(sizes.limit_source)}. */\n"
        f"#define SHARED_REGION_BYTES {limit}\n",
        "models": "\n".join(map(_defines, parts)),
        "includes": "\n".join(f'#include "{part.folder}/arena_plan.h"' for part in parts),
        "heads": "\n".join(map(_head, parts)),
        "tails": " + ".join(f"{part.prefix}_SHARED_TAIL_BYTES" for part in parts),
        "region": ""
        if limit is None
        else "FMC_PROVE(SHARED_ARENA_BYTES <= SHARED_REGION_BYTES, shared_arena_fits_the_region,\n"
        '          "the shared arena is larger than its memory")\n',
    }
    return {
        name: Template((_TEMPLATES / name).read_text(encoding="utf-8")).substitute(common)
        for name in ("shared_plan.h", "shared_plan.c")
    }


def _check(sizes: ArenaSizes, parts: Sequence[SharedPart]) -> None:
    head = max(part.head_bytes for part in parts)
    tail = sum(part.tail_bytes for part in parts)
    if (sizes.head_bytes, sizes.tail_bytes) != (head, tail):
        raise VerificationError(
            "the shared arena is not of these models",
            expected=f"a head of {head} and a tail of {tail} bytes",
            received=f"{sizes.head_bytes} and {sizes.tail_bytes}",
        )
    if sizes.arena_bytes < head + tail:
        raise VerificationError(
            "the shared arena is smaller than its parts", f"at least {head + tail}", head + tail
        )


def _defines(part: SharedPart) -> str:
    p = part.prefix
    return (
        f"#define {p}_SHARED_TAIL_BYTES {part.tail_bytes}\n"
        f"#define {p}_SHARED_USED_BYTES {part.used_bytes}"
    )


def _head(part: SharedPart) -> str:
    p, name = part.prefix, part.prefix.lower()
    return (
        f"FMC_PROVE({p}_HEAD_BYTES == {part.head_bytes} && "
        f"{p}_HEAD_BYTES <= SHARED_HEAD_BYTES, {name}_head_fits,\n"
        f'          "the head of {name} is larger than the shared head")\n'
        f"FMC_PROVE({p}_SHARED_USED_BYTES <= SHARED_ARENA_BYTES, {name}_is_made_ready,\n"
        f'          "{name} and the models before it do not fit the shared arena")'
    )
