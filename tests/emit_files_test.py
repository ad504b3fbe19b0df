"""Files appear complete or not at all; model data is the model's bytes, aligned."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from c_compilers import ARM_C11, ARM_CXX17, C11, C99, CXX17, Compiler, each, require

from deploy.emit.files import discard, write_all
from deploy.emit.model_data import model_data_files
from keras_fmc.errors import BadInputError


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_text_and_bytes_are_written_into_new_folders(tmp_path: Path) -> None:
    out = tmp_path / "new" / "build"
    paths = write_all(out, {"a.txt": "ä\n", "src/main.cc": b"\x00\xff"})
    assert paths == (out / "a.txt", out / "src" / "main.cc")
    assert content(out) == {"a.txt": "ä\n".encode(), "src/main.cc": b"\x00\xff"}


def test_other_files_stay_and_old_ones_are_replaced(tmp_path: Path) -> None:
    write_all(tmp_path, {"a": "old", "b": "stays"})
    write_all(tmp_path, {"a": "new"})
    assert content(tmp_path) == {"a": b"new", "b": b"stays"}


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_a_failure_half_way_leaves_what_was_there(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(tmp_path, {"a": "old a", "b": "old b"})
    real, calls = os.replace, []

    def replace(source: object, target: object) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(BadInputError, match=r"cannot write .*No space left on device"):
        write_all(tmp_path, {"c": "new", "src/d": "new", "a": "new a", "b": "new b"})
    monkeypatch.undo()
    assert len(calls) >= failing
    assert content(tmp_path) == {"a": b"old a", "b": b"old b"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_an_interrupt_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(tmp_path, {"a": "old"})
    real, calls = os.replace, []

    def replace(source: object, target: object) -> None:
        calls.append(target)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write_all(tmp_path, {"a": "new", "b": "new"})
    monkeypatch.undo()
    assert content(tmp_path) == {"a": b"old"}


def test_a_folder_that_is_a_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(BadInputError, match=r"cannot write .*taken.*\n.*--out") as caught:
        write_all(tmp_path / "taken" / "build", {"a": "x"})
    assert caught.value.exit_code == 2


def test_a_folder_in_the_place_of_a_file_is_refused_and_nothing_written(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(BadInputError, match=r"cannot write .*/b; received Is a directory"):
        write_all(tmp_path, {"a": "x", "b": "y"})
    assert content(tmp_path) == {}


def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    proc = Path("/proc/1")
    if not proc.is_dir():
        pytest.skip("no /proc, which nobody can write to")
    with pytest.raises(BadInputError, match=r"cannot write /proc/1"):
        write_all(proc / "build", {"a": "x"})


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", ""])
def test_names_may_not_leave_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the name of a file inside"):
        write_all(tmp_path, {name: "x"})


def test_discard_removes_what_is_there(tmp_path: Path) -> None:
    write_all(tmp_path, {"model.tflite": "stale", "report.json": "{}"})
    discard(tmp_path, ["model.tflite", "missing", "report.json/deeper"])
    assert content(tmp_path) == {"report.json": b"{}"}
    discard(tmp_path / "nowhere", ["model.tflite"])


def test_discard_says_what_it_cannot_remove(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").mkdir()
    with pytest.raises(BadInputError, match=r"cannot remove .*model\.tflite"):
        discard(tmp_path, ["model.tflite"])


MODEL = bytes(range(256)) * 3 + b"tail"


@each(C99, C11, CXX17, ARM_C11, ARM_CXX17)
@pytest.mark.parametrize("language", ["c", "c++"])
def test_model_data_compiles(compiler: Compiler, language: str, tmp_path: Path) -> None:
    files = model_data_files(MODEL, model_name="a model", language=language)
    _, source = write_all(tmp_path, files)
    # The text is one for both languages, so each source must pass in both.
    language_option = "c++" if "++" in compiler.name else "c"
    compiler.must_compile(source, "-x", language_option)


@pytest.mark.parametrize(("language", "command"), [("c", "gcc"), ("c++", "g++")])
def test_model_data_holds_the_model_aligned(language: str, command: str, tmp_path: Path) -> None:
    require(command)
    files = model_data_files(MODEL, model_name="m", language=language)
    _, source = write_all(tmp_path, files)
    main = tmp_path / ("main.c" if language == "c" else "main.cc")
    main.write_text(
        '#include <stdint.h>\n#include <stdio.h>\n#include "model_data.h"\n'
        "int main(void) {\n"
        "  if ((uintptr_t)model_data % 16 != 0) return 1;\n"
        "  return fwrite(model_data, 1, model_data_len, stdout) != MODEL_DATA_BYTES;\n}\n"
    )
    subprocess.run([command, main.name, source.name, "-o", "main"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, check=True)
    assert done.stdout == MODEL


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
