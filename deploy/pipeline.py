"""The way of a model on one screen: read, pass, place, embed, verify, report, emit."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.embed import embed, without_plan
from deploy.backends.tflm.prepare import prepare
from deploy.outcome import Planned, Prepared
from deploy.passes.reference_versions import with_reference_versions
from deploy.progress import Progress
from deploy.proof.evidence import collect
from deploy.report.report import Report
from deploy.settings import PlanSettings
from deploy.supported import check_supported
from deploy.targets import Target, target
from keras_fmc.errors import BadInputError, DoesNotFitError, VerificationError

if TYPE_CHECKING:
    import keras
    import numpy as np

    from deploy.graph import Graph

MODEL_FILE = "model.tflite"
REPORT_FILE = "report.json"
_FIRMWARE_FILES = (
    MODEL_FILE,
    "model_data.h",
    "model_data.cc",
    "arena_plan.h",
    "arena_plan.c",
    "plan_check.h",
    "plan_check.c",
)
_REPORT_FILES = ("report.txt", REPORT_FILE, "report.html")


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: the report, the planned model, and the names of the files written."""

    report: Report
    content: bytes | None = field(repr=False)
    files: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return 0 if self.report.fits else DoesNotFitError.exit_code


def plan(model: str | Path | bytes, *, out: str | Path | None = None, **settings: object) -> Result:
    """Plans an int8 .tflite, given as a path or as bytes; keywords are those of PlanSettings.

    Raises:
        BadInputError, UnsupportedModelError: the model or a setting cannot be used.
        VerificationError: the plan failed its check; nothing is left in ``out``.
    """
    chosen = PlanSettings(**settings)  # type: ignore[arg-type]
    if isinstance(model, bytes):
        return _plan_bytes(model, chosen, name="model", out=out)
    return plan_file(model, chosen, out=out)


def convert(
    model: keras.Model,
    *,
    calibration: np.ndarray | None = None,
    out: str | Path | None = None,
    **settings: object,
) -> Result:
    """Converts a Keras model, quantised or with ``calibration``, and plans it.

    Keywords are those of PlanSettings.

    Raises:
        BadInputError, UnsupportedModelError: the model, the samples or a setting cannot be used.
        VerificationError: the plan failed its check; nothing is left in ``out``.
    """
    from deploy.convert import to_int8_tflite

    chosen = PlanSettings(**settings)  # type: ignore[arg-type]
    chosen.target()
    content = to_int8_tflite(model, calibration=calibration)
    return _plan_bytes(content, chosen, name=model.name, out=out)


def plan_file(path: str | Path, settings: PlanSettings, *, out: str | Path | None = None) -> Result:
    """Plans an int8 .tflite file."""
    content = _read(path)
    return _plan_bytes(content, settings, name=str(path), out=out)


def convert_file(
    path: str | Path,
    settings: PlanSettings,
    *,
    calibration: str | None,
    out: str | Path | None = None,
) -> Result:
    """Converts and plans a Keras model file; ``calibration`` is a .npy file of samples."""
    from deploy.convert import convert_path

    settings.target()
    content = convert_path(path, calibration=calibration)
    return _plan_bytes(content, settings, name=str(path), out=out)


def verify(folder: str | Path, *, source: str | None = None) -> str:
    """Runs an emitted model in TFLM at exactly the size its report claims; returns what was seen.

    The outputs are compared with those of the source model: ``source``, or the model that the
    report names where that is a .tflite file still in its place, or else the emitted model
    without its plan.

    Raises:
        BadInputError: the folder does not hold an emitted model.
        VerificationError: it does not run in that size, or an output differs.
    """
    report = read_report(Path(folder) / REPORT_FILE)
    content = _read(Path(folder) / MODEL_FILE)
    graph = flatbuffer.read(content, source=str(Path(folder) / MODEL_FILE))
    if source is None and report.model.endswith(".tflite") and Path(report.model).exists():
        source = report.model
    original = flatbuffer.write(without_plan(graph)) if source is None else _read(source)
    claimed = report.verified_arena_bytes or report.predicted_arena_bytes_wheel or 0
    evidence = collect(content, original, graph=graph, predicted_bytes=claimed)
    if evidence.arena_bytes is not None and evidence.arena_bytes != claimed:
        raise VerificationError(
            f"{folder} does not run in the arena its report claims",
            expected=f"{claimed} bytes in the wheel",
            received=f"{evidence.arena_bytes} bytes",
            remedy="Plan the model again with fmc plan",
        )
    against = source or "the same model without its plan"
    return f"{folder}: {evidence.reason}; compared with {against}"


def read_report(path: str | Path) -> Report:
    """Reads a report.json."""
    return Report.from_json(_read(path).decode("utf-8", "replace"), source=str(path))


def emit_project(folder: str | Path, *, kind: str, out: str | Path) -> tuple[str, ...]:
    """Writes a firmware project of the given kind around an emitted model."""
    from deploy.emit.files import write_all
    from deploy.emit.skeleton import project_files

    files = project_files(
        kind,
        report=read_report(Path(folder) / REPORT_FILE),
        sources={name: _read(Path(folder) / name) for name in _FIRMWARE_FILES},
        graph=flatbuffer.read(_read(Path(folder) / MODEL_FILE)),
    )
    return tuple(str(p.relative_to(out)) for p in write_all(out, files))


def _plan_bytes(
    content: bytes, settings: PlanSettings, *, name: str, out: str | Path | None
) -> Result:
    from deploy.report.summary import make_report

    goal = settings.target()
    if out is not None:
        _prepare(out)
    source = flatbuffer.read(content, source=name)
    check_supported(source, source=name)
    source = with_reference_versions(without_plan(source))
    if settings.generates_c:
        return _plan_c(source, settings, goal, name=name, out=out)
    with Progress(enabled=settings.progress) as progress:
        prepared = prepare(source, goal, settings, progress)
        planned = _embed(prepared, goal)
        progress.say("running it in TFLM")
        baseline = flatbuffer.write(source)
        evidence = collect(
            planned.content,
            baseline,
            graph=source,
            predicted_bytes=planned.wheel.arena_bytes,
        )
        report = make_report(
            name=name,
            source=source,
            baseline=baseline,
            planned=planned,
            prepared=prepared,
            goal=goal,
            settings=settings,
            evidence=evidence,
        )
    if out is None:
        return Result(report, planned.content if report.fits else None)
    files = _emit(report, planned, goal, out)
    return Result(report, planned.content if report.fits else None, files)


def _plan_c(
    source: Graph, settings: PlanSettings, goal: Target, *, name: str, out: str | Path | None
) -> Result:
    """Runtime c: a row program instead of strips, C files instead of a .tflite."""
    from deploy.emit.files import discard, write_all
    from deploy.emit.generated_c import c_report, plan_c
    from deploy.report.html import to_html
    from deploy.report.text import to_text

    with Progress(enabled=settings.progress) as progress:
        made = plan_c(source, name=Path(name).stem, fed=settings.input == "rows", progress=progress)
        report = c_report(made, source=source, name=name, goal=goal, settings=settings)
    if out is None:
        return Result(report, None)
    files: dict[str, bytes | str] = {
        "report.txt": to_text(report) + "\n",
        REPORT_FILE: report.to_json(),
        "report.html": to_html(report),
    }
    discard(out, made.all_files)
    if report.fits:
        files |= made.model.files
    return Result(report, None, tuple(sorted(path.name for path in write_all(out, files))))


def _embed(prepared: Prepared, goal: Target) -> Planned:
    offsets = prepared.memory.offsets
    embedded = embed(prepared.graph, offsets)
    return Planned(
        graph=embedded,
        memory=prepared.memory,
        content=flatbuffer.write(embedded),
        arena=predict_arena(embedded, offsets=offsets, target=goal),
        wheel=predict_arena(embedded, offsets=offsets, target=target(board="host")),
    )


def _emit(report: Report, planned: Planned, goal: Target, out: str | Path) -> tuple[str, ...]:
    from deploy.emit.files import write_all
    from deploy.emit.model_data import model_data_files
    from deploy.emit.plan_check import plan_check_files
    from deploy.proof.arena_plan import ArenaSizes, arena_plan_files
    from deploy.report.html import to_html
    from deploy.report.text import to_text

    files: dict[str, bytes | str] = {
        "report.txt": to_text(report) + "\n",
        REPORT_FILE: report.to_json(),
        "report.html": to_html(report),
    }
    if report.fits:
        sizes = ArenaSizes(
            arena_bytes=report.arena_bytes,
            head_bytes=report.head_bytes,
            tail_bytes=report.tail_bytes,
            target=goal.describe(),
            limit_bytes=report.limit_bytes,
            limit_source=report.limit_source,
        )
        name = Path(report.model).stem
        labels = [planned.graph.label(i) for i in range(len(planned.graph.operators))]
        files |= {MODEL_FILE: planned.content}
        files |= model_data_files(planned.content, model_name=name) | plan_check_files()
        files |= arena_plan_files(planned.memory, sizes, model_name=name, operators=labels)
    return tuple(sorted(path.name for path in write_all(out, files)))


def _prepare(out: str | Path) -> None:
    """Makes sure the folder can be written and holds nothing of an earlier run."""
    from deploy.emit.files import discard, write_all

    write_all(out, {})
    if not os.access(out, os.W_OK | os.X_OK):
        raise BadInputError(
            f"cannot write {out}", remedy="Give a folder that can be written with --out"
        )
    discard(out, (*_FIRMWARE_FILES, *_REPORT_FILES))


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadInputError(
            f"cannot read {path}", received=error.strerror, remedy="Check the path"
        ) from error
