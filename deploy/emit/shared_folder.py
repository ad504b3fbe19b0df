"""What the folder of models that share an arena holds, beside a folder for each of them."""

from __future__ import annotations

from pathlib import Path

from deploy.emit.folder import arena_sizes
from deploy.emit.written import REPORT_FILE
from deploy.proof.names import c_prefix
from deploy.proof.shared_plan import SharedPart, shared_plan_files
from deploy.report.shared import SharedReport, to_text

SHARED_PLAN_FILES = ("shared_plan.h", "shared_plan.c")
SHARED_REPORT_FILES = ("report.txt", REPORT_FILE)


def prefix_of(model: str) -> str:
    """Returns the prefix of a model's macros; in small letters it names its folder."""
    return c_prefix(Path(model).stem)


def shared_report_files(report: SharedReport) -> dict[str, bytes | str]:
    """Returns the report as text and JSON."""
    return {"report.txt": to_text(report) + "\n", REPORT_FILE: report.to_json()}


def shared_files(report: SharedReport) -> dict[str, bytes | str]:
    """Returns report and proof.

    Raises:
        VerificationError: the sizes of the report do not hold its models.
    """
    parts = [
        SharedPart(m.folder, prefix_of(m.model), m.head_bytes, m.tail_bytes, m.used_bytes)
        for m in report.models
    ]
    return {**shared_plan_files(arena_sizes(report), parts), **shared_report_files(report)}
