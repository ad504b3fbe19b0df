"""What a changed number of a plan does: to the compiler, and to the replay."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Mapping, Sequence
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


def refused(
    folder: Path, files: Mapping[str, str], changes: Sequence[tuple[str, int]]
) -> list[bool]:
    """Whether the statements of a plan refuse each change of a number: (its name, its value).

    Those that only repeat a number are left out. The others are compiled once, as conditions over
    variables: the same macros, but for the one that stops the compiler.
    """
    require("gcc")
    values = re.findall(r"^#define (MODEL_\w+) (\d+)", files["arena_plan.h"], re.M)
    source = files["arena_plan.c"]
    body = source[source.index("#define FMC_IS(") :]
    body = re.sub(r"^FMC_IS\(.*\n", "", body, flags=re.M)
    judge = [
        "#include <stdio.h>",
        "#define FMC_PROVE(condition, message) if (!(condition)) return 1;",
        *(f"static int {name} = {value};" for name, value in values),
        f"static int refused(void) {{\n{body}\nreturn 0; }}",
        "int main(void) {\nputchar('0' + refused());",
    ]
    was = dict(values)
    for name, value in changes:
        judge.append(f"{name} = {value}; putchar('0' + refused()); {name} = {was[name]};")
    (folder / "judge.c").write_text("\n".join([*judge, "return 0; }", ""]))
    subprocess.run(["gcc", "judge.c", "-o", "judge"], cwd=folder, check=True)
    judged = subprocess.run([folder / "judge"], check=True, capture_output=True, text=True).stdout
    assert judged[0] == "0"
    return [verdict == "1" for verdict in judged[1:]]


def is_caught(layout: object, number: int, placed: object) -> bool:
    regions = list(layout.regions)  # type: ignore[attr-defined]
    regions[number] = dataclasses.replace(regions[number], placed=placed)
    changed = dataclasses.replace(layout, regions=tuple(regions))  # type: ignore[type-var]
    try:
        replay(changed)
    except VerificationError:
        return True
    return False
