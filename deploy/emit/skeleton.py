"""Firmware projects around a planned model, each as its own world expects them.

All kinds share model_runner (interpreter, arena, operators, helpers) and differ in what builds
it and in the main program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template

from deploy.emit.arena_text import allocator_values, arena_values, is_external, plain
from deploy.emit.files import write_all
from deploy.emit.plan_check import plan_check_files
from deploy.emit.ports import ports
from deploy.emit.resolver import own_functions, registrations
from deploy.emit.worlds import (
    ESP_NN,
    ESP_TFLITE_MICRO,
    ZEPHYR,
    ZEPHYR_TFLM,
    ZEPHYR_TFLM_OF,
    check_suits,
    cpu_flags,
    library_of,
)
from deploy.emit.written import MODEL_FILE
from deploy.graph import Graph
from deploy.memory.plan import AliasReason
from deploy.proof.names import c_prefix, c_string
from deploy.report.report import Report
from deploy.targets import Board, boards, kernels, runtime
from deploy.targets.load import names_in
from keras_fmc.errors import BadInputError

TEMPLATES = Path(__file__).with_name("templates")
_KCONFIG = "CONFIG_"
"""How switches of ESP-IDF's configuration begin; others are definitions of the compiler."""


INCBIN_BYTES = 512 * 1024
"""From this size on a model is taken as a file by the assembler, where its world can do that: an
array in C takes a compiler seconds and hundreds of megabytes for each megabyte."""

_INCBIN_KINDS = ("cmake", "esp-idf", "stm32cube", "zephyr")
DATA = ("array", "incbin", "embed")
"""How the model comes into the firmware: an array in C++, ``.incbin`` of the file by the assembler,
or C23's ``#embed`` of it, which takes GCC 15 or Clang 19."""


DATA_SOURCES = {"incbin": "model_data.S", "embed": "model_data.c"}
"""Form of the model -> the source that takes its file."""

_ARDUINO_LIBRARY = """\
//
// {header} belongs to the library {title}; including it here makes
// the IDE find the library. Other ports have another name: change this line and nothing else.
#include <{header}>

"""


class ProjectTemplate(Template):
    """Templates of projects hold CMake's dollars, so ours are written ``@{name}``."""

    delimiter = "@"
    # Only the braced form: a bare "@name" belongs to the file.
    idpattern = r"(?!)"
    braceidpattern = r"[a-z_]+"


def filled(template: str, values: Mapping[str, object]) -> str:
    """Returns a template of projects with its places filled."""
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    conversions = (TEMPLATES / "common" / "conversions.h").read_text(encoding="utf-8").rstrip()
    content = ProjectTemplate(text).substitute({**values, "conversions": conversions})
    # What was left empty leaves neither trailing blanks nor empty lines at the end.
    return "\n".join(line.rstrip() for line in content.rstrip().split("\n")) + "\n"


@dataclass(frozen=True, slots=True)
class _Goal:
    """One project to write: what the templates are filled with."""

    graph: Graph
    report: Report
    sources: Mapping[str, bytes | str]
    values: Mapping[str, object]
    suffix: str
    data: str

    def fill(self, template: str) -> str:
        return filled(template, self.values)

    def shared(self) -> dict[str, bytes | str]:
        """Plan, model, check and runner, under the names of this kind."""
        return {
            "arena_plan.h": self.sources["arena_plan.h"],
            "arena_plan.c": self.sources["arena_plan.c"],
            **plan_check_files(),
            "model_data.h": self.sources["model_data.h"],
            **self._data(),
            "model_runner.h": self.fill("common/model_runner.h"),
            f"model_runner{self.suffix}": self.fill("common/model_runner.cc"),
        }

    def _data(self) -> dict[str, bytes | str]:
        if self.data == "array":
            return {f"model_data{self.suffix}": self.sources["model_data.cc"]}
        source = DATA_SOURCES[self.data]
        return {source: self.fill(f"common/{source}"), MODEL_FILE: self.sources[MODEL_FILE]}


def emit_project(
    kind: str,
    out_dir: str | Path,
    *,
    graph: Graph,
    report: Report,
    sources: Mapping[str, bytes | str],
    arena_section: str | None = None,
) -> tuple[Path, ...]:
    """Writes a project and returns its files; see ``project_files``."""
    files = project_files(
        kind, graph=graph, report=report, sources=sources, arena_section=arena_section
    )
    return write_all(out_dir, files)


def project_files(
    kind: str,
    *,
    graph: Graph,
    report: Report,
    sources: Mapping[str, bytes | str],
    arena_section: str | None = None,
    board_file: str | Path | None = None,
    data: str | None = None,
    stop: bool | None = None,
) -> dict[str, bytes | str]:
    """Returns the files of a firmware project, relative name -> content.

    Args:
        kind: one of ``KINDS``.
        graph: the planned model.
        report: its report; the arena and the names of target and board are taken from it.
        sources: model.tflite, arena_plan.h, arena_plan.c, model_data.h and model_data.cc as
            emitted.
        arena_section: linker section of the arena, instead of the kind's usual one.
        board_file: a JSON file with boards of the user's own, the report's among them.
        data: one of ``DATA``; None: by the size of the model.
        stop: whether start-up fails where TFLM does not use the memory that was planned; None:
            where outputs grow into inputs, for other kernels could then compute wrong values.

    Raises:
        BadInputError: unknown kind, one that does not suit the board, or the model does not fit.
        UnsupportedModelError: TFLM lacks an operator, or a port has a type of its own.
    """
    check_kind(kind, report)
    board = board_of(report, board_file)
    check_suits(kind, board)
    suffix, write = KINDS[kind]
    data = _data_of(kind, data, len(sources[MODEL_FILE]))
    values = model_values(kind, suffix, data, graph, report, arena_section) | builder_values(
        kind, report, board
    )
    values |= stop_values(report, stop)
    goal = _Goal(graph, report, sources, values, suffix, data)
    values["about"] = goal.fill("common/about.md").rstrip("\n")
    values["tflm"] = goal.fill("common/tflm.cmake").rstrip("\n")
    return write(goal)


def stop_values(report: Report, stop: bool | None) -> dict[str, object]:
    """Whether start-up stops where TFLM does not use the memory that was planned, and why."""
    grows = any(t.alias_reason == AliasReason.OVERLAP.value for t in report.tensors)
    return {
        "stop": int(grows if stop is None else stop),
        "grows": "In this plan outputs grow into inputs: with other kernels they could be wrong."
        if grows
        else "Outputs do not grow into inputs: with other kernels they are right all the same.",
    }


def check_kind(kind: str, report: Report) -> None:
    """Refuses a kind that is not known, and a model that does not fit.

    Raises:
        BadInputError: either of the two.
    """
    if kind not in KINDS:
        raise BadInputError(
            f"unknown kind of project {kind!r}", expected=f"one of {', '.join(KINDS)}"
        )
    if not report.fits:
        raise BadInputError(
            f"{report.model} does not fit {report.board or 'the arena'}",
            received=f"{report.bytes_over} bytes over",
            remedy="Plan it for a larger memory first",
        )


def board_of(report: Report, board_file: str | Path | None) -> Board:
    """The board of a report; one that nobody knows here has no more than its core."""
    known = {board.name: board for board in boards(board_file=board_file)}
    name = report.board or "the board"
    if name in known:
        return known[name]
    own = known["host"]
    return replace(own, name=name, title=name, core=report.core or "")


def _data_of(kind: str, data: str | None, model_bytes: int) -> str:
    if data is None:
        large = model_bytes >= INCBIN_BYTES and kind in _INCBIN_KINDS
        return "incbin" if large else "array"
    if data not in DATA:
        raise BadInputError("unknown form of the model", f"one of {', '.join(DATA)}", repr(data))
    if data != "array" and kind not in _INCBIN_KINDS:
        raise BadInputError(
            f"{kind} has no place for a file that a source includes",
            expected="the model as an array",
            received=f"--data={data}",
            remedy=f"--data=array, or --as {' or '.join(_INCBIN_KINDS)}",
        )
    return data


def model_values(
    kind: str,
    suffix: str,
    data: str,
    graph: Graph,
    report: Report,
    arena_section: str | None,
    *,
    shared: bool = False,
) -> dict[str, object]:
    """What the templates say of a model; ``shared``: its arena is that of other models, too."""
    prefix = c_prefix(Path(report.model).stem)
    symbol = prefix.lower()
    inputs, outputs = ports(graph)
    own = own_functions(graph)
    calls = [
        *registrations(graph),
        *(f"AddCustom({c_string(code)}, {kernel}())" for code, kernel in own.items()),
    ]
    two = report.head_arena_bytes is not None
    slack = report.arena_bytes - report.head_bytes - report.tail_bytes
    indent = "  " if shared or kind in ("arduino", "platformio") else "    "
    target = plain(", ".join(p for p in (report.runtime, report.kernels, report.core) if p))
    folder = "src/" if kind == "zephyr" else ""
    return {
        "model": plain(Path(report.model).stem),
        "prefix": prefix,
        "symbol": symbol,
        "target": target,
        "suffix": suffix,
        "data_source": DATA_SOURCES.get(data, f"model_data{suffix}"),
        "asm": " ASM" if data == "incbin" else "",
        "model_file": MODEL_FILE,
        "data_depends": data_depends(data, folder),
        "model_symbol": f"{symbol}_model" if shared else "model_data",
        "arena": report.arena_bytes,
        "size": f"{report.arena_bytes} bytes of arena",
        "head": report.head_bytes,
        "tail": report.tail_bytes,
        "slack": f" and {slack} that allocation itself needs" if slack else "",
        "model_bytes": report.flash_bytes,
        "kinds": len(calls),
        "registrations": "\n".join(
            f"  if (resolver.{call} != kTfLiteOk) return false;" for call in calls
        ),
        "own_kernels": "".join(
            f"\n// The kernel of {plain(code)}, a custom operator: write it.\n"
            f"TFLMRegistration* {kernel}();\n"
            for code, kernel in own.items()
        ),
        "ports": "".join(port.declarations() for port in (*inputs, *outputs)),
        "accessors": "\n".join(port.accessor() for port in (*inputs, *outputs)),
        "fill": f"\n{indent}".join(port.fill(symbol, indent) for port in inputs),
        "out": outputs[0].name,
        "result": outputs[0].result(symbol),
        **arena_values(kind, report, prefix, section=arena_section, shared=shared),
        **allocator_values(prefix, symbol, variables=len(graph.variables), two=two, shared=shared),
    }


_DEPENDS = """
# The {how} looks for the model in the include paths.
set_source_files_properties({folder}{source} PROPERTIES
  OBJECT_DEPENDS "${{CMAKE_CURRENT_SOURCE_DIR}}/{folder}{model}"
  INCLUDE_DIRECTORIES "${{CMAKE_CURRENT_SOURCE_DIR}}/{folder}")"""


def data_depends(data: str, folder: str) -> str:
    """Returns what CMake has to know of a source that takes the model's file; else nothing."""
    if data not in DATA_SOURCES:
        return ""
    how = {"incbin": "assembler", "embed": "compiler"}[data]
    return _DEPENDS.format(how=how, folder=folder, source=DATA_SOURCES[data], model=MODEL_FILE)


def builder_values(kind: str, report: Report, board: Board) -> dict[str, object]:
    is_cmsis = "cmsis" in report.kernels
    build = _build_of(report.kernels)
    configurations = [name for name in build if name.startswith(_KCONFIG)]
    definitions = [name for name in build if not name.startswith(_KCONFIG)]
    # The libraries of these worlds bring their kernels, so only what changes memory is passed on.
    switches = [name for name in definitions if name.startswith("KERNELS_")]
    external = (
        ("CONFIG_SPIRAM=y", "CONFIG_SPIRAM_ALLOW_BSS_SEG_EXTERNAL_MEMORY=y")
        if any(is_external(m) for m in report.memories if m.holds_arena or m.holds_tail)
        else ()
    )
    library, names = library_of(board), board.names
    platform, _, board_id = names.platformio.partition(":")
    flags = cpu_flags(board)
    return {
        "cpu_flags": flags,
        "toolchain": " -DCMAKE_TOOLCHAIN_FILE=arm-none-eabi.cmake" if flags else "",
        "commit": _commit_of(report.runtime),
        "tree_options": "--makefile_options=OPTIMIZED_KERNEL_DIR=cmsis_nn " if is_cmsis else "",
        "kernel_includes": '\n  "${TFLM_DIR}/third_party/cmsis/CMSIS/Core/Include"'
        '\n  "${TFLM_DIR}/third_party/cmsis_nn"\n  "${TFLM_DIR}/third_party/cmsis_nn/Include"'
        if is_cmsis
        else "",
        "kernel_definitions": "".join(f" {name}" for name in definitions),
        "kernel_flags": "".join(f" -D{name}" for name in switches),
        "zephyr_definitions": "".join(f" {name}" for name in switches),
        "kernel_build": _kernel_build(report.kernels, build),
        "kernel_config": "CONFIG_TENSORFLOW_LITE_MICRO_CMSIS_NN_KERNELS=y" if is_cmsis else "",
        "sdkconfig": "\n".join((*external, *(f"{name}=y" for name in configurations))),
        "idf_target": names.esp_idf,
        "esp_tflite_micro": ESP_TFLITE_MICRO,
        "esp_nn": ESP_NN,
        "zephyr_board": names.zephyr,
        "zephyr_revision": ZEPHYR,
        "zephyr_tflm": ZEPHYR_TFLM,
        "zephyr_tflm_of": ZEPHYR_TFLM_OF,
        "fqbn": names.arduino,
        "stm_part": names.stm32,
        "board_title": plain(board.title),
        "environment": _squeezed(board.name) or "firmware",
        "platform": platform,
        "board_id": board_id,
        "library": library.source,
        "library_lines": _ARDUINO_LIBRARY.format(header=library.header, title=library.title)
        if kind == "arduino"
        else f"#include <{library.header}>\n\n",
        "library_title": library.title,
        "library_where": library.where,
        "library_of": library.of,
    }


def _commit_of(name: str) -> str:
    """The commit of TFLM that a runtime is of; its name where that is not known."""
    known = runtime(name).commit if name in names_in("runtimes") else ""
    return known or plain(name)


def _build_of(name: str) -> tuple[str, ...]:
    """What the kernels have to be built with; nothing is known of kernels that are not ours."""
    return kernels(name).build if name in names_in("kernels") else ()


def _kernel_build(name: str, build: tuple[str, ...]) -> str:
    if not build:
        return ""
    words = " and ".join(f"`{item}`" for item in build)
    return f"\nThe number holds for kernels that are built with {words} ({plain(name)}).\n"


def _squeezed(text: str) -> str:
    return "".join(c for c in text.lower() if c.isascii() and c.isalnum())


def _arduino(goal: _Goal) -> dict[str, bytes | str]:
    # The IDE wants the sketch in a folder of its own name.
    folder = str(goal.values["symbol"])
    files: dict[str, bytes | str] = {
        f"{folder}.ino": goal.fill("arduino/sketch.ino"),
        "README.md": goal.fill("arduino/README.md"),
        **goal.shared(),
    }
    return {f"{folder}/{name}": content for name, content in files.items()}


def _cmake(goal: _Goal) -> dict[str, bytes | str]:
    names = ["CMakeLists.txt", "arm-none-eabi.cmake", "main.cc", "README.md"]
    if not goal.values["toolchain"]:
        # The PC's own compiler builds it.
        names.remove("arm-none-eabi.cmake")
    return {**{name: goal.fill(f"cmake/{name}") for name in names}, **goal.shared()}


def _esp_idf(goal: _Goal) -> dict[str, bytes | str]:
    names = ("CMakeLists.txt", "sdkconfig.defaults", "README.md")
    component = {
        "CMakeLists.txt": goal.fill("esp-idf/main_CMakeLists.txt"),
        "idf_component.yml": goal.fill("esp-idf/idf_component.yml"),
        "main.cc": goal.fill("esp-idf/main.cc"),
        **goal.shared(),
    }
    return {name: goal.fill(f"esp-idf/{name}") for name in names} | {
        f"main/{name}": content for name, content in component.items()
    }


def _platformio(goal: _Goal) -> dict[str, bytes | str]:
    names = ("platformio.ini", "README.md")
    source = {"main.cpp": goal.fill("platformio/main.cpp"), **goal.shared()}
    return {name: goal.fill(f"platformio/{name}") for name in names} | {
        f"src/{name}": content for name, content in source.items()
    }


def _zephyr(goal: _Goal) -> dict[str, bytes | str]:
    names = ("CMakeLists.txt", "prj.conf", "west.yml", "README.md")
    source = {"main.cpp": goal.fill("zephyr/main.cpp"), **goal.shared()}
    return {name: goal.fill(f"zephyr/{name}") for name in names} | {
        f"src/{name}": content for name, content in source.items()
    }


def _stm32cube(goal: _Goal) -> dict[str, bytes | str]:
    # One folder, to be put into a project that STM32CubeMX made for CMake.
    names = ("CMakeLists.txt", "app_model.cc", "app_model.h")
    files = {**{name: goal.fill(f"stm32cube/{name}") for name in names}, **goal.shared()}
    return {"README.md": goal.fill("stm32cube/README.md")} | {
        f"model/{name}": content for name, content in files.items()
    }


KINDS: dict[str, tuple[str, Callable[[_Goal], dict[str, bytes | str]]]] = {
    "cmake": (".cc", _cmake),
    "arduino": (".cpp", _arduino),
    "esp-idf": (".cc", _esp_idf),
    "platformio": (".cpp", _platformio),
    "zephyr": (".cpp", _zephyr),
    "stm32cube": (".cc", _stm32cube),
}
"""Kind of project -> suffix of its C++ files, and what writes it."""
