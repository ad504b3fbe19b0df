"""The picture of an arena: address upwards, operators to the right, values as boxes."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.report.occupancy import Box, live_bytes
from deploy.report.report import ReportOperator

HUES = 8
_WIDTH, _LEFT, _RIGHT, _TOP = 1000, 66, 14, 22
_PLOT_HEIGHT, _PROFILE_HEIGHT = 330, 64
_MAX_TITLED = 1500
_LABELLED_AREA = 40
"""Of a box, in units of the picture, that has words where there are very many boxes."""
_MAX_OUTLINED = 250
_MAX_NAMED_OPERATORS = 44
_CHARACTER_WIDTH = 6.1
_STRIP = re.compile(r"\[\d+:\d+\].*$")


@dataclass(frozen=True, slots=True)
class ArenaPicture:
    """What one picture shows.

    Attributes:
        boxes: what occupies the arena.
        operators: in execution order, for the axis.
        head_bytes: the top of the plan.
        scale_bytes: the top of the axis, so that two pictures can share it.
        lower_bound_bytes: drawn as a dashed line; None for none.
        peak: the operator with most bytes alive.
        caption: what the picture is of, for those who cannot see it.
        hues: map -> number of its colour, so that two pictures can share them.
    """

    boxes: tuple[Box, ...]
    operators: tuple[ReportOperator, ...]
    head_bytes: int
    scale_bytes: int
    lower_bound_bytes: int | None
    peak: int
    caption: str
    hues: Mapping[str, int]


def family(name: str) -> str:
    """Returns the map that a strip belongs to: ``conv[0:8]`` is of ``conv``."""
    return _STRIP.sub("", name.split(";", 1)[0])


def arena_svg(picture: ArenaPicture) -> str:
    """Returns an inline SVG with one ``<rect>`` for each box, its words in ``aria-label``."""
    return _Drawing(picture).draw()


def merged(boxes: Sequence[Box]) -> list[Box]:
    """Joins boxes of one map that touch and live equally long, so that fewer need drawing."""
    done: list[Box] = []
    key = lambda b: (family(b.name), b.start, b.stop, b.low, b.high)  # noqa: E731
    for box in sorted(boxes, key=key):
        last = done[-1] if done else None
        if (
            last is not None
            and (family(last.name), last.start, last.stop)
            == (family(box.name), box.start, box.stop)
            and last.high >= box.low
        ):
            name = last.name if last.name == box.name else family(box.name)
            done[-1] = Box(name, last.low, max(last.high, box.high), box.start, box.stop)
        else:
            done.append(box)
    return sorted(done, key=lambda b: (b.start, b.low, b.stop, b.name))


class _Drawing:
    def __init__(self, picture: ArenaPicture) -> None:
        self.picture = picture
        self.steps = max(len(picture.operators), 1)
        self.scale = max(picture.scale_bytes, 1)
        self.names_operators = self.steps <= _MAX_NAMED_OPERATORS
        self.hues = dict(picture.hues)
        self.bottom = _TOP + _PLOT_HEIGHT

    def draw(self) -> str:
        axis_height = 92 if self.names_operators else 34
        height = self.bottom + axis_height + _PROFILE_HEIGHT
        caption = html.escape(self.picture.caption)
        parts = [
            f'<svg class="arena" viewBox="0 0 {_WIDTH} {height}" role="group" '
            f'aria-label="{caption}">',
            self._grid(),
            self._peak_band(),
            self._boxes(),
            self._lines(),
            self._operator_axis(),
            self._profile(self.bottom + axis_height),
            "</svg>",
        ]
        return "\n".join(parts)

    def _x(self, step: float) -> float:
        return _LEFT + step * (_WIDTH - _LEFT - _RIGHT) / self.steps

    def _y(self, address: float) -> float:
        return self.bottom - address * _PLOT_HEIGHT / self.scale

    def _grid(self) -> str:
        parts = []
        edges = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}"'
        for address in range(0, self.scale + 1, nice_step(self.scale, 6)):
            y = self._y(address)
            parts.append(
                f'<line class="grid" {edges} y1="{_n(y)}" y2="{_n(y)}"/>'
                f'<text class="tick" x="{_LEFT - 8}" y="{_n(y + 4)}" text-anchor="end">'
                f"{size_label(address)}</text>"
            )
        return "".join(parts)

    def _peak_band(self) -> str:
        if not self.picture.boxes:
            return ""
        x0, x1 = self._x(self.picture.peak), self._x(self.picture.peak + 1)
        middle = (x0 + x1) / 2
        anchor = "start" if middle < 120 else "end" if middle > _WIDTH - 120 else "middle"
        at = {"start": x0, "end": x1, "middle": middle}[anchor]
        return (
            f'<rect class="peak" x="{_n(x0)}" y="{_TOP}" width="{_n(max(x1 - x0, 2))}" '
            f'height="{_PLOT_HEIGHT}"/>'
            f'<text class="peaklabel" x="{_n(at)}" y="{_TOP - 7}" text-anchor="{anchor}">'
            f"peak: operator {self.picture.peak}</text>"
        )

    def _boxes(self) -> str:
        boxes = merged(self.picture.boxes)
        titled = len(boxes) <= _MAX_TITLED
        dense = " dense" if len(boxes) > _MAX_OUTLINED else ""
        parts = [f'<g class="boxes{dense}">']
        labels = []
        reached = False
        for box in boxes:
            kind = family(box.name)
            hue = self.hues.setdefault(kind, len(self.hues))
            x0, x1 = self._x(box.start), self._x(box.stop)
            y0, y1 = self._y(box.high), self._y(box.low)
            width, height = max(x1 - x0, 0.6), max(y1 - y0, 0.6)
            shape = (
                f'<rect class="h{hue % HUES}" data-f="{hue}" x="{_n(x0)}" y="{_n(y0)}" '
                f'width="{_n(width)}" height="{_n(height)}"'
            )
            if titled or width * height > _LABELLED_AREA:
                # One stop of the tab key; arrows go from box to box (page.js).
                stop = -1 if reached else 0
                reached = True
                label = html.escape(box_text(box).replace("\n", ", "))
                parts.append(f'{shape} role="img" tabindex="{stop}" aria-label="{label}"/>')
            else:
                parts.append(f'{shape} aria-hidden="true"/>')
            labels.append(_label(box, x0, y0, width, height))
        parts.append("</g>")
        return "\n".join([*parts, *(label for label in labels if label)])

    def _lines(self) -> str:
        parts = []
        top = self._y(self.picture.head_bytes)
        edges = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}"'
        parts.append(f'<line class="head" {edges} y1="{_n(top)}" y2="{_n(top)}"/>')
        bound = self.picture.lower_bound_bytes
        if bound is not None and bound != self.picture.head_bytes:
            y = self._y(bound)
            parts.append(
                f'<line class="bound" {edges} y1="{_n(y)}" y2="{_n(y)}"/>'
                f'<text class="note" x="{_WIDTH - _RIGHT - 4}" y="{_n(y + 12)}" '
                f'text-anchor="end">lower bound {bound:,}</text>'
            )
        saved = self.scale - self.picture.head_bytes
        if saved * _PLOT_HEIGHT / self.scale > 26:
            y = (self._y(self.scale) + top) / 2
            parts.append(
                f'<text class="free" x="{(_LEFT + _WIDTH - _RIGHT) // 2}" y="{_n(y + 5)}" '
                f'text-anchor="middle">{saved:,} bytes not needed</text>'
            )
        # Beside the peak's label where the head reaches the top, on the side that is free.
        left = (self.picture.peak + 0.5) / self.steps > 0.6
        x, anchor = (_LEFT + 4, "start") if left else (_WIDTH - _RIGHT - 4, "end")
        parts.append(
            f'<text class="headlabel" x="{x}" y="{_n(top - 7)}" text-anchor="{anchor}">'
            f"head {self.picture.head_bytes:,}</text>"
        )
        return "".join(parts)

    def _operator_axis(self) -> str:
        parts = []
        if self.names_operators:
            for operator in self.picture.operators:
                x, y = self._x(operator.index + 0.5), self.bottom + 12
                parts.append(
                    f'<text class="op" transform="translate({_n(x + 3)} {_n(y)}) rotate(-52)" '
                    f'text-anchor="end">{html.escape(_opcode(operator))}</text>'
                )
            return "".join(parts)
        for step in range(0, self.steps, nice_step(self.steps, 14)):
            parts.append(
                f'<text class="tick" x="{_n(self._x(step + 0.5))}" y="{self.bottom + 16}" '
                f'text-anchor="middle">{step}</text>'
            )
        return "".join(parts)

    def _profile(self, top: int) -> str:
        live = live_bytes(self.picture.boxes, self.steps)
        base = top + _PROFILE_HEIGHT - 6
        height = _PROFILE_HEIGHT - 20
        points = [f"M{_n(self._x(0))} {base}"]
        for step, size in enumerate(live):
            y = base - size * height / self.scale
            points.append(f"L{_n(self._x(step))} {_n(y)}H{_n(self._x(step + 1))}")
        points.append(f"L{_n(self._x(self.steps))} {base}Z")
        label = f"alive, at most {max(live, default=0):,} bytes"
        return (
            f'<path class="live" d="{"".join(points)}"/>'
            f'<text class="note" x="{_LEFT}" y="{top + 6}">{label}</text>'
        )


def box_text(box: Box) -> str:
    """Returns what the pointer shows for a box."""
    last = box.stop - 1
    span = f"operator {box.start}" if last == box.start else f"operators {box.start} to {last}"
    name = box.name.split(";", 1)[0]
    return f"{name}\n{box.high - box.low:,} bytes at {box.low:,} to {box.high:,}\n{span}"


def nice_step(extent: int, count: int) -> int:
    """Returns a round step that divides an axis into about ``count`` parts.

    Bytes get powers of two from 1,024 on, everything else 1, 2 and 5 times powers of ten.
    """
    wanted = max(extent / count, 1)
    if wanted >= 512:
        step = 1024
        while step < wanted:
            step *= 2
        return step
    for magnitude in (1, 10, 100, 1000):
        for digit in (1, 2, 5):
            if digit * magnitude >= wanted:
                return digit * magnitude
    return 5000


def size_label(size_bytes: int) -> str:
    """Returns ``48K`` where that is exact, else the bytes."""
    if size_bytes and size_bytes % (1024 * 1024) == 0:
        return f"{size_bytes // (1024 * 1024)}M"
    return f"{size_bytes // 1024}K" if size_bytes and size_bytes % 1024 == 0 else str(size_bytes)


def _label(box: Box, x: float, y: float, width: float, height: float) -> str:
    if width < 52 or height < 13:
        return ""
    room = int((width - 8) / _CHARACTER_WIDTH)
    name = box.name.split(";", 1)[0]
    name = name if len(name) <= room else _layer(family(name))
    # The end of a name tells layers apart.
    name = name if len(name) <= room else "…" + name[1 - room :]
    return (
        f'<text class="label" aria-hidden="true" x="{_n(x + 4)}" y="{_n(y + 11)}">'
        f"{html.escape(name)}</text>"
    )


def _layer(name: str) -> str:
    """The layer in a converter's path: operators such as Relu or BiasAdd begin with a capital."""
    parts = [part for part in name.split("/") if part]
    layers = [part for part in parts if part[0].islower()]
    return (layers or parts or [name])[-1]


def _opcode(operator: ReportOperator) -> str:
    text = operator.opcode.lower().replace("_", " ")
    return text if len(text) <= 17 else text[:16] + "…"


def _n(value: float) -> str:
    """A coordinate with one digit after the point, none where it is zero."""
    return f"{value:.1f}".removesuffix(".0")
