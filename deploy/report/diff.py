"""What changed between two reports, for a review of a firmware repository."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from deploy.report.report import Report, ReportTensor

_MOVED_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Change:
    """A figure before and after; None where a report does not have it."""

    name: str
    before: int | float | None
    after: int | float | None
    unit: str

    @property
    def difference(self) -> int | float | None:
        if self.before is None or self.after is None:
            return None
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Moved:
    """A tensor of both reports with another offset or size."""

    name: str
    before: ReportTensor
    after: ReportTensor


@dataclass(frozen=True, slots=True)
class ReportDiff:
    """The figures of two reports side by side, and the tensors that are not where they were.

    ``context`` holds what makes the figures incomparable: (what, before, after).
    """

    before: str
    after: str
    context: tuple[tuple[str, str, str], ...]
    figures: tuple[Change, ...]
    moved: tuple[Moved, ...]
    appeared: tuple[ReportTensor, ...]
    vanished: tuple[ReportTensor, ...]
    fits: tuple[bool, bool]

    @property
    def is_same(self) -> bool:
        """Whether nothing that is compared differs."""
        changed = any(c.before != c.after for c in self.figures)
        tensors = self.moved or self.appeared or self.vanished
        return not (self.context or changed or tensors or self.fits[0] != self.fits[1])

    def to_text(self) -> str:
        """Returns the comparison for a terminal."""
        lines = [f"{self.before} -> {self.after}"]
        if self.is_same:
            return "\n".join([*lines, "  no difference"])
        lines += [f"  {what}: {old} -> {new}" for what, old, new in self.context]
        if self.fits[0] != self.fits[1]:
            lines.append("  fits now" if self.fits[1] else "  DOES NOT FIT any more")
        rows = [(c.name, _number(c.before), _number(c.after), _signed(c)) for c in self.figures]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        for name, old, new, step in rows:
            lines.append(
                f"  {name:<{widths[0]}}  {old:>{widths[1]}}  {new:>{widths[2]}}  "
                f"{step:>{widths[3]}}".rstrip()
            )
        for title, entries in self._tensor_lists():
            lines += ["", f"{title}:", *(f"  {entry}" for entry in entries)]
        return "\n".join(lines)

    def to_line(self) -> str:
        """Returns the change of the arena on one line."""
        arena = self.figures[0]
        line = f"{self.before} -> {self.after}: arena {_number(arena.before)} -> "
        return f"{line}{_number(arena.after)} B, {_signed(arena)}"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON: figures and context by name, names of tensors."""
        return {
            "before": self.before,
            "after": self.after,
            "same": self.is_same,
            "fits": {"before": self.fits[0], "after": self.fits[1]},
            "context": {what: {"before": old, "after": new} for what, old, new in self.context},
            "figures": {
                c.name: {"before": c.before, "after": c.after, "unit": c.unit} for c in self.figures
            },
            "moved": [m.name for m in self.moved],
            "appeared": [t.name for t in self.appeared],
            "vanished": [t.name for t in self.vanished],
        }

    def to_markdown(self) -> str:
        """Returns the comparison for a comment on a change."""
        lines = [f"### Memory plan: {_code(self.before)} → {_code(self.after)}", ""]
        if self.is_same:
            return "\n".join([*lines, "No difference."])
        if self.fits[0] != self.fits[1]:
            lines += ["**Fits now.**" if self.fits[1] else "**Does not fit any more.**", ""]
        lines += [f"- {what}: {_code(old)} → {_code(new)}" for what, old, new in self.context]
        if self.context:
            lines.append("")
        lines += ["| | before | after | change |", "|---|---:|---:|---:|"]
        for c in self.figures:
            lines.append(f"| {c.name} | {_number(c.before)} | {_number(c.after)} | {_signed(c)} |")
        for title, entries in self._tensor_lists():
            lines += ["", f"<details><summary>{title}</summary>", ""]
            lines += [f"- {_escape(entry)}" for entry in entries]
            lines += ["", "</details>"]
        return "\n".join(lines)

    def _tensor_lists(self) -> list[tuple[str, list[str]]]:
        lists = [
            (
                f"{len(self.moved)} tensors moved",
                [
                    f"{m.name}: {_place(m.before)} -> {_place(m.after)}"
                    for m in self.moved[:_MOVED_SHOWN]
                ],
                len(self.moved),
            ),
            (
                f"{len(self.appeared)} tensors appeared",
                [f"{t.name}: {_place(t)}" for t in self.appeared[:_MOVED_SHOWN]],
                len(self.appeared),
            ),
            (
                f"{len(self.vanished)} tensors vanished",
                [f"{t.name}: {_place(t)}" for t in self.vanished[:_MOVED_SHOWN]],
                len(self.vanished),
            ),
        ]
        shown = []
        for title, entries, count in lists:
            if count > len(entries):
                entries.append(f"and {count - len(entries)} more")
            if count:
                shown.append((title if count > 1 else title.replace("tensors", "tensor"), entries))
        return shown


def diff(before: Report, after: Report) -> ReportDiff:
    """Compares two reports; tensors are matched by name."""
    old, new = _by_name(before), _by_name(after)
    moved = [
        Moved(name, old[name], new[name])
        for name in old
        if name in new
        and (old[name].offset, old[name].size_bytes) != (new[name].offset, new[name].size_bytes)
    ]
    return ReportDiff(
        before=before.model,
        after=after.model,
        context=_context(before, after),
        figures=_figures(before, after),
        moved=tuple(moved),
        appeared=tuple(t for name, t in new.items() if name not in old),
        vanished=tuple(t for name, t in old.items() if name not in new),
        fits=(before.fits, after.fits),
    )


def _by_name(report: Report) -> dict[str, ReportTensor]:
    """Tensors by name; a name that occurs again gets a number."""
    seen: Counter[str] = Counter()
    named = {}
    for tensor in report.tensors:
        seen[tensor.name] += 1
        count = seen[tensor.name]
        named[tensor.name if count == 1 else f"{tensor.name} ({count})"] = tensor
    return named


def _context(before: Report, after: Report) -> tuple[tuple[str, str, str], ...]:
    names = ("board", "core", "runtime", "kernels")
    pairs = [(name, getattr(before, name), getattr(after, name)) for name in names]
    return tuple((n, a or "none", b or "none") for n, a, b in pairs if a != b)


def _figures(before: Report, after: Report) -> tuple[Change, ...]:
    def change(name: str, field: str, unit: str = "B") -> Change:
        return Change(name, getattr(before, field), getattr(after, field), unit)

    rows = [
        change("arena", "arena_bytes"),
        change("head", "head_bytes"),
        change("tail", "tail_bytes"),
        change("scratch", "scratch_bytes"),
        change("lower bound", "lower_bound_bytes"),
        change("arena in the wheel", "verified_arena_bytes"),
        change("limit", "limit_bytes"),
        change("flash", "flash_bytes"),
        change("MACs", "macs", ""),
        Change("operators", before.written_operators, after.written_operators, ""),
        Change("tensors", len(before.tensors), len(after.tensors), ""),
    ]
    if before.codes or after.codes:
        old, new = (sum(code.packed_bytes for code in r.codes) for r in (before, after))
        rows.append(Change("stored as codes", old, new, "B"))
    return tuple(row for row in rows if (row.before, row.after) != (None, None))


def _number(value: int | float | None) -> str:
    return "-" if value is None else f"{value:,}"


def _signed(change: Change) -> str:
    step = change.difference
    if step is None:
        return ""
    if step == 0:
        return "0"
    share = f" ({step / change.before:+.1%})" if change.before else ""
    return f"{step:+,}{share}"


def _place(tensor: ReportTensor) -> str:
    return f"[{tensor.offset}, {tensor.offset + tensor.size_bytes})"


def _code(text: str) -> str:
    # Backticks cannot be escaped inside a code span.
    return "`" + text.replace("`", "'") + "`"


def _escape(text: str) -> str:
    # "[0, 16)" is no link; names may hold what Markdown takes for emphasis or HTML.
    for character in "\\`*_<>[]":
        text = text.replace(character, "\\" + character)
    return text
