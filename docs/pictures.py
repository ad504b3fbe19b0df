"""Draws the pictures of README and docs as SVG: ``python docs/pictures.py [MODEL.tflite]``.

``arena-before-after.svg`` is cut out of the report page of a plan, MODEL's (by default MLPerf
Tiny's person detection, a sample model). The others are small drawings of one idea each.
"""

from __future__ import annotations

import html
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

PICTURES = Path(__file__).resolve().parent / "pictures"
_ROOT = PICTURES.parent.parent
_STYLE = """
:root { --ink: #1a1f26; --soft: #57616d; --line: #9aa4b0; --back: #ffffff;
  --a: #2f6fb7; --b: #d9720c; --c: #2e8b57; --d: #8b95a3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf0; --soft: #9ba6b3; --line: #57616d;
  --back: #161b22; --a: #6aa9f0; --b: #f59a45; --c: #5fc48b; --d: #7b8694; } }
text { font: 13px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; fill: var(--ink); }
.soft { fill: var(--soft); font-size: 12px; } .middle { text-anchor: middle; }
.back { fill: var(--back); } .frame { fill: none; stroke: var(--line); stroke-width: 1.2; }
.a { fill: var(--a); } .b { fill: var(--b); } .c { fill: var(--c); } .d { fill: var(--d); }
.a, .b, .c, .d { fill-opacity: .45; stroke: var(--line); stroke-width: .8; }
.arrow { stroke: var(--soft); stroke-width: 1.4; fill: none; marker-end: url(#tip); }
"""


def main(model: str | None) -> None:
    """Draws all pictures into docs/pictures."""
    from deploy.pipeline import plan
    from keras_fmc.samples import sample_model

    PICTURES.mkdir(exist_ok=True)
    for name, text in drawings().items():
        (PICTURES / name).write_text(text, encoding="utf-8")
    path = Path(model) if model else sample_model("vww_96_int8.tflite")
    report = plan(path, board="nano33ble").report
    (PICTURES / "arena-before-after.svg").write_text(before_after(report), encoding="utf-8")
    for drawn in sorted(PICTURES.iterdir()):
        print(f"{drawn.relative_to(_ROOT)}: {drawn.stat().st_size:,} bytes")


def before_after(report: object) -> str:
    """Returns the pictures of the arena of a report page, one above the other, as one file."""
    from deploy.report.html import to_html

    page = to_html(report)  # type: ignore[arg-type]
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    figures = re.findall(
        r"<figcaption[^>]*>(.*?)</figcaption>.*?(<svg class=\"arena\".*?</svg>)", page, re.DOTALL
    )
    if len(figures) != 2 or not style:
        raise SystemExit("the report page has no two pictures of the arena")
    parts, top = [], 0
    width = 1000
    for caption, svg in figures:
        box = re.search(r'viewBox="0 0 (\d+) (\d+)"', svg)
        assert box is not None
        width, height = int(box[1]), int(box[2])
        # Inside another picture the size has to be given, and roles belong to the whole.
        inner = svg.replace("<svg ", f'<svg y="{top + 34}" width="{width}" height="{height}" ', 1)
        title = html.escape(html.unescape(re.sub(r"<[^>]*>", "", caption)).strip())
        parts.append(f'<text class="caption" x="8" y="{top + 22}">{title}</text>\n{inner}')
        top += height + 44
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" role="img" '
        f'aria-label="Tensors in the arena over time, before and after">\n'
        f"<style>{style[0]}\nsvg .caption {{ font-size: 16px; font-weight: 600; }}\n"
        "svg svg.arena { min-width: 0; }</style>\n"
        f'<rect width="100%" height="100%" fill="var(--card)"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def drawings() -> dict[str, str]:
    """Returns the drawings of the concepts by file name."""
    return {
        "arena.svg": _arena(),
        "strip.svg": _strip(),
        "code.svg": _code(),
        "wheel.svg": _wheel(),
    }


def _arena() -> str:
    """Head and tail, and scratch in the head, along the addresses of one array."""
    y, height = 54, 46
    parts = [
        _text(20, 24, "uint8_t tensor_arena[N]"),
        _rect("a", 20, y, 250, height),
        _text(145, y + 28, "tensors, reused", "middle"),
        _rect("b", 270, y, 90, height),
        _text(315, y + 28, "scratch", "middle"),
        _rect("frame", 360, y, 60, height),
        _rect("d", 420, y, 240, height),
        _text(540, y + 28, "structures, kept", "middle"),
        _text(20, y + 66, "address 0", "soft"),
        _text(660, y + 66, "N", "soft"),
        _text(195, y + 84, "head", "middle"),
        _text(540, y + 84, "tail", "middle"),
        _text(390, y + 84, "free", "soft middle"),
    ]
    return _svg(690, 152, parts, "The arena: head with tensors and scratch, then the tail")


def _strip() -> str:
    """A band of rows of the output, and the rows of the input that it needs."""
    parts = []
    for x, rows, title in ((30, 12, "input map"), (300, 12, "map between"), (570, 12, "output")):
        parts.append(_text(x, 26, title))
        for row in range(rows):
            parts.append(_rect("frame", x, 40 + 14 * row, 120, 14))
    for x, first, last, kind in ((30, 2, 10, "a"), (300, 3, 9, "a"), (570, 4, 8, "a")):
        for row in range(first, last):
            is_halo = x < 570 and (row < 4 or row >= 8)
            parts.append(_rect("b" if is_halo else kind, x, 40 + 14 * row, 120, 14))
    parts += [
        _arrow(160, 110, 290, 110),
        _arrow(430, 110, 560, 110),
        _text(180, 102, "conv 3×3", "soft"),
        _text(450, 102, "conv 3×3", "soft"),
        _rect("a", 30, 228, 14, 14),
        _text(52, 240, "rows of the strip", "soft"),
        _rect("b", 200, 228, 14, 14),
        _text(222, 240, "halo: rows that the strips beside it need, too", "soft"),
    ]
    return _svg(720, 256, parts, "A strip of rows through two convolutions, with its halo")


def _code() -> str:
    """Two codes of four bits in a byte."""
    parts = [_text(20, 24, "eight channels of one pixel, int8: 8 bytes")]
    for i in range(8):
        parts += [_rect("a", 20 + 62 * i, 36, 58, 30), _text(49 + 62 * i, 56, f"q{i}", "middle")]
    parts.append(_text(20, 104, "the same as codes of 4 bits, packed: 4 bytes"))
    for i in range(4):
        x, pair = 20 + 62 * i, f"q{2 * i} q{2 * i + 1}"
        parts += [_rect("c", x, 116, 58, 30), _text(x + 29, 136, pair, "middle")]
    return _svg(540, 166, parts, "Codes of four bits, two in a byte")


def _wheel() -> str:
    """Where a plan runs before it is flashed, and what is predicted for the board."""
    parts = [
        _rect("a", 20, 30, 190, 70),
        _text(115, 60, "planned model", "middle"),
        _text(115, 80, "model.tflite", "soft middle"),
        _rect("c", 320, 16, 360, 50),
        _text(500, 38, "the wheel: TFLM on the PC", "middle"),
        _text(500, 56, "runs, in exactly the predicted arena", "soft middle"),
        _rect("b", 320, 86, 360, 50),
        _text(500, 108, "the board: TFLM with its kernel library", "middle"),
        _text(500, 126, "arena predicted from data, asserted in C", "soft middle"),
        _arrow(214, 58, 314, 42),
        _arrow(214, 74, 314, 110),
    ]
    return _svg(700, 152, parts, "The same plan in the wheel and on the board")


def _svg(width: int, height: int, parts: Iterable[str], label: str) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(label)}">\n<style>{_STYLE}</style>\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#57616d"/></marker>'
        f'</defs>\n<rect class="back" width="{width}" height="{height}"/>\n{body}\n</svg>\n'
    )


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}"/>'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    shown = f' class="{kind}"' if kind else ""
    return f'<text{shown} x="{x}" y="{y}">{html.escape(text)}</text>'


def _arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<path class="arrow" d="M{x0} {y0} L{x1} {y1}"/>'


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.insert(0, str(_ROOT))
    main(sys.argv[1] if len(sys.argv) > 1 else None)
