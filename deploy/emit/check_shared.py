"""``fmc verify`` for models that share an arena."""

from __future__ import annotations

from pathlib import Path

from deploy import flatbuffer
from deploy.backends.tflm.embed import embedded_offsets
from deploy.backends.tflm.several import predict_shared
from deploy.emit.check_folder import check_folder, compare
from deploy.emit.shared_folder import SHARED_PLAN_FILES, SHARED_REPORT_FILES, shared_files
from deploy.emit.written import MODEL_FILE, REPORT_FILE
from deploy.report.shared import SharedReport
from deploy.targets import HOST, target
from keras_fmc.errors import BadInputError, VerificationError

_REMEDY = "Plan the models again with fmc plan --share"


def is_shared(folder: str | Path) -> bool:
    """Whether a folder was written by ``fmc plan --share``, and its models fit."""
    if any((Path(folder) / name).is_file() for name in SHARED_PLAN_FILES):
        return True
    try:
        return read_shared(folder).fits
    except BadInputError:
        return False


def read_shared(folder: str | Path) -> SharedReport:
    """Reads the report of models that share an arena.

    Raises:
        BadInputError: it cannot be read.
    """
    path = Path(folder) / REPORT_FILE
    text = flatbuffer.read_content(path).decode("utf-8", "replace")
    return SharedReport.from_json(text, source=str(path))


def check_shared(folder: str | Path, *, source: str | None = None) -> str:
    """Checks the folder of each model, and that the arena they share follows from them.

    Raises:
        BadInputError: the folder cannot be read, or ``source`` names one model for several.
        VerificationError: a file is not what was planned, or a model does not run as planned.
    """
    if source is not None:
        raise BadInputError(
            f"{folder} holds several models",
            received=f"one source, {source}",
            remedy="Leave --source out, or verify the folder of one model",
        )
    report = read_shared(folder)
    _check_present(Path(folder), report)
    said, models = [], []
    for model in report.models:
        said.append(check_folder(Path(folder) / model.folder))
        path = Path(folder) / model.folder / MODEL_FILE
        graph = flatbuffer.read(flatbuffer.read_content(path), source=str(path))
        models.append((graph, embedded_offsets(graph)))
    goal = target(board=HOST, runtime=report.runtime, kernels=report.kernels)
    arena = predict_shared(models, target=goal)
    claimed = (
        report.arena_bytes,
        report.head_bytes,
        tuple(model.tail_bytes for model in report.models),
        tuple(model.used_bytes for model in report.models),
    )
    found = (arena.arena_bytes, arena.head_bytes, arena.tails, arena.used)
    if claimed != found:
        raise VerificationError(
            f"{Path(folder) / REPORT_FILE} is not what the models say",
            expected=str(found),
            received=str(claimed),
            remedy=_REMEDY,
        )
    for name, wanted in shared_files(report).items():
        compare(Path(folder) / name, wanted, flatbuffer.read_content(Path(folder) / name))
    return "\n".join([*said, f"{folder}: the shared arena of {arena.arena_bytes:,} B holds them"])


def _check_present(folder: Path, report: SharedReport) -> None:
    parts = [model.folder for model in report.models]
    for name in (*parts, *SHARED_PLAN_FILES, *SHARED_REPORT_FILES):
        if not (folder / name).exists():
            raise VerificationError(
                f"{folder / name} is missing",
                expected=", ".join((*parts, *SHARED_PLAN_FILES, *SHARED_REPORT_FILES)),
                remedy=_REMEDY,
            )
