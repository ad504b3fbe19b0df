"""Convolutions, matrix products and pools: shapes and products."""

from __future__ import annotations

from deploy.graph import Padding
from deploy.operators.elementwise import check_activation, together
from deploy.operators.row import Shape, Site


def window_extent(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    """Positions of a window along one dimension.

    SAME: ⌈size / stride⌉; VALID: ⌊(size - (kernel - 1) · dilation - 1) / stride⌋ + 1.
    """
    if padding == Padding.SAME:
        return -(-size // stride)
    return (size - (kernel - 1) * dilation - 1) // stride + 1


def conv_2d(site: Site) -> tuple[Shape | None, ...]:
    """(n, h, w, c) and weights (o, kh, kw, c / groups) → (n, h', w', o)."""
    batch, _, _, depth = site.ranked(0, 4)
    channels, height, width, group = site.ranked(1, 4)
    if group == 0 or depth % group or channels % (depth // group):
        site.fail_at(1, f"{depth} input channels in equal groups", site.shape(1))
    _check_bias(site, 2, channels)
    return ((batch, *_positions(site, height, width), channels),)


def depthwise_conv_2d(site: Site) -> tuple[Shape | None, ...]:
    """(n, h, w, c) and weights (1, kh, kw, c · m) → (n, h', w', c · m)."""
    batch, _, _, depth = site.ranked(0, 4)
    one, height, width, channels = site.ranked(1, 4)
    multiplier = site.positive("depth_multiplier", 1)
    if one != 1 or channels != depth * multiplier:
        site.fail_at(1, f"{(1, height, width, depth * multiplier)}", site.shape(1))
    _check_bias(site, 2, channels)
    return ((batch, *_positions(site, height, width), channels),)


def transpose_conv(site: Site) -> tuple[Shape | None, ...]:
    """The shape that input 0 holds; weights (o, kh, kw, c) and a map (n, h, w, c)."""
    channels, height, width, depth = site.ranked(1, 4)
    batch, _, _, source_depth = site.ranked(2, 4)
    _check_kernel(site, height, width)
    if depth != source_depth:
        site.fail_at(1, f"{source_depth} input channels", site.shape(1))
    site.positive("stride_h")
    site.positive("stride_w")
    site.choice("padding", range(2))
    check_activation(site)
    _check_bias(site, 3, channels)
    shape = site.integers(0, 4)
    if shape is not None and (shape[0] != batch or shape[3] != channels or min(shape) < 1):
        site.fail_at(0, f"batch {batch} and {channels} channels", shape)
    return (shape,)


def fully_connected(site: Site) -> tuple[Shape | None, ...]:
    """(…, d) and weights (u, d) → as many rows of u; how the rows are arranged is free."""
    units, depth = site.ranked(1, 2)
    elements = site.tensor(0).elements
    if depth == 0 or elements % depth:
        site.fail_at(0, f"a multiple of {depth} elements", site.shape(0))
    check_activation(site)
    site.choice("weights_format", range(1))
    _check_bias(site, 2, units)
    out = site.output.shape
    rows = elements // depth
    if out[-1:] == (units,) and site.output.elements == rows * units:
        return (out,)
    return ((rows, units),)


def batch_matmul(site: Site) -> tuple[Shape | None, ...]:
    """(…, m, k) and (…, k, n) → (…, m, n); ``adj_x`` and ``adj_y`` swap the last two."""
    left, right = list(site.shape(0)), list(site.shape(1))
    for position, shape, name in ((0, left, "adj_x"), (1, right, "adj_y")):
        if len(shape) < 2:
            site.fail_at(position, "two dimensions or more", tuple(shape))
        if site.operator.option(name, False):
            shape[-2:] = shape[:-3:-1]
    if left[-1] != right[-2]:
        site.fail_at(1, f"a depth of {left[-1]}", site.shape(1))
    return ((*together(site, tuple(left[:-2]), tuple(right[:-2])), left[-2], right[-1]),)


def pool_2d(site: Site) -> tuple[Shape | None, ...]:
    """(n, h, w, c) → (n, h', w', c)."""
    batch, _, _, channels = site.ranked(0, 4)
    size = site.positive("filter_height"), site.positive("filter_width")
    return ((batch, *_positions(site, *size), channels),)


def output_products(site: Site) -> int:
    """Each value of the output: kernel height · kernel width · input channels of its group."""
    return site.output.elements // site.output.shape[-1] * site.tensor(1).elements


def input_products(site: Site) -> int:
    """TRANSPOSE_CONV: every input pixel meets every weight once."""
    source = site.tensor(2)
    return source.elements // source.shape[-1] * site.tensor(1).elements


def matrix_products(site: Site) -> int:
    """BATCH_MATMUL: m · k · n for each matrix of the batch."""
    depth = site.shape(0)[-2 if site.operator.option("adj_x") else -1]
    return site.output.elements * depth


def _positions(site: Site, height: int, width: int) -> tuple[int, int]:
    check_activation(site)
    _check_kernel(site, height, width)
    padding = site.choice("padding", range(2))
    result = []
    for axis, kernel, letter in ((1, height, "h"), (2, width, "w")):
        stride = site.positive(f"stride_{letter}")
        dilation = site.positive(f"dilation_{letter}_factor", 1)
        size = site.shape(0)[axis]
        extent = window_extent(size, kernel, stride, dilation, padding)
        if extent < 1:
            site.fail_at(0, f"the window, {(kernel - 1) * dilation + 1}, or more", site.shape(0))
        result.append(extent)
    return result[0], result[1]


def _check_kernel(site: Site, height: int, width: int) -> None:
    if height < 1 or width < 1:
        site.fail("has an empty window", "1 or more", (height, width))


def _check_bias(site: Site, position: int, channels: int) -> None:
    if site.has(position) and site.tensor(position).elements != channels:
        site.fail_at(position, f"{channels} values", site.tensor(position).elements)
