"""Operators that move values without changing them."""

from __future__ import annotations

import math

from deploy.backends.c.fixed_point import zero_point
from deploy.backends.c.lowering import Lowering, constant_integers
from deploy.backends.c.operators.indices import lookup
from deploy.backends.c.operators.registry import lowers
from deploy.backends.c.program import SAME_ROW, Read, Rows, pixels, row_axis
from deploy.graph import ITEM_BYTES
from deploy.operators import OPERATORS, Site
from deploy.operators.copied import Copied, natural_strides

_COPY_BYTES = 16 * 4
_PAD_BYTES = 7 * 4
_DIMENSIONS = 5


def view(lowering: Lowering, step: int) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the same bytes under another shape."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    if lowering.tensor(x).is_constant:
        lowering.refuse(step, "a constant input", "an activation")
    lowering.map_of[y] = lowering.map_of[x]


def copied(lowering: Lowering, step: int) -> None:
    """What the operator's row says that it copies, an output at a time."""
    operator = lowering.graph.operators[step]
    parts = OPERATORS[operator.opcode].copies(Site(lowering.graph, step))
    if parts is None:
        lowering.refuse(step, "parameters computed at run time", "constants")
    for part in parts:
        _copy(lowering, step, part)


@lowers("BROADCAST_TO")
def broadcast_to(lowering: Lowering, step: int) -> None:
    """BROADCAST_TO: steps of 0 along the axes that are repeated."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    shape, out = lowering.tensor(x).shape, lowering.tensor(y).shape
    missing = len(out) - len(shape)
    strides = (0,) * missing + natural_strides(shape)
    own = (1,) * missing + shape
    repeated = tuple(0 if n == 1 else s for n, s in zip(own, strides, strict=True))
    _copy(lowering, step, Copied(x, y, out, 0, repeated, 0, natural_strides(out)))


@lowers("MIRROR_PAD")
def mirror_pad(lowering: Lowering, step: int) -> None:
    """MIRROR_PAD of rows and columns: both are picked by number."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    amounts = constant_integers(lowering, step, operator.inputs[1])
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    source, out, aside = lowering.window_grids(step, x, y)
    if pairs[0] != (0, 0) or pairs[3] != (0, 0):
        lowering.refuse(step, "mirrored batches or channels", "rows and columns")
    # Mode 1 repeats the edge, mode 0 does not.
    edge = operator.integer("mode")
    sides = [pairs[2], pairs[1]] if aside else [pairs[1], pairs[2]]
    rows, columns = (
        [_mirrored(i - before, extent, edge) for i in range(before + extent + after)]
        for (before, after), extent in zip(sides, (source.rows, source.columns), strict=True)
    )
    windows = tuple((row, row + 1) for row in rows)
    table = lowering.array([n for window in windows for n in window], "int16")
    index, run = lowering.array(columns, "int16"), source.channels * source.item
    lowering.step(
        step,
        lowering.output(y, out.view),
        [lowering.read(x, Rows(table=windows, table_name=table), source.view)],
        f"fmc_pick({index}, {out.columns}, {run}, {{in0}}, {{out}});",
        "fmc_copy.c",
    )


def _mirrored(place: int, extent: int, edge: int) -> int:
    if place < 0:
        return -place - edge
    return 2 * (extent - 1) - place + edge if place >= extent else place


@lowers("SPACE_TO_DEPTH")
def space_to_depth(lowering: Lowering, step: int) -> None:
    """SPACE_TO_DEPTH: an output row takes ``block_size`` input rows."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    block = operator.integer("block_size")
    source, out = _images(lowering, step, x, y)
    run = block * source[2]
    copy = _descriptor(
        lowering,
        [out[1], block],
        [run, source[1] * source[2]],
        [out[2], run],
        run,
    )
    lowering.step(
        step,
        lowering.output(y, (out[0], out[1] * out[2])),
        [lowering.read(x, Rows(block, 0, block), (source[0], source[1] * source[2]))],
        f"fmc_copy({copy}, {{in0}}, {{out}});",
        "fmc_copy.c",
    )


@lowers("DEPTH_TO_SPACE")
def depth_to_space(lowering: Lowering, step: int) -> None:
    """DEPTH_TO_SPACE: ``block_size`` output rows share an input row."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    block = operator.integer("block_size")
    source, out = _images(lowering, step, x, y)
    run = block * out[2]
    copy = _descriptor(lowering, [source[1]], [source[2]], [run], run)
    lowering.step(
        step,
        lowering.output(y, (out[0], out[1] * out[2])),
        [lowering.read(x, Rows(1, 0, block, block), (source[0], source[1] * source[2]))],
        f"fmc_copy({copy}, {{in0}} + {{row}} % {block} * {run}, {{out}});",
        "fmc_copy.c",
    )


@lowers("GATHER")
def gather(lowering: Lowering, step: int) -> None:
    """GATHER of an activation at constant places, or from a constant table at any."""
    operator = lowering.graph.operators[step]
    x, index, y = operator.inputs[0], operator.inputs[1], operator.outputs[0]
    if lowering.tensor(x).is_constant:
        lookup(lowering, step)
        return
    if operator.integer("batch_dims"):
        lowering.refuse(step, "batch dimensions", "none")
    entry = lowering.tensor(x)
    axis = operator.integer("axis") % len(entry.shape)
    places = constant_integers(lowering, step, index)
    outer = math.prod(entry.shape[:axis])
    run = math.prod(entry.shape[axis + 1 :]) * ITEM_BYTES[entry.dtype]
    name = lowering.array(places, "int16")
    lowering.step(
        step,
        lowering.output(y, (1, lowering.tensor(y).size_bytes)),
        [lowering.read_whole(x)],
        f"for (int32_t i = 0; i < {outer}; i++) {{{{ fmc_pick({name}, {len(places)}, {run}, "
        f"{{in0}} + i * {entry.shape[axis] * run}, {{out}} + i * {len(places) * run}); }}}}",
        "fmc_copy.c",
    )


@lowers("PAD", "PADV2")
def pad(lowering: Lowering, step: int) -> None:
    """PAD and PADV2 of rows, columns and channels."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    lowering.require_int8(step, x, y)
    amounts = constant_integers(lowering, step, operator.inputs[1])
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    missing = 4 - len(pairs)
    shape, out = ((1,) * missing + lowering.tensor(t).shape for t in (x, y))
    pairs = [(0, 0)] * missing + pairs
    if missing < 0 or shape[0] != 1 or pairs[0] != (0, 0):
        lowering.refuse(step, "a padded batch", "rows, columns and channels")
    if operator.opcode == "PADV2":
        (value,) = constant_integers(lowering, step, operator.inputs[2])
    else:
        value = zero_point(lowering.tensor(y))
    rows, columns, channels = 1, 2, 3
    if shape[1] == out[1] == 1:
        shape, out = ((s[0], s[2], 1, s[3]) for s in (shape, out))
        pairs = [pairs[0], pairs[2], (0, 0), pairs[3]]
    fields = (shape[columns], shape[channels], *pairs[columns], *pairs[channels], value)
    descriptor = lowering.struct("fmc_pad_t", fields, _PAD_BYTES)
    top = pairs[rows][0]
    lowering.step(
        step,
        lowering.output(y, (out[rows], out[columns] * out[channels])),
        [lowering.read(x, Rows(1, -top, 1 - top), (shape[1], shape[2] * shape[3]))],
        f"fmc_pad({descriptor}, {{in0}}, {{rows0}}, {{out}});",
        "fmc_copy.c",
    )


@lowers("CONCATENATION")
def concatenation(lowering: Lowering, step: int) -> None:
    """CONCATENATION of maps of one scale."""
    operator = lowering.graph.operators[step]
    shape = lowering.tensor(operator.outputs[0]).shape
    axis = operator.integer("axis") % len(shape)
    _join(lowering, step, axis, shape)


@lowers("PACK")
def pack(lowering: Lowering, step: int) -> None:
    """PACK: a concatenation along a new axis."""
    operator = lowering.graph.operators[step]
    shape = lowering.tensor(operator.outputs[0]).shape
    _join(lowering, step, operator.integer("axis") % len(shape), shape)


def _join(lowering: Lowering, step: int, axis: int, shape: tuple[int, ...]) -> None:
    operator = lowering.graph.operators[step]
    y = operator.outputs[0]
    item = ITEM_BYTES[lowering.tensor(y).dtype]
    along = row_axis(shape)
    rows = shape[along] if along is not None and axis >= along else 1
    row_bytes = lowering.tensor(y).size_bytes // rows
    by_rows = rows > 1 and axis == along
    outer = 1 if by_rows or rows > 1 else math.prod(shape[:axis])
    if rows > 1 and along is not None and not by_rows:
        outer = math.prod(shape[along + 1 : axis])
    reads: list[Read] = []
    calls, begin = [], 0
    for x in operator.inputs:
        size = lowering.tensor(x).size_bytes
        if by_rows:
            count = size // row_bytes
            rule, own = Rows(1, -begin, 1 - begin), (count, row_bytes)
            begin += count
        else:
            rule, own = SAME_ROW, (rows, size // rows)
        if lowering.tensor(x).is_constant:
            if item != 1:
                lowering.refuse(step, "a constant part of wide values", "int8")
            name = lowering.array(lowering.tensor(x).array(), "int8")
            start, there = f"{name} + {{row}} * {own[1]}", ""
            if by_rows:
                low, high = begin - own[0], begin
                start = f"{name} + ({{row}} - {low}) * {own[1]}"
                there = f"if ({{row}} >= {low} && {{row}} < {high}) "
        else:
            number = len(reads)
            start = f"{{in{number}}}"
            there = f"if ({{rows{number}}} > 0) " if by_rows else ""
            reads.append(lowering.read(x, rule, own))
        if by_rows:
            calls.append(f"{there}{{{{ memcpy({{out}}, {start}, {row_bytes}u); }}}}")
        else:
            run = own[1] // outer
            copy = _descriptor(lowering, [outer], [run], [row_bytes // outer], run)
            calls.append(f"fmc_copy({copy}, {start}, {{out}} + {begin});")
            begin += run
    output = lowering.output(y, (rows, row_bytes))
    lowering.step(step, output, reads, "\n".join(calls), "fmc_copy.c")


def _copy(lowering: Lowering, step: int, part: Copied) -> None:
    """Adds the step out[i, j, …] = in[base + i · strides[0] + j · strides[1] + …], in bytes.

    Row by row where each output row comes from one input row; else from the whole map.
    """
    source, y = part.source, part.target
    shape = lowering.tensor(y).shape
    item = ITEM_BYTES[lowering.tensor(y).dtype]
    base, strides = part.start * item, [stride * item for stride in part.strides]
    in_view = lowering.view_of(source)
    axis = row_axis(shape)
    if axis is not None and shape[axis] > 1:
        rest = [(n, s) for i, (n, s) in enumerate(zip(shape, strides, strict=True)) if i != axis]
        lines, left = divmod(strides[axis], in_view[1])
        first, inside = divmod(base, in_view[1])
        reach = inside + sum((n - 1) * s for n, s in rest) + item
        if left == 0 and lines >= 0 and reach <= in_view[1] and all(s >= 0 for _, s in rest):
            copy = _grid(lowering, step, rest, item)
            rows, columns, channels = pixels(shape)
            lowering.step(
                step,
                lowering.output(y, (rows, columns * channels * item)),
                [lowering.read(source, Rows(lines, first, first + 1), in_view)],
                f"fmc_copy({copy}, {{in0}} + {inside}, {{out}});",
                "fmc_copy.c",
            )
            return
    copy = _grid(lowering, step, list(zip(shape, strides, strict=True)), item)
    lowering.step(
        step,
        lowering.output(y, (1, lowering.tensor(y).size_bytes)),
        [lowering.read_whole(source)],
        f"fmc_copy({copy}, {{in0}} + {base}, {{out}});",
        "fmc_copy.c",
    )


def _grid(lowering: Lowering, step: int, grid: list[tuple[int, int]], item: int) -> str:
    """The descriptor of a copy to one place from (extent, stride) of each dimension."""
    run, dims = item, [d for d in grid if d[0] > 1]
    while dims and dims[-1][1] == run:
        run *= dims.pop()[0]
    if len(dims) > _DIMENSIONS:
        lowering.refuse(step, f"{len(dims)} dimensions that move", f"at most {_DIMENSIONS}")
    out_strides: list[int] = []
    size = run
    for extent, _ in reversed(dims):
        out_strides.insert(0, size)
        size *= extent
    return _descriptor(lowering, [n for n, _ in dims], [s for _, s in dims], out_strides, run)


def _descriptor(
    lowering: Lowering,
    extents: list[int],
    in_strides: list[int],
    out_strides: list[int],
    run: int,
) -> str:
    missing = _DIMENSIONS - len(extents)
    groups = [[1] * missing + extents, [0] * missing + in_strides, [0] * missing + out_strides]
    fields = ["{" + ", ".join(map(str, group)) + "}" for group in groups]
    return lowering.struct("fmc_copy_t", (*fields, run), _COPY_BYTES)


def _images(
    lowering: Lowering, step: int, x: int, y: int
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    lowering.require_int8(step, x, y)
    shapes = [lowering.tensor(t).shape for t in (x, y)]
    if any(len(s) != 4 or s[0] != 1 for s in shapes):
        lowering.refuse(step, f"the shape {shapes[0]}", "NHWC of batch 1")
    first, second = ((s[1], s[2], s[3]) for s in shapes)
    return first, second
