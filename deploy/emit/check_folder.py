"""``fmc verify``: does a folder still hold what was planned, and does it run as its report says?

Every file is compared with what report and model say it must be, so that a changed byte in any of
them is named before the model runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.embed import embedded_offsets, without_plan
from deploy.backends.tflm.several import predict_two
from deploy.emit.folder import firmware_files, report_files
from deploy.emit.written import FIRMWARE_FILES, MODEL_FILE, REPORT_FILE, REPORT_FILES
from deploy.graph import Graph
from deploy.proof.evidence import collect
from deploy.report.report import Report
from deploy.report.summary import model_keys, tensor_keys
from deploy.targets import HOST, target
from keras_fmc.errors import BadInputError, VerificationError

_REMEDY = "Plan the model again with fmc plan, or verify with the fmc that wrote the folder"
_SHOWN = 60


def check_folder(folder: str | Path, *, source: str | None = None) -> str:
    """Checks every file of a folder and runs its model; returns what was seen.

    The outputs are compared with those of the source model: ``source``, or the model that the
    report names where that is a .tflite file still in its place, or else the emitted model
    without its plan.

    Raises:
        BadInputError: the folder cannot be read, or holds no planned model.
        VerificationError: a file is missing or is not what report and model say, the model does
            not run in the size that is claimed, or an output differs.
    """
    found = _contents(Path(folder))
    report = _report(found, folder)
    content = found[MODEL_FILE]
    _check_model(found, report, folder)
    graph = flatbuffer.read(content, source=str(Path(folder) / MODEL_FILE))
    _check_keys(report, graph, content, folder)
    for name, wanted in (report_files(report) | firmware_files(report, content, graph)).items():
        compare(Path(folder) / name, wanted, found[name])
    return _run(report, graph, content, folder, source)


def _contents(folder: Path) -> dict[str, bytes]:
    """Returns the files by name; where one is missing the others say whose folder it is."""
    names = (*REPORT_FILES, *FIRMWARE_FILES)
    found = {}
    for name in names:
        try:
            found[name] = (folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise BadInputError(
                f"cannot read {folder / name}", received=error.strerror, remedy="Check the path"
            ) from error
    if REPORT_FILE not in found and MODEL_FILE not in found:
        raise BadInputError(
            f"cannot read {folder / REPORT_FILE}",
            expected="a folder that fmc plan wrote with --out",
            remedy="Check the path",
        )
    fits = _claims_to_fit(found.get(REPORT_FILE))
    missing = [name for name in (names if fits else REPORT_FILES) if name not in found]
    if missing:
        raise VerificationError(
            f"{folder / missing[0]} is missing",
            expected=", ".join(names if fits else REPORT_FILES),
            remedy=_REMEDY,
        )
    return found


def _claims_to_fit(text: bytes | None) -> bool:
    """Whether a report is there, whole or not, that does not tell of a model that does not fit."""
    return text is None or b'\n  "fits": false,\n' not in text


def _report(found: Mapping[str, bytes], folder: str | Path) -> Report:
    path = Path(folder) / REPORT_FILE
    try:
        text = found[REPORT_FILE].decode()
        report = Report.from_json(text, source=str(path))
        claimed = json.loads(text).get("sha256")
    except (UnicodeDecodeError, BadInputError) as error:
        what = error.what if isinstance(error, BadInputError) else f"{path} is not text"
        raise VerificationError(f"{what}: it was changed", remedy=_REMEDY) from error
    written = report.to_json()
    digest = json.loads(written)["sha256"]
    if claimed != digest:
        raise VerificationError(
            f"{path} is not what was written: the SHA-256 of its keys differs",
            expected=digest,
            received=claimed,
            remedy=_REMEDY,
        )
    compare(path, written, found[REPORT_FILE])
    if not report.fits:
        raise BadInputError(
            f"{path} tells of a model that does not fit",
            received=f"{report.bytes_over} bytes over",
            remedy="There is no model to verify; plan it for a larger memory first",
        )
    return report


def _check_model(found: Mapping[str, bytes], report: Report, folder: str | Path) -> None:
    path, content = Path(folder) / MODEL_FILE, found[MODEL_FILE]
    digest = hashlib.sha256(content).hexdigest()
    if digest == report.model_sha256:
        return
    rows = re.findall(rb"0x([0-9a-f]{2})", found["model_data.cc"])
    array = bytes(int(item, 16) for item in rows)
    if hashlib.sha256(array).hexdigest() == report.model_sha256:
        compare(path, array, content)
    raise VerificationError(
        f"{path} is not the model of the report: its SHA-256 differs",
        expected=report.model_sha256,
        received=digest,
        remedy=_REMEDY,
    )


def _check_keys(report: Report, graph: Graph, content: bytes, folder: str | Path) -> None:
    """Compares the report with what follows from the model and the names of its target."""
    goal = target(board=HOST, runtime=report.runtime, kernels=report.kernels)
    offsets = embedded_offsets(graph)
    if offsets is None or len(offsets) != len(graph.tensors):
        raise VerificationError(
            f"{Path(folder) / MODEL_FILE} has no plan inside",
            expected=f"{len(graph.tensors)} offsets",
            received=None if offsets is None else len(offsets),
            remedy=_REMEDY,
        )
    predict = predict_arena if report.head_arena_bytes is None else predict_two
    wanted: dict[str, Any] = model_keys(
        graph,
        content,
        predict(graph, offsets=offsets, target=goal),
        predict_arena(graph, offsets=offsets, target=target(board=HOST)),
    )
    for key, value in wanted.items():
        _same(f"{Path(folder) / REPORT_FILE}: {key}", value, getattr(report, key))
    places = tensor_keys(graph, offsets)
    _same(f"{Path(folder) / REPORT_FILE}: number of tensors", len(places), len(report.tensors))
    for number, (place, tensor) in enumerate(zip(places, report.tensors, strict=True)):
        for key, value in place.items():
            where = f"{Path(folder) / REPORT_FILE}: tensors[{number}].{key}"
            _same(where, value, getattr(tensor, key))


def _same(where: str, wanted: object, received: object) -> None:
    if wanted == received:
        return
    if isinstance(wanted, tuple) and isinstance(received, tuple) and len(wanted) == len(received):
        pairs = enumerate(zip(wanted, received, strict=True))
        number, (wanted, received) = next(p for p in pairs if p[1][0] != p[1][1])
        where = f"{where}[{number}]"
    raise VerificationError(
        f"{where} is not what {MODEL_FILE} says",
        expected=_short(str(wanted)),
        received=_short(str(received)),
        remedy=_REMEDY,
    )


def compare(path: Path, wanted: bytes | str, found: bytes) -> None:
    """Raises VerificationError with the first difference of a file."""
    right = wanted.encode() if isinstance(wanted, str) else wanted
    if right == found:
        return
    at = next(
        (i for i, (a, b) in enumerate(zip(right, found, strict=False)) if a != b),
        min(len(right), len(found)),
    )
    is_text = path.suffix != ".tflite"
    line = f", line {right.count(10, 0, at) + 1}" if is_text else ""
    raise VerificationError(
        f"{path} is not what report and model say, from byte {at}{line}",
        expected=_excerpt(right, at, is_text),
        received=_excerpt(found, at, is_text),
        remedy=_REMEDY,
    )


def _excerpt(data: bytes, at: int, is_text: bool) -> str:
    if at >= len(data):
        return "its end"
    if not is_text:
        return f"0x{data[at]:02x}"
    line = data[data.rfind(b"\n", 0, at) + 1 :].split(b"\n", 1)[0]
    return _short(repr(line.decode("utf-8", "replace").strip()))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _run(
    report: Report, graph: Graph, content: bytes, folder: str | Path, source: str | None
) -> str:
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
            remedy=_REMEDY,
        )
    against = source or "the same model without its plan"
    return f"{folder}: every file is as planned; {evidence.reason}; compared with {against}"


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadInputError(
            f"cannot read {path}", received=error.strerror, remedy="Check the path"
        ) from error
