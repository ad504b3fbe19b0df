"""Operations that move values and compute none, as layers."""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.canonical.expand import constant
from keras_fmc.canonical.slices import Slicing, slicing
from keras_fmc.canonical.twin_arithmetic import constant_part, without_batch
from keras_fmc.canonical.twins import (
    Twin,
    axes_of,
    divided,
    operands_of,
    output_of,
    reshape_to,
    sources_of,
)
from keras_fmc.layers.constant_map import constant_map
from keras_fmc.layers.slice import Slice
from keras_fmc.model.layer_graph import LayerNode, ValueRef


def moved(editor: Editor, node: LayerNode) -> bool:
    """What only changes the shape: the values of a sample stay in their order."""
    shape = output_of(editor, node)
    source = editor.at(node.inputs[0])
    if None in shape[1:] or None in editor.shape(source)[1:]:
        return False
    if math.prod(shape[1:]) != math.prod(editor.shape(source)[1:]):  # type: ignore[arg-type]
        return False
    axis = getattr(node.operation, "axis", None)
    if type(node.operation).__name__ in ("Squeeze", "ExpandDims") and axis is not None:
        rank = len(editor.shape(source)) + (type(node.operation).__name__ == "ExpandDims")
        if 0 in (axes_of(axis, rank) or (0,)):
            return False
    editor.last(node, reshape_to(*shape[1:]), [source])
    return True


def permuted(editor: Editor, node: LayerNode) -> bool:
    source = editor.at(node.inputs[0])
    rank = len(editor.shape(source))
    order = list(range(rank))
    operation = node.operation
    kind = type(operation).__name__
    if kind == "Transpose":
        order = list(operation.axes) if operation.axes is not None else order[::-1]
    elif kind == "Swapaxes":
        one, other = operation.axis1 % rank, operation.axis2 % rank
        order[one], order[other] = order[other], order[one]
    else:
        moved = np.moveaxis(
            np.empty(tuple(range(1, rank + 1))), operation.source, operation.destination
        )
        order = [size - 1 for size in moved.shape]
    order = [axis % rank for axis in order]
    if order[0] != 0:
        return False
    if order == list(range(rank)):
        editor.alias(node.outputs[0], source)
        return True
    editor.last(node, lambda name: layers.Permute(tuple(order[1:]), name=name), [source])
    return True


def joined(editor: Editor, node: LayerNode) -> bool:
    axis = node.operation.axis
    rank = len(output_of(editor, node))
    if axis % rank == 0:
        return False
    sources = _parts(editor, node, rank)
    if sources is None:
        return False
    if len(sources) == 1:
        editor.alias(node.outputs[0], sources[0])
        return True
    editor.last(node, lambda name: layers.Concatenate(axis=axis, name=name), sources)
    return True


def _parts(editor: Editor, node: LayerNode, rank: int) -> list[int] | None:
    """The tensors that are joined, and constants among them as maps."""
    (joined,) = (*node.args, *node.kwargs.values())
    found: list[int] = []
    makers = []
    for index, leaf in enumerate(joined):
        if isinstance(leaf, ValueRef):
            found.append(editor.at(leaf.id))
            continue
        value = constant(leaf)
        values = None if value is None or value.ndim != rank else without_batch(value, rank)
        if values is None:
            return None
        makers.append((index, values, isinstance(leaf, keras.Variable) and leaf.trainable))
    for index, values, trainable in makers:
        part = constant_part(editor, node, f"constant{index}", values, trainable=trainable)
        found.insert(index, part)
    return found


def filled(value: float | None) -> Twin:
    """ones_like(x) and the like; without a value it is an argument."""

    def twin(editor: Editor, node: LayerNode) -> bool:
        shape = output_of(editor, node)
        given = constant(operands_of(node)[1]) if value is None else np.asarray(value)
        if None in shape[1:] or given is None or given.size != 1:
            return False
        values = np.full([size or 1 for size in shape[1:]], float(given.reshape(())))
        make = functools.partial(constant_map, values=values)
        editor.last(node, make, [editor.graph.inputs[0]], shape=shape)
        return True

    return twin


def stacked(editor: Editor, node: LayerNode) -> bool:
    sources = sources_of(editor, node)
    shape = list(editor.shape(sources[0]))
    axis = node.operation.axis % (len(shape) + 1)
    if axis == 0 or None in shape[1:]:
        return False
    shape.insert(axis, 1)
    wide = [
        editor.part(node, f"part{index}", reshape_to(*shape[1:]), [source])
        for index, source in enumerate(sources)
    ]
    editor.last(node, lambda name: layers.Concatenate(axis=axis, name=name), wide)
    return True


def padded(editor: Editor, node: LayerNode) -> bool:
    source = editor.at(node.inputs[0])
    operation = node.operation
    value = constant(node.kwargs.get("constant_values", 0.0))
    rank = len(editor.shape(source))
    width = np.broadcast_to(np.asarray(operation.pad_width), (rank, 2))
    is_zero = node.kwargs.get("constant_values") is None or (value is not None and not value.any())
    if operation.mode != "constant" or not is_zero or width[0].any() or rank not in (2, 3, 4):
        return False
    pads = tuple((int(before), int(behind)) for before, behind in width[1:])
    if width[-1].any():
        return _padded_channels(editor, node, source, pads)
    if rank == 4:
        editor.last(node, lambda name: layers.ZeroPadding2D(pads[:2], name=name), [source])
    elif rank == 3:
        editor.last(node, lambda name: layers.ZeroPadding1D(pads[0], name=name), [source])
    else:
        editor.alias(node.outputs[0], source)
    return True


def _padded_channels(
    editor: Editor, node: LayerNode, source: int, pads: tuple[tuple[int, int], ...]
) -> bool:
    """Zeros beside channels are columns of a map whose rows are positions."""
    if len(pads) == 3 and any(map(any, pads[:2])):
        make = lambda name: layers.ZeroPadding2D(pads[:2], name=name)  # noqa: E731
        source = editor.part(node, "around", make, [source])
    shape = editor.shape(source)
    positions, channels = math.prod(size or 1 for size in shape[1:-1]), shape[-1]
    rows = editor.part(node, "rows", reshape_to(positions, channels, 1), [source])
    around = (pads[0] if len(pads) == 2 else (0, 0), pads[-1])
    make_wide = lambda name: layers.ZeroPadding2D(around, name=name)  # noqa: E731
    wide = editor.part(node, "wide", make_wide, [rows])
    editor.last(node, reshape_to(*output_of(editor, node)[1:]), [wide])
    return True


def sliced(editor: Editor, node: LayerNode) -> bool:
    source = editor.at(node.inputs[0])
    key = node.args[1] if len(node.args) > 1 else node.kwargs.get("key")
    form = slicing(key, editor.shape(source))
    if form is None:
        return False
    _write_slice(editor, node, source, form, node.outputs[0], "")
    return True


def split(editor: Editor, node: LayerNode) -> bool:
    found = divided(editor, node)
    if found is None:
        return False
    source, shape, axis, length = found
    parts = node.operation.indices_or_sections
    if isinstance(parts, (int, np.integer)):
        borders = list(np.cumsum([len(part) for part in np.array_split(range(length), parts)]))
    else:
        borders = [*(int(part) % (length + 1) for part in parts), length]
    starts = [0, *borders[:-1]]
    for index, (start, stop) in enumerate(zip(starts, borders, strict=True)):
        key = (*[slice(None)] * axis, slice(int(start), int(stop)))
        form = slicing(key, shape)
        assert form is not None
        _write_slice(editor, node, source, form, node.outputs[index], f"part{index}")
    return True


def unstacked(editor: Editor, node: LayerNode) -> bool:
    source = editor.at(node.inputs[0])
    shape = editor.shape(source)
    axis = node.operation.axis % len(shape)
    if axis == 0 or None in shape[1:]:
        return False
    for index, output in enumerate(node.outputs):
        form = slicing((*[slice(None)] * axis, index), shape)
        assert form is not None
        _write_slice(editor, node, source, form, output, f"part{index}")
    return True


def _write_slice(
    editor: Editor, node: LayerNode, source: int, form: Slicing, output: int, part: str
) -> None:
    """Cropping, the slice of channels, single positions, and the shape, as far as needed."""
    shape = editor.shape(source)
    steps: list[tuple[str, Any]] = []
    starts, stops = form.starts, form.stops
    rank = len(shape)
    whole = [start == 0 and stop == size for start, stop, size in zip(
        starts, stops, shape[1:], strict=True)]  # fmt: skip
    if rank == 4 and whole[2] and not all(whole):
        crop = tuple((starts[i], (shape[i + 1] or 0) - stops[i]) for i in range(2))
        steps.append(("crop", lambda name: layers.Cropping2D(crop, name=name)))
    elif not all(whole):
        sizes = tuple(stop - start for start, stop in zip(starts, stops, strict=True))
        steps.append(("slice", lambda name: Slice(starts, sizes, name=name)))
    if any(stride != 1 for stride in form.strides):
        strides = form.strides[:2]
        steps.append(("stride", lambda name: layers.MaxPooling2D(1, strides=strides, name=name)))
    if form.shape is not None:
        steps.append(("shape", reshape_to(*form.shape)))
    if not steps:
        editor.alias(output, source)
        return
    value = source
    for kind, make in steps[:-1]:
        value = editor.part(node, f"{part}{kind}", make, [value])
    if part:
        layer, name = editor.layer(node, part, steps[-1][1])
        editor.call(layer, name, [value], name=editor.values[output].name, output=output)
    else:
        editor.last(node, steps[-1][1], [value])
