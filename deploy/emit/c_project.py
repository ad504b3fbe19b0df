"""Firmware projects around generated C: the kinds of ``skeleton``, without an interpreter.

The main programs are the same. Behind model_runner.h stand the functions of the generated code;
where the image is fed row by row, the main program hands over each row as the sensor has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.backends.c.build import file_names
from deploy.emit.arena_text import placement, plain
from deploy.emit.ports import CppPort, side_of
from deploy.emit.skeleton import KINDS, board_of, builder_values, check_kind, filled
from deploy.emit.worlds import check_suits
from deploy.graph import Quantization, Tensor
from deploy.proof.names import c_prefix
from deploy.report.report import Port, Report
from deploy.targets import Board

_LEAST_STACK = 4096
"""Of the task that runs the model: what its printing takes, and more."""


def c_sources(folder: str | Path, report: Report) -> tuple[str, ...]:
    """Returns the names of the generated files of a folder."""
    names = file_names(Path(report.model).stem)
    return tuple(name for name in names if (Path(folder) / name).is_file())


def c_project_files(
    kind: str,
    *,
    report: Report,
    sources: Mapping[str, bytes | str],
    board_file: str | Path | None = None,
) -> dict[str, bytes | str]:
    """Returns the files of a firmware project, relative name -> content.

    Args:
        kind: one of ``skeleton.KINDS``.
        sources: the generated files, name -> content.

    Raises:
        BadInputError: unknown kind, or the model does not fit its board.
    """
    check_kind(kind, report)
    board = board_of(report, board_file)
    check_suits(kind, board)
    suffix = KINDS[kind][0]
    prefix = c_prefix(Path(report.model).stem)
    header = sources[f"{prefix.lower()}.h"]
    text = header.decode() if isinstance(header, bytes) else header
    values = _values(kind, suffix, report, board, text, sorted(sources))
    values["about"] = filled("c/about.md", values).rstrip("\n")
    shared: dict[str, bytes | str] = {
        **sources,
        "model_runner.h": filled("c/model_runner.h", values),
        f"model_runner{suffix}": filled("c/model_runner.cc", values),
    }
    return _KINDS[kind](values, shared)


def _values(
    kind: str, suffix: str, report: Report, board: Board, header: str, names: Sequence[str]
) -> dict[str, object]:
    prefix = c_prefix(Path(report.model).stem)
    symbol = prefix.lower()
    inputs = list(side_of([_tensor(p) for p in report.inputs], "input"))
    outputs = list(side_of([_tensor(p) for p in report.outputs], "output"))
    memory = next((m for m in report.memories if m.holds_arena), None)
    indent = "  " if kind in ("arduino", "platformio") else "    "
    rows = re.search(rf"^#define {prefix}_INPUT(\d*)_ROWS ", header, re.M)
    fed = None if rows is None else int(rows[1] or 0)
    folder = "src/" if kind == "zephyr" else ""
    separator = " " if kind == "esp-idf" else "\n  "
    stack = report.stack_bytes
    return {
        **builder_values(kind, report, board),
        **(
            _whole(inputs, outputs, header)
            if fed is None
            else _fed(fed, inputs, outputs, header, prefix)
        ),
        "model": plain(Path(report.model).stem),
        "prefix": prefix,
        "symbol": symbol,
        "function": symbol,
        "header": f"{symbol}.h",
        "target": plain(", ".join(p for p in ("generated C", report.kernels, report.core) if p)),
        "suffix": suffix,
        "arena": report.arena_bytes,
        "size": f"{report.arena_bytes} bytes of static memory",
        "library_lines": "\n" if kind == "platformio" else "",
        **_library(f"{symbol}_check(void)" in header, symbol, prefix),
        "stack": "" if stack is None else f"; of the stack {stack} bytes at most",
        "stack_size": _LEAST_STACK + 2 * (stack or 0),
        "model_bytes": report.flash_bytes,
        "placement": placement(memory),
        "sources": separator.join(folder + name for name in names if name.endswith(".c")),
        "ports": "".join(
            # A fed image is nowhere as a whole.
            port.declarations(pointer=not (port.side == "input" and port.index == fed))
            for port in (*inputs, *outputs)
        ),
        "fill": f"\n{indent}".join(
            [
                *(port.fill(symbol, indent) for port in inputs if port.index != fed),
                *([] if fed is None else [_row_fill(inputs[fed], symbol, indent)]),
            ]
        ),
        "out": outputs[0].name,
        "result": outputs[0].result(symbol),
    }


def _tensor(port: Port) -> Tensor:
    known = port.scale is not None and port.zero_point is not None
    quantization = Quantization((port.scale,), (port.zero_point,)) if known else None  # type: ignore[arg-type]
    return Tensor(port.name, port.shape, port.dtype, quantization)


def _whole(inputs: list[CppPort], outputs: list[CppPort], header: str) -> dict[str, object]:
    """The runner of a model whose image stands in RAM."""
    buffers = [_buffer(port) for port in outputs]
    accessors, arguments = [], []
    for port in inputs:
        function = f"@_{port.name.lower()}()"
        if f"_{port.name.lower()}(void)" not in header:
            # The run does not read this input, so it has no place of its own.
            buffers.append(_buffer(port))
            function = f"{port.name.lower()}_values"
        arguments.append(function)
        accessors.append(f"{port.cpp_type}* {port.name}() {{ return {function}; }}")
    symbol = _symbol(header)
    arguments += [f"{port.name.lower()}_values" for port in outputs]
    call = f"{symbol}_run({', '.join(arguments)}) == {symbol.upper()}_OK"
    return {
        "functions": "\n// Runs one inference on what the inputs hold, which it overwrites.\n"
        "bool Run();\n",
        "buffers": "\n".join(buffers),
        "definitions": f"bool Run() {{\n  return {call};\n}}\n".replace("@", symbol),
        "accessors": "\n".join([*accessors, *map(_reader, outputs), ""]).replace("@", symbol),
    }


def _library(used: bool, symbol: str, prefix: str) -> dict[str, object]:
    """What a project says where CMSIS-NN computes some of the model."""
    what = "the memory is static, or handed over with"
    if not used:
        setup = (
            f"// There is nothing to build: {what} {symbol}_set_arena().\n"
            "inline bool Setup() { return true; }"
        )
        return {"setup": setup, "library_note": "", "cmake_library": ""}
    setup = (
        f"// There is nothing to build: {what} {symbol}_set_arena().\n"
        "// False where CMSIS-NN is not one that the plan was made for.\n"
        f"inline bool Setup() {{ return {symbol}_check() == {prefix}_OK; }}"
    )
    note = (
        "\nSome kernels call CMSIS-NN, which is not in this folder: have its `Include` where\n"
        "headers are found, and link it. `Setup()` compares it with the plan.\n"
    )
    cmake = (
        "# Your copy of CMSIS-NN: cmake -DCMSIS_NN=FOLDER ...\n"
        'set(CMSIS_NN "" CACHE PATH "the folder of CMSIS-NN")\n'
        "add_subdirectory(${CMSIS_NN} cmsis-nn)\n"
        f"target_link_libraries({symbol} PRIVATE cmsis-nn)\n"
    )
    return {"setup": setup, "library_note": note, "cmake_library": cmake}


def _fed(
    fed: int, inputs: list[CppPort], outputs: list[CppPort], header: str, prefix: str
) -> dict[str, object]:
    """The runner of a model one of whose inputs, the image, comes row by row."""
    image, macro = inputs[fed], f"{prefix}_{inputs[fed].name.upper()}"
    symbol, others = prefix.lower(), [port for port in inputs if port is not image]
    # An input that the run does not read has no place of its own.
    places = {
        port.name: f"{symbol}_{port.name.lower()}()"
        if f"_{port.name.lower()}(void)" in header
        else f"{port.name.lower()}_values"
        for port in others
    }
    unread = [port for port in others if places[port.name].endswith("_values")]
    kind = image.cpp_type
    arguments = ", ".join(f"{port.name.lower()}_values" for port in outputs)
    ok = f"== {prefix}_OK"
    return {
        "functions": f"""
// An inference: Begin, FeedRow for each row of the image from the top, then Run, which ends it.
// The image never exists as a whole; a row is copied before FeedRow returns. Begin starts again
// at any time{"" if not others else ", once the other inputs are filled again"}.
constexpr size_t kInputRows = {macro}_ROWS;
constexpr size_t kInputRowElements = {macro}_ROW_BYTES / sizeof({kind});
bool Begin();
bool FeedRow(const {kind}* row);
bool Run();

// A row of the application's own, to be filled and fed.
{kind}* Row();
""",
        "buffers": "\n".join(
            [f"{kind} row_values[kInputRowElements];", *map(_buffer, (*unread, *outputs))]
        ),
        "definitions": f"""bool Begin() {{ return {symbol}_begin() {ok}; }}
bool FeedRow(const {kind}* row) {{ return {symbol}_feed_row(row) {ok}; }}
bool Run() {{ return {symbol}_finish({arguments}) {ok}; }}
""",
        "accessors": "\n".join(
            [
                f"{kind}* Row() {{ return row_values; }}",
                *(
                    f"{port.cpp_type}* {port.name}() {{ return {places[port.name]}; }}"
                    for port in others
                ),
                *map(_reader, outputs),
                "",
            ]
        ),
    }


def _row_fill(image: CppPort, symbol: str, indent: str) -> str:
    """The loop over rows that a user replaces by a camera's lines as they come."""
    value = f"{symbol}::Quantize{image.name}(0.0f)" if image.is_quantized else "0"
    inner = indent + "  "
    return (
        f"{symbol}::Begin();\n"
        f"{indent}for (size_t y = 0; y < {symbol}::kInputRows; ++y) {{\n"
        f"{inner}// Your camera's next line goes here; it may come from an interrupt's buffer.\n"
        f"{inner}for (size_t i = 0; i < {symbol}::kInputRowElements; ++i) {{\n"
        f"{inner}  {symbol}::Row()[i] = {value};\n"
        f"{inner}}}\n"
        f"{inner}{symbol}::FeedRow({symbol}::Row());\n"
        f"{indent}}}"
    )


def _buffer(port: CppPort) -> str:
    return f"{port.cpp_type} {port.name.lower()}_values[k{port.name}Elements];"


def _reader(port: CppPort) -> str:
    return f"const {port.cpp_type}* {port.name}() {{ return {port.name.lower()}_values; }}"


def _symbol(header: str) -> str:
    """The prefix of the functions, from the include guard."""
    return header.split("#ifndef ", 1)[1].split("_H_", 1)[0].lower()


Files = dict[str, bytes | str]


def _arduino(values: dict[str, object], shared: Files) -> Files:
    folder = str(values["symbol"])
    files = {
        f"{folder}.ino": filled("arduino/sketch.ino", values),
        "README.md": filled("c/arduino_README.md", values),
        **shared,
    }
    return {f"{folder}/{name}": content for name, content in files.items()}


def _cmake(values: dict[str, object], shared: Files) -> Files:
    return {
        "CMakeLists.txt": filled("c/cmake_CMakeLists.txt", values),
        "arm-none-eabi.cmake": filled("cmake/arm-none-eabi.cmake", values),
        "main.cc": filled("cmake/main.cc", values),
        "README.md": filled("c/cmake_README.md", values),
        **shared,
    }


def _esp_idf(values: dict[str, object], shared: Files) -> Files:
    component = {
        "CMakeLists.txt": filled("c/esp-idf_main_CMakeLists.txt", values),
        "main.cc": filled("esp-idf/main.cc", values),
        **shared,
    }
    return {
        "CMakeLists.txt": filled("esp-idf/CMakeLists.txt", values),
        "sdkconfig.defaults": filled("c/esp-idf_sdkconfig.defaults", values),
        "README.md": filled("c/esp-idf_README.md", values),
        **{f"main/{name}": content for name, content in component.items()},
    }


def _platformio(values: dict[str, object], shared: Files) -> Files:
    source = {"main.cpp": filled("platformio/main.cpp", values), **shared}
    return {
        "platformio.ini": filled("c/platformio_platformio.ini", values),
        "README.md": filled("c/platformio_README.md", values),
        **{f"src/{name}": content for name, content in source.items()},
    }


def _zephyr(values: dict[str, object], shared: Files) -> Files:
    source = {"main.cpp": filled("zephyr/main.cpp", values), **shared}
    return {
        "CMakeLists.txt": filled("c/zephyr_CMakeLists.txt", values),
        "prj.conf": filled("c/zephyr_prj.conf", values),
        "README.md": filled("c/zephyr_README.md", values),
        **{f"src/{name}": content for name, content in source.items()},
    }


def _stm32cube(values: dict[str, object], shared: Files) -> Files:
    files = {
        "CMakeLists.txt": filled("c/stm32cube_CMakeLists.txt", values),
        "app_model.cc": filled("stm32cube/app_model.cc", values),
        "app_model.h": filled("stm32cube/app_model.h", values),
        **shared,
    }
    return {
        "README.md": filled("c/stm32cube_README.md", values),
        **{f"model/{name}": content for name, content in files.items()},
    }


_KINDS = {
    "stm32cube": _stm32cube,
    "cmake": _cmake,
    "arduino": _arduino,
    "esp-idf": _esp_idf,
    "platformio": _platformio,
    "zephyr": _zephyr,
}
