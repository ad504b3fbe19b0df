"""Firmware projects compile for Arm, hold exactly what the model needs, and say what they use."""

from __future__ import annotations

import dataclasses
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

from deploy import flatbuffer
from deploy.backends.tflm.embed import embed
from deploy.emit.files import write_all
from deploy.emit.model_data import model_data_files
from deploy.emit.resolver import ADD_FUNCTIONS, add_functions
from deploy.emit.skeleton import KINDS, emit_project, project_files
from deploy.graph import CUSTOM, Graph, Quantization
from deploy.proof.arena_plan import ArenaSizes, arena_plan_files
from deploy.report.report import Memory, Report
from keras_fmc.errors import BadInputError, UnsupportedModelError

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
        memories=(Memory("SRAM", 262144, 0x20000000, 65536, holds_arena=True),),
    )
    return dataclasses.replace(report, **changes)


def sources_of(graph: Graph, report: Report) -> dict[str, bytes | str]:
    plan = planned(graph)
    sizes = ArenaSizes(report.arena_bytes, report.head_bytes, report.tail_bytes, "TFLM")
    name = Path(report.model).stem
    model = flatbuffer.write(embed(graph, plan.offsets))
    return arena_plan_files(plan, sizes, model_name=name) | model_data_files(model, model_name=name)


def emit(kind: str, folder: Path, graph: Graph | None = None, **changes: object) -> list[Path]:
    graph = graph_to_emit() if graph is None else graph
    report = report_of(graph, **changes)
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
    "zephyr": {"CMakeLists.txt", "prj.conf", "src/main.cpp", "src/plan_check.h"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_projects_have_the_files_of_their_world(kind: str, tmp_path: Path) -> None:
    names = {str(path.relative_to(tmp_path)) for path in emit(kind, tmp_path)}
    assert names >= EXPECTED[kind]
    assert any(name.endswith("README.md") for name in names)


@pytest.mark.parametrize("kind", ["cmake", "esp-idf", "zephyr"])
def test_build_files_list_exactly_the_sources(kind: str, tmp_path: Path) -> None:
    paths = emit(kind, tmp_path)
    build = {"cmake": ".", "esp-idf": "main", "zephyr": "."}[kind]
    text = (tmp_path / build / "CMakeLists.txt").read_text()
    command = {"cmake": "add_executable", "esp-idf": "SRCS", "zephyr": "target_sources"}[kind]
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
    declared = set(re.findall(r"TfLiteStatus (Add\w+)\(\)", header.read_text()))
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
        add_functions(graph)


ARENA_SECTIONS = {
    "cmake": ".bss.tensor_arena",
    "arduino": ".bss.tensor_arena",
    "platformio": ".bss.tensor_arena",
    "esp-idf": ".bss",
    "zephyr": ".noinit.test.0",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_arena_stands_aligned_in_its_section(kind: str, tmp_path: Path) -> None:
    paths = emit(kind, tmp_path)
    section, alignment = arena_section(paths)
    assert section == ARENA_SECTIONS[kind]
    assert alignment >= 16


def test_external_ram_of_an_esp_gets_its_attribute(tmp_path: Path) -> None:
    memories = (
        Memory("SRAM", 200_000, 0x3FFB0000, 0),
        Memory("octal", 4 << 20, 0x3F800000, 0, holds_arena=True, external=True),
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
    folder: Path, used: int, values: Sequence[float] = ()
) -> subprocess.CompletedProcess[str]:
    require("gcc", "g++")
    (folder / "fake.cc").write_text(_FAKE)
    subprocess.run(
        f"g++ -Wall -Werror -DUSED={used} -I{DECLARATIONS} -I. -fsanitize=undefined,address "
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


def test_known_boards_name_their_platform(tmp_path: Path) -> None:
    emit("platformio", tmp_path / "known")
    text = (tmp_path / "known" / "platformio.ini").read_text()
    assert "platform = nordicnrf52\nboard = nano33ble\n" in text
    emit("platformio", tmp_path / "unknown", board="my-own board")
    assert "board = CHOOSE_A_BOARD" in (tmp_path / "unknown" / "platformio.ini").read_text()
    assert "Set `platform` and `board`" in (tmp_path / "unknown" / "README.md").read_text()


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
    report = report_of(graph, **changes)
    files = project_files(kind, graph=graph, report=report, sources=sources_of(graph, report))
    return "\n".join(f if isinstance(f, str) else f.decode() for f in files.values())


def test_projects_define_what_the_number_holds_for() -> None:
    speed, size = (project_of("cmake", kernels=f"cmsis-nn-mve{end}") for end in ("", "-size"))
    line = "target_compile_definitions(tflm PUBLIC TF_LITE_STATIC_MEMORY CMSIS_NN "
    assert f"{line}KERNELS_OPTIMIZED_FOR_SPEED)" in speed
    assert f"{line}KERNELS_OPTIMIZED_FOR_SIZE)" in size
    assert "built with `CMSIS_NN` and `KERNELS_OPTIMIZED_FOR_SIZE` (cmsis-nn-mve-size)" in size
    reference = project_of("cmake", kernels="reference")
    assert "TF_LITE_STATIC_MEMORY)" in reference
    assert "The number holds for kernels" not in reference
    flags = "build_flags = -std=gnu++17 -DKERNELS_OPTIMIZED_FOR_SPEED\n"
    assert flags in project_of("platformio", kernels="cmsis-nn-mve")
    call = "zephyr_compile_definitions(KERNELS_OPTIMIZED_FOR_SPEED)"
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
