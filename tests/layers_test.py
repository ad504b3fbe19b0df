"""The layers of the house: no room imports one that stands above it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

DEPLOY = (
    {"graph", "targets", "progress", "quiet", "effort"},
    {"macs", "flatbuffer", "implicit", "supported", "operators", "memory", "lifetimes", "sparse"},
    {"passes", "codes", "int8_check", "ends", "end_types", "float_left", "input_scale"},
    {"settings", "outcome", "runtime"},
    {"predict"},
    {"evaluate"},
    {"proof"},
    {"backends"},
    {"report"},
    {"emit", "convert", "look_up", "other_backends", "profile"},
    {"ways"},
    {"fit"},
    {"pipeline"},
    {"compare", "share"},
    {"report_logger"},
    {"options", "command_line"},
    {"commands"},
    {"cli"},
)
"""Rooms of deploy, lowest first; those of one set may import each other."""

KERAS_FMC = (
    {"errors", "fixed_point", "lazy", "names", "notebook", "padding", "printable", "sizes"},
    {"command"},
    {"samples"},
    {"layers", "model"},
    {"canonical"},
    {"fold"},
    {"qat"},
    {"maps"},
    {"choose", "start"},
    {"rewrite", "training"},
)

MAY_LOOK_UP = {
    # The layers that QAT adds are registered with the others when a model is loaded.
    ("model", "qat"),
}


def rank(layers: tuple[set[str], ...]) -> dict[str, int]:
    return {room: number for number, rooms in enumerate(layers) for room in rooms}


def imports(package: str) -> list[tuple[str, str, str]]:
    """Returns (file, room of the file, room that it imports) for all imports of one package."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        inside = path.relative_to(ROOT / package).with_suffix("").parts
        if inside == ("__init__",):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == package:
                names = [f"{package}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            found += [
                (str(path.relative_to(ROOT)), inside[0], name.split(".")[1])
                for name in names
                if name.startswith(f"{package}.")
            ]
    return found


@pytest.mark.parametrize(("package", "layers"), [("deploy", DEPLOY), ("keras_fmc", KERAS_FMC)])
def test_no_room_imports_one_above_it(package: str, layers: tuple[set[str], ...]) -> None:
    ranks = rank(layers)
    found = [i for i in imports(package) if i[2] in ranks and (i[1], i[2]) not in MAY_LOOK_UP]
    assert len(found) > 100
    assert [i for i in found if ranks[i[1]] < ranks[i[2]]] == []


@pytest.mark.parametrize(("package", "layers"), [("deploy", DEPLOY), ("keras_fmc", KERAS_FMC)])
def test_every_module_has_a_room(package: str, layers: tuple[set[str], ...]) -> None:
    there = {p.stem for p in (ROOT / package).iterdir() if p.suffix == ".py" or p.is_dir()}
    assert there - {"__init__", "__pycache__", "py"} == set(rank(layers))


def test_keras_fmc_does_not_import_deploy() -> None:
    # The package itself hands its names on, for users who import one module only.
    for path in sorted((ROOT / "keras_fmc").rglob("*.py")):
        if path == ROOT / "keras_fmc" / "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("deploy"), path
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("deploy") for alias in node.names), path


def test_no_two_classes_have_one_name() -> None:
    written: dict[str, list[str]] = {}
    for package in ("deploy", "keras_fmc"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    written.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert len(written) > 300
    assert {name: paths for name, paths in written.items() if len(paths) > 1} == {}


def test_memory_knows_neither_graph_nor_target() -> None:
    known = {target for file, room, target in imports("deploy") if room == "memory"}
    assert known <= {"memory"}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
