"""Head and tail in two memories of a board: where they go, what is stated, what is written.

That the sizes are TFLM's own is measured in ``several_test``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from c_compilers import ARM_C99, ARM_CXX17, C11, C99, CXX17, require

from deploy import flatbuffer
from deploy.backends.tflm.several import predict_two
from deploy.cli import main
from deploy.emit.skeleton import KINDS
from deploy.pipeline import emit_project, plan, verify
from deploy.report.report import Report
from deploy.settings import PlanSettings
from deploy.targets import target
from keras_fmc.errors import BadInputError, VerificationError
from tests.int8_graphs import Int8GraphMaker

DECLARATIONS = Path(__file__).resolve().parent / "tflm_declarations"
BOARD = {
    "name": "split",
    "title": "A board of two memories",
    "core": "Cortex-M3",
    "kernels": "reference",
    "runtime": "tflm-2026-08-arm32",
    "flash": "1MB",
    "reserve": "0",
    "names": {
        "zephyr": "split",
        "arduino": "a:b:split",
        "platformio": "a:split",
        "stm32": "S",
        "esp_idf": "esp32s3",
    },
    "source": "made up",
}


def model() -> bytes:
    maker = Int8GraphMaker(seed=3)
    grown = maker.conv(maker.input((1, 16, 16, 4)), channels=8, kernel=(3, 3))
    return flatbuffer.write(
        maker.build(
            outputs=(maker.mean(maker.conv(grown, channels=4, kernel=(3, 3), stride=(2, 2))),)
        )
    )


def board_file(folder: Path, *memories: tuple[str, int, bool]) -> str:
    """A board with the memories (name, bytes, external)."""
    rows = [
        {"name": name, "address": f"0x{0x20000000 + (i << 24):08x}", "size": str(size)}
        | ({"external": True} if external else {})
        for i, (name, size, external) in enumerate(memories)
    ]
    path = folder / "boards.json"
    path.write_text(json.dumps({"boards": [{**BOARD, "memories": rows}]}))
    return str(path)


def sizes() -> tuple[int, int, int]:
    """One arena, array of the head, array of the tail, of the plan without strips."""
    found = plan(model(), board="mps2an385", strips=False)
    assert found.content is not None
    graph = flatbuffer.read(found.content)
    from deploy.backends.tflm.embed import embedded_offsets

    two = predict_two(graph, offsets=embedded_offsets(graph), target=target(board="mps2an385"))
    assert two.head_arena_bytes is not None
    assert two.tail_arena_bytes is not None
    return found.report.arena_bytes, two.head_arena_bytes, two.tail_arena_bytes


def planned(folder: Path, *memories: tuple[str, int, bool], two: bool = True) -> Report:
    """The report of a plan without strips for a board of those memories."""
    (folder / "m.tflite").write_bytes(model())
    options = ["--board-file", board_file(folder, *memories), "--board", "split", "--strips=false"]
    status = main(
        ["plan", str(folder / "m.tflite"), *options, "--out", str(folder / "out")]
        + (["--two-arenas"] if two else [])
    )
    report = Report.from_json((folder / "out/report.json").read_text())
    assert status == (0 if report.fits else 1)
    return report


def homes(report: Report) -> tuple[list[str], list[str]]:
    heads = [m.name for m in report.memories if m.holds_arena]
    return heads, [m.name for m in report.memories if m.holds_tail]


def test_the_head_goes_into_the_first_memory_that_has_room(tmp_path: Path) -> None:
    _, head, tail = sizes()
    report = planned(tmp_path, ("FAST", head, False), ("SLOW", 1 << 20, True))
    assert homes(report) == (["FAST"], ["SLOW"])
    assert (report.head_arena_bytes, report.tail_arena_bytes) == (head, tail)
    assert report.arena_bytes == head + tail
    assert report.fits
    assert report.verified
    assert report.bit_exact


def test_a_head_that_is_too_large_goes_outside_and_the_tail_stays(tmp_path: Path) -> None:
    _, head, tail = sizes()
    report = planned(tmp_path, ("FAST", tail, False), ("SLOW", head, True))
    assert homes(report) == (["SLOW"], ["FAST"])


def test_neither_memory_alone_holds_the_arena_and_both_do(tmp_path: Path) -> None:
    one, head, tail = sizes()
    assert max(head, tail) < one
    memories = (("A", head, False), ("B", tail, False))
    assert not planned(tmp_path, *memories, two=False).fits
    assert planned(tmp_path, *memories).fits


@pytest.mark.parametrize("short", ["head", "tail"])
def test_sixteen_bytes_less_do_not_fit(tmp_path: Path, short: str) -> None:
    _, head, tail = sizes()
    head, tail = (head - 16, tail) if short == "head" else (head, tail - 16)
    report = planned(tmp_path, ("A", head, False), ("B", tail, False))
    assert not report.fits
    assert report.head_arena_bytes is None
    assert any("no two memories have room" in d.reason for d in report.decisions)


def test_a_memory_inside_that_holds_both_needs_no_second(tmp_path: Path) -> None:
    one, _, _ = sizes()
    report = planned(tmp_path, ("FAST", one, False), ("SLOW", 1 << 20, True))
    assert report.head_arena_bytes is None
    assert report.arena_bytes == one
    assert any("FAST holds head and tail together" in d.reason for d in report.decisions)


def test_settings_that_do_not_go_with_two_arenas_are_refused() -> None:
    with pytest.raises(BadInputError, match="two memories of a board"):
        PlanSettings(two_arenas=True).target()
    with pytest.raises(BadInputError, match="no limit of one arena"):
        PlanSettings(two_arenas=True, board="esp32", arena_bytes=4096).target()
    with pytest.raises(BadInputError, match="two_arenas"):
        PlanSettings(two_arenas=True, board="esp32", runtime="c").target()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two")
    _, head, _ = sizes()
    planned(root, ("FAST", head, False), ("SLOW", 1 << 20, True))
    return root / "out"


def test_the_report_declares_both_arrays(folder: Path) -> None:
    report = Report.from_json((folder / "report.json").read_text())
    text, page = (folder / "report.txt").read_text(), (folder / "report.html").read_text()
    for line in (
        f"uint8_t tensor_arena[{report.head_arena_bytes}];",
        f"uint8_t tail_arena[{report.tail_arena_bytes}];",
    ):
        assert line in text
        assert line in page
    assert "<- head" in text
    assert "<- tail" in text


@pytest.mark.parametrize("compiler", [C99, C11, CXX17], ids=lambda c: c.name)
def test_the_proof_compiles_until_a_size_is_changed(
    folder: Path, compiler: object, tmp_path: Path
) -> None:
    assert isinstance(compiler, type(C99))
    header = (folder / "arena_plan.h").read_text()
    (tmp_path / "arena_plan.c").write_text((folder / "arena_plan.c").read_text())
    (tmp_path / "arena_plan.h").write_text(header)
    compiler.must_compile(tmp_path / "arena_plan.c")
    for macro, change in (
        ("M_HEAD_ARENA_BYTES", -16),
        ("M_TAIL_ARENA_BYTES", -16),
        ("M_HEAD_REGION_BYTES", -16),
        ("M_TAIL_REGION_BYTES", -(1 << 20)),
        ("M_TAIL_BYTES", 32),
    ):
        line = next(x for x in header.splitlines() if x.startswith(f"#define {macro} "))
        other = f"#define {macro} {int(line.split()[-1]) + change}"
        (tmp_path / "arena_plan.h").write_text(header.replace(line, other))
        assert compiler.compile(tmp_path / "arena_plan.c").returncode != 0, macro


SOURCES = {".c": ARM_C99, ".cc": ARM_CXX17, ".cpp": ARM_CXX17, ".ino": ARM_CXX17}


@pytest.mark.parametrize("kind", KINDS)
def test_projects_give_the_allocator_both_buffers(folder: Path, kind: str, tmp_path: Path) -> None:
    boards = str(folder.parent / "boards.json")
    names = emit_project(folder, kind=kind, out=tmp_path, board_file=boards)
    paths = [tmp_path / name for name in names if Path(name).suffix in SOURCES]
    for path in paths:
        sketch = ["-include", "Arduino.h"] if path.suffix == ".ino" else []
        SOURCES[path.suffix].must_compile(path, "-I", str(DECLARATIONS), *sketch)
    # The proof, its check, the model, the runner, the main program.
    assert len(paths) == 5
    runner = next(path for path in paths if path.stem == "model_runner")
    text = runner.read_text()
    assert "MicroAllocator::Create(tail_arena, M_TAIL_ARENA_BYTES, tensor_arena," in text
    assert "GetModel(model_data), resolver, allocator);" in text
    require("arm-none-eabi-g++", "arm-none-eabi-objdump")
    command = ["arm-none-eabi-objdump", "-t", "-C", f"{runner.name}.o"]
    symbols = subprocess.run(
        command, cwd=runner.parent, capture_output=True, text=True, check=True
    ).stdout
    report = Report.from_json((folder / "report.json").read_text())
    for array, size in (
        ("tensor_arena", report.head_arena_bytes),
        ("tail_arena", report.tail_arena_bytes),
    ):
        row = next(line for line in symbols.splitlines() if line.endswith(f"::{array}"))
        symbol = re.search(r"\s(\.\S+)\s+([0-9a-f]{8}) ", row)
        assert symbol is not None
        section, bytes_of_it = symbol.groups()
        assert int(bytes_of_it, 16) == size
        # The tail is planned into the external memory.
        if kind == "esp-idf":
            assert section == {"tensor_arena": ".bss", "tail_arena": ".ext_ram.bss"}[array]
    if kind == "esp-idf":
        options = (tmp_path / "sdkconfig.defaults").read_text()
        assert "CONFIG_SPIRAM_ALLOW_BSS_SEG_EXTERNAL_MEMORY=y" in options


def test_verify_holds_the_sizes_against_the_model(folder: Path, tmp_path: Path) -> None:
    assert "every file is as planned" in verify(folder)
    for name in folder.iterdir():
        (tmp_path / name.name).write_bytes(name.read_bytes())
    report = Report.from_json((folder / "report.json").read_text())
    text = (tmp_path / "arena_plan.h").read_text()
    wrong = text.replace(f"TAIL_ARENA_BYTES {report.tail_arena_bytes}", "TAIL_ARENA_BYTES 16")
    assert wrong != text
    (tmp_path / "arena_plan.h").write_text(wrong)
    with pytest.raises(VerificationError, match=r"arena_plan.h is not what"):
        verify(tmp_path)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
