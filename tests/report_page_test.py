"""Pages of reports are sound, whole and small, and draw every value where it stands."""

from __future__ import annotations

import dataclasses
import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from planned import planned, striped_graph

from deploy.memory.plan import MemoryPlan
from deploy.outcome import Decision, Region
from deploy.report import occupancy
from deploy.report.arena_svg import ArenaPicture, arena_svg, family, merged, nice_step, size_label
from deploy.report.charts import map_bars
from deploy.report.html import to_html
from deploy.report.occupancy import Box
from deploy.report.report import (
    Baseline,
    FeatureMapEntry,
    ReportOperator,
    ReportPiece,
    ReportTensor,
    report_pieces,
    report_tensors,
)
from tests.report_samples import CODE, check_page, full_report


def test_bars_count_the_bytes_that_a_map_is_packed_in() -> None:
    report = full_report(
        codes=(dataclasses.replace(CODE, name="conv/Relu", packed="conv/Relu_packed"),),
        tensors=(ReportTensor("conv/Relu_packed", 0, 64, 0, 1),),
        pieces=(),
    )
    (bar,) = map_bars(report)
    assert (bar.before_bytes, bar.after_bytes) == (128, 64)


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
