"""The report as one self-contained HTML page: no network, readable in light and dark, on paper."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

from deploy.report import sizes, text
from deploy.report.arena_svg import ArenaPicture, arena_svg, family, merged
from deploy.report.charts import ArenaBar, arena_bars, frontier_svg, map_bars, map_bars_html
from deploy.report.occupancy import boxes, peak
from deploy.report.report import Baseline, Port, Report, ReportOperator
from keras_fmc.printable import one_line

_TEMPLATES = Path(__file__).with_name("templates")
_MAPS_SHOWN = 16
_BOXES_LISTED = 200


def _model_name(report: Report) -> str:
    return one_line(Path(report.model).name)


def to_html(report: Report) -> str:
    """Returns report.html; it stays below a megabyte for hundreds of tensors and operators."""
    sections = [
        _arena_section(report),
        _ports_section(report),
        _memory_section(report),
        _picture_section(report),
        _maps_section(report),
        _frontier_section(report),
        _regions_section(report),
        _codes_section(report),
        _comparison_section(report),
        _decisions_section(report),
        _tensor_section(report),
        _operator_section(report),
    ]
    page = Template((_TEMPLATES / "page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=html.escape(
            f"{_model_name(report)}: {report.arena_bytes:,} bytes of {_what(report)}"
        ),
        style=(_TEMPLATES / "page.css").read_text(encoding="utf-8"),
        script=(_TEMPLATES / "page.js").read_text(encoding="utf-8"),
        header=_header(report),
        sections="\n".join(section for section in sections if section),
    )


def _header(report: Report) -> str:
    word, sentence = text.result(report)
    state = "plain" if report.limit_bytes is None else "good" if report.fits else "bad"
    evidence = "good" if report.verified else "warn"
    certificate = "good" if report.proven_optimal else "plain"
    chips = [
        (certificate, "optimal for these cuts" if report.proven_optimal else "best found"),
        (evidence, _ran(report)),
    ]
    if report.bit_exact is not None:
        chips.append(
            ("good", "same output bytes") if report.bit_exact else ("bad", "outputs differ")
        )
    marks = "".join(f'<span class="chip {kind}">{words}</span>' for kind, words in chips)
    told = [w for w in (text.interruption(report), *report.warnings) if w]
    warnings = "".join(f'<p class="warning">{html.escape(w)}</p>' for w in told)
    return f"""\
<p class="target">{html.escape(text.target_line(report))}</p>
<h1>{html.escape(_model_name(report))}</h1>
<div class="result {state}">
<p class="word">{word}</p>
<p class="says">{html.escape(sentence)}</p>
</div>
<div class="declare"><code>{_declaration(report)}</code>
<button type="button" data-copy="{report.arena_bytes}">copy the number</button></div>
<p class="chips">{marks}</p>
{warnings}"""


def _ran(report: Report) -> str:
    if sizes.is_generated(report):
        return "compiled and run" if report.verified else "not compiled"
    return "ran in TFLM" if report.verified else "not run in TFLM"


def _what(report: Report) -> str:
    return "static memory" if sizes.is_generated(report) else "arena"


def _declaration(report: Report) -> str:
    if sizes.is_generated(report):
        return f"static memory: {report.arena_bytes:,} bytes"
    lines = (line.partition("   //")[0] for line in text.declarations(report))
    return "<br>".join(lines)


def _arena_section(report: Report) -> str:
    base = report.baseline
    bars = [_bar("this plan", report)]
    if base is not None:
        bars.append(_bar("TFLM's own plan of the unchanged model", base))
    macs = (f"MACs, {report.macs_ratio:.3f}× the model's", f"{report.macs:,}")
    if sizes.is_generated(report):
        figures = [("lower bound", f"{report.lower_bound_bytes:,} B"), macs]
        figures.append(("flash of constants", f"{report.flash_bytes:,} B"))
        if report.stack_bytes is not None:
            figures.append((f"stack, {report.stack_source}", f"{report.stack_bytes:,} B"))
    else:
        figures = [
            ("lower bound of the head", f"{report.lower_bound_bytes:,} B"),
            ("scratch of one operator, at most", f"{report.scratch_bytes:,} B"),
            macs,
            ("flash of the model", f"{report.flash_bytes:,} B"),
        ]
    if report.generated_c_bytes is not None and not sizes.is_generated(report):
        figures.append(("generated C instead, --runtime=c", f"{report.generated_c_bytes:,} B"))
    if sizes.is_generated(report):
        pass
    elif report.time_ms is not None:
        before = report.baseline.time_ms if report.baseline else None
        name = f"time of an inference, {sizes.time_basis(report).replace('+-', '±')}"
        if before is not None:
            name += f"; as it was {sizes.milliseconds(before)}"
        figures.append((name, sizes.milliseconds(report.time_ms)))
    else:
        figures.append(("time of an inference", "no figures"))
    if report.predicted_arena_bytes_wheel is not None:
        figures.append(("predicted for the wheel", f"{report.predicted_arena_bytes_wheel:,} B"))
    if report.verified_arena_bytes is not None:
        figures.append(("smallest that ran in the wheel", f"{report.verified_arena_bytes:,} B"))
    cards = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{value}</dd></div>" for name, value in figures
    )
    said = (text.certificate(report), text.search_bound(report), text.evidence(report))
    notes = " ".join(f"{_capital(sentence)}." for sentence in said if sentence)
    return _section(
        "The arena",
        f"{arena_bars(bars, report.limit_bytes)}{_bars_table(bars)}"
        f'<dl class="cards">{cards}</dl>'
        f'<p class="small">{html.escape(notes)}</p>',
    )


def _part(report: Report) -> str:
    return "static memory" if sizes.is_generated(report) else "head"


def _bars_table(bars: Sequence[ArenaBar]) -> str:
    rows = [
        (b.title, *(f"{n:,}" for n in (b.head_bytes, b.tail_bytes, b.rest_bytes, b.total_bytes)))
        for b in bars
    ]
    return _as_table(("arena", "head", "tail", "for allocation", "bytes"), rows, (1, 2, 3, 4))


def _bar(title: str, sizes: Report | Baseline) -> ArenaBar:
    rest = max(0, sizes.arena_bytes - sizes.head_bytes - sizes.tail_bytes)
    return ArenaBar(title, sizes.head_bytes, sizes.tail_bytes, rest)


def _picture_section(report: Report) -> str:
    occupied = boxes(report.tensors, report.pieces)
    if not occupied:
        return ""
    base = report.baseline
    maps = [family(m.name) for m in report.feature_maps_before]
    hues = {name: number for number, name in enumerate(dict.fromkeys(maps))}
    scale = max(report.head_bytes, base.head_bytes if base and base.tensors else 0)
    blocks = [
        "<p>Address upwards, operators from left to right; a box is a value in memory, strips of "
        "one map have one colour. Point at a box, tap it, or go from box to box with the arrow "
        "keys.</p>"
    ]
    if base is not None and base.tensors:
        before = boxes(base.tensors, ())
        count = max(base.operators, max(box.stop for box in before))
        blocks.append(
            _figure(
                f"Before: TFLM's own plan, head {base.head_bytes:,} bytes",
                ArenaPicture(
                    boxes=before,
                    operators=_operators_before(report, count),
                    head_bytes=base.head_bytes,
                    scale_bytes=scale,
                    lower_bound_bytes=None,
                    peak=peak(before, count).operator,
                    caption="Tensors in the arena over time, before",
                    hues=hues,
                ),
            )
        )
    blocks.append(
        _figure(
            f"After: this plan, {_part(report)} {report.head_bytes:,} bytes",
            ArenaPicture(
                boxes=occupied,
                operators=report.operators,
                head_bytes=report.head_bytes,
                scale_bytes=scale,
                lower_bound_bytes=report.lower_bound_bytes,
                peak=report.peak_operator,
                caption="Tensors in the arena over time, after",
                hues=hues,
            ),
        )
    )
    if report.peak_tensors:
        names = ", ".join(text.short(name) for name in report.peak_tensors[:8])
        blocks.append(
            f'<p class="small">Alive at the peak, operator {report.peak_operator}: '
            f"{html.escape(names)}.</p>"
        )
    if report.scratch_bytes:
        blocks.append(
            f'<p class="small">Not drawn: scratch, at most {report.scratch_bytes:,} bytes for one '
            "operator, which TFLM itself puts between the tensors.</p>"
        )
    return _section("Memory over time", "\n".join(blocks))


def _operators_before(report: Report, count: int) -> tuple[ReportOperator, ...]:
    """The source model's operators; their names are known only if nothing was rewritten."""
    if count == len(report.operators):
        return report.operators
    return tuple(ReportOperator(i, f"{i}", "") for i in range(count))


def _figure(title: str, picture: ArenaPicture) -> str:
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<div class="wide" {_scrolls(title)}>{arena_svg(picture)}</div>'
        f'<output class="info"></output>{_boxes_table(picture)}</figure>'
    )


def _boxes_table(picture: ArenaPicture) -> str:
    boxes = merged(picture.boxes)
    rows = [
        (
            text.short(b.name),
            f"{b.high - b.low:,}",
            f"{b.low:,}",
            f"{b.high:,}",
            b.start,
            b.stop - 1,
        )
        for b in boxes[:_BOXES_LISTED]
    ]
    head = ("value", "bytes", "from", "to", "first operator", "last")
    hidden = len(boxes) - len(rows)
    more = f'<p class="small">and {hidden} more: report.json has all</p>' if hidden > 0 else ""
    return _as_table(head, rows, (1, 2, 3, 4, 5), more)


def _as_table(
    head: Sequence[str], rows: Sequence[Sequence[object]], numbers: tuple[int, ...], more: str = ""
) -> str:
    """The figures of a picture, folded away beside it."""
    table = _table(head, rows, numbers=numbers)
    return f"<details><summary>the same as a table</summary>\n{table}{more}</details>"


def _scrolls(name: str) -> str:
    """Attributes of what scrolls sideways on a phone, so that a keyboard can scroll it, too."""
    return f'tabindex="0" role="region" aria-label="{html.escape(name)}"'


def _maps_section(report: Report) -> str:
    bars = map_bars(report)
    if not bars:
        return ""
    intro = (
        "<p>Bytes of every feature map of the source model, and the most of it that is ever stored "
        "at once by this plan.</p>"
    )
    return _section("Feature maps", intro + map_bars_html(bars, shown=_MAPS_SHOWN))


def _frontier_section(report: Report) -> str:
    if len(report.frontier) < 2:
        return ""
    intro = (
        "<p>Every plan on the line is the smallest arena found for its multiply-accumulates.</p>"
    )
    rows = [
        (
            f"{p.arena_bytes:,}",
            f"{p.head_bytes:,}",
            f"{p.macs_ratio:.3f}×",
            p.operators,
            "chosen" if p.chosen else "",
        )
        for p in sorted(report.frontier, key=lambda p: (p.arena_bytes, p.macs_ratio))
    ]
    table = _as_table(("arena", "head", "MACs", "operators", ""), rows, (0, 1, 2, 3))
    plot = frontier_svg(report.frontier)
    return _section(
        "Frontier",
        f'{intro}<div class="wide plotbox" {_scrolls("Frontier")}>{plot}</div>{table}',
    )


def _regions_section(report: Report) -> str:
    rows = [
        (
            _names(region.operators),
            len(region.operators),
            region.strips,
            region.rows,
            region.halo,
            f"{region.macs_ratio:.3f}×",
        )
        for region in report.regions
    ]
    head = ("operators", "count", "strips", "rows", "halo", "MACs")
    return _section("Run strip by strip", _table(head, rows, numbers=(1, 2, 3, 5))) if rows else ""


def _names(operators: Sequence[str]) -> str:
    first, last = text.short(operators[0]), text.short(operators[-1])
    return first if first == last else f"{first} to {last}"


def _codes_section(report: Report) -> str:
    if not report.codes:
        return ""
    rows = [text.code_row(report, code) for code in report.codes]
    made = "row by row" if sizes.is_generated(report) else "strip by strip"
    intro = f"<p>Packing and unpacking run {made} with what they belong to.</p>"
    head = ("map", *text.code_head(report)[1:])
    table = _table(head, rows, numbers=tuple(range(1, len(head))))
    return _section("Stored as codes", intro + table)


def _comparison_section(report: Report) -> str:
    rows = [
        (
            text.short(row.name),
            "x".join(map(str, row.shape)),
            f"{row.scale:.4g}",
            f"{row.differing:.2%}",
            f"{row.mean_levels:.3f}",
            row.worst_levels,
        )
        for row in report.comparison
    ]
    head = ("map", "shape", "scale", "differs in", "mean, levels", "worst, levels")
    intro = "<p>Of the quantised Keras model and of the device, on the samples tried.</p>"
    table = _table(head, rows, numbers=(2, 3, 4, 5))
    return _section("Keras beside the device", intro + table) if rows else ""


_STANDS_HERE = {
    "<- arena": "the arena stands here",
    "<- head": "the head stands here",
    "<- tail": "the tail stands here",
}


def _memory_section(report: Report) -> str:
    rows = [
        (
            f"{memory.name}, external" if memory.external else memory.name,
            "" if memory.address is None else f"0x{memory.address:08x}",
            f"{memory.size_bytes:,}",
            f"{memory.reserve_bytes:,}",
            f"{memory.available_bytes:,}",
            _STANDS_HERE.get(text.held_in(report, memory), ""),
        )
        for memory in report.memories
    ]
    head = ("memory", "address", "bytes", "kept for firmware", "for the arena", "")
    return _section("Board", _table(head, rows, numbers=(2, 3, 4))) if rows else ""


def _decisions_section(report: Report) -> str:
    rows = [(d.subject, d.reason) for d in report.decisions]
    return _section("Left as it was", _table(("what", "why"), rows)) if rows else ""


def _ports_section(report: Report) -> str:
    rows = [_port_row("input", port) for port in report.inputs]
    rows += [_port_row("output", port) for port in report.outputs]
    head = ("", "name", "shape", "type", "scale", "zero point")
    kinds = text.operator_kinds(report)
    names = html.escape(", ".join(kinds))
    registered = f"<p><code>MicroMutableOpResolver&lt;{len(kinds)}&gt;</code>: {names}</p>"
    if not rows:
        return ""
    if sizes.is_generated(report):
        return _section("Inputs and outputs", _table(head, rows, numbers=(4, 5)))
    body = _table(head, rows, numbers=(4, 5)) + (registered if kinds else "")
    return _section("Inputs, outputs, operators to register", body)


def _port_row(side: str, port: Port) -> tuple[object, ...]:
    scale = "" if port.scale is None else f"{port.scale:.9g}"
    zero = "" if port.zero_point is None else port.zero_point
    return (side, port.name, text.shape_text(port.shape), port.dtype, scale, zero)


def _tensor_section(report: Report) -> str:
    if not report.tensors:
        return ""
    rows = [
        (
            t.offset,
            t.size_bytes,
            f"{t.first} to {t.last}" if t.last > t.first else t.first,
            text.short(t.name),
            text.shape_text(t.shape),
            "" if t.alias_of is None else f"{text.short(t.alias_of)} ({_kind(t.alias_reason)})",
        )
        for t in report.tensors
    ]
    head = ("offset", "bytes", "operators", "tensor", "shape", "alias of")
    return _folded(f"{len(rows)} tensors", _table(head, rows, numbers=(0, 1, 2)))


def _kind(reason: str | None) -> str:
    return "" if reason is None else reason.split(":", 1)[0]


def _operator_section(report: Report) -> str:
    if not report.operators:
        return ""
    rows = [
        (
            o.index,
            f"{o.opcode}, a view without an operator" if o.implicit else o.opcode,
            text.short(o.name),
            f"{o.macs:,}",
        )
        for o in report.operators
    ]
    head = ("", "operator", "output", "MACs")
    return _folded(f"{len(rows)} operators", _table(head, rows, numbers=(0, 3)))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>\n{body}\n</section>"


def _folded(title: str, body: str) -> str:
    return f"<section><details><summary>{title}</summary>\n{body}\n</details></section>"


def _table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: tuple[int, ...] = ()
) -> str:
    def cells(row: Sequence[object], tag: str) -> str:
        scope = " scope=col" if tag == "th" else ""
        return "".join(
            f"<{tag}{scope}{' class=n' if i in numbers else ''}>{html.escape(str(cell))}</{tag}>"
            for i, cell in enumerate(row)
        )

    body = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{cells(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
