"""What `fmc plan` writes for the MLPerf Tiny models: C that compiles, a report, projects."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from c_compilers import ARM_C99, ARM_CXX17, C99, CXX17
from report_samples import CONTRACT, check_page
from skeleton_test import compile_all
from support import MLPERF_TINY, mlperf_tiny

from deploy import flatbuffer, pipeline, targets
from deploy.backends.tflm.embed import embedded_offsets
from deploy.emit.skeleton import KINDS
from deploy.emit.worlds import WORLDS
from deploy.report.report import Report

FILES = {
    "model.tflite",
    "model_data.h",
    "model_data.cc",
    "arena_plan.h",
    "arena_plan.c",
    "report.txt",
    "report.json",
    "report.html",
}


@pytest.fixture(scope="module", params=MLPERF_TINY)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = mlperf_tiny(request.param)
    out = tmp_path_factory.mktemp(request.param)
    result = pipeline.plan(path, out=out, board="nano33ble", strips=False)
    assert result.exit_code == 0
    return out


def test_all_files_are_there_and_the_report_is_whole(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} >= FILES
    text = (folder / "report.json").read_text()
    assert set(json.loads(text)) >= CONTRACT
    report = Report.from_json(text)
    assert report.to_json() == text
    assert f"tensor_arena[{report.arena_bytes}]" in (folder / "report.txt").read_text()
    page = (folder / "report.html").read_text()
    check_page(page)
    assert f"tensor_arena[{report.arena_bytes}]" in page


def test_the_c_compiles_everywhere(folder: Path) -> None:
    for compiler in (C99, CXX17, ARM_C99, ARM_CXX17):
        compiler.must_compile(folder / "arena_plan.c")
    CXX17.must_compile(folder / "model_data.cc")
    ARM_CXX17.must_compile(folder / "model_data.cc")


def test_the_model_carries_the_plan_of_the_header(folder: Path) -> None:
    offsets = embedded_offsets(flatbuffer.read_file(folder / "model.tflite"))
    assert offsets is not None
    header = (folder / "arena_plan.h").read_text()
    report = Report.from_json((folder / "report.json").read_text())
    assert f"_ARENA_BYTES {report.arena_bytes}\n" in header
    for index, offset in enumerate(offsets):
        if offset >= 0:
            assert f"_T{index}_" in header


def test_projects_of_every_kind_that_suits_compile(folder: Path, tmp_path: Path) -> None:
    suitable = [world.kind for world in WORLDS if world.suits(targets.board("nano33ble"))]
    assert 4 <= len(suitable) < len(KINDS)
    for kind in suitable:
        names = pipeline.emit_project(folder, kind=kind, out=tmp_path / kind)
        sources = [tmp_path / kind / name for name in names]
        wanted = [p for p in sources if p.stem != "model_data"]
        # The plan, its check, the runner, the main program; the data is compiled above.
        assert compile_all(wanted) == 4


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
