"""Operators that copy values to other places: what goes where, and rows."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.operators.by_rows import (
    ByRows,
    Parameters,
    RowOperator,
    RowSite,
    Strip,
    Uncut,
    row_axis,
    same_row,
    side_by_side,
)
from deploy.operators.copied import Copied, natural_strides
from deploy.operators.row import Site
from deploy.operators.rows import Shifting

Copies = tuple[Copied, ...] | None


def renamed(site: Site) -> Copies:
    """All elements in their order."""
    everything = (site.output.elements,)
    return (_taken(site, 0, 0, everything, 0, (1,)),)


def sliced(site: Site) -> Copies:
    """SLICE: the box of the output's shape that starts at input 1."""
    begin = site.integers(1)
    if begin is None or site.integers(2) is None:
        return None
    strides = natural_strides(site.shape(0))
    return (_taken(site, 0, 0, site.output.shape, _dot(begin, strides), strides),)


def strided_sliced(site: Site) -> Copies:
    """STRIDED_SLICE: every so many-th element of each dimension, from where it begins."""
    begin, _, steps = (site.integers(position) for position in (1, 2, 3))
    if begin is None or steps is None or site.integers(2) is None:
        return None
    shape, strides = site.shape(0), natural_strides(site.shape(0))
    mask, shrink = site.number("begin_mask"), site.number("shrink_axis_mask")
    starts = []
    for axis, extent in enumerate(shape):
        start = begin[axis] + (extent if begin[axis] < 0 else 0)
        if mask >> axis & 1:
            start = 0 if steps[axis] > 0 else extent - 1
        starts.append(min(max(start, 0), extent - 1))
    kept = [axis for axis in range(len(shape)) if not shrink >> axis & 1]
    moved = tuple(strides[axis] * steps[axis] for axis in kept)
    return (_taken(site, 0, 0, site.output.shape, _dot(starts, strides), moved),)


def split(site: Site) -> Copies:
    """SPLIT: input 1 in parts along the dimension in input 0."""
    return _parts(site, 1, site.integers(0))


def split_v(site: Site) -> Copies:
    """SPLIT_V: input 0 in parts along the dimension in input 2."""
    return _parts(site, 0, site.integers(2))


def unpacked(site: Site) -> Copies:
    """UNPACK: the parts of a dimension, each without it."""
    strides = natural_strides(site.shape(0))
    axis = site.number("axis") % len(strides)
    kept = (*strides[:axis], *strides[axis + 1 :])
    shape = site.output.shape
    return tuple(
        _taken(site, 0, number, shape, number * strides[axis], kept)
        for number in range(len(site.operator.outputs))
    )


def transposed(site: Site) -> Copies:
    """TRANSPOSE: dimensions in the order of input 1."""
    order = site.integers(1)
    if order is None:
        return None
    strides = natural_strides(site.shape(0))
    return (_taken(site, 0, 0, site.output.shape, 0, tuple(strides[axis] for axis in order)),)


def reversed_(site: Site) -> Copies:
    """REVERSE_V2: the dimensions in input 1 from their last element to their first."""
    axes = site.integers(1)
    if axes is None:
        return None
    shape, strides = site.shape(0), list(natural_strides(site.shape(0)))
    start = 0
    for axis in {axis % len(shape) for axis in axes}:
        start += (shape[axis] - 1) * strides[axis]
        strides[axis] = -strides[axis]
    return (_taken(site, 0, 0, shape, start, tuple(strides)),)


def joined(site: Site) -> Copies:
    """CONCATENATION: inputs one behind the other along ``axis``."""
    if site.number("fused_activation_function"):
        return ()
    strides = natural_strides(site.output.shape)
    axis = site.number("axis") % max(len(strides), 1)
    found, place = [], 0
    for position, source in enumerate(site.operator.inputs):
        shape, to = site.shape(position), place * strides[axis]
        own = natural_strides(shape)
        found.append(Copied(source, site.operator.outputs[0], shape, 0, own, to, strides))
        place += shape[axis]
    return tuple(found)


def _parts(site: Site, position: int, axes: tuple[int, ...] | None) -> Copies:
    if axes is None:
        return None
    strides = natural_strides(site.shape(position))
    axis = axes[0] % len(strides)
    found, place = [], 0
    for number, output in enumerate(site.operator.outputs):
        shape = site.graph.tensors[output].shape
        found.append(_taken(site, position, number, shape, place * strides[axis], strides))
        place += shape[axis]
    return tuple(found)


def _taken(
    site: Site,
    position: int,
    output: int,
    extents: tuple[int, ...],
    start: int,
    strides: tuple[int, ...],
) -> Copied:
    """What fills an output from its first element to its last."""
    source, target = site.operator.inputs[position], site.operator.outputs[output]
    return Copied(source, target, extents, start, strides, 0, natural_strides(extents))


def _dot(a: Sequence[int], b: Sequence[int]) -> int:
    return sum(p * q for p, q in zip(a, b, strict=True))


def _joined_rows(site: RowSite) -> RowOperator | Uncut:
    axis = site.operator.integer("axis") % len(site.out_shape)
    if axis <= site.axis:
        return Uncut.ROWS_MOVED
    moving: list[int] = []
    constants: list[int] = []
    for position, tensor in enumerate(site.operator.inputs):
        is_constant = site.graph.tensors[tensor].is_constant
        (constants if is_constant else moving).append(position)
    for position in moving:
        # Concatenation along columns may widen a map of one row and one column.
        if site.shape(position)[site.axis] != site.out_rows:
            return Uncut.MIXED_ROWS
        if row_axis(site.shape(position)) != site.axis:
            return Uncut.ROWS_MOVED
    return side_by_side(site, moving, constants)


def _split_rows(site: RowSite) -> RowOperator | Uncut:
    axis = site.constant(0)
    if axis is None:
        return Uncut.PARAMETERS
    if int(axis.ravel()[0]) % len(site.out_shape) <= site.axis:
        return Uncut.ROWS_MOVED
    return same_row(site, 1)


def _gathered_rows(site: RowSite) -> RowOperator | Uncut:
    """A constant table looked up element by element: each index adds dimensions at the end."""
    if site.constant(0) is None:
        return Uncut.PARAMETERS
    if site.operator.integer("axis") or site.operator.integer("batch_dims"):
        return Uncut.ROWS_MOVED
    return same_row(site, 1)


def _reshaped_rows(site: RowSite) -> RowOperator | Uncut:
    """Keeps rows if all dimensions up to the rows stay: only what a row holds is rearranged."""
    if len(site.operator.inputs) > 1 and site.constant(1) is None:
        return Uncut.PARAMETERS
    source = site.shape(0)
    if len(source) <= site.axis or source[: site.axis + 1] != site.out_shape[: site.axis + 1]:
        return Uncut.ROWS_MOVED
    return same_row(site)


def _reshaped_strip(strip: Strip) -> Parameters:
    inputs: dict[int, tuple[str, object]] = {}
    shape, options = list(strip.shape), strip.operator.options
    if len(strip.operator.inputs) > 1:
        # One constant serves strips of all heights.
        inputs[1] = "shape", [*shape[: strip.axis], -1, *shape[strip.axis + 1 :]]
    if options is not None and options.get("new_shape") is not None:
        options = options.replace(new_shape=strip.shape)
    return Parameters(options, inputs)


def _reversed_rows(site: RowSite) -> RowOperator | Uncut:
    axes = site.constant(1)
    if axes is None:
        return Uncut.PARAMETERS
    if any(int(axis) % len(site.out_shape) <= site.axis for axis in axes.ravel()):
        return Uncut.ROWS_MOVED
    return same_row(site)


def _padded_rows(site: RowSite) -> RowOperator | Uncut:
    paddings = site.constant(1)
    if paddings is None or (len(site.operator.inputs) > 2 and site.constant(2) is None):
        return Uncut.PARAMETERS
    if any(int(v) for v in paddings[: site.axis].ravel()):
        return Uncut.ROWS_MOVED
    before = int(paddings[site.axis][0])
    problem = site.is_row_map(0)
    if problem is not None:
        return problem
    return site.build(Shifting(site.shape(0)[site.axis], site.out_rows, before))


def _padded_strip(strip: Strip) -> Parameters:
    paddings = strip.constant(1)
    paddings[strip.axis] = list(strip.padding or (0, 0))
    return Parameters(strip.operator.options, {1: ("paddings", paddings)})


def _sliced_rows(site: RowSite) -> RowOperator | Uncut:
    begin = site.constant(1)
    if begin is None or site.constant(2) is None:
        return Uncut.PARAMETERS
    problem = site.is_row_map(0)
    if problem is not None:
        return problem
    start = int(begin.ravel()[site.axis])
    return site.build(Shifting(site.shape(0)[site.axis], site.out_rows, -start))


def _sliced_strip(strip: Strip) -> Parameters:
    begin = strip.constant(1)
    begin[strip.axis] = 0
    size = list(strip.shape)
    return Parameters(strip.operator.options, {1: ("slice", begin), 2: ("slice", size)})


JOINED_ROWS = ByRows(_joined_rows)
SPLIT_ROWS = ByRows(_split_rows)
GATHERED_ROWS = ByRows(_gathered_rows)
RESHAPED_ROWS = ByRows(_reshaped_rows, _reshaped_strip)
REVERSED_ROWS = ByRows(_reversed_rows)
PADDED_ROWS = ByRows(_padded_rows, _padded_strip)
SLICED_ROWS = ByRows(_sliced_rows, _sliced_strip)
