"""Files of the user's survive every command; files of an earlier run do not outlive a failure."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from deploy import cli, flatbuffer
from deploy.emit import files as emit_files
from tests.int8_graphs import Int8GraphMaker

OURS = {
    *("model.tflite", "model_data.h", "model_data.cc", "arena_plan.h", "arena_plan.c"),
    *("plan_check.h", "plan_check.c", "report.txt", "report.json", "report.html"),
}
REPORTS = {"report.txt", "report.json", "report.html"}


def model(channels: int = 4) -> bytes:
    make = Int8GraphMaker(3)
    x = make.conv(make.input((1, 8, 8, 3)), channels=channels, kernel=(3, 3))
    return flatbuffer.write(make.build(outputs=[make.conv(x, channels=2)]))


def plan(path: Path | str, out: Path | str, *options: str) -> int:
    return cli.main(["plan", str(path), "--strips=false", f"--out={out}", *options])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def as_it_is(folder: Path) -> Path:
    return folder / "model.tflite"


def through_a_link(folder: Path) -> Path:
    (folder / "other").mkdir()
    (folder / "other" / "link.tflite").symlink_to(folder / "model.tflite")
    return folder / "other" / "link.tflite"


def through_a_hard_link(folder: Path) -> Path:
    (folder / "other").mkdir()
    os.link(folder / "model.tflite", folder / "other" / "hard.tflite")
    return folder / "other" / "hard.tflite"


def through_a_folder(folder: Path) -> Path:
    (folder / "other").mkdir()
    (folder / "other" / "back").symlink_to(folder)
    return folder / "other" / "back" / "model.tflite"


def by_another_spelling(folder: Path) -> Path:
    return folder / "." / ".." / folder.name / "model.tflite"


@pytest.mark.parametrize(
    "spell", [as_it_is, through_a_link, through_a_hard_link, through_a_folder, by_another_spelling]
)
@pytest.mark.parametrize("sound", [True, False])
def test_a_source_is_never_overwritten(
    spell: object, sound: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = model() if sound else b"not a model"
    (tmp_path / "model.tflite").write_bytes(content)
    path = spell(tmp_path)  # type: ignore[operator]
    assert plan(path, tmp_path) == 2
    assert "would overwrite" in capsys.readouterr().err
    assert contents(tmp_path) == {"model.tflite": content}
    assert path.read_bytes() == content


def test_a_source_is_not_overwritten_through_a_link_in_the_folder(tmp_path: Path) -> None:
    source, out = tmp_path / "mine.tflite", tmp_path / "out"
    source.write_bytes(model())
    out.mkdir()
    (out / "model.tflite").symlink_to(source)
    assert plan(source, out) == 2
    assert (out / "model.tflite").is_symlink()
    assert source.read_bytes() == model()


@pytest.mark.parametrize("name", sorted(OURS))
def test_other_files_of_the_user_are_in_the_way(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "a.tflite", tmp_path / "out"
    source.write_bytes(model())
    out.mkdir()
    (out / name).write_bytes(b"the user's own")
    (out / "notes").write_bytes(b"more")
    assert plan(source, out) == 2
    assert f"{out / name} is in the way" in capsys.readouterr().err
    assert contents(out) == {name: b"the user's own", "notes": b"more"}


def test_a_model_put_into_a_folder_of_ours_is_the_users(tmp_path: Path) -> None:
    source, out = tmp_path / "a.tflite", tmp_path / "out"
    source.write_bytes(model())
    assert plan(source, out) == 0
    (out / "model.tflite").write_bytes(model(channels=7))
    before = contents(out)
    assert plan(source, out) == 2
    assert contents(out) == before


def test_a_run_replaces_the_files_of_the_one_before(tmp_path: Path) -> None:
    source, out = tmp_path / "a.tflite", tmp_path / "out"
    source.write_bytes(model())
    assert plan(source, out) == 0
    (out / "notes").write_bytes(b"the user's own")
    before = contents(out)
    source.write_bytes(model(channels=7))
    assert plan(source, out) == 0
    after = contents(out)
    assert after.keys() == before.keys() == OURS | {"notes"}
    assert after["model.tflite"] != before["model.tflite"]
    assert after["notes"] == before["notes"]


@pytest.mark.parametrize("way", ["arena", "model", "missing", "board", "kernels"])
def test_a_run_that_fails_leaves_nothing_of_the_one_before(way: str, tmp_path: Path) -> None:
    source, out = tmp_path / "a.tflite", tmp_path / "out"
    source.write_bytes(model())
    assert plan(source, out) == 0
    (out / "notes").write_bytes(b"the user's own")
    if way == "arena":
        assert plan(source, out, "--arena=600") == 1
        assert contents(out).keys() == REPORTS | {"notes"}
        assert json.loads((out / "report.json").read_text())["fits"] is False
        return
    options = {"board": ["--board=no-such-board"], "kernels": ["--kernels=none"]}.get(way, [])
    if way == "model":
        source.write_bytes(model()[:-200])
    elif way == "missing":
        source.unlink()
    assert plan(source, out, *options) == 2
    assert contents(out) == {"notes": b"the user's own"}


def test_nothing_is_removed_before_the_new_result_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "a.tflite", tmp_path / "out"
    source.write_bytes(model())
    assert plan(source, out) == 0
    before = contents(out)
    seen = []

    def interrupted(*args: object, **kwargs: object) -> None:
        seen.append(contents(out))
        raise KeyboardInterrupt

    monkeypatch.setattr("deploy.pipeline._emit", interrupted)
    assert plan(source, out) == 130
    assert seen == [before]
    assert contents(out) == before


def test_the_files_of_a_board_and_of_samples_are_sources_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "a.tflite").write_bytes(model())
    for flag, command in (("board-file", "plan"), ("calibration", "convert")):
        (out / "report.json").write_bytes(b"{}")
        arguments = [command, str(tmp_path / "a.tflite"), f"--{flag}={out / 'report.json'}"]
        assert cli.main([*arguments, f"--out={out}"]) == 2
        assert "would overwrite" in capsys.readouterr().err
        assert contents(out) == {"report.json": b"{}"}


def test_a_project_does_not_overwrite_what_it_is_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "a.tflite", tmp_path / "out"
    source.write_bytes(model())
    assert plan(source, out) == 0
    assert cli.main(["emit", str(out), "--as=cmake", f"--out={tmp_path / 'project'}"]) == 0
    names = {str(p.relative_to(tmp_path / "project")) for p in (tmp_path / "project").rglob("*")}
    inside = next(name for name in sorted(names) if name.endswith("model_data.cc"))
    clash = tmp_path / "clash" / inside
    clash.parent.mkdir(parents=True)
    os.link(out / "model_data.cc", clash)
    before = clash.read_bytes()
    capsys.readouterr()
    assert cli.main(["emit", str(out), "--as=cmake", f"--out={tmp_path / 'clash'}"]) == 2
    assert "would overwrite" in capsys.readouterr().err
    assert clash.read_bytes() == before == (out / "model_data.cc").read_bytes()
    assert [p for p in (tmp_path / "clash").rglob("*") if p.is_file()] == [clash]


def test_what_an_earlier_run_left_is_told_by_its_report(tmp_path: Path) -> None:
    from deploy.emit.earlier import earlier_files

    names = ("model.tflite", "report.json", "report.txt")
    emit_files.write_all(tmp_path, dict.fromkeys(names, b"12345"))
    assert earlier_files(tmp_path, names) == ()
    report = {"arena_bytes": 1, "head_bytes": 1, "tail_bytes": 1, "fits": True, "flash_bytes": 5}
    for text, ours in (
        (json.dumps(report), names),
        (json.dumps({**report, "flash_bytes": 4}), names[1:]),
        (json.dumps({k: v for k, v in report.items() if k != "fits"}), ()),
        ("[" * 100_000, ()),
        ("[]", ()),
    ):
        (tmp_path / "report.json").write_text(text)
        assert earlier_files(tmp_path, names) == ours


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
