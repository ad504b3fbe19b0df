"""The report as one self-contained HTML page."""

from __future__ import annotations

from deploy.report.report import Report


def to_html(report: Report) -> str:
    """Returns report.html."""
    import html

    from deploy.report.text import to_text

    return f"<!doctype html><title>{html.escape(report.model)}</title><pre>{html.escape(to_text(report))}</pre>"
