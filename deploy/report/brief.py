"""The report in twenty lines, for a terminal; report.txt and ``--verbose`` hold all of it."""

from __future__ import annotations

from deploy.report import sizes, text
from deploy.report.report import Report

MOST_LINES = 20
"""With the line of the files that ``fmc plan --out`` adds."""

_REMARKS = 3
_PEAK_TENSORS = 3


def to_brief(report: Report) -> str:
    """Returns the report in at most ``MOST_LINES`` - 1 lines: fits or not, N, how good, how much.

    Of a model that does not fit it says what is alive where most is; of one that fits, its
    parts beside TFLM's own. Remarks that have no place are counted.
    """
    remarks = text.remark_lines(report)
    if len(remarks) > _REMARKS:
        hidden = len(remarks) - (_REMARKS - 1)
        remarks = [*remarks[: _REMARKS - 1], f"  and {hidden} more remarks: --verbose"]
    peak = [] if report.fits else text.peak_lines(report, most=_PEAK_TENSORS)
    table = sizes.size_lines(report, sizes.MAIN_SIZES if report.fits else sizes.SIZES_TOO_LARGE)
    lines = [*text.head_lines(report), *remarks, "", *peak, *table]
    return "\n".join(lines[: MOST_LINES - 1])


def summary(report: Report) -> str:
    """Returns the first line of every form of the report: ``MODEL: RESULT. SENTENCE``."""
    return text.head_lines(report)[0]
