"""``plan_check.h`` and ``plan_check.c``: at start-up, is the model in flash the one proved?

The C walks the flatbuffer with every access checked, so a damaged model gives an error code,
never a crash. It is the same for every model; the tables it compares with are arena_plan.c's.
"""

from __future__ import annotations

from pathlib import Path

_TEMPLATES = Path(__file__).with_name("templates")


def plan_check_files() -> dict[str, str]:
    """Returns ``plan_check.h`` and ``plan_check.c``."""
    return {
        name: (_TEMPLATES / name).read_text(encoding="utf-8")
        for name in ("plan_check.h", "plan_check.c")
    }
