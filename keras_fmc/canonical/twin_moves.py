"""Operations that move values and compute none, as layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.canonical.expand import constant
from keras_fmc.canonical.slices import Slicing, slicing
from keras_fmc.canonical.twins import (
    axes_of,
    divided,
    output_of,
    reshape_to,
    sources_of,
)
from keras_fmc.layers.slice import Slice
from keras_fmc.model.layer_graph import LayerNode


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
    sources = sources_of(editor, node)
    axis = node.operation.axis
    rank = len(editor.shape(sources[0]))
    if axis % rank == 0:
        return False
    if len(sources) == 1:
        editor.alias(node.outputs[0], sources[0])
        return True
    editor.last(node, lambda name: layers.Concatenate(axis=axis, name=name), sources)
    return True


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
    if operation.mode != "constant" or not is_zero or width[0].any() or width[-1].any():
        return False
    pads = tuple((int(before), int(behind)) for before, behind in width[1:-1])
    if rank == 4:
        editor.last(node, lambda name: layers.ZeroPadding2D(pads, name=name), [source])
    elif rank == 3:
        editor.last(node, lambda name: layers.ZeroPadding1D(pads[0], name=name), [source])
    else:
        return False
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
