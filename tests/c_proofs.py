"""What a changed number of a plan does: to the compiler, and to the replay."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

from c_compilers import require

from deploy.backends.c.replay import replay
from keras_fmc.errors import VerificationError


def numbers(header: str) -> list[str]:
    return re.findall(r"^#define (MODEL_\w+) \d+", header, re.M)


def accepted(folder: Path, source: str) -> set[str]:
    """The names of numbers that may be changed by 1 or 4 either way without a refusal."""
    require("gcc")
    header = (folder / "arena_plan.h").read_text()
    (folder / "proof.c").write_text(source)
    passed = set()
    for name in numbers(header):
        for change in (-4, -1, 1, 4):
            changed = re.sub(
                rf"^(#define {name}) (\d+)",
                lambda m, by=change: f"{m[1]} ({int(m[2]) + by})",
                header,
                flags=re.M,
            )
            command = ["gcc", "-std=c99", "-fsyntax-only", "-include", "changed.h"]
            (folder / "changed.h").write_text(changed)
            done = subprocess.run([*command, "proof.c"], cwd=folder, capture_output=True)
            if done.returncode == 0:
                passed.add(f"{name} {change:+d}")
    return passed


def is_caught(layout: object, number: int, placed: object) -> bool:
    regions = list(layout.regions)  # type: ignore[attr-defined]
    regions[number] = dataclasses.replace(regions[number], placed=placed)
    changed = dataclasses.replace(layout, regions=tuple(regions))  # type: ignore[type-var]
    try:
        replay(changed)
    except VerificationError:
        return True
    return False
