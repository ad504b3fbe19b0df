"""A report in a notebook: a small table, a flat dict for loggers, a table of tensors."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from deploy.report import sizes, text
from keras_fmc.notebook import data_frame, table_html

if TYPE_CHECKING:
    from deploy.report.report import Report

_NO_METRICS = ("peak_operator", "time_error", "clock_hz")
"""Numbers that are no quality of a plan."""


def to_table(report: Report) -> str:
    """Returns the result and the sizes beside TFLM's own as HTML."""
    word, sentence = text.result(report)
    rows = sizes.size_rows(report, sizes.MAIN_SIZES if report.fits else sizes.SIZES_TOO_LARGE)
    head = [cell or "" for cell in rows[0]]
    title = f"{report.model} for {text.target_line(report)}"
    says = f"{word}. {sentence}"
    return table_html(title, head, [[c.strip() for c in row] for row in rows[1:]], says=says)


def metrics(report: Report) -> dict[str, float]:
    """Returns every number and every yes or no of a report by its key, those of the baseline with
    ``baseline_`` before it: what TensorBoard, MLflow and W&B log."""
    found = _numbers(report)
    if report.baseline is not None:
        found |= {f"baseline_{k}": v for k, v in _numbers(report.baseline).items()}
    return found


def tensor_frame(report: Report) -> Any:
    """Returns the tensors in the arena as a pandas.DataFrame, one row each."""
    return data_frame([dataclasses.asdict(tensor) for tensor in report.tensors])


def _numbers(part: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if isinstance(value, (bool, int, float)) and field.name not in _NO_METRICS:
            found[field.name] = float(value) if isinstance(value, float) else int(value)
    return found
