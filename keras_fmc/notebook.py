"""What objects look like in a notebook: small tables that neither take nor give style to a page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_fmc.printable import one_line

_MOST_ROWS = 40
_STYLE = (
    ".fmc-nb{font:13px/1.4 system-ui,sans-serif;max-width:60em;overflow-x:auto}"
    ".fmc-nb table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.4em 0}"
    ".fmc-nb caption{text-align:left;font-weight:600;padding:.2em 0}"
    ".fmc-nb th,.fmc-nb td{padding:.15em .8em .15em 0;text-align:left;"
    "border-bottom:1px solid color-mix(in srgb,currentColor 25%,transparent)}"
    ".fmc-nb .n{text-align:right}"
)


def table_html(
    title: str, head: Sequence[str], rows: Iterable[Sequence[object]], *, says: str = ""
) -> str:
    """Returns a table with its title; whole numbers stand to the right, with commas.

    Args:
        says: a sentence above the table.
    """
    every = list(rows)
    shown = every[:_MOST_ROWS]
    lines = [f'<div class="fmc-nb"><style>{_STYLE}</style>']
    if says:
        lines.append(f"<p>{_escaped(says)}</p>")
    lines.append(f"<table><caption>{_escaped(title)}</caption>")
    lines.append("<thead><tr>" + "".join(f"<th>{_escaped(h)}</th>" for h in head) + "</tr></thead>")
    lines.append("<tbody>")
    lines += ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in shown]
    lines.append("</tbody></table>")
    if len(shown) < len(every):
        lines.append(f"<p>and {len(every) - len(shown)} more rows: to_dataframe() has all</p>")
    return "\n".join([*lines, "</div>"])


def data_frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Returns rows as a pandas.DataFrame.

    Raises:
        ModuleNotFoundError: pandas is not installed; says how to get it.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "to_dataframe() needs pandas, which is not installed: pip install pandas.",
            name="pandas",
        ) from error
    return pandas.DataFrame(list(rows))


def shape_text(shape: Iterable[int]) -> str:
    """Returns ``96×96×3``."""
    return "×".join(map(str, shape)) or "scalar"


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f'<td class="n">{value:,}</td>'
    return f"<td>{_escaped('' if value is None else value)}</td>"


def _escaped(value: object) -> str:
    return html.escape(one_line(str(value)))
