"""arena_plan.c of generated C compiles where it is right, and stops where a number is changed."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from c_compilers import ALL, C99, Compiler, each, require
from c_proofs import accepted, is_caught, numbers, refused
from code_graphs import gate_graph
from generated import expanding, made, residual
from random_graphs import random_graph

from deploy.backends.c.build import GeneratedModel, generate
from deploy.graph import Graph
from deploy.passes import run_passes

WARNINGS = ("-Wconversion",)
PASSING = (8, 16, 25, 26, 42, 48)
"""Random graphs of which a map passes a region through."""


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
        model = again(fed=True)
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


EXACT = {
    "expansions, fed": lambda: again(fed=True),
    "expansions": lambda: again(fed=False),
    "a library's scratch, fed": lambda: made(residual(8), fed=True, kernels="cmsis-nn-dsp"),
    "a library's scratch": lambda: made(residual(8), kernels="cmsis-nn-dsp"),
}
"""Models of which the statements refuse no place that is right."""


def again(*, fed: bool) -> GeneratedModel:
    """Rows that are made in scratch, and rows that may stand over them."""
    return generate(run_passes(expanding(6)), model_name="model", fed=fed, max_macs=3.0)


@pytest.mark.parametrize("name", EXACT)
def test_the_statements_and_the_replay_agree_on_every_place(name: str, tmp_path: Path) -> None:
    """Two judges that share nothing: each place that scratch or a line buffer could have."""
    model = EXACT[name]()
    changes, caught = elsewhere(model)
    assert any("SCRATCH" in change for change, _ in changes)
    assert 0 < sum(caught) < len(caught)
    assert refused(tmp_path, model.files, changes) == caught


@pytest.mark.parametrize("seed", range(len(PASSING)))
def test_the_statements_refuse_what_the_replay_catches(seed: int, tmp_path: Path) -> None:
    """Maps that pass a region through stand whole in it, beside line buffers and scratch."""
    model = made(random_graph(PASSING[seed]), kernels="cmsis-nn-dsp")
    regions = [region.placed.schedule for region in model.layout.regions]
    assert any(s.passengers and (s.lines or s.scratch_bytes) for s in regions)
    changes, caught = elsewhere(model, tried=24)
    assert any(caught)
    verdicts = zip(changes, caught, refused(tmp_path, model.files, changes), strict=True)
    assert not [change for change, wrong, seen in verdicts if wrong and not seen]


def elsewhere(
    model: GeneratedModel, *, tried: int = 40
) -> tuple[list[tuple[str, int]], list[bool]]:
    """The places over the arena of each scratch and line buffer; which of them replay catches."""
    layout, changes, caught = model.layout, [], []
    for number, region in enumerate(layout.regions):
        placed, names = region.placed, f"MODEL_R{number}"
        moved = [(f"{names}_SCRATCH_OFFSET", placed.schedule.scratch_bytes, None)]
        for m, rows in placed.schedule.lines.items():
            size = rows * layout.program.maps[m].row_bytes
            moved.append((f"{names}_M{m}_OFFSET", size, m))
        for name, size, m in moved if moved[0][1] else moved[1:]:
            room = layout.arena_bytes - size
            for place in range(0, room + 1, max(4, room // tried // 4 * 4)):
                changed = dataclasses.replace(placed, scratch=place)
                if m is not None:
                    offsets = {**placed.offsets, m: place}
                    changed = dataclasses.replace(placed, offsets=offsets)
                changes.append((name, place))
                caught.append(is_caught(layout, number, changed))
    return changes, caught


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
