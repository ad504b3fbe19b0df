"""BUILD names every package and every test, and nothing that is not there."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import sys
from pathlib import Path

import conftest
import pytest

import keras_fmc

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
    tops = ("keras_fmc/", "deploy/")
    assert sorted(s for s in sources("py_library") if s.startswith(tops)) == there


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
            assert dependency in names or dependency.startswith("@pip//"), dependency


OPTIONAL = {
    # Each has an environment of its own, or is asked for with importorskip.
    *("executorch", "tensorflow_model_optimization", "tf_keras", "tflite_runtime", "omnimalloc"),
    # Of the data that an example trains on where it is there.
    *("tensorflow_datasets", "torch", "torchvision"),
}
DISTRIBUTIONS = {"absl": "absl_py", "sklearn": "scikit_learn", "mlflow": "mlflow_skinny"}
"""Names of modules -> names of packages, where they differ."""
PARTIAL = re.compile(r"(deploy|keras_fmc)_\w+")
"""Libraries of single packages, which import each other: only those of the whole are complete."""


def closure(name: str, targets: dict[str, dict[str, object]]) -> tuple[set[str], set[str]]:
    """Returns all sources and all packages of a target, those of its dependencies included."""
    files: set[str] = set()
    packages: set[str] = set()
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        this = waiting.pop()
        if this in seen:
            continue
        seen.add(this)
        files |= {str(s) for s in targets[this].get("srcs", [])}  # type: ignore[union-attr]
        for dependency in targets[this].get("deps", []):  # type: ignore[union-attr]
            if str(dependency).startswith("@pip//"):
                packages.add(str(dependency).removeprefix("@pip//"))
            else:
                waiting.append(str(dependency).removeprefix(":"))
    return files, packages


@functools.cache
def imported(path: str) -> frozenset[str]:
    """Returns the modules that a file imports anywhere, "a.b" for "from a import b" as well.

    What only a type checker imports is left out.
    """
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse((ROOT / path).read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def place(module: str) -> str | None:
    """Returns the file of this repository that a module is; None where it is none."""
    for base in ("", "tests/", "docs/", "examples/", "benchmarks/"):
        for end in (".py", "/__init__.py"):
            path = f"{base}{module.replace('.', '/')}{end}"
            if (ROOT / path).is_file():
                return path
    return None


def test_dependencies_are_those_of_the_imports() -> None:
    targets = {str(a["name"]): a for rule, a in rules() if rule.startswith("py_")}
    missing = []
    used: set[str] = set()
    for name in targets:
        if PARTIAL.fullmatch(name):
            continue
        files, packages = closure(name, targets)
        for path in targets[name].get("srcs", []):  # type: ignore[union-attr]
            for module in imported(str(path)):
                top = module.partition(".")[0]
                if top in sys.stdlib_module_names or top in OPTIONAL:
                    continue
                own = place(module)
                if own is not None:
                    missing += [(name, path, own)] if own not in files else []
                elif place(top) is None and not (ROOT / top).is_dir():
                    package = DISTRIBUTIONS.get(top, top)
                    used.add(package)
                    missing += [(name, path, package)] if package not in packages else []
    assert missing == []
    assert used >= {"numpy", "keras", "absl_py", "pytest"}


def test_every_package_is_pinned_in_the_lock() -> None:
    lock = (ROOT / "requirements_lock.txt").read_text()
    pinned = re.findall(
        r"^([a-z0-9-]+)==\S+ \\\n    --hash=sha256:[0-9a-f]{64}$", lock, re.MULTILINE
    )
    entries = [line for line in lock.splitlines() if line and line[0] not in " #"]
    assert len(entries) == len(pinned) == len(set(pinned)) > 50
    wanted = {
        str(d).removeprefix("@pip//").replace("_", "-")
        for _, a in rules()
        for d in a.get("deps", [])  # type: ignore[union-attr]
        if str(d).startswith("@pip//")
    }
    assert wanted
    assert wanted <= set(pinned)
    assert "://" not in lock


def test_the_module_file_reads_the_lock_and_names_this_version() -> None:
    calls: dict[str, dict[str | None, object]] = {}
    for statement in ast.parse((ROOT / "MODULE.bazel").read_text()).body:
        call = statement.value if isinstance(statement, (ast.Assign, ast.Expr)) else None
        if isinstance(call, ast.Call):
            calls[ast.unparse(call.func)] = {
                k.arg: ast.literal_eval(k.value) for k in call.keywords
            }
    assert calls["module"] == {"name": "keras_fmc", "version": keras_fmc.__version__}
    assert 'bazel_dep(name = "rules_python", ' in (ROOT / "MODULE.bazel").read_text()
    assert calls["pip.parse"]["requirements_lock"] == "//:requirements_lock.txt"
    assert calls["pip.parse"]["hub_name"] == "pip"
    assert calls["python.toolchain"]["python_version"] == calls["pip.parse"]["python_version"]
    assert f">={calls['pip.parse']['python_version']}" in (ROOT / "setup.py").read_text()
    loads = [a for rule, a in rules() if rule == "load"]
    assert loads


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
