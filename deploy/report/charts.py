"""Bars and plots of the HTML report, besides the picture of the arena."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.outcome import FrontierPoint
from deploy.report.arena_svg import family, nice_step, size_label
from deploy.report.occupancy import Box, boxes, live_bytes
from deploy.report.report import Report

_MAP_TABLE = 'role="table" aria-label="bytes of maps, before and after"'


@dataclass(frozen=True, slots=True)
class ArenaBar:
    """One bar: what an arena is made of. ``rest_bytes`` is what allocation itself needs."""

    title: str
    head_bytes: int
    tail_bytes: int
    rest_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.head_bytes + self.tail_bytes + self.rest_bytes


@dataclass(frozen=True, slots=True)
class MapBar:
    """A feature map before, and how many bytes of it are ever stored at once after."""

    name: str
    before_bytes: int
    after_bytes: int


def arena_bars(bars: Sequence[ArenaBar], limit_bytes: int | None) -> str:
    """Returns bars on one scale, with the limit as a line through all of them."""
    scale = max([bar.total_bytes for bar in bars] + ([limit_bytes] if limit_bytes else []))
    # A board with far more memory than is used would leave nothing to see.
    longest = max(bar.total_bytes for bar in bars)
    cut = limit_bytes is not None and limit_bytes > 4 * longest
    scale = longest * 4 if cut else scale
    rows = []
    for bar in bars:
        parts = [
            (name, kind, size)
            for name, kind, size in (
                ("head", "head", bar.head_bytes),
                ("tail", "tail", bar.tail_bytes),
                ("for allocation", "rest", bar.rest_bytes),
            )
            if size
        ]
        segments = "".join(
            f'<span class="seg {kind}" style="width:{100 * size / scale:.2f}%" '
            f'title="{name} {size:,} bytes"></span>'
            for name, kind, size in parts
        )
        text = " + ".join(
            f'<span class="key {kind}"></span>{name} {size:,}' for name, kind, size in parts
        )
        line = ""
        if limit_bytes is not None and not cut:
            line = f'<span class="limit" style="left:{100 * limit_bytes / scale:.2f}%"></span>'
        rows.append(
            f'<div class="abar"><div class="aname">{html.escape(bar.title)}'
            f"<b>{bar.total_bytes:,}</b></div>"
            f'<div class="track" aria-hidden="true">{segments}{line}</div>'
            f'<div class="parts">{text}</div></div>'
        )
    if limit_bytes is not None:
        note = ", beyond the end of the bars" if cut else ", the line across the bars"
        rows.append(f'<p class="small">limit {limit_bytes:,} bytes{note}</p>')
    return "\n".join(rows)


def map_bars(report: Report) -> tuple[MapBar, ...]:
    """Returns every feature map of the source model, with what is stored of it now.

    After: the most bytes of its values, or of its strips' values, that live at one operator; of a
    map stored as codes, the bytes that it is packed in count as well.
    """
    held: dict[str, list[Box]] = {}
    stands_for = {code.packed: code.name for code in report.codes}
    for box in boxes(report.tensors, report.pieces):
        name = family(box.name)
        held.setdefault(stands_for.get(name, name), []).append(box)
    steps = len(report.operators)
    return tuple(
        MapBar(
            entry.name,
            entry.size_bytes,
            max(live_bytes(held.get(family(entry.name), ()), steps), default=0),
        )
        for entry in report.feature_maps_before
    )


def map_bars_html(bars: Sequence[MapBar], *, shown: int) -> str:
    """Returns the bars, the largest maps open and the rest folded away."""
    if not bars:
        return ""
    largest = max(max(bar.before_bytes, bar.after_bytes) for bar in bars)
    order = sorted(range(len(bars)), key=lambda i: (-bars[i].before_bytes, i))
    first = set(order[:shown])
    rows = [_map_row(bars[i], largest) for i in sorted(first)]
    text = f'<div class="mbars" {_MAP_TABLE}>{"".join(rows)}</div>'
    rest = [_map_row(bar, largest) for i, bar in enumerate(bars) if i not in first]
    if rest:
        text += (
            f"<details><summary>{len(rest)} smaller maps</summary>"
            f'<div class="mbars" {_MAP_TABLE}>{"".join(rest)}</div></details>'
        )
    return text


def frontier_svg(points: Sequence[FrontierPoint]) -> str:
    """Returns a plot of arena against MACs; the chosen plan is filled and named."""
    width, height, left, right, top, bottom = 640, 300, 66, 26, 22, 46
    arenas = [p.arena_bytes for p in points]
    ratios = [p.macs_ratio for p in points]
    low = max(0, min(arenas) - (max(arenas) - min(arenas)) // 8 - 1)
    high = max(arenas) + (max(arenas) - min(arenas)) // 8 + 1
    first, last = min(1.0, *ratios), max(*ratios, min(ratios) + 0.02)

    def x(ratio: float) -> float:
        return left + (ratio - first) * (width - left - right) / (last - first)

    def y(size: float) -> float:
        return height - bottom - (size - low) * (height - top - bottom) / (high - low)

    parts = [
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="Arena in bytes against multiply-accumulates of the plans found">'
    ]
    step = nice_step(high - low, 5)
    for size in range(-(-low // step) * step, high + 1, step):
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(size):.1f}" '
            f'y2="{y(size):.1f}"/><text class="tick" x="{left - 8}" y="{y(size) + 4:.1f}" '
            f'text-anchor="end">{size_label(size)}</text>'
        )
    for i in range(5):
        ratio = first + (last - first) * i / 4
        parts.append(
            f'<text class="tick" x="{x(ratio):.1f}" y="{height - bottom + 18}" '
            f'text-anchor="middle">{ratio:.3f}×</text>'
        )
    parts.append(
        f'<text class="note" x="{(left + width - right) / 2}" y="{height - 8}" '
        'text-anchor="middle">multiply-accumulates, relative to the model</text>'
    )
    ordered = sorted(points, key=lambda p: (p.macs_ratio, -p.arena_bytes))
    path = " ".join(f"{x(p.macs_ratio):.1f},{y(p.arena_bytes):.1f}" for p in ordered)
    parts.append(f'<polyline class="front" points="{path}"/>')
    for point in ordered:
        chosen = " chosen" if point.chosen else ""
        px, py = x(point.macs_ratio), y(point.arena_bytes)
        parts.append(
            f'<circle class="dot{chosen}" cx="{px:.1f}" cy="{py:.1f}" r="{7 if chosen else 5}">'
            f"<title>arena {point.arena_bytes:,} bytes\nhead {point.head_bytes:,} bytes\n"
            f"{point.macs_ratio:.3f}× MACs, {point.operators} operators</title></circle>"
        )
        if point.chosen:
            anchor = "end" if px > width / 2 else "start"
            shift = -12 if anchor == "end" else 12
            parts.append(
                f'<text class="label" x="{px + shift:.1f}" y="{py - 10:.1f}" '
                f'text-anchor="{anchor}">chosen: {point.arena_bytes:,}</text>'
            )
    parts.append("</svg>")
    return "\n".join(parts)


def _map_row(bar: MapBar, largest: int) -> str:
    name = html.escape(family(bar.name))
    was_width, now_width = (100 * b / largest for b in (bar.before_bytes, bar.after_bytes))
    now = f"{bar.after_bytes:,}" if bar.after_bytes else "none"
    change = "" if bar.after_bytes >= bar.before_bytes else " less"
    return (
        f'<div class="mrow{change}" role="row"><span class="mname" role="cell">{name}</span>'
        f'<span class="mtrack" aria-hidden="true">'
        f'<i class="was" style="width:{was_width:.1f}%"></i>'
        f'<i class="now" style="width:{now_width:.1f}%"></i></span>'
        f'<span class="mnum" role="cell">{bar.before_bytes:,} → {now}</span></div>'
    )
