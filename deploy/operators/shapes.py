"""Operators that copy values to other places: shapes."""

from __future__ import annotations

import math

from deploy.operators.elementwise import check_activation, together
from deploy.operators.row import Shape, Site


def reshape(site: Site) -> tuple[Shape | None, ...]:
    """The shape in input 1, or in ``new_shape``, with one -1 for what is left over."""
    elements = site.tensor(0).elements
    wanted: tuple[int, ...] | None = None
    if site.has(1):
        wanted = site.integers(1)
    else:
        option = site.operator.option("new_shape", ())
        wanted = tuple(int(n) for n in option) if isinstance(option, tuple) else None
        wanted = wanted or None
    if wanted is None:
        if site.output.elements != elements:
            site.fail(
                f"cannot give {site.output.name} another number of elements",
                elements,
                site.output.shape,
                remedy=site.shape_remedy,
            )
        return (None,)
    known = math.prod(n for n in wanted if n != -1)
    if min(wanted, default=0) < -1 or wanted.count(-1) > 1:
        site.fail("has a wrong shape", "sizes, one of them -1 at most", wanted)
    if -1 in wanted:
        shape = tuple(elements // known if n == -1 else n for n in wanted) if known else wanted
    else:
        shape = wanted
    if math.prod(shape) != elements:
        site.fail_at(0, f"the elements of {wanted}", site.shape(0))
    return (shape,)


def squeeze(site: Site) -> tuple[Shape | None, ...]:
    """Without the dimensions of 1 that ``squeeze_dims`` names, or without all of them."""
    shape = site.shape(0)
    option = site.operator.option("squeeze_dims", ())
    named = option if isinstance(option, tuple) else ()
    gone = {site.axis(int(axis), len(shape)) for axis in named}
    if any(shape[axis] != 1 for axis in gone):
        site.fail_at(0, f"size 1 in dimensions {sorted(gone)}", shape)
    return (tuple(n for i, n in enumerate(shape) if (i not in gone if gone else n != 1)),)


def expand_dims(site: Site) -> tuple[Shape | None, ...]:
    """With a dimension of 1 where input 1 says."""
    shape = site.shape(0)
    axes = site.integers(1, 1)
    if axes is None:
        return (None,)
    axis = site.axis(axes[0], len(shape) + 1)
    return ((*shape[:axis], 1, *shape[axis:]),)


def concatenation(site: Site) -> tuple[Shape | None, ...]:
    """The sum along ``axis``, all else equal."""
    first = site.shape(0)
    axis = site.axis(site.number("axis"), len(first))
    check_activation(site)
    total = 0
    for position in range(len(site.operator.inputs)):
        shape = site.shape(position)
        if len(shape) != len(first) or _without(shape, axis) != _without(first, axis):
            site.fail_at(position, f"{first} but for dimension {axis}", shape)
        total += shape[axis]
    return ((*first[:axis], total, *first[axis + 1 :]),)


def split(site: Site) -> tuple[Shape | None, ...]:
    """Equal parts of input 1 along the dimension in input 0."""
    shape, count = site.shape(1), len(site.operator.outputs)
    if site.number("num_splits", count) != count:
        site.fail("has a wrong num_splits", count, site.number("num_splits"))
    axes = site.integers(0, 1)
    if axes is None:
        return (None,) * count
    axis = site.axis(axes[0], len(shape))
    if shape[axis] % count:
        site.fail_at(1, f"{count} equal parts along dimension {axis}", shape)
    return ((*shape[:axis], shape[axis] // count, *shape[axis + 1 :]),) * count


def split_v(site: Site) -> tuple[Shape | None, ...]:
    """Parts of input 0 of the sizes in input 1 along the dimension in input 2."""
    shape, count = site.shape(0), len(site.operator.outputs)
    if site.number("num_splits", count) != count:
        site.fail("has a wrong num_splits", count, site.number("num_splits"))
    sizes, axes = site.integers(1, count), site.integers(2, 1)
    if sizes is None or axes is None:
        return (None,) * count
    axis = site.axis(axes[0], len(shape))
    if sizes.count(-1) == 1:
        rest = shape[axis] - sum(size for size in sizes if size != -1)
        sizes = tuple(rest if size == -1 else size for size in sizes)
    if min(sizes) < 0 or sum(sizes) != shape[axis]:
        site.fail_at(1, f"parts of {shape[axis]}", sizes)
    return tuple((*shape[:axis], size, *shape[axis + 1 :]) for size in sizes)


def pack(site: Site) -> tuple[Shape | None, ...]:
    """Inputs of one shape side by side along a new dimension."""
    shape, count = site.shape(0), len(site.operator.inputs)
    if site.number("values_count", count) != count:
        site.fail("has a wrong values_count", count, site.number("values_count"))
    for position in range(1, count):
        if site.shape(position) != shape:
            site.fail_at(position, shape, site.shape(position))
    axis = site.axis(site.number("axis"), len(shape) + 1)
    return ((*shape[:axis], count, *shape[axis:]),)


def unpack(site: Site) -> tuple[Shape | None, ...]:
    """The parts of a dimension, each without it."""
    shape, count = site.shape(0), len(site.operator.outputs)
    axis = site.axis(site.number("axis"), len(shape))
    if shape[axis] != count or site.number("num", count) != count:
        site.fail_at(0, f"{count} parts along dimension {axis}", shape)
    return (_without(shape, axis),) * count


def slice_(site: Site) -> tuple[Shape | None, ...]:
    """From begin, input 1, as many as size, input 2, says; -1 for the rest."""
    shape = site.shape(0)
    begins, sizes = site.integers(1, len(shape)), site.integers(2, len(shape))
    if begins is None or sizes is None:
        return (None,)
    result = []
    for extent, begin, size in zip(shape, begins, sizes, strict=True):
        taken = extent - begin if size == -1 else size
        if begin < 0 or taken < 0 or begin + taken > extent:
            site.fail("leaves its input", shape, f"begin {begins}, size {sizes}")
        result.append(taken)
    return (tuple(result),)


def strided_slice(site: Site) -> tuple[Shape | None, ...]:
    """begin:end:stride in every dimension; masks leave an end open, or drop the dimension."""
    shape = site.shape(0)
    rank = len(shape)
    vectors = [site.integers(position, rank) for position in (1, 2, 3)]
    begin_mask, end_mask = site.number("begin_mask"), site.number("end_mask")
    shrink = site.number("shrink_axis_mask")
    if site.number("ellipsis_mask") or site.number("new_axis_mask"):
        site.fail("uses ellipsis_mask or new_axis_mask", "neither, as in TensorFlow Lite Micro")
    begins, ends, strides = vectors
    if site.operator.option("offset"):
        site.fail("counts its end from its begin", "an end that counts from 0")
    if begins is None or ends is None or strides is None:
        return (None,)
    result = []
    for axis, extent in enumerate(shape):
        begin, end, stride = begins[axis], ends[axis], strides[axis]
        if stride == 0 or (stride < 0 and shrink >> axis & 1):
            site.fail("has a wrong stride", "other than 0, positive where one is taken", strides)
        if shrink >> axis & 1:
            if not -extent <= begin < extent:
                site.fail("leaves its input", shape, f"begin {begins}")
            continue
        start = None if begin_mask >> axis & 1 else begin
        stop = None if end_mask >> axis & 1 else end
        result.append(len(range(extent)[slice(start, stop, stride)]))
    return (tuple(result),)


def pad(site: Site) -> tuple[Shape | None, ...]:
    """With (before, after) of input 1 added to each dimension."""
    shape = site.shape(0)
    amounts = site.integers(1, 2 * len(shape))
    if site.has(2) and site.tensor(2).elements != 1:
        site.fail_at(2, "one value", site.shape(2))
    if amounts is None:
        return (None,)
    if min(amounts, default=0) < 0:
        site.fail_at(1, "0 or more", amounts)
    return (tuple(n + a + b for n, a, b in zip(shape, amounts[::2], amounts[1::2], strict=True)),)


def mirror_pad(site: Site) -> tuple[Shape | None, ...]:
    """As ``pad``, with what the input holds: up to all of it, or all but the edge (mode 0)."""
    edge = 1 - site.choice("mode", range(2))
    amounts = site.integers(1) or ()
    for extent, amount in zip([n for n in site.shape(0) for _ in range(2)], amounts, strict=False):
        if amount > extent - edge:
            site.fail_at(1, f"{extent - edge} at most", amounts)
    return pad(site)


def transpose(site: Site) -> tuple[Shape | None, ...]:
    """Dimensions in the order of input 1."""
    shape = site.shape(0)
    order = site.integers(1, len(shape))
    if order is None:
        return (None,)
    axes = [site.axis(axis, len(shape)) for axis in order]
    if sorted(axes) != list(range(len(shape))):
        site.fail_at(1, f"every dimension of {shape} once", order)
    return (tuple(shape[axis] for axis in axes),)


def gather(site: Site) -> tuple[Shape | None, ...]:
    """Along ``axis`` the places that input 1 names."""
    shape, places = site.shape(0), site.shape(1)
    axis = site.axis(site.number("axis"), len(shape))
    shared = site.number("batch_dims")
    if not 0 <= shared <= min(axis, len(places)) or shape[:shared] != places[:shared]:
        site.fail("has wrong batch_dims", "leading dimensions that both inputs share", shared)
    _check_places(site, 1, site.integers(1), shape[axis])
    return ((*shape[:axis], *places[shared:], *shape[axis + 1 :]),)


def gather_nd(site: Site) -> tuple[Shape | None, ...]:
    """The last dimension of input 1 holds places in the leading dimensions of input 0."""
    shape, places = site.shape(0), site.shape(1)
    if not places or not 1 <= places[-1] <= len(shape):
        site.fail_at(1, f"up to {len(shape)} places in its last dimension", places)
    depth = places[-1]
    values = site.integers(1)
    for axis in range(depth):
        _check_places(site, 1, None if values is None else values[axis::depth], shape[axis])
    return ((*places[:-1], *shape[depth:]),)


def embedding_lookup(site: Site) -> tuple[Shape | None, ...]:
    """Rows of input 1 that input 0 names."""
    places, shape = site.ranked(0, 1), site.shape(1)
    if not shape:
        site.fail_at(1, "rows", shape)
    _check_places(site, 0, site.integers(0), shape[0])
    return ((*places, *shape[1:]),)


def broadcast_to(site: Site) -> tuple[Shape | None, ...]:
    """The shape in input 1, to which input 0 broadcasts."""
    shape = site.integers(1)
    if shape is None:
        return (None,)
    if min(shape, default=1) < 1 or together(site, site.shape(0), shape) != shape:
        site.fail_at(0, f"what broadcasts to {shape}", site.shape(0))
    return (shape,)


def broadcast_args(site: Site) -> tuple[Shape | None, ...]:
    """A shape as long as the longer of two."""
    return ((max(site.ranked(0, 1)[0], site.ranked(1, 1)[0]),),)


def fill(site: Site) -> tuple[Shape | None, ...]:
    """The shape in input 0."""
    shape = site.integers(0)
    if site.tensor(1).elements != 1:
        site.fail_at(1, "one value", site.shape(1))
    if shape is not None and min(shape, default=1) < 1:
        site.fail_at(0, "1 or more", shape)
    return (shape,)


def shape_of(site: Site) -> tuple[Shape | None, ...]:
    """One value for each dimension."""
    return ((len(site.shape(0)),),)


def update(site: Site) -> tuple[Shape | None, ...]:
    """The shape of input 0; input 1 lies within it."""
    shape, part = site.shape(0), site.ranked(1, len(site.shape(0)))
    if any(a > b for a, b in zip(part, shape, strict=True)):
        site.fail_at(1, f"within {shape}", part)
    site.integers(2, len(shape))
    return (shape,)


def _check_places(site: Site, position: int, values: tuple[int, ...] | None, extent: int) -> None:
    """Kernels read where constants point without a look."""
    for value in values or ():
        if not 0 <= value < extent:
            site.fail_at(position, f"places 0 to {extent - 1}", value)


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])
