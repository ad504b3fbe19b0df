"""Firmware projects compile for Arm, hold exactly what the model needs, and say what they use."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from c_compilers import ARM_C99, ARM_CXX17, CXX17, require
from graph_maker import GraphMaker
from planned import planned, striped_graph

from deploy import flatbuffer, targets
from deploy.backends.tflm.embed import embed
from deploy.emit import skeleton
from deploy.emit.files import write_all
from deploy.emit.model_data import model_data_files
from deploy.emit.resolver import ADD_FUNCTIONS, registrations
from deploy.emit.skeleton import DATA, KINDS, emit_project, project_files
from deploy.emit.worlds import WORLDS, cpu_flags
from deploy.emit.written import MODEL_FILE
from deploy.graph import CUSTOM, Graph, Quantization
from deploy.memory.plan import AliasReason
from deploy.operators.registered import INT8_ALONE
from deploy.proof.arena_plan import ArenaSizes, arena_plan_files
from deploy.report.report import Report, ReportMemory, ReportTensor
from keras_fmc.errors import BadInputError, UnsupportedModelError
from tests.int8_graphs import Int8GraphMaker
from tests.subgraphs import streaming

DECLARATIONS = Path(__file__).resolve().parent / "tflm_declarations"
TAIL = 512
SCALE, ZERO = 0.1 / 13, -13


def graph_to_emit() -> Graph:
    graph = striped_graph()
    tensors = list(graph.tensors)
    for index in (*graph.inputs, *graph.outputs):
        quantization = Quantization((SCALE,), (ZERO,))
        tensors[index] = dataclasses.replace(tensors[index], quantization=quantization)
    return graph.replace(tensors=tuple(tensors))


def report_of(graph: Graph, **changes: object) -> Report:
    head = planned(graph).head_bytes
    report = Report(
        model="models/9 lives-int8.tflite",
        board="nano33ble",
        core="Cortex-M4F",
        runtime="tflm-2026-08",
        kernels="cmsis-nn-dsp",
        arena_bytes=head + TAIL + 32,
        head_bytes=head,
        tail_bytes=TAIL,
        scratch_bytes=0,
        lower_bound_bytes=head,
        proven_optimal=True,
        fits=True,
        macs=0,
        macs_ratio=1.0,
        flash_bytes=4000,
        memories=(ReportMemory("SRAM", 262144, 0x20000000, 65536, holds_arena=True),),
    )
    return dataclasses.replace(report, **changes)


def sources_of(graph: Graph, report: Report) -> dict[str, bytes | str]:
    plan = planned(graph)
    sizes = ArenaSizes(report.arena_bytes, report.head_bytes, report.tail_bytes, "TFLM")
    name = Path(report.model).stem
    model = flatbuffer.write(embed(graph, plan.offsets))
    files: dict[str, bytes | str] = {MODEL_FILE: model}
    files |= arena_plan_files(plan, sizes, model_name=name)
    return files | model_data_files(model, model_name=name)


BOARDS = {
    "esp-idf": {"board": "esp32s3", "core": "Xtensa LX7", "kernels": "esp-nn-esp32s3"},
    "stm32cube": {"board": "nucleof446re"},
}
"""A board for each kind that the Arduino Nano 33 BLE does not suit."""


def emit(kind: str, folder: Path, graph: Graph | None = None, **changes: object) -> list[Path]:
    graph = graph_to_emit() if graph is None else graph
    report = report_of(graph, **BOARDS.get(kind, {}) | changes)
    sources = sources_of(graph, report)
    return list(emit_project(kind, folder, graph=graph, report=report, sources=sources))


def compile_all(paths: list[Path], *options: str) -> int:
    compiled = 0
    for path in paths:
        extra = ("-I", str(DECLARATIONS), *options)
        if path.suffix == ".c":
            ARM_C99.must_compile(path, *extra)
        elif path.suffix in (".cc", ".cpp"):
            ARM_CXX17.must_compile(path, *extra)
        elif path.suffix == ".ino":
            # What the Arduino IDE does to a sketch.
            ARM_CXX17.must_compile(path, *extra, "-include", "Arduino.h")
        else:
            continue
        compiled += 1
    return compiled


@pytest.mark.parametrize("namespace", ["tflite", "tflite::micro"])
@pytest.mark.parametrize("kind", KINDS)
def test_projects_compile_for_arm(kind: str, namespace: str, tmp_path: Path) -> None:
    options = ("-DFMC_TFLM_MICRO_NAMESPACE",) if namespace == "tflite::micro" else ()
    # arena_plan.c, plan_check.c, the model, the runner, the main program.
    assert compile_all(emit(kind, tmp_path), *options) == 5


@pytest.mark.parametrize("namespace", [(), ("-DFMC_TFLM_MICRO_NAMESPACE",)])
def test_a_project_with_variables_and_kernels_of_its_own_compiles(
    namespace: tuple[str, ...], tmp_path: Path
) -> None:
    graph = streaming(0)
    last = dataclasses.replace(
        graph.operators[-1], opcode=CUSTOM, custom_code="Mine 2", options=None
    )
    graph = graph.replace(operators=(*graph.operators[:-1], last))
    files = emit("cmake", tmp_path, graph)
    text = next(path for path in files if path.name == "model_runner.cc").read_text()
    assert f"MicroResourceVariables::Create(allocator, {len(graph.variables)})" in text
    assert 'resolver.AddCustom("Mine 2", Register_Mine_2()) != kTfLiteOk' in text
    assert "TFLMRegistration* Register_Mine_2();" in text
    assert "GetModel(model_data), resolver, allocator, variables);" in text
    assert compile_all(files, *namespace) == 5


EXPECTED = {
    "cmake": {"CMakeLists.txt", "arm-none-eabi.cmake", "main.cc", "model_runner.cc"},
    "arduino": {
        "m_9_lives_int8/m_9_lives_int8.ino",
        "m_9_lives_int8/model_runner.cpp",
        "m_9_lives_int8/model_data.cpp",
    },
    "esp-idf": {
        "CMakeLists.txt",
        "sdkconfig.defaults",
        "main/CMakeLists.txt",
        "main/idf_component.yml",
        "main/main.cc",
    },
    "platformio": {"platformio.ini", "src/main.cpp", "src/arena_plan.c"},
    "zephyr": {"CMakeLists.txt", "prj.conf", "west.yml", "src/main.cpp", "src/plan_check.h"},
    "stm32cube": {"model/CMakeLists.txt", "model/app_model.cc", "model/app_model.h"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_projects_have_the_files_of_their_world(kind: str, tmp_path: Path) -> None:
    names = {str(path.relative_to(tmp_path)) for path in emit(kind, tmp_path)}
    assert names >= EXPECTED[kind]
    assert any(name.endswith("README.md") for name in names)


@pytest.mark.parametrize("kind", ["cmake", "esp-idf", "zephyr", "stm32cube"])
def test_build_files_list_exactly_the_sources(kind: str, tmp_path: Path) -> None:
    paths = emit(kind, tmp_path)
    build = {"cmake": ".", "esp-idf": "main", "zephyr": ".", "stm32cube": "model"}[kind]
    text = (tmp_path / build / "CMakeLists.txt").read_text()
    command = {
        "cmake": "add_executable",
        "esp-idf": "SRCS",
        "zephyr": "target_sources",
        "stm32cube": "add_library(model",
    }[kind]
    wanted = text.split(command, 1)[1]
    listed = set(re.findall(r"[\w/]+\.(?:cc|cpp|c)\b", wanted.split(")", 1)[0]))
    there = {
        str(p.relative_to(tmp_path / build)) for p in paths if p.suffix in (".c", ".cc", ".cpp")
    }
    assert listed == there


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_template_is_left(kind: str, tmp_path: Path) -> None:
    for path in emit(kind, tmp_path):
        text = path.read_text()
        assert "@{" not in text, path.name
        assert not re.search(r"[ \t]$", text, re.MULTILINE), path.name
        assert text.endswith("\n"), path.name


def test_the_resolver_holds_exactly_the_operators(tmp_path: Path) -> None:
    graph = graph_to_emit()
    emit("cmake", tmp_path, graph)
    text = (tmp_path / "model_runner.cc").read_text()
    assert re.findall(r"resolver\.(\w+)\(", text) == [
        "AddConcatenation",
        "AddRelu",
        "AddSlice",
        "AddTanh",
    ]
    assert "MicroMutableOpResolver<4>" in text


def test_every_add_function_is_declared_by_the_resolver() -> None:
    header = DECLARATIONS / "tensorflow/lite/micro/micro_mutable_op_resolver.h"
    declared = set(re.findall(r"TfLiteStatus (Add\w+)\(", header.read_text()))
    assert set(ADD_FUNCTIONS.values()) <= declared
    assert len(set(ADD_FUNCTIONS.values())) == len(ADD_FUNCTIONS)


def test_the_wheel_has_a_kernel_for_every_operator() -> None:
    """The symbols of the tflite_micro wheel say which kernels TFLM has."""
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro._runtime")
    require("nm")
    symbols = subprocess.run(
        ["nm", "-C", runtime.__file__], capture_output=True, text=True, check=True
    ).stdout
    kernels = set(re.findall(r"\bRegister_([A-Z0-9_]+)\(\)", symbols))
    assert "CONV_2D" in kernels
    assert {kind for kind in ADD_FUNCTIONS if not kind.startswith(CUSTOM)} <= kernels


def test_an_operator_without_a_kernel_is_named() -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 4)
    graph = maker.build((source,), (maker.unary(source, "GELU"),))
    with pytest.raises(UnsupportedModelError, match=r"no kernel for GELU #0 \(gelu_2\)"):
        registrations(graph)


ARENA_SECTIONS = {
    "cmake": ".bss.tensor_arena",
    "arduino": ".bss.tensor_arena",
    "platformio": ".bss.tensor_arena",
    "esp-idf": ".bss",
    "zephyr": ".noinit.test.0",
    "stm32cube": ".bss.tensor_arena",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_arena_stands_aligned_in_its_section(kind: str, tmp_path: Path) -> None:
    paths = emit(kind, tmp_path)
    section, alignment = arena_section(paths)
    assert section == ARENA_SECTIONS[kind]
    assert alignment >= 16


def test_external_ram_of_an_esp_gets_its_attribute(tmp_path: Path) -> None:
    memories = (
        ReportMemory("SRAM", 200_000, 0x3FFB0000, 0),
        ReportMemory("octal", 4 << 20, 0x3F800000, 0, holds_arena=True, external=True),
    )
    paths = emit("esp-idf", tmp_path, memories=memories, board="esp32")
    assert arena_section(paths)[0] == ".ext_ram.bss"
    assert (
        "CONFIG_SPIRAM_ALLOW_BSS_SEG_EXTERNAL_MEMORY=y"
        in (tmp_path / "sdkconfig.defaults").read_text()
    )


def test_a_section_can_be_named(tmp_path: Path) -> None:
    graph = graph_to_emit()
    report = report_of(graph)
    sources = sources_of(graph, report)
    paths = emit_project(
        "zephyr", tmp_path, graph=graph, report=report, sources=sources, arena_section=".axi_sram"
    )
    assert arena_section(list(paths))[0] == ".axi_sram"


def arena_section(paths: list[Path]) -> tuple[str, int]:
    """Section and alignment of tensor_arena, which has to be as large as planned."""
    require("arm-none-eabi-objdump")
    runner = next(p for p in paths if p.stem == "model_runner" and p.suffix != ".h")
    ARM_CXX17.must_compile(runner, "-I", str(DECLARATIONS))
    dump = subprocess.run(
        ["arm-none-eabi-objdump", "-h", "-t", "-C", f"{runner.name}.o"],
        cwd=runner.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    symbol = re.search(
        r"^[0-9a-f]{8} .{7} (\.\S+)\s+([0-9a-f]+) .*::tensor_arena$", dump, re.MULTILINE
    )
    assert symbol is not None
    assert int(symbol[2], 16) == report_of(graph_to_emit()).arena_bytes
    section = re.search(rf"\d+ {re.escape(symbol[1])} .*2\*\*(\d+)", dump)
    assert section is not None
    return symbol[1], 1 << int(section[1])


_FAKE = r"""
#include <cstdarg>
#include <cstdio>
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "model_runner.h"
void MicroPrintf(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\n");
}
namespace tflite {
void InitializeTarget() {}
TfLiteTensor tensor;
MicroInterpreter::MicroInterpreter(const Model*, const MicroOpResolver&, uint8_t* arena, size_t)
    : arena_(arena) {}
MicroInterpreter::~MicroInterpreter() {}
TfLiteStatus MicroInterpreter::AllocateTensors() { return kTfLiteOk; }
TfLiteStatus MicroInterpreter::Invoke() { return kTfLiteOk; }
TfLiteTensor* MicroInterpreter::input(size_t) { tensor.data.data = arena_; return &tensor; }
TfLiteTensor* MicroInterpreter::output(size_t) { tensor.data.data = arena_; return &tensor; }
size_t MicroInterpreter::arena_used_bytes() const { return USED; }
}  // namespace tflite
int main() {
  namespace m = m_9_lives_int8;
  if (!m::Setup()) return 1;
  if (!m::Run()) return 2;
  float value;
  while (std::scanf("%f", &value) == 1) {
    m::Input()[0] = m::QuantizeInput(value);
    const int8_t code = m::Output()[0];
    std::printf("%d %.9g\n", code, static_cast<double>(m::DequantizeOutput(code)));
  }
}
"""


def run_natively(
    folder: Path, used: int, values: Sequence[float] = (), options: str = ""
) -> subprocess.CompletedProcess[str]:
    require("gcc", "g++")
    (folder / "fake.cc").write_text(_FAKE)
    subprocess.run(
        f"g++ -Wall -Werror {options} -DUSED={used} -I{DECLARATIONS} -I. "
        "-fsanitize=undefined,address "
        "fake.cc model_runner.cc model_data.cc -x c arena_plan.c plan_check.c -o fake",
        shell=True,
        cwd=folder,
        check=True,
    )
    return subprocess.run(
        [folder / "fake"],
        input=" ".join(map(str, values)),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_firmware_says_what_it_used(tmp_path: Path) -> None:
    emit("cmake", tmp_path)
    head = planned(graph_to_emit()).head_bytes
    right = run_natively(tmp_path, head + TAIL)
    line = (
        f"m_9_lives_int8: arena_used_bytes {head + TAIL}, planned {head + TAIL} "
        f"(head {head} + tail {TAIL}), arena {head + TAIL + 32}\n"
    )
    assert (right.returncode, right.stdout) == (0, line)
    wrong = run_natively(tmp_path, head + TAIL + 16)
    assert (
        "not as planned: this build is not tflm-2026-08, cmsis-nn-dsp, Cortex-M4F" in wrong.stdout
    )


def test_the_firmware_refuses_another_model(tmp_path: Path) -> None:
    emit("cmake", tmp_path)
    other = striped_graph(strips=4)
    model = flatbuffer.write(embed(other, planned(other).offsets))
    write_all(tmp_path, model_data_files(model, model_name="other"))
    done = run_natively(tmp_path, 0)
    assert done.returncode == 1
    assert "another number of tensors than arena_plan.h" in done.stdout


def test_quantisation_helpers_agree_with_numpy(tmp_path: Path) -> None:
    emit("cmake", tmp_path)
    rng = np.random.default_rng(7)
    values = [*rng.uniform(-1.2, 1.2, 200), 0.0, 1e30, -1e30, float("inf"), float("-inf")]
    done = run_natively(tmp_path, 0, [*values, float("nan")])
    rows = [line.split() for line in done.stdout.splitlines() if re.match(r"-?\d+ \S+$", line)]
    steps = np.float32(values) / np.float32(SCALE)
    rounded = np.trunc(steps + np.copysign(np.float32(0.5), steps))
    codes = np.clip(rounded + ZERO, -128, 127)
    # What is not a number becomes the lowest code.
    codes = np.append(codes, -128)
    assert [int(row[0]) for row in rows] == codes.astype(int).tolist()
    assert np.float32(SCALE) != np.float32(f"{SCALE:.6g}")
    reals = np.float32(SCALE) * (codes - ZERO).astype(np.float32)
    np.testing.assert_allclose([float(row[1]) for row in rows], reals, rtol=2e-7)


def test_several_ports_are_numbered(tmp_path: Path) -> None:
    maker = GraphMaker()
    left, right = maker.tensor(1, 4), maker.tensor(1, 4)
    total = maker.add(left, right)
    graph = maker.build((left, right), (total, maker.unary(total, "TANH")))
    paths = emit("cmake", tmp_path, graph)
    header = (tmp_path / "model_runner.h").read_text()
    for name in ("Input0", "Input1", "Output0", "Output1"):
        assert f"k{name}Elements = 4;" in header
    assert compile_all(paths) == 5


def test_integers_without_scale_have_no_helper(tmp_path: Path) -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 4)
    graph = maker.build((source,), (maker.unary(source, "TANH"),))
    tensors = tuple(dataclasses.replace(t, dtype="int32", quantization=None) for t in graph.tensors)
    graph = graph.replace(tensors=tensors)
    paths = emit("arduino", tmp_path, graph)
    header = next(p for p in paths if p.name == "model_runner.h").read_text()
    assert "int32_t* Input();" in header
    assert "QuantizeInput" not in header
    assert compile_all(paths) == 5


def test_bad_requests() -> None:
    graph = graph_to_emit()
    report = report_of(graph)
    sources = sources_of(graph, report)
    with pytest.raises(
        BadInputError, match="unknown kind of project 'make'; expected one of cmake"
    ):
        project_files("make", graph=graph, report=report, sources=sources)
    small = dataclasses.replace(report, fits=False, limit_bytes=report.arena_bytes - 100)
    with pytest.raises(BadInputError, match="does not fit nano33ble; received 100 bytes over"):
        project_files("cmake", graph=graph, report=small, sources=sources)
    floats = dataclasses.replace(graph.tensors[0], dtype="float64")
    with pytest.raises(UnsupportedModelError, match="input model/input_1 is float64"):
        project_files(
            "cmake",
            graph=graph.replace(tensors=(floats, *graph.tensors[1:])),
            report=report,
            sources=sources,
        )


NAMES = {
    "platformio": "platformio.ini",
    "arduino": "m_9_lives_int8/README.md",
    "zephyr": "README.md",
    "esp-idf": "README.md",
    "stm32cube": "README.md",
    "cmake": "CMakeLists.txt",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_board_gets_its_names_and_the_rest_a_refusal(kind: str) -> None:
    """Every board with every kind: a project without a placeholder, or the kinds that suit."""
    graph = graph_to_emit()
    report = report_of(graph)
    sources = sources_of(graph, report)
    made = 0
    for board in targets.boards():
        planned = dataclasses.replace(report, board=board.name, core=board.core)
        suitable = [world.kind for world in WORLDS if world.suits(board)]
        assert suitable, board.name
        if kind not in suitable:
            wanted = f"suits {board.name}: it needs .*; expected one of {', '.join(suitable)};"
            with pytest.raises(BadInputError, match=wanted):
                project_files(kind, graph=graph, report=planned, sources=sources)
            continue
        made += 1
        files = project_files(kind, graph=graph, report=planned, sources=sources)
        text = "".join(f for name, f in files.items() if isinstance(f, str) and "." in name)
        assert "CHOOSE" not in text
        shown = {
            "platformio": "platform = {}\nboard = {}\n".format(
                *(board.names.platformio or ":").split(":")
            ),
            "arduino": f"--fqbn {board.names.arduino} m_9_lives_int8",
            "zephyr": f"west build -p auto -b {board.names.zephyr} .",
            "esp-idf": f"idf.py set-target {board.names.esp_idf}\n",
            "stm32cube": f"part {board.names.stm32}.",
            "cmake": "project(m_9_lives_int8 C CXX)",
        }[kind]
        assert shown in str(files[NAMES[kind]])
        assert ("arm-none-eabi.cmake" in files) == (kind == "cmake" and "Cortex" in board.core)
    assert made >= {"esp-idf": 6, "stm32cube": 15}.get(kind, 25)


def test_a_board_that_nobody_knows_gets_cmake_and_names_of_its_own_file(tmp_path: Path) -> None:
    graph = graph_to_emit()
    report = report_of(graph, board="mine")
    sources = sources_of(graph, report)
    with pytest.raises(BadInputError, match=r"suits mine.*expected one of cmake;"):
        project_files("zephyr", graph=graph, report=report, sources=sources)
    text = project_files("cmake", graph=graph, report=report, sources=sources)
    assert '"-mcpu=cortex-m4 -mthumb"' in str(text["arm-none-eabi.cmake"])
    own = {
        "name": "mine",
        "title": "Mine",
        "core": "Cortex-M4F",
        "fpu": "fpv4-sp-d16",
        "kernels": "cmsis-nn-dsp",
        "runtime": "tflm-2026-08-arm32",
        "reserve": "0",
        "memories": [{"name": "SRAM", "size": "64KB"}],
        "source": "mine",
        "names": {"zephyr": "mine/core0"},
    }
    path = tmp_path / "boards.json"
    path.write_text(json.dumps({"boards": [own]}))
    files = project_files("zephyr", graph=graph, report=report, sources=sources, board_file=path)
    assert "-b mine/core0 ." in str(files["README.md"])


def test_compilers_take_the_processor_of_every_arm_board(tmp_path: Path) -> None:
    require("arm-none-eabi-gcc")
    (tmp_path / "a.c").write_text("float twice(float x) { return x + x; }\n")
    seen = {}
    for board in targets.boards():
        flags = cpu_flags(board)
        assert bool(flags) == board.core.startswith("Cortex"), board.name
        if flags and flags not in seen:
            command = f"arm-none-eabi-gcc -Wall -Werror {flags} -O1 -S -o - a.c"
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
            )
            if "-mcpu=cortex-m85" in flags and "unrecognized -mcpu" in done.stderr:
                continue  # GCC knows it from version 13 on.
            assert done.returncode == 0, done.stderr
            seen[flags] = done.stdout
            assert ("vadd.f32" in done.stdout) == (board.float_abi == "hard"), board.name
    assert len(seen) >= 7


def test_versions_are_pinned() -> None:
    commit = targets.runtime("tflm-2026-08-arm32").commit
    assert re.fullmatch("[0-9a-f]{40}", commit)
    text = {kind: project_of(kind, runtime="tflm-2026-08-arm32") for kind in KINDS}
    assert f"git checkout {commit}\n" in text["cmake"]
    assert f"git checkout {commit}\n" in text["stm32cube"]
    assert re.search(r"\nlib_deps = \S+\.git#[0-9a-f]{40}\n", text["platformio"])
    assert re.search(r"espressif/esp-tflite-micro: \"==[\d.]+\"\n", text["esp-idf"])
    assert len(re.findall(r"revision: (?:[0-9a-f]{40}|v[\d.]+)\n", text["zephyr"])) == 2


@pytest.mark.parametrize("stop", [None, True, False])
@pytest.mark.parametrize("grows", [True, False])
def test_start_up_stops_where_outputs_grow_into_inputs(
    stop: bool | None, grows: bool, tmp_path: Path
) -> None:
    graph = graph_to_emit()
    reason = (AliasReason.OVERLAP if grows else AliasReason.IN_PLACE).value
    tensor = ReportTensor("a", 0, 16, 0, 1, "b", reason)
    report = report_of(graph, tensors=(tensor,))
    files = project_files(
        "cmake", graph=graph, report=report, sources=sources_of(graph, report), stop=stop
    )
    write_all(tmp_path, files)
    used = planned(graph).head_bytes + TAIL
    assert run_natively(tmp_path, used).returncode == 0
    stops = grows if stop is None else stop
    done = run_natively(tmp_path, used + 16)
    assert done.returncode == int(stops)
    assert ("stopped; -DMODEL_STOP_UNLESS_AS_PLANNED=0 lets it run on" in done.stdout) == stops
    if stops:
        again = run_natively(tmp_path, used + 16, options="-DMODEL_STOP_UNLESS_AS_PLANNED=0")
        assert again.returncode == 0
        assert "not as planned" in again.stdout


def test_int8_variants_are_registered_where_all_is_int8(tmp_path: Path) -> None:
    make = Int8GraphMaker(2)
    x = make.conv(make.input((1, 8, 8, 4)), channels=4, kernel=(3, 3))
    graph = make.build(outputs=[make.conv(x, channels=4, kernel=(1, 1))])
    assert registrations(graph) == ("AddConv2D(Register_CONV_2D_INT8())",)
    tensors = list(graph.tensors)
    last = graph.outputs[0]
    tensors[last] = dataclasses.replace(tensors[last], dtype="int16")
    assert registrations(graph.replace(tensors=tuple(tensors))) == ("AddConv2D()",)
    weights = graph.operators[0].inputs[1]
    tensors = list(graph.tensors)
    tensors[weights] = dataclasses.replace(tensors[weights], dtype="int4")
    assert registrations(graph.replace(tensors=tuple(tensors))) == ("AddConv2D()",)
    assert set(ADD_FUNCTIONS) >= INT8_ALONE
    assert compile_all(emit("cmake", tmp_path, graph)) == 5


@pytest.mark.parametrize("kind", ["cmake", "esp-idf", "stm32cube", "zephyr"])
def test_a_model_can_be_taken_as_a_file(kind: str, tmp_path: Path) -> None:
    require("arm-none-eabi-gcc", "arm-none-eabi-objcopy")
    graph = graph_to_emit()
    report = report_of(graph, **BOARDS.get(kind, {}))
    sources = sources_of(graph, report)
    model = sources[MODEL_FILE]
    assert isinstance(model, bytes)
    report = dataclasses.replace(report, flash_bytes=len(model))
    files = project_files(kind, graph=graph, report=report, sources=sources, data="incbin")
    paths = write_all(tmp_path, files)
    (source,) = (p for p in paths if p.name == "model_data.S")
    assert not any(p.stem == "model_data" and p.suffix in (".cc", ".cpp") for p in paths)
    subprocess.run(
        ["arm-none-eabi-gcc", "-c", f"-I{source.parent}", source, "-o", "data.o"],
        cwd=tmp_path,
        check=True,
    )
    copy = ["arm-none-eabi-objcopy", "-O", "binary", "-j", ".rodata.model_data", "data.o", "out"]
    subprocess.run(copy, cwd=tmp_path, check=True)
    length = -len(model) % 4
    wanted = model + bytes(length) + len(model).to_bytes(4, "little")
    assert (tmp_path / "out").read_bytes()[: len(wanted)] == wanted
    build = next(p for p in paths if p.name == "CMakeLists.txt" and "model_data" in p.read_text())
    assert "model_data.S" in build.read_text()
    assert "OBJECT_DEPENDS" in build.read_text()
    if kind in ("cmake", "stm32cube"):
        assert re.search(r"(project|enable_language)\(.*CXX ASM\)", build.read_text())


def test_a_model_can_be_embedded_by_the_compiler(tmp_path: Path) -> None:
    """C23's ``#embed`` is the bytes of the file between commas; done here if no compiler can."""
    require("arm-none-eabi-gcc", "arm-none-eabi-objcopy")
    graph = graph_to_emit()
    report = report_of(graph)
    sources = sources_of(graph, report)
    model = sources[MODEL_FILE]
    assert isinstance(model, bytes)
    files = project_files("cmake", graph=graph, report=report, sources=sources, data="embed")
    write_all(tmp_path, files)
    source = tmp_path / "model_data.c"
    line = f'#embed "{MODEL_FILE}"\n'
    assert source.read_text().count(line) == 1
    refused = ARM_C99.compile(source)
    if refused.returncode != 0:
        assert "this compiler has no #embed" in refused.stderr
        expanded = source.read_text().replace(line, ",".join(map(str, model)) + "\n")
        source.write_text(expanded)
        ARM_C99.must_compile(source, "-D__has_embed=1")
    copy = ["arm-none-eabi-objcopy", "-O", "binary", "-j", ".rodata.model_data"]
    ARM_C99.must_compile(source, "-D__has_embed=1", "-fdata-sections")
    subprocess.run([*copy, "model_data.c.o", "out"], cwd=tmp_path, check=True)
    assert (tmp_path / "out").read_bytes() == model
    build = (tmp_path / "CMakeLists.txt").read_text()
    assert "  model_data.c\n" in build
    assert "OBJECT_DEPENDS" in build
    assert "ASM" not in build
    assert not (tmp_path / "model_data.cc").exists()


def test_large_models_are_files_where_that_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skeleton, "INCBIN_BYTES", 10)
    assert ".incbin" in project_of("cmake")
    assert ".incbin" not in project_of("arduino")
    monkeypatch.setattr(skeleton, "INCBIN_BYTES", 1 << 30)
    assert ".incbin" not in project_of("cmake")
    graph = graph_to_emit()
    report = report_of(graph)
    with pytest.raises(BadInputError, match=r"(?s)no place for a file.*--as cmake or esp-idf"):
        project_files(
            "arduino",
            graph=graph,
            report=report,
            sources=sources_of(graph, report),
            data="incbin",
        )
    assert DATA == ("array", "incbin", "embed")


def test_the_kernel_library_reaches_the_build(tmp_path: Path) -> None:
    emit("zephyr", tmp_path / "a")
    emit("zephyr", tmp_path / "b", kernels="reference")
    wanted = "CONFIG_TENSORFLOW_LITE_MICRO_CMSIS_NN_KERNELS=y"
    assert wanted in (tmp_path / "a" / "prj.conf").read_text()
    assert wanted not in (tmp_path / "b" / "prj.conf").read_text()
    emit("cmake", tmp_path / "c")
    assert (
        "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16"
        in (tmp_path / "c" / "arm-none-eabi.cmake").read_text()
    )


def test_names_cannot_break_the_sources(tmp_path: Path) -> None:
    paths = emit("cmake", tmp_path, model='a"b%s\\*/c.tflite', runtime='r"%d\\')
    assert compile_all(paths) == 5
    CXX17.must_compile(tmp_path / "model_runner.cc", "-I", str(DECLARATIONS))


def project_of(kind: str, **changes: object) -> str:
    """All text of a project, as one."""
    graph = graph_to_emit()
    report = report_of(graph, **BOARDS.get(kind, {}) | changes)
    files = project_files(kind, graph=graph, report=report, sources=sources_of(graph, report))
    return "\n".join(f if isinstance(f, str) else f.decode("latin-1") for f in files.values())


def test_projects_define_what_the_number_holds_for() -> None:
    speed, size = (project_of("cmake", kernels=f"cmsis-nn-mve{end}") for end in ("", "-size"))
    line = "target_compile_definitions(tflm PUBLIC TF_LITE_STATIC_MEMORY CMSIS_NN "
    assert f"{line}KERNELS_OPTIMIZED_FOR_SPEED)" in speed
    assert f"{line}KERNELS_OPTIMIZED_FOR_SIZE)" in size
    assert "built with `CMSIS_NN` and `KERNELS_OPTIMIZED_FOR_SIZE` (cmsis-nn-mve-size)" in size
    reference = project_of("cmake", kernels="reference")
    assert "TF_LITE_STATIC_MEMORY)" in reference
    assert "The number holds for kernels" not in reference
    flags = "build_flags = -std=gnu++17 -O2 -DNDEBUG -DKERNELS_OPTIMIZED_FOR_SPEED\n"
    assert flags in project_of("platformio", kernels="cmsis-nn-mve")
    call = "zephyr_compile_definitions(NDEBUG KERNELS_OPTIMIZED_FOR_SPEED)"
    assert call in project_of("zephyr", kernels="cmsis-nn-mve")


def test_projects_for_esp_idf_choose_the_kernels_of_the_plan() -> None:
    board = {"board": "esp32s3", "core": "Xtensa LX7"}
    assert "CONFIG_NN_OPTIMIZED=y\n" in project_of("esp-idf", kernels="esp-nn-esp32s3", **board)
    ansi = project_of("esp-idf", kernels="esp-nn-ansi", **board)
    assert "CONFIG_NN_ANSI_C=y\n" in ansi
    assert "CONFIG_NN_OPTIMIZED" not in ansi


def test_cmake_builds_release_unless_told_otherwise() -> None:
    text = project_of("cmake")
    default = text.index("set(CMAKE_BUILD_TYPE Release")
    assert text.index("if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)") < default
    assert default < text.index("add_library(tflm")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
