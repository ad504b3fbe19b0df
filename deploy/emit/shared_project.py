"""A CMake project around models that share an arena: a folder for each, one allocator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy import flatbuffer
from deploy.emit.arena_text import plain
from deploy.emit.check_shared import read_shared
from deploy.emit.model_data import model_data_files
from deploy.emit.plan_check import plan_check_files
from deploy.emit.shared_folder import SHARED_PLAN_FILES, prefix_of
from deploy.emit.skeleton import (
    INCBIN_BYTES,
    board_of,
    builder_values,
    data_depends,
    filled,
    model_values,
    stop_values,
)
from deploy.emit.worlds import check_suits
from deploy.emit.written import MODEL_FILE, REPORT_FILE
from deploy.graph import Graph
from deploy.report.report import Report
from deploy.report.shared import SharedReport
from keras_fmc.errors import BadInputError

_KIND = "cmake"


@dataclass(frozen=True, slots=True)
class SharedSources:
    """What a project around shared models is made of.

    Attributes:
        report: of all.
        plan: shared_plan.h and shared_plan.c.
        models: (report, graph, model, arena_plan.h, arena_plan.c) of each.
        read: the files that were read.
    """

    report: SharedReport
    plan: dict[str, bytes]
    models: tuple[tuple[Report, Graph, bytes, bytes, bytes], ...]
    read: tuple[Path, ...]


def shared_sources(folder: str | Path, *, read: Callable[[Path], bytes]) -> SharedSources:
    """Reads the folder that ``fmc plan --share`` wrote.

    Raises:
        BadInputError: a file cannot be read.
    """
    report = read_shared(folder)
    paths = [Path(folder) / name for name in (*SHARED_PLAN_FILES, REPORT_FILE)]
    models = []
    for model in report.models:
        own = Path(folder) / model.folder
        names = (REPORT_FILE, MODEL_FILE, "arena_plan.h", "arena_plan.c")
        text, content, header, proof = (read(own / name) for name in names)
        paths += [own / name for name in names]
        its = Report.from_json(text.decode("utf-8", "replace"), source=str(own / REPORT_FILE))
        models.append((its, flatbuffer.read(content), content, header, proof))
    plan = {name: read(Path(folder) / name) for name in SHARED_PLAN_FILES}
    return SharedSources(report, plan, tuple(models), tuple(paths))


def shared_project_files(
    kind: str,
    found: SharedSources,
    *,
    board_file: str | Path | None = None,
    stop: bool | None = None,
) -> dict[str, bytes | str]:
    """Returns the files of a project, relative name -> content.

    Raises:
        BadInputError: another kind than CMake, or one that does not suit the board.
        UnsupportedModelError: TFLM lacks an operator, or a port has a type of its own.
    """
    if kind != _KIND:
        raise BadInputError(
            "models that share an arena have projects for CMake only",
            expected=_KIND,
            received=kind,
            remedy="Take the folders of the models and shared_arena.* of that one into your own",
        )
    first = found.models[0][0]
    board = board_of(first, board_file)
    check_suits(kind, board)
    files: dict[str, bytes | str] = {**found.plan, **plan_check_files()}
    values = []
    for report, graph, content, header, proof in found.models:
        data = "incbin" if len(content) >= INCBIN_BYTES else "array"
        own = model_values(kind, ".cc", data, graph, report, None, shared=True)
        own |= stop_values(report, stop) | {"folder": prefix_of(report.model).lower()}
        values.append(own)
        folder = own["folder"]
        name = Path(report.model).stem
        made = model_data_files(content, model_name=name, symbol=str(own["model_symbol"]))
        files |= {f"{folder}/arena_plan.h": header, f"{folder}/arena_plan.c": proof}
        files[f"{folder}/model_data.h"] = made["model_data.h"]
        if data == "array":
            files[f"{folder}/model_data.cc"] = made["model_data.cc"]
        else:
            files[f"{folder}/model_data.S"] = filled("common/model_data.S", own)
            files[f"{folder}/{MODEL_FILE}"] = content
        files[f"{folder}/model_runner.h"] = filled("common/model_runner.h", own)
        files[f"{folder}/model_runner.cc"] = filled("common/model_runner.cc", own)
    common = builder_values(kind, first, board) | _common(found.report, values)
    common["tflm"] = filled("common/tflm.cmake", common).rstrip("\n")
    for name in ("shared_arena.h", "shared_arena.cc", "main.cc", "CMakeLists.txt", "README.md"):
        files[name] = filled(f"shared/{name}", common)
    if common["toolchain"]:
        files["arm-none-eabi.cmake"] = filled("cmake/arm-none-eabi.cmake", common)
    return files


def _common(report: SharedReport, models: Sequence[dict[str, object]]) -> dict[str, object]:
    depends = [data_depends("incbin", f"{own['folder']}/") for own in models if own["data_depends"]]
    names = ", ".join(str(own["model"]) for own in models)
    source = plain(report.limit_source) if report.limit_source else "any RAM that is large enough"
    return {
        "title": names,
        "arena": report.arena_bytes,
        "head": report.head_bytes,
        "tail": report.tail_bytes,
        "target": plain(report.target),
        "placement": f"Planned into {source}.",
        "asm": " ASM" if depends else "",
        "data_depends": "".join(depends),
        "includes": "\n".join(f'#include "{own["folder"]}/model_runner.h"' for own in models),
        "functions": "\n".join(filled("shared/run.txt", own) for own in models),
        "setups": "\n".join(
            f"  if (!{own['symbol']}::Setup()) {{\n    return 1;\n  }}" for own in models
        ),
        "runs": "\n".join(
            f"    if (!Run_{own['symbol']}()) {{\n      return 1;\n    }}" for own in models
        ),
        "sources": "\n".join(
            f"  {own['folder']}/{name}"
            for own in models
            for name in ("model_runner.cc", own["data_source"], "arena_plan.c")
        ),
        "rows": "\n".join(
            f"| `{own['folder']}/` | {own['model']}: its plan and proof, the model "
            f"({own['model_bytes']} bytes of flash), its interpreter |"
            for own in models
        ),
    }
