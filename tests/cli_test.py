"""The command line as a user meets it: exit codes, messages, files."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graph_maker import GraphMaker
from report_samples import CONTRACT
from support import MLPERF_TINY, mlperf_tiny

from deploy import cli, flatbuffer
from deploy.graph import Graph
from tests.int8_graphs import Int8GraphMaker

FILES = {
    "model.tflite",
    "model_data.h",
    "model_data.cc",
    "arena_plan.h",
    "arena_plan.c",
    "plan_check.h",
    "plan_check.c",
    "report.txt",
    "report.json",
    "report.html",
}


def small_graph() -> Graph:
    maker = GraphMaker()
    source = maker.tensor(1, 8, 8, 4)
    return maker.build((source,), (maker.unary(maker.add(source, source)),))


def save(graph: Graph, path: Path) -> str:
    path.write_bytes(flatbuffer.write(graph))
    return str(path)


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_plan_writes_a_verified_model_and_its_report(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    model = str(mlperf_tiny(name))
    assert run("plan", model, "--board=nano33ble", "--strips=false", f"--out={out}") == 0
    assert files(out) == FILES
    report = json.loads((out / "report.json").read_text())
    assert report.keys() >= CONTRACT
    assert report["verified_arena_bytes"] == report["predicted_arena_bytes_wheel"]
    assert report["bit_exact"] is True
    assert report["fits"] is True
    assert report["head_bytes"] >= report["lower_bound_bytes"]
    assert report["arena_bytes"] >= report["head_bytes"] + report["tail_bytes"]
    assert report["baseline"]["arena_bytes"] >= report["arena_bytes"]
    assert capsys.readouterr().out.count("uint8_t tensor_arena")
    assert run("verify", str(out)) == 0
    assert "outputs equal byte for byte" in capsys.readouterr().out


def test_a_mistake_of_fmc_is_not_taken_for_a_model_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **settings: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("deploy.pipeline.plan_file", broken)
    assert run("plan", save(small_graph(), tmp_path / "m.tflite")) == 70
    assert "KeyError: 'surprise'" in capsys.readouterr().err


def into(output: int, *arguments: str) -> tuple[int, str]:
    """Exit status and errors of a command that writes to a descriptor."""
    root = Path(cli.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        cwd=root, stdout=output, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("options", "status"),
    [((), 0), (("--json",), 0), (("--arena=600",), 1), (("--arena=600", "--json"), 1)],
)
def test_a_reader_that_has_gone_changes_no_exit_status(
    tmp_path: Path, options: tuple[str, ...], status: int
) -> None:
    model = save(small_graph(), tmp_path / "m.tflite")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert into(writer, "plan", model, *options) == (status, "")
    finally:
        os.close(writer)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("command", ["plan", "profile"])
def test_output_that_cannot_be_written_is_not_taken_for_a_plan(
    tmp_path: Path, command: str
) -> None:
    model = save(small_graph(), tmp_path / "m.tflite")
    with open("/dev/full", "w") as full:
        status, errors = into(full.fileno(), command, model)
    assert status == 70
    assert "No space left on device" in errors


@pytest.mark.parametrize("strips", ["false", "true"])
def test_planning_imports_no_tensorflow(tmp_path: Path, strips: str) -> None:
    path = save(small_graph(), tmp_path / "m.tflite")
    code = (
        "import sys; from deploy import cli;"
        f"status = cli.main(['plan', {path!r}, '--strips={strips}']);"
        "print([m for m in ('tensorflow', 'keras') if m in sys.modules], status)"
    )
    root = Path(cli.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_planning_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    model = save(small_graph(), tmp_path / "m.tflite")
    contents = []
    for number in (1, 2):
        assert run("plan", model, f"--out={tmp_path / str(number)}") == 0
        contents.append({p.name: p.read_bytes() for p in (tmp_path / str(number)).iterdir()})
    assert contents[0] == contents[1]


def test_a_model_that_does_not_fit_leaves_its_report_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(small_graph(), tmp_path / "m.tflite")
    out = tmp_path / "out"
    assert run("plan", model, f"--out={out}") == 0
    assert files(out) == FILES
    assert run("plan", model, "--arena=600", f"--out={out}") == 1
    assert files(out) == {"report.txt", "report.json", "report.html"}
    report = json.loads((out / "report.json").read_text())
    assert report["fits"] is False
    text = capsys.readouterr().out
    assert f"{report['arena_bytes'] - 600:,}" in text


def test_explain_prints_the_frontier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make = Int8GraphMaker(11)
    x = make.conv(make.input((1, 32, 32, 3)), channels=16, kernel=(3, 3))
    x = make.conv(make.conv(x, channels=16, kernel=(3, 3)), channels=8, kernel=(3, 3))
    model = tmp_path / "chain.tflite"
    model.write_bytes(flatbuffer.write(make.build(outputs=[make.mean(x)])))
    plan = ("plan", str(model), "--board=nano33ble", "--overlap=false", f"--out={tmp_path}/out")
    assert run(*plan) == 0
    assert "chosen" not in capsys.readouterr().out
    assert run(*plan, "--explain") == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:3] == ["arena", "head", "MACs"])
    points_of = itertools.takewhile(lambda line: line.strip()[:1].isdigit(), lines[start + 1 :])
    rows = [line.split() for line in points_of]
    arena = json.loads((tmp_path / "out" / "report.json").read_text())["arena_bytes"]
    assert [int(r[0].replace(",", "")) for r in rows if r[-1] == "chosen"] == [arena]
    # A point that needs more memory than another takes fewer multiply-accumulates.
    points = [(int(r[0].replace(",", "")), float(r[2].rstrip("x"))) for r in rows]
    assert len(points) >= 2
    unchosen = [p for p, r in zip(points, rows, strict=True) if r[-1] != "chosen"]
    assert unchosen == sorted(unchosen, key=lambda p: (p[0], -p[1]))
    assert [macs for _, macs in unchosen] == sorted((m for _, m in unchosen), reverse=True)


def test_a_budget_below_what_is_possible_names_the_smallest_arena_and_its_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make = Int8GraphMaker(0)
    x = make.conv(make.input((1, 24, 24, 3)), channels=8, kernel=(3, 3))
    x = make.conv(x, channels=4, kernel=(3, 3))
    model = save(make.build(outputs=[x]), tmp_path / "m.tflite")
    out = tmp_path / "out"
    assert run("plan", model, "--arena=2KB", f"--out={out}") == 1
    report = json.loads((out / "report.json").read_text())
    text = capsys.readouterr().out
    assert report["arena_bytes"] > 2048
    assert f"{report['arena_bytes'] - 2048:,} B over" in text
    assert f"{report['lower_bound_bytes']:,} B" in text
    assert f"{report['macs']:,}" in text
    assert all(name in text for name in report["peak_tensors"])
    assert report["peak_tensors"]


def damaged(tmp_path: Path) -> list[tuple[str, bytes | Graph, str]]:
    graph = small_graph()
    content = flatbuffer.write(graph)
    maps = graph.tensors
    unknown = dataclasses.replace(graph.operators[0], opcode="CUSTOM", custom_code="Mystery")
    dynamic = dataclasses.replace(maps[0], shape=(1, -1, 8, 4))
    halves = tuple(
        dataclasses.replace(t, dtype="float16", quantization=None, data=None) for t in maps
    )
    return [
        ("empty", b"", "not a TFLite model"),
        ("truncated", content[: len(content) // 2], "truncated or corrupted|not a TFLite"),
        ("text", b"hello world, this is no model", "not a TFLite model"),
        ("unknown", graph.replace(operators=(unknown, *graph.operators[1:])), "Mystery #0"),
        ("dynamic", graph.replace(tensors=(dynamic, *maps[1:])), "dynamic shape"),
        ("half", graph.replace(tensors=halves), "is float16"),
        ("nothing", graph.replace(operators=(), outputs=()), "has no operators"),
    ]


@pytest.mark.parametrize("case", range(7))
def test_bad_models_are_refused_in_two_lines(
    case: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    name, model, message = damaged(tmp_path)[case]
    path = tmp_path / f"{name}.tflite"
    path.write_bytes(model if isinstance(model, bytes) else flatbuffer.write(model))
    out = tmp_path / "out"
    assert run("plan", str(path), f"--out={out}") == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert len(error.strip().splitlines()) <= 2
    assert files(out) == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan"], "takes 1 arguments; received none"),
        (["plan", "{model}", "extra"], "takes 1 arguments"),
        (["plan", "{missing}"], "cannot read .*missing.tflite"),
        (["plan", "{model}", "--board=arduno-nano"], "unknown board"),
        (["plan", "{model}", "--kernels=mystery"], "mystery"),
        (["plan", "{model}", "--runtime=mystery"], "mystery"),
        (["plan", "{model}", "--arena=lots"], "not a size"),
        (["plan", "{model}", "--arena=0"], "positive"),
        (["plan", "{model}", "--max-macs=0.5"], "max-macs"),
        (["plan", "{model}", "--minimise=speed"], "minimise"),
        (["plan", "{model}", "--fast"], "fast"),
        (["plan", "{model}", "--out={model}"], "cannot write"),
        (["polish", "{model}"], "unknown command 'polish'"),
        (["verify", "{missing}"], "cannot read"),
        (["diff", "{model}", "{model}"], "m.tflite"),
        (["profile", "{missing}"], "no such model"),
        (["emit", "{missing}", "--as=cmake"], "cannot read"),
        (["emit", "{missing}", "--as=basic"], "basic"),
    ],
)
def test_bad_usage_is_refused_in_two_lines(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    names = {"model": save(small_graph(), tmp_path / "m.tflite")}
    names["missing"] = str(tmp_path / "missing.tflite")
    assert run(*(a.format(**names) for a in arguments)) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.startswith("fmc: ")
    assert len(error.strip().splitlines()) <= 2


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(small_graph(), tmp_path / "m.tflite")
    if os.geteuid() == 0:
        # Root may write anywhere; a file in the way stops everyone.
        (tmp_path / "file").write_text("")
        out = tmp_path / "file" / "out"
    else:
        out = tmp_path / "locked"
        out.mkdir(mode=0o500)
    assert run("plan", model, f"--out={out}") == 2
    assert "cannot write" in capsys.readouterr().err


def test_verify_notices_a_changed_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run("plan", save(small_graph(), tmp_path / "m.tflite"), f"--out={out}") == 0
    content = (out / "model.tflite").read_bytes()
    graph = flatbuffer.read(content)
    from deploy.backends.tflm.embed import embed, embedded_offsets

    offsets = embedded_offsets(graph)
    assert offsets is not None
    moved = [o + 256 if o >= 0 else o for o in offsets]
    (out / "model.tflite").write_bytes(flatbuffer.write(embed(graph, moved)))
    assert run("verify", str(out)) == 3
    assert "model.tflite is not what report and model say, from byte" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(f"fmc {name}" in text for name in cli.COMMANDS)
    for name in cli.COMMANDS:
        assert run(name, "--help") == 0
        assert f"usage: fmc {name}" in capsys.readouterr().out


def test_plan_api_takes_bytes() -> None:
    import deploy

    result = deploy.plan(flatbuffer.write(small_graph()), board="host")
    assert result.exit_code == 0
    assert result.report.verified
    assert result.content is not None
    planned = flatbuffer.read(result.content)
    assert len(planned.operators) == 2
    assert np.prod(planned.tensors[planned.inputs[0]].shape) == 8 * 8 * 4


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
