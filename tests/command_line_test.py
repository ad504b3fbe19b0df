"""Help, suggestions, JSON, quiet, completion: what every command has."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from graph_maker import GraphMaker
from report_samples import full_report

from deploy import cli, flatbuffer, pipeline, targets
from deploy.command_line import Command, help_text, parse, value
from deploy.commands import KINDS
from deploy.emit import skeleton
from deploy.options import EVERYWHERE, Option
from deploy.report.brief import MOST_LINES, summary, to_brief
from deploy.report.report import Report
from deploy.report.text import to_text
from deploy.settings import PlanSettings
from keras_fmc.errors import BadInputError

COMMANDS = list(cli.COMMANDS.values())


def model(folder: Path) -> str:
    maker = GraphMaker()
    source = maker.tensor(1, 8, 8, 4)
    graph = maker.build((source,), (maker.unary(maker.add(source, source)),))
    path = folder / "m.tflite"
    path.write_bytes(flatbuffer.write(graph))
    return str(path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a planned model in build/."""
    folder = tmp_path_factory.mktemp("built")
    out = str(folder / "build")
    assert (
        cli.main(["plan", model(folder), "--board", "nano33ble", "--strips=false", "--out", out])
        == 0
    )
    return folder


@pytest.fixture
def planned(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, where `fmc plan` finds at once what it found before."""

    def plan_file(path: str, settings: PlanSettings, *, out: str | None) -> pipeline.Result:
        report = pipeline.read_report(built / "build" / "report.json")
        if settings.board == "host":
            report = dataclasses.replace(report, board="host", limit_bytes=None)
        elif settings.arena_bytes is not None:
            limit = settings.arena_bytes
            report = dataclasses.replace(report, limit_bytes=limit, fits=limit > report.arena_bytes)
        return pipeline.Result(report, None, ("model.tflite",))

    monkeypatch.setattr(pipeline, "plan_file", plan_file)
    return built


def calls(folder: Path) -> dict[str, list[str]]:
    """A call of every command but convert, which needs Keras."""
    build = folder / "build"
    report = str(build / "report.json")
    return {
        "profile": [str(folder / "m.tflite")],
        "plan": [str(folder / "m.tflite"), "--board=nano33ble"],
        "verify": [str(build)],
        "boards": [],
        "emit": [str(build), "--as=cmake", f"--out={folder / 'project'}"],
        "diff": [report, report],
        "completion": ["bash"],
    }


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
@pytest.mark.parametrize("spelling", ["-h", "--help", "help"])
def test_help_stands_behind_every_command(
    command: Command, spelling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["help", command.name] if spelling == "help" else [command.name, spelling]
    assert cli.main(asked) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: fmc {command.name}")
    for option in command.all_options:
        unit = option.unit if option.unit and not option.choices else ""
        assert re.search(rf"^  --{option.name} ?{unit}\b", text, re.MULTILINE), option
        # An option stands below the heading of its group.
        heading = text.index(f"\n{option.group}:\n")
        assert heading < text.index(f"\n  --{option.name}")
    assert max(map(len, text.splitlines())) <= 100


def test_help_looks_the_same_on_every_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = set()
    for width in ("30", "200"):
        monkeypatch.setenv("COLUMNS", width)
        cli.main(["plan", "-h"])
        texts.add(capsys.readouterr().out)
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["pln", "m"], "Did you mean plan?"),
        (["bords"], "Did you mean boards?"),
        (["plan", "m", "--bord=nano33ble"], "Did you mean --board?"),
        (["plan", "m", "--max-mac", "2"], "Did you mean --max-macs?"),
        (["emit", "m", "--ass=cmake"], "Did you mean --as?"),
        (["completion", "bsh"], "Did you mean bash?"),
    ],
)
def test_what_was_meant_is_named(
    given: list[str], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(given) == 2
    captured = capsys.readouterr()
    assert wanted in captured.err
    assert len(captured.err.splitlines()) == 2
    assert captured.out == ""


def test_nothing_is_suggested_for_what_is_like_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "m", "--zzzzzz"]) == 2
    assert "Did you mean" not in capsys.readouterr().err


SPELLINGS = [
    ("board", ["--board=esp32"], "esp32"),
    ("board", ["--board", "esp32"], "esp32"),
    ("board", ["-board", "esp32"], "esp32"),
    ("board", ["--board=esp32", "--board=host"], "host"),
    ("strips", ["--strips=false"], False),
    ("strips", ["--nostrips"], False),
    ("strips", ["--strips"], True),
    ("strips", [], True),
    ("overlap", [], None),
    ("overlap", ["--overlap"], True),
    ("overlap", ["--overlap=false"], False),
    ("max-macs", ["--max-macs=1.5"], 1.5),
    ("time-limit", ["--time-limit", "3"], 3.0),
    ("minimise", ["--minimise=head"], "head"),
    ("out", ["--out", "-x"], "-x"),
    ("explain", ["--explain"], True),
]


@pytest.mark.parametrize(("name", "given", "wanted"), SPELLINGS)
@pytest.mark.parametrize("at", ["before", "behind"])
def test_spellings_of_absl_stay(name: str, given: list[str], wanted: object, at: str) -> None:
    arguments = [*given, "m.tflite"] if at == "before" else ["m.tflite", *given]
    parsed = parse(cli.COMMANDS["plan"], arguments)
    assert parsed is not None
    rest, values = parsed
    assert isinstance(values, flags.FlagValues)
    assert rest == ["m.tflite"]
    assert value(values, name) == wanted
    assert bool(values[name].present) == bool(given)


def test_options_of_every_kind_are_defined_and_shown() -> None:
    options = (
        Option("jobs", "x", "processes", "COUNT", kind=int, least=1),
        Option("bits", "x", "widths", "LIST", kind=list),
    )
    command = Command("try", "Tries.", (), options, lambda rest, values: 0)
    parsed = parse(command, ["--jobs=3", "--bits", "8,4"])
    assert parsed is not None
    assert value(parsed[1], "jobs") == 3
    assert value(parsed[1], "bits") == ["8", "4"]
    with pytest.raises(BadInputError, match="jobs"):
        parse(command, ["--jobs=0"])
    assert "--bits LIST" in help_text(command)
    assert not any("(default: ())" in help_text(command) for command in COMMANDS)


def test_every_command_is_tried() -> None:
    assert {"convert", "fit", *calls(Path())} == set(cli.COMMANDS)
    assert all(command.all_options[-2:] == EVERYWHERE for command in COMMANDS)


@pytest.mark.parametrize("name", calls(Path()))
def test_json_and_quiet(name: str, planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = calls(planned)[name]
    assert cli.main([name, *arguments, "--json"]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert data
    assert captured.err == ""
    assert cli.main([name, *arguments]) == 0
    text = capsys.readouterr().out
    assert cli.main([name, *arguments, "--quiet"]) == 0
    quiet = capsys.readouterr().out
    if name == "completion":
        assert quiet == text
    else:
        assert len(quiet.splitlines()) == 1
        assert quiet.strip()


def test_json_says_what_text_says(planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = {}
    for name, arguments in calls(planned).items():
        assert cli.main([name, *arguments, "--json"]) == 0
        read[name] = json.loads(capsys.readouterr().out)
    report = json.loads((planned / "build" / "report.json").read_text())
    assert read["plan"] == report
    assert [board["name"] for board in read["boards"]] == [b.name for b in targets.boards()]
    assert read["verify"]["verified"] is True
    files = {str(p.relative_to(planned / "project")) for p in (planned / "project").rglob("*.*")}
    assert set(read["emit"]["files"]) == files
    assert read["diff"]["same"] is True
    arena = report["arena_bytes"]
    assert read["diff"]["figures"]["arena"] == {"before": arena, "after": arena, "unit": "B"}
    assert read["profile"]["peak_bytes"] > 0


def test_errors_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "nowhere.tflite", "--json"]) == 2
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert data["exit_status"] == 2
    assert data["error"] == "BadInputError"
    assert data["what"] in captured.err
    assert cli.main(["plan", "nowhere.tflite"]) == 2
    assert capsys.readouterr().out == ""


SUMMARY = re.compile(
    r"\S+: (Fits|Does not fit|No limit was given)\. .*\d B.*\.",
)


def test_the_summary_is_stable(planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(planned / "m.tflite")
    for options, status, word in (
        (["--board=nano33ble"], 0, "Fits"),
        (["--board=nano33ble", "--arena=100"], 1, "Does not fit"),
        ([], 0, "No limit was given"),
    ):
        lines = set()
        for form in ([], ["--quiet"], ["--verbose"]):
            assert cli.main(["plan", path, *options, *form]) == status
            lines.add(capsys.readouterr().out.splitlines()[0])
        (line,) = lines
        found = SUMMARY.fullmatch(line)
        assert found is not None, line
        assert found[1] == word
        assert ("in the tflite_micro wheel of a PC" in line) == (options == [])


def test_text_is_twenty_lines_and_verbose_is_all(
    planned: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(planned / "m.tflite")
    assert cli.main(["plan", path, "--board=nano33ble", f"--out={tmp_path}"]) == 0
    brief = capsys.readouterr().out
    assert len(brief.splitlines()) <= MOST_LINES
    assert cli.main(["plan", path, "--board=nano33ble", f"--out={tmp_path}", "--verbose"]) == 0
    verbose = capsys.readouterr().out
    assert verbose.startswith((planned / "build" / "report.txt").read_text())
    assert len(verbose.splitlines()) > len(brief.splitlines())


def reports() -> list[Report]:
    report = full_report()
    many = tuple(f"warning {i}" for i in range(30))
    no = dataclasses.replace(report, fits=False, limit_bytes=report.arena_bytes - 100)
    return [
        report,
        no,
        dataclasses.replace(report, warnings=many),
        dataclasses.replace(no, warnings=many, notes=many, interrupted="Ctrl-C"),
        dataclasses.replace(report, baseline=None, peak_tensors=(), limit_bytes=None),
    ]


@pytest.mark.parametrize("case", range(5))
def test_brief_is_short_and_says_the_most(case: int) -> None:
    report = reports()[case]
    lines = to_brief(report).splitlines()
    assert len(lines) < MOST_LINES
    assert lines[0] == summary(report) == to_text(report).splitlines()[0]
    text = "\n".join(lines)
    assert f"tensor_arena[{report.arena_bytes}]" in text
    # Every line but the count of what is hidden stands in the whole report, too.
    whole = {" ".join(line.split()) for line in to_text(report).splitlines()}
    assert {" ".join(line.split()) for line in lines if "more" not in line} <= whole
    if len(report.warnings) > 3:
        assert f"and {len(report.warnings) + len(report.notes) - 2} more remarks" in text
    if not report.fits:
        assert report.peak_tensors[0].split(";")[0][-20:] in text


def test_kinds_are_those_that_are_written() -> None:
    assert set(KINDS) == set(skeleton.KINDS)


def completed(folder: Path, *words: str) -> set[str]:
    """What bash offers for the last of the words."""
    cli_script = folder / "fmc.bash"
    line = " ".join(words)
    code = (
        f"source {cli_script}\n"
        f"COMP_WORDS=({' '.join(repr(w) for w in words)}); COMP_CWORD={len(words) - 1}\n"
        f"COMP_LINE={line!r}; COMP_POINT={len(line)}\n"
        "$(complete -p fmc | sed 's/.*-F \\([^ ]*\\).*/\\1/') fmc\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return {line.strip() for line in done.stdout.splitlines() if line.strip()}


def test_bash_completes_commands_options_and_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    assert cli.main(["completion", "bash"]) == 0
    (tmp_path / "fmc.bash").write_text(capsys.readouterr().out)
    assert completed(tmp_path, "fmc", "") >= set(cli.COMMANDS)
    assert completed(tmp_path, "fmc", "pl") == {"plan"}
    assert completed(tmp_path, "fmc", "plan", "--ma") == {"--max-macs", "--max-time"}
    boards = {board.name for board in targets.boards()}
    assert completed(tmp_path, "fmc", "plan", "--board", "") == boards
    assert completed(tmp_path, "fmc", "emit", "--as", "z") == {"zephyr"}


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cli.COMMANDS)
    assert "nano33ble" in text


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
