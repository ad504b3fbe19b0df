"""Firmware projects around a planned model, each as its own world expects them.

All kinds share model_runner (interpreter, arena, operators, helpers) and differ in what builds
it and in the main program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from deploy.emit.files import write_all
from deploy.emit.plan_check import plan_check_files
from deploy.emit.ports import ports
from deploy.emit.resolver import add_functions
from deploy.graph import Graph
from deploy.proof.names import c_comment, c_prefix
from deploy.report.report import Memory, Report
from deploy.targets import kernels
from deploy.targets.load import names_in
from keras_fmc.errors import BadInputError

TEMPLATES = Path(__file__).with_name("templates")
_KCONFIG = "CONFIG_"
"""How switches of ESP-IDF's configuration begin; others are definitions of the compiler."""


@dataclass(frozen=True, slots=True)
class PlatformIoBoard:
    """What platformio.ini calls a board, and the library that has TFLM for it."""

    platform: str
    board: str
    library: str = "https://github.com/tensorflow/tflite-micro-arduino-examples.git"
    header: str = "TensorFlowLite.h"


_CHIRALE = ("spaziochirale/Chirale_TensorFLowLite", "Chirale_TensorFlowLite.h")
_PLATFORMIO = {
    "nano33ble": PlatformIoBoard("nordicnrf52", "nano33ble"),
    "portentah7": PlatformIoBoard("ststm32", "portenta_h7_m7", *_CHIRALE),
    "esp32s3": PlatformIoBoard("espressif32", "esp32-s3-devkitc-1", *_CHIRALE),
    "esp32c3": PlatformIoBoard("espressif32", "esp32-c3-devkitm-1", *_CHIRALE),
    "esp32s2": PlatformIoBoard("espressif32", "esp32-s2-saola-1", *_CHIRALE),
    "esp32": PlatformIoBoard("espressif32", "esp32dev", *_CHIRALE),
    "teensy41": PlatformIoBoard("teensy", "teensy41"),
    "teensy40": PlatformIoBoard("teensy", "teensy40"),
}
_CPU_FLAGS = {
    "cortexm0": "-mcpu=cortex-m0 -mthumb",
    "cortexm0+": "-mcpu=cortex-m0plus -mthumb",
    "cortexm3": "-mcpu=cortex-m3 -mthumb",
    "cortexm4": "-mcpu=cortex-m4 -mthumb",
    "cortexm4f": "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard",
    "cortexm7": "-mcpu=cortex-m7 -mthumb -mfpu=fpv5-d16 -mfloat-abi=hard",
    "cortexm7f": "-mcpu=cortex-m7 -mthumb -mfpu=fpv5-d16 -mfloat-abi=hard",
    "cortexm33": "-mcpu=cortex-m33 -mthumb -mfpu=fpv5-sp-d16 -mfloat-abi=hard",
    "cortexm33f": "-mcpu=cortex-m33 -mthumb -mfpu=fpv5-sp-d16 -mfloat-abi=hard",
    "cortexm55": "-mcpu=cortex-m55 -mthumb -mfloat-abi=hard",
    "cortexm85": "-mcpu=cortex-m85 -mthumb -mfloat-abi=hard",
}


_ARDUINO_LIBRARY = """\
//
// TensorFlowLite.h belongs to the library Arduino_TensorFlowLite; including it here makes
// the IDE find the library. Other ports have another name, such as
// Chirale_TensorFlowLite.h: change this line and nothing else.
#include <TensorFlowLite.h>

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
    content = ProjectTemplate(text).substitute(values)
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

    def fill(self, template: str) -> str:
        return filled(template, self.values)

    def shared(self) -> dict[str, bytes | str]:
        """Plan, model, check and runner, under the names of this kind."""
        return {
            "arena_plan.h": self.sources["arena_plan.h"],
            "arena_plan.c": self.sources["arena_plan.c"],
            **plan_check_files(),
            "model_data.h": self.sources["model_data.h"],
            f"model_data{self.suffix}": self.sources["model_data.cc"],
            "model_runner.h": self.fill("common/model_runner.h"),
            f"model_runner{self.suffix}": self.fill("common/model_runner.cc"),
        }


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
) -> dict[str, bytes | str]:
    """Returns the files of a firmware project, relative name -> content.

    Args:
        kind: one of ``KINDS``.
        graph: the planned model.
        report: its report; the arena and the names of target and board are taken from it.
        sources: arena_plan.h, arena_plan.c, model_data.h and model_data.cc as emitted.
        arena_section: linker section of the arena, instead of the kind's usual one.

    Raises:
        BadInputError: unknown kind, or the model does not fit its board.
        UnsupportedModelError: TFLM lacks an operator, or a port has a type of its own.
    """
    check_kind(kind, report)
    suffix, write = KINDS[kind]
    values = _values(kind, suffix, graph, report, sources, arena_section)
    goal = _Goal(graph, report, sources, values, suffix)
    values["about"] = goal.fill("common/about.md").rstrip("\n")
    return write(goal)


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


def _values(
    kind: str,
    suffix: str,
    graph: Graph,
    report: Report,
    sources: Mapping[str, bytes | str],
    arena_section: str | None,
) -> dict[str, object]:
    prefix = c_prefix(Path(report.model).stem)
    symbol = prefix.lower()
    inputs, outputs = ports(graph)
    functions = add_functions(graph)
    memory = next((m for m in report.memories if m.holds_arena), None)
    section = _section(kind, memory, arena_section)
    slack = report.arena_bytes - report.head_bytes - report.tail_bytes
    indent = "  " if kind in ("arduino", "platformio") else "    "
    target = plain(", ".join(p for p in (report.runtime, report.kernels, report.core) if p))
    return {
        "model": plain(Path(report.model).stem),
        "prefix": prefix,
        "symbol": symbol,
        "target": target,
        "suffix": suffix,
        "arena": report.arena_bytes,
        "memory": f"{report.arena_bytes} bytes of arena",
        "library_lines": _library_lines(kind, report),
        "head": report.head_bytes,
        "tail": report.tail_bytes,
        "slack": f" and {slack} that allocation itself needs" if slack else "",
        "model_bytes": report.flash_bytes,
        "placement": placement(memory),
        "kinds": len(functions),
        "registrations": "\n".join(
            f"  if (resolver.{function}() != kTfLiteOk) return false;" for function in functions
        ),
        "ports": "".join(port.declarations() for port in (*inputs, *outputs)),
        "accessors": "\n".join(port.accessor() for port in (*inputs, *outputs)),
        "fill": f"\n{indent}".join(port.fill(symbol, indent) for port in inputs),
        "out": outputs[0].name,
        "result": outputs[0].result(symbol),
        **section,
        **builder_values(report, memory),
    }


def _library_lines(kind: str, report: Report) -> str:
    if kind == "arduino":
        return _ARDUINO_LIBRARY
    return f"#include <{_platformio_board(report)[0].header}>\n\n"


def _section(kind: str, memory: Memory | None, section: str | None) -> dict[str, str]:
    """How the arena is kept out of the image and, where that is possible, put into its memory."""
    if section is None and kind == "zephyr":
        return {
            "section_include": "\n#include <zephyr/linker/section_tags.h>\n",
            "section": "// The arena need not be zeroed.",
            "section_attribute": "__noinit ",
        }
    if section is None and kind == "esp-idf":
        if _is_external(memory):
            return {
                "section_include": '\n#include "esp_attr.h"\n',
                "section": "// External RAM; sdkconfig.defaults enables it.",
                "section_attribute": "EXT_RAM_BSS_ATTR ",
            }
        return {
            "section_include": "",
            "section": "// Internal RAM, where .bss is.",
            "section_attribute": "",
        }
    name = section or ".bss.tensor_arena"
    return {
        "section_include": "",
        "section": "// A linker script that collects .bss* takes it as it is.\n"
        "#ifndef MODEL_ARENA_SECTION\n"
        f'#define MODEL_ARENA_SECTION "{name}"\n'
        "#endif",
        "section_attribute": "__attribute__((section(MODEL_ARENA_SECTION))) ",
    }


def placement(memory: Memory | None) -> str:
    if memory is None:
        return "No board was named: the arena may stand in any RAM that is large enough."
    at = "" if memory.address is None else f" at 0x{memory.address:08x}"
    kept = f", {memory.reserve_bytes} of them kept for the firmware" if memory.reserve_bytes else ""
    return f"Planned into {plain(memory.name)}{at}, {memory.size_bytes} bytes{kept}."


def builder_values(report: Report, memory: Memory | None) -> dict[str, object]:
    board = _squeezed(report.board or "")
    is_cmsis = "cmsis" in report.kernels
    build = _build_of(report.kernels)
    configurations = [name for name in build if name.startswith(_KCONFIG)]
    definitions = [name for name in build if not name.startswith(_KCONFIG)]
    # The libraries of these worlds bring their kernels, so only what changes memory is passed on.
    switches = [name for name in definitions if name.startswith("KERNELS_")]
    external = (
        ("CONFIG_SPIRAM=y", "CONFIG_SPIRAM_ALLOW_BSS_SEG_EXTERNAL_MEMORY=y")
        if _is_external(memory)
        else ()
    )
    known, note = _platformio_board(report)
    return {
        "cpu_flags": _CPU_FLAGS.get(_squeezed(report.core or ""), "-mthumb"),
        "tree_options": "--makefile_options=OPTIMIZED_KERNEL_DIR=cmsis_nn " if is_cmsis else "",
        "kernel_includes": '\n  "${TFLM_DIR}/third_party/cmsis/CMSIS/Core/Include"'
        '\n  "${TFLM_DIR}/third_party/cmsis_nn"\n  "${TFLM_DIR}/third_party/cmsis_nn/Include"'
        if is_cmsis
        else "",
        "kernel_definitions": "".join(f" {name}" for name in definitions),
        "kernel_flags": "".join(f" -D{name}" for name in switches),
        "zephyr_definitions": f"\nzephyr_compile_definitions({' '.join(switches)})"
        if switches
        else "",
        "kernel_build": _kernel_build(report.kernels, build),
        "kernel_config": "CONFIG_TENSORFLOW_LITE_MICRO_CMSIS_NN_KERNELS=y" if is_cmsis else "",
        "sdkconfig": "\n".join((*external, *(f"{name}=y" for name in configurations))),
        "idf_target": next(
            (n for n in ("esp32s3", "esp32s2", "esp32c3", "esp32c6", "esp32p4") if n in board),
            "esp32",
        ),
        "environment": board or "firmware",
        "platform": known.platform,
        "board_id": known.board,
        "library": known.library,
        "platform_note": note,
    }


def _platformio_board(report: Report) -> tuple[PlatformIoBoard, str]:
    """What PlatformIO calls a board, and what the user has to do where that is not known."""
    board = _squeezed(report.board or "")
    known = next((v for name, v in _PLATFORMIO.items() if board.startswith(name)), None)
    if known is not None:
        return known, ""
    note = "\nSet `platform` and `board` in `platformio.ini` first; the names are PlatformIO's.\n"
    return PlatformIoBoard("CHOOSE_A_PLATFORM", "CHOOSE_A_BOARD"), note


def _build_of(name: str) -> tuple[str, ...]:
    """What the kernels have to be built with; nothing is known of kernels that are not ours."""
    return kernels(name).build if name in names_in("kernels") else ()


def _kernel_build(name: str, build: tuple[str, ...]) -> str:
    if not build:
        return ""
    words = " and ".join(f"`{item}`" for item in build)
    return f"\nThe number holds for kernels that are built with {words} ({plain(name)}).\n"


def _is_external(memory: Memory | None) -> bool:
    return memory is not None and memory.external


def _squeezed(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum() or c == "+")


def plain(text: str) -> str:
    """Text that can stand in comments, format strings, Markdown and CMake alike."""
    return c_comment(text).replace('"', "'").replace("%", "").replace("`", "'")


def _arduino(goal: _Goal) -> dict[str, bytes | str]:
    # The IDE wants the sketch in a folder of its own name.
    folder = str(goal.values["symbol"])
    files = {
        f"{folder}.ino": goal.fill("arduino/sketch.ino"),
        "README.md": goal.fill("arduino/README.md"),
        **goal.shared(),
    }
    return {f"{folder}/{name}": content for name, content in files.items()}


def _cmake(goal: _Goal) -> dict[str, bytes | str]:
    names = ("CMakeLists.txt", "arm-none-eabi.cmake", "main.cc", "README.md")
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
    names = ("CMakeLists.txt", "prj.conf", "README.md")
    source = {"main.cpp": goal.fill("zephyr/main.cpp"), **goal.shared()}
    return {name: goal.fill(f"zephyr/{name}") for name in names} | {
        f"src/{name}": content for name, content in source.items()
    }


KINDS: dict[str, tuple[str, Callable[[_Goal], dict[str, bytes | str]]]] = {
    "cmake": (".cc", _cmake),
    "arduino": (".cpp", _arduino),
    "esp-idf": (".cc", _esp_idf),
    "platformio": (".cpp", _platformio),
    "zephyr": (".cpp", _zephyr),
}
"""Kind of project -> suffix of its C++ files, and what writes it."""
