"""Reports survive JSON and say whether it fits first."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy.report import occupancy
from deploy.report.html import to_html
from deploy.report.occupancy import Box
from deploy.report.report import (
    Report,
)
from deploy.report.text import frontier_text, to_text
from keras_fmc.errors import BadInputError
from tests.report_samples import CODE, CONTRACT, full_report


def test_json_keeps_everything() -> None:
    report = full_report()
    assert Report.from_json(report.to_json()) == report
    bare = full_report(baseline=None, board=None, bit_exact=None, limit_bytes=None, tensors=())
    assert Report.from_json(bare.to_json()) == bare


def test_json_has_the_keys_of_the_contract() -> None:
    value = json.loads(full_report().to_json())
    assert set(value) >= CONTRACT
    same_figures = {"arena_bytes", "head_bytes", "tail_bytes", "scratch_bytes", "macs"}
    assert set(value["baseline"]) >= same_figures | {"verified_arena_bytes", "flash_bytes"}
    wanted = {"name", "offset", "size", "first", "last", "alias_of"}
    assert set(value["tensors"][2]) >= wanted
    assert value["tensors"][2]["alias_of"] == "conv/Relu"
    assert (value["tensors"][1]["offset"], value["tensors"][1]["size"]) == (64, 128)


def test_json_is_the_same_on_every_run(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "from report_samples import full_report\n"
        "print(full_report().to_json(), end='')"
    )
    here = Path(__file__).resolve().parent
    texts = {
        subprocess.run(
            [sys.executable, "-c", program, str(here), str(here.parent)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("0", "1")
    }
    assert texts == {full_report().to_json()}


def test_reports_from_before_codes_are_read() -> None:
    value = json.loads(full_report().to_json())
    assert value.pop("codes") == [dataclasses.asdict(CODE)]
    assert Report.from_json(json.dumps(value)) == full_report(codes=())


def test_text_and_page_charge_codes() -> None:
    figures = ("9,600", "4,800", "76,801", "28,802", "153,604", "512", "17", "2,205")
    (line,) = [row for row in to_text(full_report()).splitlines() if "block/code" in row]
    assert line.split() == [
        "block/code", "4", "6", "9,600", "4,800", "76,801", "28,802", "3", "153,604", "512",
        "17", "2,205",
    ]  # fmt: skip
    page = to_html(full_report())
    assert "Stored as codes" in page
    row = page[page.index("<td>block/code</td>") :].split("</tr>")[0]
    assert all(f">{figure}<" in row for figure in figures)
    merged = full_report(codes=(dataclasses.replace(CODE, merged=True, r_macs=0),))
    assert "  in table  " in to_text(merged)
    assert ">in table<" in to_html(merged)
    bare = full_report(codes=())
    assert "stored as codes" not in to_text(bare)
    assert "Stored as codes" not in to_html(bare)


def test_unknown_keys_are_passed_over() -> None:
    value = json.loads(full_report().to_json())
    value["of_a_later_version"] = {"x": 1}
    assert Report.from_json(json.dumps(value)) == full_report()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("arena_bytes"), "r.json has no arena_bytes"),
        (lambda v: v.update(arena_bytes="12"), r'r.json.arena_bytes has the wrong type.*"12"'),
        (lambda v: v.update(arena_bytes=True), r"arena_bytes has the wrong type; expected int"),
        (lambda v: v.update(fits=1), r"fits has the wrong type; expected bool; received 1"),
        (lambda v: v["tensors"][1].update(size=None), r"tensors\[1\].size has the wrong type"),
        (lambda v: v.update(tensors={}), r"tensors has the wrong type; expected a list"),
        (lambda v: v.update(baseline=3), r"baseline has the wrong type; expected an object"),
        (lambda v: v.update(format=2), r'another format; expected "format": 1; received 2'),
    ],
)
def test_damaged_reports_are_refused(change: object, message: str) -> None:
    value = json.loads(full_report().to_json())
    change(value)  # type: ignore[operator]
    with pytest.raises(BadInputError, match=message) as caught:
        Report.from_json(json.dumps(value), source="r.json")
    assert "report.json of a run" in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[]", "is not a report")])
def test_what_is_no_report_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        Report.from_json(text)


def test_text_begins_with_whether_it_fits_and_the_number() -> None:
    lines = to_text(full_report()).splitlines()
    assert lines[0] == "dir/model.tflite: Fits. 1,000 B of 1,024 B (--arena), 24 B left."
    assert "  uint8_t tensor_arena[1000];   // aligned to 16 bytes" in lines
    bound = "the lower bound for this operator order and these cuts"
    assert f"  the head is at most 16 B above 176 B, {bound}" in lines
    over = to_text(full_report(fits=False, limit_bytes=900)).splitlines()
    assert over[0].endswith("Does not fit. 1,000 B, 100 B over the 900 B (--arena).")
    free = to_text(full_report(limit_bytes=None)).splitlines()
    assert free[0].endswith("No limit was given. It needs an arena of 1,000 B.")


def test_text_names_the_peak_and_everything_else() -> None:
    text = to_text(full_report())
    assert re.search(
        r"Peak at operator 1, RELU; alive there:\n +128 B  conv/Relu\n +128 B  out", text
    )
    for part in (
        r"warning: the prediction may be off",
        r"arena +1,000 B +1,128 B",
        r"head, reused +192 B +320 B",
        r"tail, persistent +800 B +800 B",
        r"smallest that ran +1,200 B +1,328 B",
        r"relative to the model +1\.062x +1\.000x",
        r"conv #0 to relu #1: 2 operators in 4 strips of 2 rows, halo kept, 1\.062x MACs",
        r"SRAM +0x20000000 +262,144 +65,536 +196,608 +<- arena",
        r"SOFTMAX #3: one row",
        r"64 +128 +1\.\.1 +out +1x4x4x8 +conv/Relu",
    ):
        assert re.search(part, text), part
    assert not re.search(r"[ \t]$", text, re.MULTILINE)


@pytest.mark.parametrize(("zero", "text"), [(-128, "+ 128"), (0, "- 0"), (7, "- 7")])
def test_text_and_page_tell_a_firmware_what_to_feed_and_to_register(zero: int, text: str) -> None:
    port = dataclasses.replace(full_report().inputs[0], zero_point=zero)
    report = full_report(inputs=(port,))
    lines = to_text(report).splitlines()
    start = lines.index("For the firmware:")
    scale = "0.00392156886"
    assert lines[start + 1 : start + 4] == [
        f"  input 0: int8 1x4x4x4, real = {scale} * (code {text})  input",
        "  output 0: int32 1x4x4x8  out",
        "  MicroMutableOpResolver<2>: CONV_2D, RELU",
    ]
    page = to_html(report)
    assert "<code>MicroMutableOpResolver&lt;2&gt;</code>: CONV_2D, RELU" in page
    places = [page.index(f"<h2>{title}") for title in ("The arena", "Inputs", "Board", "Memory")]
    assert places == sorted(places)


def test_external_memory_is_named_as_such() -> None:
    (memory, _) = full_report().memories
    report = full_report(memories=(memory, dataclasses.replace(memory, name="R", external=True)))
    assert re.search(r"^  R, external +0x", to_text(report), re.MULTILINE)
    assert "<td>R, external</td>" in to_html(report)
    assert "external" not in to_text(full_report())


def test_frontier_marks_the_chosen_plan() -> None:
    assert frontier_text(full_report()).splitlines() == [
        "  arena  head    MACs  operators",
        "  1,000   192  1.062x          9  chosen",
        "  1,128   320  1.000x          2",
    ]
    assert "nothing to choose" in frontier_text(full_report(frontier=()))


def test_live_bytes_count_shared_bytes_once() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        boxes, grid = [], np.zeros((12, 200), bool)
        for number in range(rng.integers(1, 12)):
            low, start = rng.integers(0, 150), rng.integers(0, 11)
            high, stop = low + rng.integers(1, 50), start + rng.integers(1, 12 - start)
            boxes.append(Box(f"b{number}", int(low), int(high), int(start), int(stop)))
            grid[start:stop, low:high] = True
        live = occupancy.live_bytes(boxes, 12)
        assert live == tuple(grid.sum(axis=1).tolist())
        peak = occupancy.peak(boxes, 12)
        assert (peak.operator, peak.live_bytes) == (int(grid.sum(axis=1).argmax()), max(live))
        there = {b.name for b in boxes if b.start <= peak.operator < b.stop}
        assert set(peak.tensors) == there


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
