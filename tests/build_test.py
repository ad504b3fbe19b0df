"""BUILD names every package and every test, and nothing that is not there."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import conftest
import pytest

ROOT = Path(__file__).resolve().parent.parent


def rules() -> list[tuple[str, dict[str, object]]]:
    """Returns (rule, attributes) of BUILD; ``glob([...])`` becomes the files that it finds."""
    found = []
    for statement in ast.parse((ROOT / "BUILD").read_text()).body:
        assert isinstance(statement, ast.Expr)
        call = statement.value
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        attributes = {k.arg or "": value(k.value) for k in call.keywords}
        found.append((call.func.id, attributes))
    return found


def value(node: ast.expr) -> object:
    if isinstance(node, ast.Call):
        patterns = ast.literal_eval(node.args[0])
        return sorted(
            str(path.relative_to(ROOT)) for p in patterns for path in ROOT.glob(p) if path.is_file()
        )
    return ast.literal_eval(node)


def sources(kind: str) -> list[str]:
    return [str(s) for rule, a in rules() if rule == kind for s in a.get("srcs", [])]  # type: ignore[union-attr]


def test_every_path_exists() -> None:
    named = [
        str(path)
        for _, attributes in rules()
        for key in ("srcs", "data")
        for path in attributes.get(key, [])  # type: ignore[union-attr]
        if not str(path).startswith(":")
    ]
    assert named
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_every_test_file_is_a_py_test() -> None:
    there = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").glob("*_test.py"))
    assert sorted(sources("py_test")) == there
    for path in there:
        assert "sys.exit(pytest.main([__file__]))" in (ROOT / path).read_text(), path


def test_every_module_is_in_one_library() -> None:
    there = sorted(
        str(p.relative_to(ROOT))
        for top in ("keras_fmc", "deploy")
        for p in (ROOT / top).rglob("*.py")
    )
    assert sorted(s for s in sources("py_library") if not s.startswith("tests/")) == there


def test_every_package_has_a_library_of_its_name() -> None:
    names = {a["name"] for rule, a in rules() if rule == "py_library"}
    for top in ("keras_fmc", "deploy"):
        for init in (ROOT / top).rglob("__init__.py"):
            package = str(init.parent.relative_to(ROOT)).replace("/", "_")
            assert package in names, package


def test_labels_point_at_rules() -> None:
    names = {f":{a['name']}" for _, a in rules() if "name" in a}
    for _, attributes in rules():
        for dependency in attributes.get("deps", []):  # type: ignore[union-attr]
            assert dependency in names, dependency


def test_files_are_marked_by_what_they_import() -> None:
    stems = {path.stem for path in (ROOT / "tests").glob("*_test.py")}
    assert stems > conftest.LONG
    wanted = {"build_test": set(), "arena_plan_test": {"compilers"}, "online_test": {"tflm"}}
    for name, markers in wanted.items():
        assert conftest.needs(importlib.import_module(name)) & {"compilers", "tflm"} == markers
    assert "keras" in conftest.needs(importlib.import_module("fold_test"))
    assert "keras" not in conftest.needs(importlib.import_module("sharing_test"))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
