"""Operators that compute each output value from the values at its place: shapes and rows."""

from __future__ import annotations

import numpy as np

from deploy.graph import Activation
from deploy.operators.by_rows import ByRows, RowOperator, RowSite, Uncut, same_row, side_by_side
from deploy.operators.row import Shape, Site


def same(site: Site) -> tuple[Shape | None, ...]:
    """The shape of input 0."""
    return (site.shape(0),)


def softmax(site: Site) -> tuple[Shape | None, ...]:
    """The shape of input 0; ``beta`` is positive."""
    if site.finite("beta") <= 0:
        site.fail("has a wrong beta", "above 0", site.operator.option("beta"))
    return _with_dimensions(site)


def normalised(site: Site) -> tuple[Shape | None, ...]:
    """The shape of input 0, which has one dimension or more."""
    check_activation(site)
    return _with_dimensions(site)


def leaky_relu(site: Site) -> tuple[Shape | None, ...]:
    """The shape of input 0; ``alpha`` is finite."""
    site.finite("alpha")
    return same(site)


def broadcast(site: Site) -> tuple[Shape | None, ...]:
    """NumPy's broadcasting of all inputs."""
    check_activation(site)
    return (together(site, *(site.shape(i) for i in range(len(site.operator.inputs)))),)


def prelu(site: Site) -> tuple[Shape | None, ...]:
    """The shape of input 0, to which the slopes broadcast."""
    if together(site, site.shape(0), site.shape(1)) != site.shape(0):
        site.fail_at(1, f"slopes for {site.shape(0)}", site.shape(1))
    return same(site)


def equal_shapes(site: Site) -> tuple[Shape | None, ...]:
    """One shape for all."""
    for position in range(1, len(site.operator.inputs)):
        if site.shape(position) != site.shape(0):
            site.fail_at(position, site.shape(0), site.shape(position))
    return same(site)


def together(site: Site, *shapes: Shape) -> Shape:
    """Returns what shapes broadcast to, or refuses the operator."""
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        site.fail(
            "has inputs that do not broadcast",
            "equal dimensions, or 1",
            " and ".join(str(shape) for shape in shapes),
        )


def check_activation(site: Site) -> None:
    """Integer kernels know NONE, RELU, RELU_N1_TO_1 and RELU6, and ignore the others."""
    site.choice("fused_activation_function", range(Activation.RELU6 + 1))


def _broadcast_rows(site: RowSite) -> RowOperator | Uncut:
    """Any number of operands that broadcast over rows, or have as many as the output."""
    moving: list[int] = []
    constants: list[int] = []
    for position, tensor in enumerate(site.operator.inputs):
        if tensor < 0:
            continue
        shape = site.shape(position)
        # Operands of lower rank broadcast over the leading dimensions.
        axis = site.axis - (len(site.out_shape) - len(shape))
        if axis < 0 or shape[axis] == 1:
            continue
        if len(shape) != len(site.out_shape) or shape[axis] != site.out_rows:
            return Uncut.MIXED_ROWS
        is_constant = site.graph.tensors[tensor].is_constant
        (constants if is_constant else moving).append(position)
    return side_by_side(site, moving, constants)


SAME_ROW = ByRows(same_row)
BROADCAST_ROWS = ByRows(_broadcast_rows)


def _with_dimensions(site: Site) -> tuple[Shape | None, ...]:
    if not site.shape(0):
        site.fail_at(0, "one dimension or more", ())
    return same(site)
