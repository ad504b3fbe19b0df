"""Reports survive JSON, say the verdict first, and their pages are sound, whole and small."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from planned import planned, striped_graph

from deploy.memory.plan import MemoryPlan
from deploy.report import occupancy
from deploy.report.arena_svg import ArenaPicture, arena_svg, family, merged, nice_step, size_label
from deploy.report.charts import map_bars
from deploy.report.html import to_html
from deploy.report.occupancy import Box
from deploy.report.report import (
    Baseline,
    Decision,
    FeatureMapEntry,
    FrontierPoint,
    Memory,
    Port,
    Region,
    Report,
    ReportOperator,
    ReportPiece,
    ReportTensor,
    StoredCode,
    report_pieces,
    report_tensors,
)
from deploy.report.text import frontier_text, to_text
from keras_fmc.errors import BadInputError

CONTRACT = {
    "model",
    "board",
    "runtime",
    "kernels",
    "arena_bytes",
    "head_bytes",
    "tail_bytes",
    "scratch_bytes",
    "lower_bound_bytes",
    "proven_optimal",
    "fits",
    "macs",
    "macs_ratio",
    "flash_bytes",
    "bit_exact",
    "verified_arena_bytes",
    "predicted_arena_bytes_wheel",
    "baseline",
    "tensors",
    "regions",
}


CODE = StoredCode(
    name="block/code",
    packed="block/code_packed",
    bits=4,
    channels=6,
    unpacked_bytes=9600,
    packed_bytes=4800,
    stored_bytes=4800,
    p_macs=76801,
    pack_macs=28802,
    unpack_macs=3,
    r_macs=153604,
    merged=False,
    table_bytes=512,
    operators=17,
    tail_bytes=2205,
)


def full_report(**changes: object) -> Report:
    tensors = (
        ReportTensor("input", 0, 64, 0, 0, shape=(1, 4, 4, 4)),
        ReportTensor("conv/Relu", 64, 128, 0, 1, shape=(1, 4, 4, 8)),
        ReportTensor("out", 64, 128, 1, 1, "conv/Relu", "in place: may", (1, 4, 4, 8)),
    )
    report = Report(
        model="dir/model.tflite",
        board="nano33ble",
        core="Cortex-M4F",
        runtime="tflm-2026-08",
        kernels="cmsis-nn",
        arena_bytes=1000,
        head_bytes=192,
        tail_bytes=800,
        scratch_bytes=16,
        lower_bound_bytes=176,
        proven_optimal=False,
        fits=True,
        macs=4608,
        macs_ratio=1.0625,
        flash_bytes=3000,
        limit_bytes=1024,
        limit_source="--arena",
        engine="first fit",
        bit_exact=True,
        verified=True,
        verified_reason="ran in an arena of 1,200 bytes",
        verified_arena_bytes=1200,
        predicted_arena_bytes_wheel=1200,
        peak_operator=1,
        peak_tensors=("conv/Relu", "out"),
        baseline=Baseline(1128, 320, 800, 16, 4336, 2900, 1328, 1328, False, 2, tensors[:2]),
        inputs=(Port("input", (1, 4, 4, 4), "int8", 0.003921568859368563, -128),),
        outputs=(Port("out", (1, 4, 4, 8), "int32"),),
        memories=(Memory("SRAM", 262144, 0x20000000, 65536, True), Memory("RAM2", 4096)),
        regions=(Region(("conv #0", "relu #1"), 4, 2, "kept", 1.0625),),
        codes=(CODE,),
        frontier=(FrontierPoint(1000, 192, 1.0625, 9, True), FrontierPoint(1128, 320, 1.0, 2)),
        decisions=(Decision("SOFTMAX #3", "one row"),),
        warnings=("the prediction may be off",),
        feature_maps_before=(FeatureMapEntry("conv/Relu", (1, 4, 4, 8), 128, 0, 1),),
        feature_maps_after=(FeatureMapEntry("conv/Relu", (1, 4, 4, 8), 128, 0, 1),),
        operators=(
            ReportOperator(0, "CONV_2D", "conv/Relu", 4608),
            ReportOperator(1, "RELU", "out"),
        ),
        tensors=tensors,
        pieces=(
            ReportPiece("input", "input", 0, 64, 0, 1),
            ReportPiece("conv/Relu", "conv/Relu", 64, 128, 0, 1),
            ReportPiece("conv/Relu", "out", 64, 128, 1, 2),
        ),
    )
    return dataclasses.replace(report, **changes)


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
        "from report_test import full_report\n"
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
    assert "in the table" in to_html(merged)
    bare = full_report(codes=())
    assert "stored as codes" not in to_text(bare)
    assert "Stored as codes" not in to_html(bare)


def test_bars_count_the_bytes_that_a_map_is_packed_in() -> None:
    report = full_report(
        codes=(dataclasses.replace(CODE, name="conv/Relu", packed="conv/Relu_packed"),),
        tensors=(ReportTensor("conv/Relu_packed", 0, 64, 0, 1),),
        pieces=(),
    )
    (bar,) = map_bars(report)
    assert (bar.before_bytes, bar.after_bytes) == (128, 64)


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


def test_text_begins_with_the_verdict_and_the_number() -> None:
    lines = to_text(full_report()).splitlines()
    assert lines[0] == "dir/model.tflite: Fits. 1,000 B of 1,024 B (--arena), 24 B left."
    assert "  uint8_t tensor_arena[1000];   // aligned to 16 bytes" in lines
    assert "  at most 16 B above the lower bound of 176 B" in lines
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


class _Checker(HTMLParser):
    """Every tag is closed in its place; collects what could reach the network."""

    _VOID = {"meta", "br", "img", "link", "input", "hr"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "data", "action")]
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert checker.links == []
    assert not re.search(r"https?:|//cdn|@import|url\(", page)
    return checker


def svgs(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_page_is_whole_and_self_contained() -> None:
    page = to_html(full_report())
    checker = check_page(page)
    assert checker.tags.count("main") == 1
    assert len(svgs(page)) == 3  # the arena before and after, the frontier
    for text in (
        "Fits",
        "tensor_arena[1000]",
        "TFLM&#x27;s own plan",
        "Run strip by strip",
        "SOFTMAX",
    ):
        assert text in page
    assert "prefers-color-scheme: dark" in page
    assert to_html(full_report()) == page


def test_page_of_the_least_report() -> None:
    bare = full_report(
        board=None,
        core=None,
        limit_bytes=None,
        baseline=None,
        memories=(),
        regions=(),
        frontier=(),
        decisions=(),
        warnings=(),
        feature_maps_before=(),
        feature_maps_after=(),
        operators=(),
        tensors=(),
        pieces=(),
        peak_tensors=(),
        verified=False,
    )
    page = to_html(bare)
    check_page(page)
    assert "not run in TFLM" in page
    assert "None" not in page


def test_names_cannot_break_the_page() -> None:
    evil = '</title><script>alert(1)</script>"&$x'
    tensors = (ReportTensor(evil, 0, 512, 0, 1, evil, evil),)
    report = full_report(
        model=evil,
        board=evil,
        tensors=tensors,
        pieces=(ReportPiece(evil, evil, 0, 512, 0, 2),),
        peak_tensors=(evil,),
        decisions=(Decision(evil, evil),),
        warnings=(evil,),
        regions=(Region((evil,), 1, 1, evil),),
        feature_maps_before=(FeatureMapEntry(evil, (1,), 512, 0, 1),),
        verified_reason=evil,
        limit_source=evil,
    )
    page = to_html(report)
    check_page(page)
    assert "<script>alert" not in page
    assert len(svgs(page)) == 3


def picture_of(plan: MemoryPlan, operators: int) -> ArenaPicture:
    boxes = occupancy.boxes(report_tensors(plan), report_pieces(plan.pieces))
    return ArenaPicture(
        boxes=boxes,
        operators=tuple(ReportOperator(i, "CONV_2D", "x") for i in range(operators)),
        head_bytes=plan.head_bytes,
        scale_bytes=plan.head_bytes * 2,
        lower_bound_bytes=plan.head_bytes - 32,
        peak=occupancy.peak(boxes, operators).operator,
        caption="a plan",
        hues={},
    )


def test_every_value_is_drawn_where_it_stands() -> None:
    graph = striped_graph()
    plan, steps = planned(graph), len(graph.operators)
    root = ElementTree.fromstring(arena_svg(picture_of(plan, steps)))
    drawn = set()
    for rect in root.iter("rect"):
        title = rect.find("title")
        if title is None:
            continue
        lines = (title.text or "").split("\n")
        low, high = (
            int(n.replace(",", "")) for n in re.findall(r"at ([\d,]+) to ([\d,]+)", lines[1])[0]
        )
        first, *last = (int(n) for n in re.findall(r"\d+", lines[2]))
        drawn.add((lines[0], low, high, first, (last or [first])[0] + 1))
        x, y, w, h = (float(rect.attrib[k]) for k in ("x", "y", "width", "height"))
        step_width = (1000 - 66 - 14) / steps
        assert x == pytest.approx(66 + first * step_width, abs=0.06)
        assert x + w == pytest.approx(66 + ((last or [first])[0] + 1) * step_width, abs=0.2)
        assert h == pytest.approx((high - low) * 330 / (plan.head_bytes * 2), abs=0.2)
        assert y + h == pytest.approx(352 - low * 330 / (plan.head_bytes * 2), abs=0.2)
    assert drawn == {
        (p.tensor, p.offset, p.offset + p.size_bytes, p.start, p.stop) for p in plan.pieces
    }


def test_pieces_of_one_map_that_live_equally_long_are_joined() -> None:
    boxes = [
        Box("c[0:2]", 0, 8, 0, 4),
        Box("c[2:4]", 8, 16, 0, 4),
        Box("c[4:6]", 16, 24, 1, 4),
        Box("d", 24, 32, 1, 4),
        Box("d", 40, 48, 1, 4),
    ]
    assert merged(boxes) == [
        Box("c", 0, 16, 0, 4),
        Box("c[4:6]", 16, 24, 1, 4),
        Box("d", 24, 32, 1, 4),
        Box("d", 40, 48, 1, 4),
    ]


@pytest.mark.parametrize(
    ("name", "map_name"),
    [("conv/Relu;bn[3]", "conv/Relu"), ("conv[0:8]/padded#2", "conv"), ("x[3]", "x[3]")],
)
def test_family_of_a_strip(name: str, map_name: str) -> None:
    assert family(name) == map_name


def test_bars_show_the_most_that_is_stored_at_once() -> None:
    report = full_report(
        feature_maps_before=(
            FeatureMapEntry("c", (1, 6, 1, 8), 48, 0, 3),
            FeatureMapEntry("gone", (1, 6, 1, 8), 48, 0, 3),
        ),
        operators=tuple(ReportOperator(i, "CONV_2D", "x") for i in range(5)),
        # Three strips of 16 bytes, of which two live at the same time.
        pieces=tuple(ReportPiece("b", f"c[{i}:{i + 2}]", 16 * i, 16, i, i + 2) for i in range(3)),
    )
    assert [(b.name, b.before_bytes, b.after_bytes) for b in map_bars(report)] == [
        ("c", 48, 32),
        ("gone", 48, 0),
    ]


def test_four_hundred_tensors_stay_below_a_megabyte() -> None:
    steps, maps = 300, 400
    rng = np.random.default_rng(11)
    tensors, pieces = [], []
    for i in range(maps):
        name = f"model/block_{i // 10}/expanded_convolution_{i}/Relu6[{i}:{i + 8}]"
        first = int(rng.integers(0, steps - 1))
        last = min(steps - 1, first + int(rng.integers(1, 30)))
        offset = int(rng.integers(0, 200_000))
        tensors.append(ReportTensor(name, offset, 4608, first, last, shape=(1, 8, 48, 12)))
        pieces += [
            ReportPiece(name, name, offset + 512 * k, 512, first, last + 1 - k % 3)
            for k in range(9)
            if last + 1 - k % 3 > first
        ]
    report = full_report(
        head_bytes=210_000,
        tensors=tuple(tensors),
        pieces=tuple(pieces),
        operators=tuple(
            ReportOperator(i, "DEPTHWISE_CONV_2D", "x" * 40, 10**6) for i in range(steps)
        ),
        feature_maps_before=tuple(
            FeatureMapEntry(t.name, t.shape, t.size_bytes, t.first, t.last) for t in tensors
        ),
        baseline=Baseline(1, 205_000, 1, 1, 1, 1, operators=steps, tensors=tuple(tensors)),
    )
    page = to_html(report)
    check_page(page)
    assert len(page.encode()) < 1_000_000
    assert len(svgs(page)) == 3


def test_axes_have_round_steps() -> None:
    assert [nice_step(n, 6) for n in (5, 30, 100, 2_000, 65_536, 1_000_000)] == [
        1,
        5,
        20,
        500,
        16_384,
        262_144,
    ]
    assert [size_label(n) for n in (0, 512, 16_384, 3 << 20)] == ["0", "512", "16K", "3M"]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
