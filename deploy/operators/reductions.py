"""Operators that reduce over dimensions, or walk along them: shapes."""

from __future__ import annotations

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
