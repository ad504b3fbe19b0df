"""Operators that keep state in resource variables, or call other subgraphs: shapes and types."""

from __future__ import annotations

from deploy.operators.row import Shape, Site


def handle(site: Site) -> tuple[Shape | None, ...]:
    """One number, of any rank."""
    if site.output.dtype != "resource" or site.output.elements != 1:
        made = f"{site.output.dtype} {site.output.shape}"
        site.fail(f"cannot write {site.output.name}", "one resource", made)
    return (None,)


def takes_handle(site: Site) -> None:
    """Input 0 is the handle of a variable."""
    if site.tensor(0).dtype != "resource" or site.tensor(0).elements != 1:
        site.fail_at(0, "the handle of a variable", site.tensor(0).dtype)


def open_shapes(site: Site) -> tuple[Shape | None, ...]:
    """What the variable, or the subgraph, has."""
    return (None,) * len(site.operator.outputs)


def condition(site: Site) -> None:
    """Input 0 is one bool."""
    if site.tensor(0).dtype != "bool" or site.tensor(0).elements != 1:
        site.fail_at(0, "one bool", f"{site.tensor(0).dtype} {site.shape(0)}")
