"""Convolutions, matrix products and pools: shapes, products, windows and rows."""

from __future__ import annotations

from deploy.graph import Graph, Operator, Padding
from deploy.operators.by_rows import (
    ByRows,
    Parameters,
    RowOperator,
    RowSite,
    Strip,
    Uncut,
)
from deploy.operators.elementwise import check_activation, together
from deploy.operators.row import Shape, Site
from deploy.operators.rows import Scattering, Sliding
from deploy.operators.window import MovesOver, Window, window_of, window_positions


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


def weights_window(graph: Graph, operator: Operator) -> Window:
    """The window of weights (o, kh, kw, c)."""
    return _weights_window(graph, operator, MovesOver.INPUT)


def transposed_window(graph: Graph, operator: Operator) -> Window:
    """The window of weights (o, kh, kw, c), with the padding of the convolution transposed."""
    return _weights_window(graph, operator, MovesOver.OUTPUT)


def _weights_window(graph: Graph, operator: Operator, over: MovesOver) -> Window:
    _, height, width, depth = graph.tensors[operator.inputs[1]].shape
    return window_of(operator, (height, width), depth=depth, over=over)


def dense_window(graph: Graph, operator: Operator) -> Window:
    """FULLY_CONNECTED, weights (u, d): one row of d values at a time."""
    depth = graph.tensors[operator.inputs[1]].shape[-1]
    return Window((1, 1), depth=depth, over=MovesOver.RUN)


def pool_window(graph: Graph, operator: Operator) -> Window:
    """The window that the options of a pool give."""
    kernel = operator.integer("filter_height"), operator.integer("filter_width")
    return window_of(operator, kernel)


def _conv_rows(site: RowSite) -> RowOperator | Uncut:
    if site.constant(1) is None:
        return Uncut.PARAMETERS
    return _sliding(site, weights_window(site.graph, site.operator), pads_with_zeros=True)


def _pool_rows(site: RowSite) -> RowOperator | Uncut:
    # An average counts, and a maximum sees, only what lies in the map.
    return _sliding(site, pool_window(site.graph, site.operator), pads_with_zeros=False)


def _sliding(site: RowSite, window: Window, *, pads_with_zeros: bool) -> RowOperator | Uncut:
    if len(site.out_shape) != 4:
        return Uncut.RANK
    if site.is_row_map(0) is not None:
        return site.is_row_map(0) or Uncut.ROWS_MOVED
    source = site.shape(0)
    along, across = site.axis - 1, 2 - site.axis
    rule = Sliding(
        in_rows=source[site.axis],
        out_rows=site.out_rows,
        kernel_extent=window.extents[along],
        stride=window.strides[along],
        same=window.same,
    )
    columns = window.paddings(source[1], source[2])[across]
    pads_with_zeros = pads_with_zeros and window.same
    return site.build(rule, pads_with_zeros=pads_with_zeros, pads_columns=any(columns))


def window_strip(strip: Strip) -> Parameters:
    """SAME padding is VALID where the strip brings its padding along, or one row at a time."""
    options = strip.operator.options
    if options is None or options.get("padding") != Padding.SAME:
        return Parameters(options)
    if strip.padding is not None:
        return Parameters(options.replace(padding=int(Padding.VALID)))
    if strip.single:
        stride = {1: "stride_h", 2: "stride_w"}[strip.axis]
        return Parameters(options.replace(**{stride: strip.window_rows}))
    return Parameters(options)


def _transpose_conv_rows(site: RowSite) -> RowOperator | Uncut:
    if site.constant(0) is None or site.constant(1) is None:
        return Uncut.PARAMETERS
    problem = site.is_row_map(2)
    if problem is not None:
        return problem
    along = site.axis - 1
    window = transposed_window(site.graph, site.operator)
    rule = Scattering(
        in_rows=site.shape(2)[site.axis],
        out_rows=site.out_rows,
        kernel_extent=window.kernel[along],
        stride=window.strides[along],
        same=window.same,
    )
    if rule.run_height(rule.in_rows) != rule.out_rows:
        return Uncut.ALIGNED_CORNERS
    return site.build(rule, 2)


def _transpose_conv_strip(strip: Strip) -> Parameters:
    return Parameters(strip.operator.options, {0: ("output shape", list(strip.shape))})


CONV_ROWS = ByRows(_conv_rows, window_strip)
POOL_ROWS = ByRows(_pool_rows, window_strip, reduces=True)
TRANSPOSE_CONV_ROWS = ByRows(_transpose_conv_rows, _transpose_conv_strip)


def _positions(site: Site, height: int, width: int) -> tuple[int, int]:
    check_activation(site)
    _check_kernel(site, height, width)
    padding = site.choice("padding", range(2))
    result = []
    for axis, kernel, letter in ((1, height, "h"), (2, width, "w")):
        stride = site.positive(f"stride_{letter}")
        dilation = site.positive(f"dilation_{letter}_factor", 1)
        size = site.shape(0)[axis]
        extent = (kernel - 1) * dilation + 1
        count = window_positions(size, extent, stride, same=padding == Padding.SAME)
        if count < 1:
            site.fail_at(0, f"the window, {extent}, or more", site.shape(0))
        result.append(count)
    return result[0], result[1]


def _check_kernel(site: Site, height: int, width: int) -> None:
    if height < 1 or width < 1:
        site.fail("has an empty window", "1 or more", (height, width))


def _check_bias(site: Site, position: int, channels: int) -> None:
    if site.has(position) and site.tensor(position).elements != channels:
        site.fail_at(position, f"{channels} values", site.tensor(position).elements)
