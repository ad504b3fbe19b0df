"""Pages of reports are sound, whole and small, and draw every value where it stands."""

from __future__ import annotations

import dataclasses
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from planned import planned, striped_graph

from deploy.memory.plan import MemoryPlan
from deploy.outcome import Decision, Region
from deploy.report import html as html_page
from deploy.report import occupancy
from deploy.report.arena_svg import (
    HUES,
    ArenaPicture,
    arena_svg,
    family,
    merged,
    nice_step,
    size_label,
)
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
        if "aria-label" not in rect.attrib:
            continue
        lines = re.split(r", (?=[\d,]+ bytes at|operators? \d)", rect.attrib["aria-label"])
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


def test_every_picture_has_its_figures_in_a_table_beside_it() -> None:
    report = full_report()
    page = to_html(report)
    folded = re.findall(
        r"<details><summary>the same as a table</summary>(.*?)</details>", page, re.DOTALL
    )
    # The bars, the arena before and after, the frontier.
    assert len(folded) == 4
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", table) for table in folded]
    assert f"{report.arena_bytes:,}" in cells[0]
    assert report.baseline is not None
    assert f"{report.baseline.arena_bytes:,}" in cells[0]
    drawn = merged(occupancy.boxes(report.tensors, report.pieces))
    assert cells[2] == [
        str(cell)
        for b in drawn
        for cell in (b.name, b.high - b.low, b.low, b.high, b.start, b.stop - 1)
    ]
    assert cells[3].count("chosen") == 1
    assert len(cells[3]) == 5 * len(report.frontier)
    bars = page[page.index('class="mbars" role="table"') :]
    assert "128 → 192" in bars or "128 → 128" in bars


def test_a_keyboard_reaches_every_box_and_whatever_scrolls() -> None:
    page = to_html(full_report())
    for svg in svgs(page):
        assert svg.attrib["aria-label"]
        boxes = [r for r in svg.iter("rect") if "data-f" in r.attrib]
        if svg.attrib["class"] == "arena":
            # One stop of the tab key in a picture; arrows reach the others.
            assert [r.attrib["tabindex"] for r in boxes] == ["0"] + ["-1"] * (len(boxes) - 1)
            assert all(r.attrib["role"] == "img" and r.attrib["aria-label"] for r in boxes)
            assert svg.attrib["role"] == "group"
    for scrolling in ("scroll", "wide", "wide plotbox"):
        for attributes in re.findall(rf'<div class="{scrolling}"([^>]*)>', page):
            assert 'tabindex="0"' in attributes
    assert len(re.findall(r"<th[ >]", page)) == len(re.findall(r"<th scope=col", page))
    script = page[page.index("<script>") :]
    assert all(key in script for key in ("ArrowRight", "ArrowLeft", "Home", "End", "focusin"))
    assert 'lang="en"' in page
    assert 'name="viewport" content="width=device-width' in page


def test_reasons_stand_on_the_screen() -> None:
    page = to_html(full_report())
    words = re.sub(r"<(style|script)>.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    for decision in full_report().decisions:
        assert decision.reason in words
    for warning in full_report().warnings:
        assert warning in words
    assert (
        "title="
        not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
        .replace('class="seg', "")
        .split("<section", 2)[2]
    )


THEMES = ("light", "dark")


def colours(theme: str) -> dict[str, str]:
    """The variables of the style sheet in a theme."""
    css = (Path(html_page.__file__).parent / "templates" / "page.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): ([^;]+);", light))
    if theme == "dark":
        found |= dict(re.findall(r"--([\w-]+): ([^;]+);", dark))
    return found


def rgb(text: str) -> tuple[float, float, float]:
    digits = text.lstrip("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    red, green, blue = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return red, green, blue


def luminance(colour: tuple[float, float, float]) -> float:
    """WCAG 2.2: relative luminance of an sRGB colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def blend(
    top: tuple[float, float, float], below: tuple[float, float, float], share: float
) -> tuple[float, float, float]:
    red, green, blue = (share * t + (1 - share) * b for t, b in zip(top, below, strict=True))
    return red, green, blue


def test_contrast_is_what_wcag_says() -> None:
    assert contrast(rgb("#000"), rgb("#fff")) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#fff")) == pytest.approx(4.48, abs=0.01)


BEHIND = {
    "ink": ("card", "page", "plain-bg"),
    "soft": ("card", "page", "plain-bg", "grid"),
    "accent": ("card",),
    "good": ("card", "good-bg"),
    "bad": ("card", "bad-bg"),
    "warn": ("card", "warn-bg"),
}
"""Colour of text -> what it stands on."""


@pytest.mark.parametrize("theme", THEMES)
def test_all_text_has_contrast(theme: str) -> None:
    found = colours(theme)
    css = (Path(html_page.__file__).parent / "templates" / "page.css").read_text()
    used = set(re.findall(r"[^-]color: var\(--([\w-]+)\)", css))
    used |= set(re.findall(r"svg [^{]*\{[^}]*fill: var\(--([\w-]+)\)", css))
    assert used == set(BEHIND)
    for text, grounds in BEHIND.items():
        for ground in grounds:
            value = contrast(rgb(found[text]), rgb(found[ground]))
            assert value >= 4.5, f"{theme}: {text} on {ground} {value:.2f}"


@pytest.mark.parametrize("theme", THEMES)
def test_names_in_boxes_have_contrast(theme: str) -> None:
    found = colours(theme)
    card, ink = rgb(found["card"]), rgb(found["ink"])
    peak = blend(rgb(found["bad"]), card, 0.13)
    for hue in range(HUES):
        for ground in (card, peak):
            for share in ("fill", "lit"):
                box = blend(rgb(found[f"c{hue}"]), ground, float(found[share]))
                value = contrast(ink, box)
                assert value >= 4.5, (
                    f"{theme}: a name in a box of colour {hue}, {share}, {value:.2f}"
                )
    # The texts of the picture stand on the card, the band of the peak or a box.
    assert contrast(rgb(found["bad"]), card) >= 4.5
    assert contrast(rgb(found["soft"]), peak) >= 4.5


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
