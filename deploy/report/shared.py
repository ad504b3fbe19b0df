"""The report of models that share an arena: one number, what each adds, what other ways need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.report.report import Report
from deploy.report.sizes import columns
from keras_fmc.printable import one_line
from keras_fmc.sizes import format_size


@dataclass(frozen=True, slots=True)
class SharedModel:
    """A model among those that share an arena; keys as in its own report.json.

    Attributes:
        model: the file that was planned.
        folder: of its own files, below that of the report.
        arena_bytes: what it would need alone, with this plan.
        head_bytes: its part of the arena that operators reuse.
        tail_bytes: what it adds to the tail that all of them have.
        used_bytes: what ``arena_used_bytes()`` says once it and those before it are ready.
        flash_bytes: size of its ``model.tflite``.
        macs: multiply-accumulates of one inference.
        strips: whether it runs strip by strip.
        verified: whether it ran, alone, in TFLM with equal outputs.
        bit_exact: whether its outputs equal those of the model as it was, or null.
    """

    model: str
    folder: str
    arena_bytes: int
    head_bytes: int
    tail_bytes: int
    used_bytes: int
    flash_bytes: int
    macs: int
    strips: bool
    verified: bool
    bit_exact: bool | None = None


@dataclass(frozen=True, slots=True)
class SharedReport:
    """What ``report.json`` of ``fmc plan A B --share`` holds.

    Attributes:
        models: in the order in which they are made ready.
        board: by the name that ``fmc boards`` lists.
        core: processor of the board.
        runtime: version of TensorFlow Lite Micro.
        kernels: kernel library.
        target: what the figures hold for, on one line.
        arena_bytes: the N of the one ``uint8_t tensor_arena[N]``: the largest head, all tails, or
            more where allocation itself needs it, rounded up to 16.
        head_bytes: the largest head; one model at a time runs in it.
        tail_bytes: the tails of all.
        flash_bytes: of all models.
        separate_bytes: what arenas of their own would need together.
        in_turn_bytes: what one arena needs in which an interpreter is made anew at every change of
            model; what models keep between inferences is lost then.
        fits: whether the arena is within the limit; true without one.
        limit_bytes: what the arena may use; null: nothing limits it.
        limit_source: where the limit comes from.
        warnings: of the models, behind their names.
    """

    models: tuple[SharedModel, ...]
    board: str
    core: str
    runtime: str
    kernels: str
    target: str
    arena_bytes: int
    head_bytes: int
    tail_bytes: int
    flash_bytes: int
    separate_bytes: int
    in_turn_bytes: int
    fits: bool
    limit_bytes: int | None = None
    limit_source: str = ""
    warnings: tuple[str, ...] = field(default=())

    @property
    def bytes_over(self) -> int:
        return 0 if self.limit_bytes is None else max(0, self.arena_bytes - self.limit_bytes)

    def to_json(self) -> str:
        """Returns report.json, as `Report.to_json` does."""
        from deploy.report.codec import encode

        return encode(self)

    @staticmethod
    def from_json(text: str, *, source: str = "report") -> SharedReport:
        """Reads what ``to_json`` wrote.

        Raises:
            BadInputError: not JSON, or a key is missing or holds the wrong type.
        """
        from deploy.report.codec import decode_as

        return decode_as(SharedReport, text, source=source)


def shared_model(
    report: Report, *, folder: str, head_bytes: int, tail_bytes: int, used_bytes: int
) -> SharedModel:
    """Returns the row of a model, from its own report and what it adds to the shared arena."""
    return SharedModel(
        model=report.model,
        folder=folder,
        arena_bytes=report.arena_bytes,
        head_bytes=head_bytes,
        tail_bytes=tail_bytes,
        used_bytes=used_bytes,
        flash_bytes=report.flash_bytes,
        macs=report.macs,
        strips=bool(report.regions),
        verified=report.verified,
        bit_exact=report.bit_exact,
    )


def summary(report: SharedReport) -> str:
    """Returns the first line: the models, and whether they fit."""
    names = ", ".join(one_line(model.model) for model in report.models)
    arena = format_size(report.arena_bytes)
    if report.limit_bytes is None:
        return f"{names}: No limit was given. They share an arena of {arena}."
    limit = f"{format_size(report.limit_bytes)} ({report.limit_source})"
    if report.fits:
        left = format_size(report.limit_bytes - report.arena_bytes)
        return f"{names}: Fit. They share {arena} of {limit}, {left} left."
    over = format_size(report.bytes_over)
    return f"{names}: Do not fit. They share {arena}, {over} over the {limit}."


def to_text(report: SharedReport) -> str:
    """Returns report.txt without a final newline."""
    rows: list[Sequence[str]] = [
        ("model", "head", "adds to the tail", "alone", "strips", "verified alone")
    ]
    rows += [
        (
            one_line(model.model),
            f"{model.head_bytes:,}",
            f"{model.tail_bytes:,}",
            f"{model.arena_bytes:,}",
            "yes" if model.strips else "no",
            "yes" if model.verified else "no",
        )
        for model in report.models
    ]
    rows.append(("together", f"{report.head_bytes:,}", f"{report.tail_bytes:,}", "", "", ""))
    lines = [
        summary(report),
        f"  for {report.target}",
        "",
        f"  uint8_t tensor_arena[{report.arena_bytes}];   // aligned to 16 bytes",
        "",
        "  One MicroAllocator, given to an interpreter for each model, made ready in this order.",
        "  One model at a time may run: the next one overwrites its outputs.",
        *(f"  warning: {warning}" for warning in report.warnings),
        "",
        *columns(rows, right=(1, 2, 3)),
        "",
        f"  arenas of their own:                            {report.separate_bytes:,} B",
        f"  an interpreter made anew at every change:       {report.in_turn_bytes:,} B",
    ]
    return "\n".join(lines)
