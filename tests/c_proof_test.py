"""arena_plan.c of generated C compiles where it is right, and stops where a number is changed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from c_compilers import ALL, C99, Compiler, each, require
from c_proofs import accepted, numbers
from code_graphs import gate_graph
from generated import expanding, made, residual

from deploy.backends.c.build import generate
from deploy.graph import Graph
from deploy.passes import run_passes

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


@pytest.mark.parametrize("form", ["whole", "fed", "codes", "again"])
def test_every_number_changed_stops_the_compiler(form: str, tmp_path: Path) -> None:
    graph = gate_graph(bits=4)[0] if form == "codes" else residual(8)
    if form == "again":
        model = generate(run_passes(expanding(6)), model_name="model", fed=True, max_macs=3.0)
        assert "SCRATCH_OFFSET" in model.files["arena_plan.h"]
        for name, text in model.files.items():
            (tmp_path / name).write_text(text)
    folder = tmp_path if form == "again" else write(tmp_path, fed=form == "fed", graph=graph)
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
