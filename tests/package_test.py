"""The package as its users meet it: one import, clear words where something is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh process whose sys.path begins with ``path`` and the repository."""
    places = [str(place) for place in (*path, ROOT)]
    return subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path[:0] = {places}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_import_offers_both_halves() -> None:
    import deploy
    import keras_fmc as fmc

    for name in deploy.__all__:
        assert name in dir(fmc)
        assert getattr(fmc, name) is getattr(deploy, name)


def test_another_package_named_deploy_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "__init__.py").write_text("")
    done = run("import keras_fmc as fmc\nfmc.plan", tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: keras_fmc.plan needs the package 'deploy' of keras_fmc")
    assert str((tmp_path / "deploy").resolve()) in last
    assert str(ROOT) in last


def test_fmc_tells_another_package_named_deploy_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "__init__.py").write_text("")
    done = run("from keras_fmc.command import main\nsys.exit(main())", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fmc: fmc needs the package 'deploy' of keras_fmc")
    assert str((tmp_path / "deploy").resolve()) in done.stderr


def test_a_folder_named_deploy_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    done = run("import keras_fmc as fmc\nprint(fmc.plan.__module__)", tmp_path)
    assert done.stdout == "deploy.pipeline\n", done.stderr


def test_without_keras_the_extra_is_named() -> None:
    code = (
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('keras', 'tensorflow'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "import keras_fmc as fmc\nfmc.plan\nfmc.quantize"
    )
    done = run(code)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        "ModuleNotFoundError: keras_fmc.quantize needs keras, which is not installed: "
        "pip install 'keras-fmc[keras]'."
    )


def test_planning_imports_neither_keras_nor_tensorflow() -> None:
    code = (
        "import keras_fmc as fmc\nfmc.plan, fmc.verify, fmc.Report\n"
        "print({'keras', 'tensorflow'} & {m.partition('.')[0] for m in sys.modules})"
    )
    assert run(code).stdout == "set()\n"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
