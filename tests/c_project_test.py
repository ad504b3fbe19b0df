"""Firmware projects around generated C compile, hold what they list, and give TFLM's outputs."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from c_compilers import ARM_C99, ARM_CXX17, require
from generated import in_tflm, random_samples, residual
from int8_graphs import Int8GraphMaker

from deploy import cli, flatbuffer, pipeline
from deploy.emit.c_project import c_project_files, c_sources
from deploy.emit.files import write_all
from deploy.emit.skeleton import KINDS
from deploy.graph import Graph

DECLARATIONS = Path(__file__).resolve().parent / "tflm_declarations"
HELD = {
    "cmake": {"CMakeLists.txt", "arm-none-eabi.cmake", "main.cc", "model_runner.cc", "tiny.c"},
    "arduino": {"tiny/tiny.ino", "tiny/model_runner.cpp", "tiny/tiny_constants.c"},
    "esp-idf": {"CMakeLists.txt", "sdkconfig.defaults", "main/CMakeLists.txt", "main/main.cc"},
    "platformio": {"platformio.ini", "src/main.cpp", "src/arena_plan.c"},
    "zephyr": {"CMakeLists.txt", "prj.conf", "src/main.cpp", "src/fmc_kernels.h"},
    "stm32cube": {"README.md", "model/CMakeLists.txt", "model/app_model.cc", "model/tiny.c"},
}
BOARDS = {"esp-idf": "esp32s3", "stm32cube": "nucleof446re"}
TFLM = re.compile("tflite|TensorFlow|tensor_arena|esp-tflite|plan_check|[@]{")


def planned(graph: Graph, folder: Path, *, fed: bool) -> Path:
    model = folder / "tiny.tflite"
    model.write_bytes(flatbuffer.write(graph))
    out = folder / "out"
    way = "rows" if fed else "whole"
    pipeline.plan(model, runtime="c", input=way, board="nano33ble", out=out)
    return out


@pytest.fixture(scope="module", params=[False, True], ids=["whole", "fed"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planned(residual(), tmp_path_factory.mktemp("planned"), fed=request.param)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_project_of_every_kind(kind: str, folder: Path, tmp_path: Path) -> None:
    report = pipeline.read_report(folder / "report.json")
    sources = {name: (folder / name).read_text() for name in c_sources(folder, report)}
    suited = dataclasses.replace(report, board=BOARDS.get(kind, "nano33ble"))
    files = c_project_files(kind, report=suited, sources=sources)
    names = {str(path.relative_to(tmp_path)) for path in write_all(tmp_path, files)}
    assert names >= HELD[kind]
    assert any(name.endswith("README.md") for name in names)
    paths = [tmp_path / name for name in sorted(names)]
    for path in paths:
        assert path.name.startswith("fmc_") or not TFLM.search(path.read_text()), path
        options = ("-I", str(DECLARATIONS))
        if path.suffix == ".c":
            ARM_C99.must_compile(path, *options)
        elif path.suffix in (".cc", ".cpp"):
            ARM_CXX17.must_compile(path, *options)
        elif path.suffix == ".ino":
            ARM_CXX17.must_compile(path, *options, "-include", "Arduino.h")
    folders = {"cmake": ".", "zephyr": ".", "esp-idf": "main", "stm32cube": "model"}
    if kind in folders:
        build = tmp_path / folders[kind] / "CMakeLists.txt"
        text = re.sub("^ *#.*", "", build.read_text(), flags=re.M)
        listed_sources = {Path(n).name for n in re.findall(r"[\w/]+\.(?:cc|cpp|c)\b", text)}
        assert listed_sources == {p.name for p in paths if p.suffix in (".c", ".cc", ".cpp")}


RUN = {
    False: "for (size_t i = 0; i < tiny::kInputElements; ++i) tiny::Input()[i] = given[i];",
    True: "if (!tiny::Begin()) return 2;\n"
    "  for (size_t y = 0; y < tiny::kInputRows; ++y) {\n"
    "    for (size_t i = 0; i < tiny::kInputRowElements; ++i)\n"
    "      tiny::Row()[i] = given[y * tiny::kInputRowElements + i];\n"
    "    if (!tiny::FeedRow(tiny::Row())) return 3;\n"
    "  }\n"
    "  if (tiny::FeedRow(tiny::Row())) return 4;",
}


def test_the_runner_gives_tflms_outputs(folder: Path, tmp_path: Path) -> None:
    require("gcc", "g++")
    pipeline.emit_project(folder, kind="cmake", out=tmp_path)
    graph = residual()
    (sample,) = random_samples(graph, 1)
    ((wanted,),) = in_tflm(graph, [sample])
    fed = "kInputRows" in (tmp_path / "model_runner.h").read_text()
    given = ",".join(map(str, sample[0].ravel()))
    (tmp_path / "main.cc").write_text(
        '#include <cstdio>\n#include "model_runner.h"\n'
        f"static const int8_t given[] = {{{given}}};\n"
        f"int main() {{\n  if (!tiny::Setup()) return 1;\n  {RUN[fed]}\n"
        "  if (!tiny::Run()) return 5;\n"
        "  for (size_t i = 0; i < tiny::kOutputElements; ++i)\n"
        '    printf("%d ", tiny::Output()[i]);\n}\n'
    )
    sources = sorted(path.name for path in tmp_path.glob("*.c"))
    subprocess.run(["gcc", "-std=c99", "-c", *sources], cwd=tmp_path, check=True)
    objects = [name[:-1] + "o" for name in sources]
    link = ["g++", "-std=c++17", "main.cc", "model_runner.cc", *objects, "-o", "program"]
    subprocess.run(link, cwd=tmp_path, check=True)
    said = subprocess.run(
        [tmp_path / "program"], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    assert np.array_equal(np.array(said.split(), np.int64), wanted.ravel())


def test_several_inputs_and_one_that_nothing_reads(tmp_path: Path) -> None:
    make = Int8GraphMaker(0)
    a, b, _ = (make.input((1, 4, 4, 2)) for _ in range(3))
    graph = make.build(outputs=[make.binary("ADD", a, b), make.conv(b, channels=3)])
    out = planned(graph, tmp_path, fed=False)
    names = pipeline.emit_project(out, kind="cmake", out=tmp_path / "project")
    for name in names:
        if name.endswith(".cc"):
            ARM_CXX17.must_compile(tmp_path / "project" / name)


@pytest.mark.parametrize("unread", [False, True])
def test_the_image_is_fed_and_other_inputs_are_filled(tmp_path: Path, unread: bool) -> None:
    make = Int8GraphMaker(3)
    gate, image = make.input((1, 1, 1, 8)), make.input((1, 14, 12, 3))
    x = make.conv(image, channels=8, kernel=(3, 3))
    x = x if unread else make.binary("MUL", x, gate)
    x = make.conv(x, channels=8, kernel=(3, 3), stride=(2, 2))
    graph = make.build(outputs=[make.fully_connected(make.mean(x), units=4)])
    out = planned(graph, tmp_path, fed=True)
    names = pipeline.emit_project(out, kind="cmake", out=tmp_path / "project")
    for name in names:
        if name.endswith(".cc"):
            ARM_CXX17.must_compile(tmp_path / "project" / name)
    main = (tmp_path / "project" / "main.cc").read_text()
    assert main.index("tiny::Input0()[i] = ") < main.index("tiny::Begin()")
    assert "Input1()" not in (tmp_path / "project" / "model_runner.h").read_text()
    pipeline.verify(out)


def test_a_project_with_a_kernel_library_checks_it(tmp_path: Path) -> None:
    model = tmp_path / "tiny.tflite"
    model.write_bytes(flatbuffer.write(residual()))
    out = tmp_path / "out"
    pipeline.plan(model, runtime="c", kernels="cmsis-nn", board="nano33ble", out=out)
    names = pipeline.emit_project(out, kind="cmake", out=tmp_path / "project")
    folder = tmp_path / "project"
    for name in names:
        if name.endswith(".cc"):
            ARM_CXX17.must_compile(folder / name)
    runner = (folder / "model_runner.h").read_text()
    assert "inline bool Setup() { return tiny_check() == TINY_OK; }" in runner
    build = (folder / "CMakeLists.txt").read_text()
    assert "add_subdirectory(${CMSIS_NN} cmsis-nn)" in build
    assert "Some kernels call CMSIS-NN" in (folder / "README.md").read_text()
    assert "arm_nnfunctions.h" not in names


def test_what_cannot_be_emitted_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["emit", str(folder), "--as", "makefile", "--out", str(tmp_path / "p")]) == 2
    capsys.readouterr()
    (folder / "keep").mkdir(exist_ok=True)
    assert cli.main(["emit", str(folder), "--as", "cmake", "--out", str(folder)]) == 2
    assert "would" in capsys.readouterr().err


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
