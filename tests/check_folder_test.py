"""`fmc verify` names the file in which a byte was changed, or that is missing."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import cli, flatbuffer, pipeline
from deploy.backends.tflm.embed import embed, embedded_offsets
from deploy.emit import check_folder as checks
from deploy.emit.check_folder import check_folder
from deploy.emit.folder import report_files
from deploy.emit.written import ALL_FILES as FILES
from deploy.report.report import Report
from keras_fmc.errors import BadInputError, VerificationError
from tests.int8_graphs import Int8GraphMaker


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with strips, views and pieces."""
    make = Int8GraphMaker(5)
    x = make.conv(make.input((1, 32, 32, 3)), channels=16, kernel=(3, 3))
    x = make.conv(make.conv(x, channels=16, kernel=(3, 3)), channels=8, kernel=(3, 3))
    source = flatbuffer.write(make.build(outputs=[make.mean(x)]))
    out = tmp_path_factory.mktemp("planned")
    pipeline.plan(source, out=out, board="nano33ble", overlap=False)
    return out


@pytest.fixture
def folder(planned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(planned, tmp_path / "copy"))


def test_what_was_planned_is_verified(planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {path.name for path in planned.iterdir()} == set(FILES)
    report = pipeline.read_report(planned / "report.json")
    assert report.regions
    assert report.pieces
    assert cli.main(["verify", str(planned)]) == 0
    assert "every file is as planned; ran in the tflite_micro wheel" in capsys.readouterr().out


def flipped(data: bytes, generator: random.Random) -> bytes:
    at = generator.randrange(len(data))
    return data[:at] + bytes((data[at] ^ (1 << generator.randrange(8)),)) + data[at + 1 :]


def cut(data: bytes, generator: random.Random) -> bytes:
    return data[: generator.randrange(len(data))]


def longer(data: bytes, generator: random.Random) -> bytes:
    at = generator.randrange(len(data) + 1)
    return data[:at] + b" " + data[at:]


def without_one(data: bytes, generator: random.Random) -> bytes:
    at = generator.randrange(len(data))
    return data[:at] + data[at + 1 :]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_named(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: object) -> str:
        raise AssertionError(f"the model ran although {name} was changed")

    monkeypatch.setattr(checks, "_run", run)
    generator = random.Random(name)
    data = (folder / name).read_bytes()
    for change in (flipped, flipped, flipped, flipped, flipped, cut, longer, without_one):
        (folder / name).write_bytes(change(data, generator))
        with pytest.raises(VerificationError, match=name) as caught:
            check_folder(folder)
        assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).unlink()
    assert cli.main(["verify", str(folder)]) == 3
    assert f"{folder / name} is missing" in capsys.readouterr().err


def test_the_first_difference_is_shown(folder: Path) -> None:
    path = folder / "arena_plan.h"
    text = path.read_text()
    line = next(row for row in text.splitlines() if "_ARENA_BYTES " in row)
    number = text.splitlines().index(line) + 1
    path.write_text(text.replace(line, line[:-1] + ("1" if line[-1] != "1" else "2")))
    at = text.index(line) + len(line) - 1
    with pytest.raises(VerificationError, match=rf"from byte {at}, line {number}; expected '#def"):
        check_folder(folder)
    path.write_text(text)
    data = (folder / "model.tflite").read_bytes()
    (folder / "model.tflite").write_bytes(data[:99] + bytes((data[99] ^ 255,)) + data[100:])
    wanted = f"from byte 99; expected 0x{data[99]:02x}; received 0x{data[99] ^ 255:02x}"
    with pytest.raises(VerificationError, match=wanted):
        check_folder(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"engine": "', '"engine": "not ', "the SHA-256 of its keys differs"),
        ('"fits": true', '"fits":  true', "from byte [0-9]+, line [0-9]+; expected '\"fits"),
        ('"format": 1', '"format": 2', "another format"),
        ('"tensors": [', '"tensors": {', "is not JSON"),
    ],
)
def test_a_changed_report_is_told_from_a_damaged_one(
    old: str, new: str, message: str, folder: Path
) -> None:
    path = folder / "report.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(VerificationError, match=message):
        check_folder(folder)


def write(folder: Path, report: Report) -> None:
    """Writes the files of a report, right or wrong."""
    for name, text in report_files(report).items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def more(key: str) -> Callable[[Report], Report]:
    return lambda report: dataclasses.replace(report, **{key: getattr(report, key) + 16})


def other_tensor(**changes: object) -> Callable[[Report], Report]:
    def change(report: Report) -> Report:
        first, *rest = report.tensors
        return dataclasses.replace(report, tensors=(dataclasses.replace(first, **changes), *rest))

    return change


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (more("arena_bytes"), "arena_bytes"),
        (more("scratch_bytes"), "scratch_bytes"),
        (more("macs"), "macs"),
        (more("flash_bytes"), "flash_bytes"),
        (more("predicted_arena_bytes_wheel"), "predicted_arena_bytes_wheel"),
        (other_tensor(name="other"), r"tensors\[0\].name"),
        (other_tensor(dtype="uint8"), r"tensors\[0\].dtype"),
        (lambda r: dataclasses.replace(r, operators=r.operators[::-1]), r"operators\[0\]"),
        (lambda r: dataclasses.replace(r, inputs=r.outputs), r"inputs\[0\]"),
    ],
)
def test_a_report_that_is_whole_but_wrong(
    change: Callable[[Report], Report], key: str, folder: Path
) -> None:
    report = change(pipeline.read_report(folder / "report.json"))
    write(folder, report)
    with pytest.raises(VerificationError, match=f"report.json: {key} is not what model.tflite"):
        check_folder(folder)


def test_a_model_with_another_plan_and_its_digest(folder: Path) -> None:
    report = pipeline.read_report(folder / "report.json")
    graph = flatbuffer.read((folder / "model.tflite").read_bytes())
    offsets = embedded_offsets(graph)
    assert offsets is not None
    content = flatbuffer.write(embed(graph, [o + 16 if o >= 0 else o for o in offsets]))
    digest = hashlib.sha256(content).hexdigest()
    report = dataclasses.replace(report, model_sha256=digest, flash_bytes=len(content))
    (folder / "model.tflite").write_bytes(content)
    write(folder, report)
    with pytest.raises(VerificationError, match=r"report.json: (head_bytes|arena_bytes) is not"):
        check_folder(folder)


def test_what_is_no_folder_of_a_plan_is_bad_input(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path, tmp_path / "missing", planned / "report.json"):
        assert cli.main(["verify", str(path)]) == 2
        assert "cannot read" in capsys.readouterr().err
    # A folder in the place of a file cannot be read as one.
    (tmp_path / "report.json").mkdir()
    assert cli.main(["verify", str(tmp_path)]) == 2


def test_a_model_that_does_not_fit_is_nothing_to_verify(tmp_path: Path) -> None:
    make = Int8GraphMaker(1)
    source = flatbuffer.write(make.build(outputs=[make.unary("RELU", make.input((1, 8, 8, 4)))]))
    assert pipeline.plan(source, out=tmp_path, arena_bytes=16, strips=False).exit_code == 1
    with pytest.raises(BadInputError, match=r"does not fit; received .* bytes over"):
        check_folder(tmp_path)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
