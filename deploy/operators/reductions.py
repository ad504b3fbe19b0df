"""Operators that reduce over dimensions, or walk along them: shapes and rows."""

from __future__ import annotations

from deploy.operators.by_rows import ByRows, RowOperator, RowSite, Uncut, same_row
from deploy.operators.row import Shape, Site


def reduce(site: Site) -> tuple[Shape | None, ...]:
    """Without the dimensions that input 1 names, or with 1 there where ``keep_dims`` is set."""
    shape = site.shape(0)
    axes = site.integers(1)
    if axes is None:
        return (None,)
    gone = {site.axis(axis, len(shape)) for axis in axes}
    keep = bool(site.operator.option("keep_dims", False))
    return (tuple(1 if i in gone else n for i, n in enumerate(shape) if keep or i not in gone),)


def arg(site: Site) -> tuple[Shape | None, ...]:
    """Without the dimension that input 1 names."""
    shape = site.shape(0)
    axes = site.integers(1, 1)
    if axes is None:
        return (None,)
    axis = site.axis(axes[0], len(shape))
    return ((*shape[:axis], *shape[axis + 1 :]),)


def along(site: Site) -> tuple[Shape | None, ...]:
    """The shape of input 0, which has the dimensions that input 1 names."""
    shape = site.shape(0)
    for axis in site.integers(1) or ():
        site.axis(axis, len(shape))
    return (shape,)


def _reduced_rows(site: RowSite) -> RowOperator | Uncut:
    axes = site.constant(1)
    if axes is None:
        return Uncut.PARAMETERS
    rank = len(site.shape(0))
    if any(int(a) % rank <= site.axis for a in axes.ravel()):
        return Uncut.ROWS_REDUCED
    return same_row(site)


REDUCED_ROWS = ByRows(_reduced_rows, reduces=True)
