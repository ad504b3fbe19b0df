"""``fmc plan --runtime=c`` from the command line to the folder, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from c_compilers import require
from generated import residual
from int8_graphs import Int8GraphMaker
from support import mlperf_tiny

import deploy
from deploy import cli, flatbuffer
from deploy.backends.c import evidence
from deploy.backends.c.build import generate
from deploy.graph import Options
from deploy.passes import run_passes
from deploy.proof.source import run_source
from deploy.runtime import compiled
from deploy.runtime.stack import deepest
from keras_fmc.errors import BadInputError, UnsupportedModelError, VerificationError

KEYS = (
    *("model", "board", "runtime", "kernels", "arena_bytes", "head_bytes", "tail_bytes"),
    *("scratch_bytes", "lower_bound_bytes", "proven_optimal", "fits", "macs", "macs_ratio"),
    *("flash_bytes", "bit_exact", "verified_arena_bytes", "baseline", "tensors", "regions"),
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(flatbuffer.write(residual()))
    return path


def plan(model: Path, *options: str) -> int:
    return cli.main(["plan", str(model), "--runtime=c", *options])


def test_a_folder_with_c_and_a_report(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert plan(model, "--board", "nano33ble", "--out", str(out)) == 0
    names = {path.name for path in out.iterdir()}
    assert {"tiny.h", "tiny.c", "tiny_constants.c", "arena_plan.h", "arena_plan.c"} <= names
    assert "model.tflite" not in names
    report = json.loads((out / "report.json").read_text())
    assert set(KEYS) <= set(report)
    assert report["runtime"] == "c"
    assert report["kernels"] == "portable"
    assert report["tail_bytes"] == 0
    assert report["macs_ratio"] == 1.0
    assert report["arena_bytes"] < report["baseline"]["arena_bytes"]
    assert f"#define TINY_STATIC_BYTES {report['arena_bytes']}" in (out / "tiny.h").read_text()
    if compiled.unavailable_reason() is None:
        assert report["bit_exact"] is True
        assert report["verified"] is True
        assert "17 inputs" in report["verified_reason"]


def test_the_report_speaks_of_c(model: Path, tmp_path: Path) -> None:
    require("gcc")
    out = tmp_path / "out"
    assert plan(model, "--board", "nano33ble", "--out", str(out)) == 0
    report = json.loads((out / "report.json").read_text())
    assert 100 < report["stack_bytes"] < 1000
    where = "for cortex-m4" if shutil.which("arm-none-eabi-gcc") else "on this machine"
    assert where in report["stack_source"]
    for name in ("report.txt", "report.html"):
        text = (out / name).read_text()
        assert f"{report['stack_bytes']:,} B" in text
        for word in ("MicroMutableOpResolver", "tensor_arena", "scratch of one", "in TFLM"):
            assert word not in text, (name, word)
        assert not re.search(r"lower bound of the head|head, reused|tail, pers", text)


def test_the_dearest_path_counts_not_the_sum() -> None:
    def node(name: str, size: int) -> str:
        return f'node: {{ title: "{name}" label: "{name}\\na.c:1:1\\n{size} bytes (static)" }}'

    def edge(caller: str, called: str) -> str:
        return f'edge: {{ sourcename: "{caller}" targetname: "{called}" }}'

    one = "\n".join([node("m_run", 16), node("a.c:inner", 40), edge("m_run", "a.c:inner")])
    two = "\n".join(
        [edge("a.c:inner", "leaf"), node("leaf", 100), node("m_begin", 120), node("other", 999)]
    )
    assert deepest([one, two], prefix="m_") == 16 + 40 + 100
    assert deepest([two], prefix="m_") == 120
    assert deepest([], prefix="m_") == 0


@pytest.mark.parametrize("fed", [False, True])
def test_verify_runs_the_folder_again(
    model: Path, tmp_path: Path, fed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert plan(model, "--out", str(out), f"--input={'rows' if fed else 'whole'}") == 0
    assert cli.main(["verify", str(out)]) == 0
    assert "outputs equal byte for byte" in capsys.readouterr().out
    changed = out / "tiny_constants.c"
    changed.write_text(changed.read_text().replace("1", "2", 1))
    assert cli.main(["verify", str(out)]) == 3
    assert "tiny_constants.c is not what" in capsys.readouterr().err
    model.unlink()
    assert cli.main(["verify", str(out)]) == 2


def test_rows_take_less_than_the_image(model: Path) -> None:
    whole = deploy.plan(model, runtime="c", board="nano33ble").report
    fed = deploy.plan(model, runtime="c", input="rows", board="nano33ble").report
    assert fed.arena_bytes < whole.arena_bytes
    assert "fed row by row" in fed.verified_reason


def test_of_two_images_the_report_names_both(tmp_path: Path) -> None:
    """One is fed, the larger; the other stands whole."""
    require("gcc")
    make = Int8GraphMaker(0)
    large, small = make.input((1, 16, 16, 3)), make.input((1, 8, 8, 3))
    x = make.conv(large, channels=4, kernel=(3, 3), stride=(2, 2))
    x = make.binary("ADD", x, make.conv(small, channels=4, kernel=(3, 3)))
    graph = make.build(outputs=[make.fully_connected(make.mean(x), units=3)])
    path = tmp_path / "two.tflite"
    path.write_bytes(flatbuffer.write(graph))
    names = [graph.tensors[t].name for t in (large, small)]
    report = deploy.plan(path, runtime="c", input="rows", out=tmp_path / "out").report
    way = f"input {names[0]} fed row by row and {names[1]} filled in place before it"
    assert way in report.verified_reason
    assert report.arena_bytes < 16 * 16 * 3


def test_an_arena_that_is_too_small_is_exit_1_without_c(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert plan(model, "--arena", "1KB", "--out", str(out)) == 1
    assert {p.name for p in out.iterdir()} == {"report.txt", "report.json", "report.html"}


def test_a_board_without_enough_flash_is_exit_1(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = {"name": "small", "title": "Small", "core": "Cortex-M4F", "kernels": "cmsis-nn-dsp"}
    board |= {"runtime": "tflm-2026-08-arm32", "reserve": "0", "source": "a test"}
    memories = [{"name": "SRAM", "address": "0x20000000", "size": "64KB"}]
    content = {"boards": [{**board, "memories": memories, "flash": "2KB"}]}
    (tmp_path / "boards.json").write_text(json.dumps(content))
    out, options = tmp_path / "out", ["--board", "small", "--board-file"]
    assert plan(model, *options, str(tmp_path / "boards.json"), "--out", str(out)) == 1
    printed = capsys.readouterr().out
    assert "Does not fit" in printed
    assert "not the constants in flash" in printed
    taken = json.loads((out / "report.json").read_text())["flash_bytes"]
    assert f"the constants take {taken:,} bytes of flash, the board has 2,048" in printed
    assert {p.name for p in out.iterdir()} == {"report.txt", "report.json", "report.html"}


def test_without_a_compiler_nothing_is_verified(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    report = deploy.plan(model, runtime="c").report
    assert report.verified is False
    assert report.bit_exact is None
    assert "the compiler no-such-compiler (CC) is not here" in report.verified_reason


def test_an_output_that_differs_is_exit_3(model: Path, tmp_path: Path) -> None:
    """The same layers with other weights."""
    generated = generate(run_passes(residual()), model_name="tiny")
    make = Int8GraphMaker(3)
    x = make.input((1, 16, 16, 3))
    other = make.build(outputs=[make.fully_connected(make.mean(x), units=5)])
    with pytest.raises(VerificationError, match="differs from the model's on input 0"):
        evidence.collect(generated, run_source(flatbuffer.write(other), other))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strips"], "generated C has no --strips"),
        (["--minimise=head"], "generated C has no --minimise"),
        (["--kernels=cmsis-nn"], "the board host has other kernels than CMSIS-NN's"),
        (["--kernels=esp-nn-ansi"], "no kernels of the name esp-nn-ansi"),
        (["--input=column"], "whole"),
    ],
)
def test_options_that_do_not_go_together(
    model: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(model, *options) == 2
    assert message in capsys.readouterr().err


def test_rows_are_for_generated_c(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(model), "--input=rows"]) == 2
    assert "TFLM takes the image as a whole" in capsys.readouterr().err


def test_generated_c_has_no_version_of_tflm(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", str(model), "--runtime=c@2026-08"]) == 2
    said = capsys.readouterr().err
    assert "generated C has no version of TFLM" in said
    assert re.search(r"--runtime=c\b(?!@)", said)
    assert cli.main(["plan", str(model), "--runtime=cmsis"]) == 2
    assert "unknown runtime" in capsys.readouterr().err


def test_the_python_interface_refuses_the_same(model: Path) -> None:
    with pytest.raises(BadInputError, match="no setting minimise"):
        deploy.plan(model, runtime="c", minimise="head")
    with pytest.raises(BadInputError, match="unknown input"):
        deploy.plan(model, runtime="c", input="columns")


def test_an_operator_without_c_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 2))
    q = make.quantization(x)
    operands = [x, make.integers("axis", 1)]
    y = make.operator("CUMSUM", operands, make.shape(x), q, Options("CumsumOptions"))
    content = flatbuffer.write(make.build(outputs=[y]))
    with pytest.raises(UnsupportedModelError, match=r"CUMSUM #0 .* has no C semantics") as refusal:
        deploy.plan(content, runtime="c")
    assert refusal.value.remedy == "--runtime=tflm runs it"
    path = tmp_path / "sums.tflite"
    path.write_bytes(content)
    assert plan(path) == 2
    said = capsys.readouterr().err
    assert "CUMSUM #0" in said
    assert "--runtime=tflm runs it" in said
    assert cli.main(["plan", str(path), "--runtime=tflm"]) == 0


def test_tflm_is_a_name_of_a_runtime(model: Path) -> None:
    named = deploy.plan(model, runtime="tflm", board="nano33ble", strips=False).report
    usual = deploy.plan(model, board="nano33ble", strips=False).report
    assert named == usual


@pytest.mark.parametrize(
    ("name", "whole_bytes", "fed_bytes"),
    [
        ("vww_96_int8", 28_200, 14_700),
        ("pretrainedResnet_quant", 16_400, 15_300),
        ("kws_ref_model", 9_000, 9_000),
        ("ad01_int8", 800, None),
    ],
)
def test_the_memory_that_is_stated(name: str, whole_bytes: int, fed_bytes: int | None) -> None:
    graph = run_passes(flatbuffer.read_file(mlperf_tiny(name)))
    assert generate(graph, model_name=name).static_bytes <= whole_bytes
    if fed_bytes is None:
        with pytest.raises(UnsupportedModelError, match="needs it as a whole"):
            generate(graph, model_name=name, fed=True)
    else:
        assert generate(graph, model_name=name, fed=True).static_bytes <= fed_bytes


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
