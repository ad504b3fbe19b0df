"""Rules of rows as C expressions, simplified where what they say is known."""

from __future__ import annotations

from deploy.backends.c.program import Read


def first_text(read: Read, row: str, out_rows: int) -> str:
    """Returns the first row of a read's window that exists, as an expression of ``row``."""
    values = [read.rows.first(r) for r in range(out_rows)]
    return _clipped(read, row, values, read.rows.begin, 0, out_rows)


def stop_text(read: Read, row: str, out_rows: int) -> str:
    """Returns the row behind a read's window."""
    values = [read.rows.stop(r) for r in range(out_rows)]
    return _clipped(read, row, values, read.rows.end, 1, out_rows)


def above_text(read: Read, row: str, out_rows: int) -> str:
    """Returns how many rows of a window lie above the map; rows below the map count as none."""
    values = [read.window(r)[0] - read.rows.first(r) for r in range(out_rows)]
    if not any(values):
        return "0"
    if len(set(values)) == 1:
        return str(values[0])
    first = first_text(read, row, out_rows)
    return f"{_factor(first)} - {_factor(_linear(read, row, read.rows.begin))}"


def _clipped(read: Read, row: str, values: list[int], shift: int, side: int, out_rows: int) -> str:
    limit = read.view_rows
    if out_rows == 1 or len(set(values)) == 1:
        return str(min(max(values[0], 0), limit))
    if read.rows.table is not None:
        return f"{read.rows.table_name}[2 * {_factor(row)}{' + 1' if side else ''}]"
    text = _linear(read, row, shift)
    if min(values) < 0:
        text = f"fmc_at_least({text}, 0)"
    if max(values) > limit:
        text = f"fmc_at_most({text}, {limit})"
    return text


def _linear(read: Read, row: str, shift: int) -> str:
    step, divisor = read.rows.step, read.rows.divisor
    # C divides towards zero, so the dividend is kept from being negative.
    lift = -(-max(-shift, 0) // divisor) if divisor > 1 else 0
    shift += lift * divisor
    text = row if step == 1 else f"{_factor(row)} * {step}"
    if shift:
        text += f" {'-' if shift < 0 else '+'} {abs(shift)}"
    if divisor > 1:
        text = f"({text}) / {divisor}" + (f" - {lift}" if lift else "")
    return text


def _factor(text: str) -> str:
    simple = text.replace("_", "").isalnum() or text.endswith(("]", ")"))
    return text if simple and " " not in text.split("[")[0] else f"({text})"
