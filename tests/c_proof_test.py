"""arena_plan.c of generated C compiles where it is right, and stops where a number is changed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from c_compilers import ALL, C99, Compiler, each, require
from code_graphs import gate_graph
from generated import made, residual

from deploy.graph import Graph

WARNINGS = ("-Wconversion",)


def write(folder: Path, *, fed: bool = False, graph: Graph | None = None) -> Path:
    for name, text in made(graph or residual(), fed=fed).files.items():
        (folder / name).write_text(text)
    return folder


@each(*ALL)
def test_all_files_compile_without_a_warning(compiler: Compiler, tmp_path: Path) -> None:
    for fed in (False, True):
        folder = tmp_path / str(fed)
        folder.mkdir()
        for source in sorted(write(folder, fed=fed).glob("*.c")):
            compiler.must_compile(source, *WARNINGS)
            compiler.must_compile(source, *WARNINGS, "-DMODEL_EXTERNAL_ARENA")


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


@pytest.mark.parametrize("form", ["whole", "fed", "codes"])
def test_every_number_changed_stops_the_compiler(form: str, tmp_path: Path) -> None:
    graph = gate_graph(bits=4)[0] if form == "codes" else residual(8)
    folder = write(tmp_path, fed=form == "fed", graph=graph)
    source = (folder / "arena_plan.c").read_text()
    assert len(numbers((folder / "arena_plan.h").read_text())) > 40
    assert accepted(folder, source) == set()


def test_the_statements_alone_refuse_what_is_too_small_or_too_near(tmp_path: Path) -> None:
    """Without the lines that repeat a number, what is left still sees every real mistake."""
    folder = write(tmp_path)
    source = (folder / "arena_plan.c").read_text()
    statements = re.sub(r"^FMC_IS\(.*\n", "", source, flags=re.M)
    assert statements.count("FMC_CLEAR(") > 10
    assert statements.count("FMC_GROWS(") > 1
    passed = accepted(folder, statements)
    # Less arena, fewer rows held, or rows of another size never pass.
    assert not [p for p in passed if "ARENA_BYTES -" in p]
    assert not [p for p in passed if re.search(r"_R\d+_M\d+_ROWS -", p)]
    assert not [p for p in passed if re.search(r"MODEL_M\d+_(ROW_BYTES|BYTES)", p)]
    # Somewhere each of most addresses has a neighbour on both sides.
    moved = {p.split()[0] for p in passed if "OFFSET" in p}
    addresses = [n for n in numbers((folder / "arena_plan.h").read_text()) if "OFFSET" in n]
    assert len(moved) < len(addresses)


def test_the_proof_adds_no_code(tmp_path: Path) -> None:
    require("arm-none-eabi-gcc")
    folder = write(tmp_path)
    C99.must_compile(folder / "arena_plan.c")
    command = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-c", "arena_plan.c"]
    subprocess.run(command, cwd=folder, check=True)
    said = subprocess.run(
        ["arm-none-eabi-size", "arena_plan.o"], cwd=folder, capture_output=True, text=True
    ).stdout
    assert said.splitlines()[1].split()[:3] == ["0", "0", "0"]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
