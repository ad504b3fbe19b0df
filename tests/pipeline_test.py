"""What the pipeline does when one of its own parts is wrong: nothing that looks good is left."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from code_graphs import code_map, skip_graph
from int8_graphs import Int8GraphMaker
from support import MLPERF_TINY, mlperf_tiny

import deploy.backends.tflm.overlap
import deploy.backends.tflm.place
import deploy.backends.tflm.settle
import deploy.ways
from deploy import cli, flatbuffer, pipeline
from deploy.backends.tflm.embed import embedded_offsets
from deploy.backends.tflm.given import given_plan
from deploy.codes.layout import CodeLayout
from deploy.graph import Graph, Options
from deploy.memory.plan import MemoryPlan
from deploy.memory.planner import plan as real_plan
from deploy.memory.problem import Placement, Problem
from deploy.runtime import tflm
from deploy.targets import Kernels
from keras_fmc.errors import VerificationError


def wrong_plan(problem: Problem, **options: object) -> Placement:
    """Puts every block at the start of the arena."""
    right = real_plan(problem, **options)  # type: ignore[arg-type]
    return dataclasses.replace(right, offsets=(0,) * len(right.offsets))


def wrong_given_plan(graph: Graph, library: Kernels, **options: object) -> MemoryPlan:
    """What the runtime would do, but for all tensors in one place."""
    right = given_plan(graph, library, offsets=None)
    offsets = tuple(0 if offset >= 0 else offset for offset in right.offsets)
    tensors = tuple(dataclasses.replace(t, offset=0) for t in right.tensors)
    wrong = dataclasses.replace(right, offsets=offsets, tensors=tensors)
    return deploy.backends.tflm.settle.settled(graph, wrong, library, overlaps={})


def test_a_wrong_plan_is_stopped_by_the_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(mlperf_tiny("pretrainedResnet_quant"))
    assert cli.main(["plan", model, "--strips=false", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "model.tflite").exists()
    monkeypatch.setattr(deploy.backends.tflm.place, "plan", wrong_plan)
    # What TFLM does by itself is right all the same.
    assert cli.main(["plan", model, "--strips=false", f"--out={tmp_path}"]) == 0
    text = (tmp_path / "report.txt").read_text()
    assert "please report this defect" in text
    assert "overwrites its input" in text
    monkeypatch.setattr(deploy.ways, "given_plan", wrong_given_plan)
    capsys.readouterr()
    assert cli.main(["plan", model, "--strips=false", f"--out={tmp_path}"]) == 3
    assert "overwrites its input" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_plan_that_the_replay_misses_is_stopped_by_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tflm.unavailable_reason():
        pytest.skip(str(tflm.unavailable_reason()))
    monkeypatch.setattr(deploy.backends.tflm.place, "plan", wrong_plan)
    monkeypatch.setattr(deploy.ways, "given_plan", wrong_given_plan)
    monkeypatch.setattr(deploy.backends.tflm.settle, "verify_plan", lambda *a, **k: None)
    monkeypatch.setattr(deploy.ways, "check_plan", lambda *a: None)
    with pytest.raises(VerificationError, match="differs from the source model's on input"):
        pipeline.plan(mlperf_tiny("pretrainedResnet_quant"), strips=False, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_the_wheel_nothing_pretends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflm, "unavailable_reason", lambda: "no wheel for this platform")
    model = mlperf_tiny("kws_ref_model")
    pipeline.plan(model, strips=False, board="nano33ble", out=tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verified"] is False
    assert "no wheel for this platform" in report["verified_reason"]
    assert report["verified_arena_bytes"] is None
    assert report["predicted_arena_bytes_wheel"] > report["head_bytes"]


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_the_embedded_plan_is_the_reported_one(name: str, tmp_path: Path) -> None:
    result = pipeline.plan(mlperf_tiny(name), strips=False, board="nano33ble", out=tmp_path)
    graph = flatbuffer.read_file(tmp_path / "model.tflite")
    offsets = embedded_offsets(graph)
    assert offsets is not None
    reported = {t.name: t.offset for t in result.report.tensors}
    inside = {graph.tensors[i].name: offset for i, offset in enumerate(offsets) if offset >= 0}
    assert inside == reported
    top = max(t.offset + -(-t.size_bytes // 16) * 16 for t in result.report.tensors)
    assert top <= result.report.head_bytes


def test_commands_take_models_with_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = skip_graph(bits=2)
    source, out = tmp_path / "coded.tflite", tmp_path / "out"
    source.write_bytes(flatbuffer.write(graph))
    options = ["--strips=false", "--board=nano33ble"]
    assert cli.main(["plan", str(source), f"--out={out}", *options]) == 0
    value = json.loads((out / "report.json").read_text())
    (code,) = value["codes"]
    assert (code["bits"], code["packed_bytes"]) == (2, 16 * 16 * 32 * 2 // 8)
    assert code["packed"] in (out / "arena_plan.c").read_text()
    assert "stored as codes" in (out / "report.txt").read_text()
    assert "Stored as codes" in (out / "report.html").read_text()
    capsys.readouterr()
    assert cli.main(["verify", str(out)]) == 0
    assert f"compared with {source}" in capsys.readouterr().out
    # A report from before there were codes can be compared all the same.
    old = tmp_path / "old.json"
    del value["codes"]
    old.write_text(json.dumps(value))
    assert cli.main(["diff", str(old), str(out / "report.json")]) == 0
    assert "stored as codes" in capsys.readouterr().out


def test_codes_that_are_packed_wrongly_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layout whose table has one wrong level: outputs differ, so the codes stay int8."""
    if tflm.unavailable_reason():
        pytest.skip(str(tflm.unavailable_reason()))
    right = CodeLayout.table

    def wrong(layout: CodeLayout) -> np.ndarray:
        table = right(layout).copy()
        table[table == 2] = 1
        return table

    monkeypatch.setattr(CodeLayout, "table", wrong)
    content = flatbuffer.write(skip_graph(bits=2))
    report = pipeline.plan(content, strips=False, out=tmp_path).report
    left_out = {d.subject: d.reason for d in report.decisions}
    assert "differs from the source model's on input" in left_out["codes packed into bytes"]
    assert not report.codes
    assert report.verified


def test_without_the_wheel_codes_are_compared_in_litert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The converter's version of DEPTH_TO_SPACE is one that LiteRT's reference does not have."""
    monkeypatch.setattr(tflm, "unavailable_reason", lambda: "no wheel for this platform")
    make = Int8GraphMaker(1)
    code = code_map(make, make.input((1, 8, 8, 4)), channels=16, bits=4)
    options = Options("DepthToSpaceOptions", (("block_size", 2),))
    spread = make.operator(
        "DEPTH_TO_SPACE", [code], (1, 16, 16, 4), make.quantization(code), options, version=2
    )
    graph = make.build(outputs=[make.conv(spread, channels=4, kernel=(3, 3))])
    report = pipeline.plan(flatbuffer.write(graph), strips=False, minimise="head").report
    assert report.bit_exact
    assert not report.verified


HEADS = {
    # Lower bounds of the live sets and TFLM's own heads: shared facts, measured.
    "ad01_int8": (768, 768),
    "kws_ref_model": (16_000, 16_000),
    "pretrainedResnet_quant": (49_152, 49_152),
    "vww_96_int8": (55_296, 73_728),
}


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_heads_without_strips_reach_their_bounds(name: str) -> None:
    report = pipeline.plan(mlperf_tiny(name), strips=False).report
    head, default = HEADS[name]
    assert report.head_bytes == report.lower_bound_bytes == head
    assert report.proven_optimal
    assert report.baseline is not None
    assert report.baseline.head_bytes == default
    if tflm.unavailable_reason() is None:
        assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel
        assert report.baseline.verified_arena_bytes == report.baseline.predicted_arena_bytes_wheel


@pytest.mark.parametrize(
    ("name", "head", "dsp_head"),
    [("pretrainedResnet_quant", 33_312, 33_888), ("kws_ref_model", 9_792, 16_000)],
)
def test_overlap_makes_the_head_smaller_where_the_kernels_allow_it(
    name: str, head: int, dsp_head: int
) -> None:
    model = mlperf_tiny(name)
    apart = pipeline.plan(model, strips=False).report
    overlapping = pipeline.plan(model, strips=False, overlap=True).report
    assert overlapping.head_bytes == head < apart.head_bytes
    assert overlapping.bit_exact
    assert overlapping.macs == apart.macs
    assert "diagonal overlap" in {(t.alias_reason or "").split(":")[0] for t in overlapping.tensors}
    # CMSIS-NN: 576 bytes of scratch beside the same plan; no rule for depthwise convolutions.
    dsp = pipeline.plan(model, strips=False, overlap=True, board="nano33ble").report
    assert dsp.head_bytes == dsp_head
    assert dsp.bit_exact


@pytest.mark.parametrize(("overlap", "wanted"), [(None, True), (False, False)])
def test_strips_grow_into_their_inputs_unless_told_not_to(
    overlap: bool | None, wanted: bool, tmp_path: Path
) -> None:
    make = Int8GraphMaker(11)
    x = make.conv(make.input((1, 32, 32, 3)), channels=16, kernel=(3, 3))
    x = make.conv(make.conv(x, channels=16, kernel=(3, 3)), channels=16, kernel=(3, 3))
    model = tmp_path / "chain.tflite"
    model.write_bytes(flatbuffer.write(make.build(outputs=[make.mean(x)])))
    report = pipeline.plan(model, overlap=overlap, board="nano33ble").report
    assert report.bit_exact
    reasons = {(t.alias_reason or "").split(":")[0] for t in report.tensors}
    assert ("diagonal overlap" in reasons) is wanted
    # A board's kernels are known; the wheel's are not those of a device.
    assert report.warnings == ()
    host = pipeline.plan(model, overlap=overlap).report
    said = [w for w in host.warnings if "as far as the reference kernels allow" in w]
    assert len(said) == len(host.warnings) == wanted
    assert all("plan with --board for a device, or with --overlap=false" in w for w in said)


def test_an_overlap_that_is_too_tight_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    real = deploy.backends.tflm.overlap.overlap_distance

    def tight(*arguments: object) -> int | None:
        distance = real(*arguments)  # type: ignore[arg-type]
        return None if distance is None else distance - 32

    monkeypatch.setattr(deploy.backends.tflm.overlap, "overlap_distance", tight)
    if tflm.unavailable_reason():
        pytest.skip(str(tflm.unavailable_reason()))
    report = pipeline.plan(mlperf_tiny("kws_ref_model"), strips=False, overlap=True).report
    left_out = {d.subject: d.reason for d in report.decisions}
    subject = "outputs that grow into their inputs"
    assert "differs from the source model's on input" in left_out[subject]
    assert not any((t.alias_reason or "").startswith("diagonal") for t in report.tensors)
    assert report.verified


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
