"""The way of a model on one screen: read, pass, place, embed, verify, report, emit."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy import flatbuffer
from deploy.backends.tflm.defects import warnings_of
from deploy.backends.tflm.embed import embed, embedded_offsets, without_plan
from deploy.effort import Guard, effort_named
from deploy.emit.earlier import refuse_overwriting, replacing
from deploy.emit.files import discard
from deploy.emit.written import ALL_FILES, FIRMWARE_FILES, MODEL_FILE, REPORT_FILE
from deploy.outcome import Planned
from deploy.passes import run_passes
from deploy.passes.reference_versions import with_reference_versions
from deploy.passes.short_names import shorten_names
from deploy.progress import Progress
from deploy.proof.evidence import Evidence, collect
from deploy.proof.source import SourceFile
from deploy.report.report import Report
from deploy.settings import PlanSettings, takes_settings
from deploy.supported import check_supported, float_warnings
from deploy.targets import target
from deploy.ways import best_plan
from keras_fmc.errors import BadInputError, DoesNotFitError

if TYPE_CHECKING:
    import keras
    import numpy as np

    from deploy.graph import Graph
    from deploy.proof.source import SourceRun
    from deploy.targets import Target

_LOG = logging.getLogger("keras_fmc")


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: the report, the planned model, and the names of the files written."""

    report: Report
    content: bytes | None = field(repr=False)
    files: tuple[str, ...] = ()

    def evaluate(
        self,
        x: Any,
        y: Any,
        *,
        metrics: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] | None = None,
        progress: bool | None = None,
    ) -> dict[str, float]:
        """Returns metrics of the planned model on samples with known answers
        (`deploy.evaluate`)."""
        from deploy.evaluate import evaluate

        return evaluate(self, x, y, metrics=metrics, progress=progress)

    @property
    def exit_code(self) -> int:
        return 0 if self.report.fits else DoesNotFitError.exit_code

    def metrics(self) -> dict[str, float]:
        """Returns the numbers of the report as a flat dict."""
        return self.report.metrics()

    def to_dataframe(self) -> Any:
        """Returns the tensors in the arena as a pandas.DataFrame."""
        return self.report.to_dataframe()

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


@takes_settings
def plan(model: str | Path | bytes, *, out: str | Path | None = None, **settings: object) -> Result:
    """Plans an int8 .tflite, given as a path or as bytes; keywords are those of PlanSettings.

    Raises:
        BadInputError, UnsupportedModelError: the model or a setting cannot be used.
        VerificationError: the plan failed its check; nothing is left in ``out``.
    """
    chosen = PlanSettings(**settings)  # type: ignore[arg-type]
    if isinstance(model, bytes):
        with replacing(out, _names(chosen, "model"), sources=[chosen.board_file]) as earlier:
            return _plan_bytes(model, chosen, name="model", out=out, earlier=earlier)
    return plan_file(model, chosen, out=out)


@takes_settings
def convert(
    model: keras.Model,
    *,
    calibration: np.ndarray | None = None,
    input_type: str = "int8",
    output_type: str = "int8",
    out: str | Path | None = None,
    **settings: object,
) -> Result:
    """Converts a Keras model, quantised or with ``calibration``, and plans it.

    Inputs and outputs are int8, or "uint8" or "float32" (`deploy.end_types`). Other keywords are
    those of PlanSettings.

    Raises:
        BadInputError, UnsupportedModelError: the model, the samples or a setting cannot be used.
        VerificationError: the plan failed its check; nothing is left in ``out``.
    """
    from deploy.convert import to_int8_tflite

    chosen = PlanSettings(**settings)  # type: ignore[arg-type]
    with replacing(out, _names(chosen, model.name), sources=[chosen.board_file]) as earlier:
        chosen.target()
        content = to_int8_tflite(
            model, calibration=calibration, input_type=input_type, output_type=output_type
        )
        return _plan_bytes(content, chosen, name=model.name, out=out, earlier=earlier)


def plan_file(path: str | Path, settings: PlanSettings, *, out: str | Path | None = None) -> Result:
    """Plans an int8 .tflite file."""
    with replacing(out, _names(settings, path), sources=[path, settings.board_file]) as earlier:
        content = _read(path)
        return _plan_bytes(content, settings, name=str(path), out=out, earlier=earlier)


def convert_file(
    path: str | Path,
    settings: PlanSettings,
    *,
    calibration: str | None,
    input_type: str = "int8",
    output_type: str = "int8",
    out: str | Path | None = None,
) -> Result:
    """Converts and plans a Keras model file; ``calibration`` is a .npy file of samples."""
    from deploy.convert import convert_path

    sources = [path, calibration, settings.board_file]
    with replacing(out, _names(settings, path), sources=sources) as earlier:
        settings.target()
        content = convert_path(
            path, calibration=calibration, input_type=input_type, output_type=output_type
        )
        return _plan_bytes(content, settings, name=str(path), out=out, earlier=earlier)


def verify(folder: str | Path, *, source: str | None = None) -> str:
    """Checks every file of a folder and runs its model in TFLM; returns what was seen.

    The outputs are compared with those of the source model: ``source``, or the model that the
    report names where that is a .tflite file still in its place, or else the emitted model
    without its plan.

    Raises:
        BadInputError: the folder cannot be read, or holds no planned model.
        VerificationError: a file is missing or is not what report and model say, the model does
            not run in the size that is claimed, or an output differs.
    """
    from deploy.emit.check_folder import check_folder
    from deploy.emit.check_shared import check_shared, is_shared
    from deploy.emit.generated_c import is_generated, verify_c

    if is_shared(folder):
        return check_shared(folder, source=source)
    if is_generated(folder):
        return verify_c(folder, read_report(Path(folder) / REPORT_FILE), source=source)
    return check_folder(folder, source=source)


def read_report(path: str | Path) -> Report:
    """Reads a report.json."""
    return Report.from_json(_read(path).decode("utf-8", "replace"), source=str(path))


def emit_project(
    folder: str | Path,
    *,
    kind: str,
    out: str | Path,
    board_file: str | Path | None = None,
    data: str | None = None,
    stop: bool | None = None,
) -> tuple[str, ...]:
    """Writes a firmware project of the given kind around an emitted model.

    The other arguments are those of ``deploy.emit.skeleton.project_files``.
    """
    from deploy.emit.c_project import c_project_files, c_sources
    from deploy.emit.check_shared import is_shared
    from deploy.emit.files import write_all
    from deploy.emit.generated_c import is_generated
    from deploy.emit.skeleton import project_files

    if is_shared(folder):
        return _emit_shared(folder, kind=kind, out=out, board_file=board_file, stop=stop)
    report = read_report(Path(folder) / REPORT_FILE)
    if is_generated(folder):
        names = c_sources(folder, report)
        sources = {name: _read(Path(folder) / name) for name in names}
        files = c_project_files(kind, report=report, sources=sources, board_file=board_file)
        refuse_overwriting(out, tuple(files), sources=[Path(folder) / name for name in names])
        return tuple(str(p.relative_to(out)) for p in write_all(out, files))
    read = [Path(folder) / name for name in (*FIRMWARE_FILES, REPORT_FILE)]
    files = project_files(
        kind,
        report=report,
        sources={name: _read(Path(folder) / name) for name in FIRMWARE_FILES},
        graph=flatbuffer.read(_read(Path(folder) / MODEL_FILE)),
        board_file=board_file,
        data=data,
        stop=stop,
    )
    refuse_overwriting(out, tuple(files), sources=read)
    return tuple(str(p.relative_to(out)) for p in write_all(out, files))


def _emit_shared(
    folder: str | Path,
    *,
    kind: str,
    out: str | Path,
    board_file: str | Path | None,
    stop: bool | None,
) -> tuple[str, ...]:
    """A project around models that share an arena."""
    from deploy.emit.files import write_all
    from deploy.emit.shared_project import shared_project_files, shared_sources

    found = shared_sources(folder, read=_read)
    files = shared_project_files(kind, found, board_file=board_file, stop=stop)
    refuse_overwriting(out, tuple(files), sources=found.read)
    return tuple(str(p.relative_to(out)) for p in write_all(out, files))


def _plan_bytes(
    content: bytes,
    settings: PlanSettings,
    *,
    name: str,
    out: str | Path | None,
    earlier: Sequence[str],
) -> Result:
    goal = settings.target()
    effort_named(settings.effort)
    if out is not None:
        _prepare(out)
    with Progress(enabled=settings.progress) as progress:
        ran = run_as_it_is(content, settings, name, progress)
        if settings.generates_c:
            return _plan_c(ran, settings, goal, name, out, earlier)
        report, planned = plan_ran(ran, settings, goal, name, progress)
    if out is None:
        return Result(report, planned.content if report.fits else None)
    files = _emit(report, planned, out)
    discard(out, (name for name in earlier if name not in files))
    return Result(report, planned.content if report.fits else None, files)


@dataclass(frozen=True, slots=True)
class Ran:
    """A model as it is in its file, read and run.

    Attributes:
        source: its graph, without the plan that it may bring.
        content: what TensorFlow Lite Micro ran: the file, or the file with stand-ins.
        run: what it computes.
        baseline: the unchanged model with its own plan, or without one.
        own_offsets: the plan that it brings, or None.
    """

    source: Graph
    content: bytes
    run: SourceRun
    baseline: bytes
    own_offsets: tuple[int, ...] | None


def run_as_it_is(content: bytes, settings: PlanSettings, name: str, progress: Progress) -> Ran:
    """Reads a model, checks that it can be planned, and runs it.

    Raises:
        BadInputError, UnsupportedModelError: the model cannot be used.
    """
    file = SourceFile.read(content, source=name)
    source = file.graph
    check_supported(source, source=name, customs=settings.customs)
    progress.say("running the model as it is")
    if settings.strips and not settings.generates_c:
        from deploy.backends.tflm.strips.workers import start_early

        start_early(source)
    bare, own = without_plan(source), embedded_offsets(source)
    ran = file.run(
        without_plan=None if own is None else flatbuffer.write(bare),
        defects=warnings_of(source, target(board="host").kernels),
    )
    ran = replace(ran, warnings=(*ran.warnings, *float_warnings(source)))
    # Where the plan that the model brings is wrong, a warning says so.
    own = own if ran.content == file.content else None
    source = with_reference_versions(bare)
    baseline = flatbuffer.write(source if own is None else embed(source, own))
    return Ran(source, file.content, ran, baseline, own)


def plan_ran(
    ran: Ran, settings: PlanSettings, goal: Target, name: str, progress: Progress
) -> tuple[Report, Planned]:
    """Plans a model for TFLM; proves, runs and reports the plan.

    Raises:
        UnsupportedModelError: the data of the target do not cover the model.
        VerificationError: every plan failed its check.
    """
    from deploy.backends.c.build import quick_static_bytes
    from deploy.report.summary import make_report

    source = shorten_names(ran.source)
    generated_c: list[Future[int | None]] = []

    def run(planned: Planned) -> Evidence:
        if not generated_c:
            # The model runs in another process; this one would only wait for it.
            generated_c.append(beside.submit(quick_static_bytes, run_passes(source)))
        predicted = planned.wheel.arena_bytes
        return collect(planned.content, ran.run, graph=ran.source, predicted_bytes=predicted)

    with ThreadPoolExecutor(max_workers=1) as beside, Guard(settings.time_limit) as guard:
        checked = best_plan(
            ran.source, goal, settings, progress, own_offsets=ran.own_offsets, run=run, guard=guard
        )
    report = make_report(
        name=name,
        source=source,
        baseline=ran.baseline,
        own_offsets=ran.own_offsets,
        planned=checked.planned,
        prepared=checked.prepared,
        goal=goal,
        settings=settings,
        evidence=checked.evidence,
        generated_c_bytes=generated_c[0].result(),
        interrupted=guard.reason,
    )
    for warning in report.warnings:
        _LOG.warning("%s: %s", name, warning)
    _LOG.info("%s: arena %d bytes for %s", name, report.arena_bytes, report.target)
    return report, checked.planned


def _plan_c(
    ran: Ran,
    settings: PlanSettings,
    goal: Target,
    name: str,
    out: str | Path | None,
    earlier: Sequence[str],
) -> Result:
    """Runtime c: a row program instead of strips, C files instead of a .tflite."""
    from deploy.emit.files import write_all
    from deploy.emit.folder import report_files
    from deploy.emit.generated_c import c_report, plan_c

    fed = settings.input == "rows"
    made = plan_c(
        ran.source,
        ran.run,
        name=Path(name).stem,
        fed=fed,
        passes=settings.passes,
        library=settings.c_library(),
        max_macs=settings.max_macs,
    )
    report = c_report(
        made,
        source=ran.source,
        baseline=(ran.baseline, ran.own_offsets),
        name=name,
        goal=goal,
        settings=settings,
    )
    if out is None:
        return Result(report, None)
    files = report_files(report)
    if report.fits:
        files |= made.model.files
        if not Path(name).is_file() or Path(name).suffix != ".tflite":
            # The model that the C was made of is in no file yet, and fmc verify asks for it.
            files[MODEL_FILE] = ran.content
    written = tuple(sorted(path.name for path in write_all(out, files)))
    discard(out, (name for name in earlier if name not in files))
    return Result(report, None, written)


def _names(settings: PlanSettings, name: str | Path) -> tuple[str, ...]:
    """Returns the names of all files that a run may write."""
    if not settings.generates_c:
        return ALL_FILES
    from deploy.backends.c.build import file_names

    return tuple(dict.fromkeys((*ALL_FILES, *file_names(Path(name).stem))))


def _emit(report: Report, planned: Planned, out: str | Path) -> tuple[str, ...]:
    from deploy.emit.files import write_all
    from deploy.emit.folder import firmware_files, report_files

    files = report_files(report)
    if report.fits:
        files |= firmware_files(report, planned.content, planned.graph)
    return tuple(sorted(path.name for path in write_all(out, files)))


def _prepare(out: str | Path) -> None:
    """Makes sure the folder can be written."""
    from deploy.emit.files import write_all

    write_all(out, {})
    if not os.access(out, os.W_OK | os.X_OK):
        raise BadInputError(
            f"cannot write {out}", remedy="Give a folder that can be written with --out"
        )


def _read(path: str | Path) -> bytes:
    return flatbuffer.read_content(path)
