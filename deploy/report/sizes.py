"""The sizes of a plan beside TFLM's own, and its time: the table that every form of report has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from deploy.report.report import Baseline, Report
from keras_fmc.sizes import format_size

_GENERATED_C = "c"

TIME = "time of an inference, estimated"
TIME_AT = "  at, within"
STATIC = "static memory, or arena"
"""The row of generated C beside TFLM's arena."""

MAIN_SIZES = (
    STATIC,
    "stack",
    "arena",
    "  head, reused",
    "  tail, persistent",
    "flash of the model",
    "multiply-accumulates",
    "  relative to the model",
    "time",
    TIME,
    TIME_AT,
    "time relative to the model",
)
"""The rows of the table of sizes that a short form shows."""

SIZES_TOO_LARGE = (STATIC, "arena", "  head, reused", "  tail, persistent", "multiply-accumulates")
"""The same for a plan that does not fit."""


def is_generated(report: Report) -> bool:
    """Whether a report is of generated C, which has no interpreter, head or tail."""
    return report.runtime == _GENERATED_C


def size_lines(report: Report, wanted: Sequence[str] | None = None) -> list[str]:
    """Returns the table of ``size_rows`` in columns."""
    return columns(size_rows(report, wanted), right=(1, 2))


def size_rows(report: Report, wanted: Sequence[str] | None = None) -> list[tuple[str, str, str]]:
    """Returns the sizes beside TFLM's own, a head first; only the rows ``wanted``, where given."""
    base = report.baseline
    rows = [("", "this plan", "TFLM's own" if base else "")]

    def add(label: str, value: str, other: str | None) -> None:
        if wanted is None or label in wanted:
            rows.append((label, value, (other or "") if base else ""))

    def both(label: str, mine: int | None, other: int | None) -> None:
        if mine is not None or other is not None:
            add(label, bytes_text(mine), bytes_text(other) if base else None)

    def of(name: str) -> int | None:
        return getattr(base, name) if isinstance(base, Baseline) else None

    if is_generated(report):
        both(STATIC, report.arena_bytes, of("arena_bytes"))
        both("  its lower bound", report.lower_bound_bytes, None)
        both("stack", report.stack_bytes, None)
        both("flash of constants, or model", report.flash_bytes, of("flash_bytes"))
        add("multiply-accumulates", f"{report.macs:,}", f"{base.macs:,}" if base else None)
        return rows
    both("arena", report.arena_bytes, of("arena_bytes"))
    both("  head, reused", report.head_bytes, of("head_bytes"))
    both("  tail, persistent", report.tail_bytes, of("tail_bytes"))
    both("  array of the head", report.head_arena_bytes, None)
    both("  array of the tail", report.tail_arena_bytes, None)
    both("    scratch of one operator, at most", report.scratch_bytes, of("scratch_bytes"))
    both("lower bound of the head", report.lower_bound_bytes, None)
    both(
        "arena in the wheel, predicted",
        report.predicted_arena_bytes_wheel,
        of("predicted_arena_bytes_wheel"),
    )
    both(
        "arena in the wheel, smallest that ran",
        report.verified_arena_bytes,
        of("verified_arena_bytes"),
    )
    both("flash of the model", report.flash_bytes, of("flash_bytes"))
    add("multiply-accumulates", f"{report.macs:,}", f"{base.macs:,}" if base else None)
    add("  relative to the model", f"{report.macs_ratio:.3f}x", "1.000x")
    _add_times(report, add)
    if base and base.operators:
        add("operators", str(report.written_operators), str(base.operators))
        views = len(report.operators) - report.written_operators
        if views:
            add("  views without an operator", str(views), "0")
    if report.generated_c_bytes is not None:
        add("generated C instead, --runtime=c", bytes_text(report.generated_c_bytes), "")
    return rows


def _add_times(report: Report, add: Callable[[str, str, str | None], None]) -> None:
    """Milliseconds where core and clock are known, and the time relative to the model's."""
    base = report.baseline
    if report.time_ms is None:
        add("time", "no figures", None)
    else:
        add(TIME, milliseconds(report.time_ms), milliseconds(base.time_ms) if base else None)
        add(TIME_AT, time_basis(report), None)
    if report.time_ratio is not None:
        add("time relative to the model", f"{report.time_ratio:.2f}x", "1.00x")
    if report.time_ratio_assertions is not None:
        add("  without NDEBUG", f"{report.time_ratio_assertions:.2f}x", "1.00x")


def time_basis(report: Report) -> str:
    """Returns the clock that the milliseconds hold for, and by how much they may be off."""
    if report.time_ms is None or report.time_error is None or not report.clock_hz:
        return f"no time figures for {report.core} with {report.kernels}"
    return f"{report.clock_hz // 1_000_000} MHz, +-{report.time_error:.0%}"


def milliseconds(value: float | None) -> str:
    """Returns a time of three digits: an estimate has no more."""
    return "-" if value is None else f"{value:.{max(0, 2 - int(math.log10(max(value, 0.01))))}f} ms"


def bytes_text(value: int | None) -> str:
    """Returns a size, or a dash for none."""
    return "-" if value is None else format_size(value)


def columns(rows: Sequence[Sequence[str]], *, right: tuple[int, ...]) -> list[str]:
    """Returns the lines of a table; the columns ``right`` hold numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
