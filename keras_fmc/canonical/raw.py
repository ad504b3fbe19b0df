"""Operations of `keras.ops` and of operators, as the layers that do the same.

One table, `TWINS`, says for each operation what it is on the device. Constants per channel become
`Rescaling`; slices become `Cropping2D`, `Slice` and, with strides, a pooling over single positions;
means and maxima over all positions become global pooling. What moves values only, without the
batch, becomes `Reshape`, `Permute`, `ZeroPadding2D` or `Concatenate`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.canonical.expand import constant
from keras_fmc.canonical.functions import gelu_tanh
from keras_fmc.canonical.slices import Slicing, slicing
from keras_fmc.layers.channel_scale import channel_scale
from keras_fmc.layers.elementwise import FUNCTIONS, Elementwise
from keras_fmc.layers.matrix_product import MatrixProduct
from keras_fmc.layers.slice import Slice
from keras_fmc.layers.unit_length import UnitLength
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, ValueRef

Twin = Callable[[Editor, LayerNode], bool]
"""Writes what stands for a call, or returns False and leaves the editor alone."""


def raw(editor: Editor) -> LayerGraph:
    """Replaces every operation that has a twin; refuses the others by name."""
    for node in editor.graph.nodes:
        operation = node.operation
        if isinstance(operation, keras.Layer):
            editor.keep(node)
            continue
        kind = type(operation).__name__
        twin = TWINS.get(kind)
        if twin is None or not twin(editor, node):
            how = "with these arguments " if twin is not None else ""
            editor.refuse(
                node,
                f"{kind} {how}has no int8 form here",
                REMEDIES.get(kind, "Write it with stock layers that keras_fmc.supported() lists"),
            )  # fmt: skip
    return editor.done()


REMEDIES = {
    "Matmul": "Multiply two maps of one rank, or a map by a constant matrix",
    "Einsum": "Write it as Dense layers, additions and products",
    "Normalize": "Normalise the last axis to length 1",
    "Multiply": "Multiply by a number, by one number a channel, or by another map",
    "Add": "Add a number, one number a channel, or another map",
}


def _merge(make: type[layers.Layer], *, number: str) -> Twin:
    """x ∘ y of two tensors is a merging layer; with a constant per channel it is `Rescaling`."""

    def twin(editor: Editor, node: LayerNode) -> bool:
        left, right = _operands(node)
        if isinstance(left, ValueRef) and isinstance(right, ValueRef):
            sources = [editor.at(left.id), editor.at(right.id)]
            if number == "divide":
                one_over = functools.partial(_by_table, "reciprocal")
                sources[1] = editor.part(node, "reciprocal", one_over, sources[1:])
            editor.last(node, lambda name: make(name=name), sources, shape=_output(editor, node))
            return True
        reference, other = (left, right) if isinstance(left, ValueRef) else (right, left)
        value = constant(other)
        if value is None or not isinstance(reference, ValueRef):
            return False
        if isinstance(other, keras.Variable):
            return _trained(editor, node, reference.id, number, other)
        if number == "divide" and reference is right and value.size == 1:
            one_over = functools.partial(_by_table, "reciprocal")
            source = editor.part(node, "reciprocal", one_over, [editor.at(reference.id)])
            editor.last(
                node, lambda name: layers.Rescaling(float(value.reshape(())), name=name), [source]
            )
            return True
        form = _affine(number, value, constant_first=reference is right)
        if form is None:
            return False
        return _rescale(editor, node, reference.id, *form)

    return twin


def _affine(
    number: str, value: np.ndarray, *, constant_first: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """(scale, offset) of an operation with a constant."""
    one, zero = np.ones_like(value), np.zeros_like(value)
    if number == "add":
        return one, value
    if number == "subtract":
        return (-one, value) if constant_first else (one, -value)
    if number == "multiply":
        return value, zero
    if number == "divide" and not constant_first and np.all(value != 0):
        return one / value, zero
    return None


def _trained(
    editor: Editor, node: LayerNode, source: int, number: str, weight: keras.Variable
) -> bool:
    """A weight of a layer of the user's, one number or one a channel, that goes on training."""
    shape = _output(editor, node)
    value = np.asarray(keras.ops.convert_to_numpy(weight), np.float64)
    channels = shape[-1] or 1
    per_channel = value.size == 1 or value.size == value.shape[-1] == channels
    if number not in ("add", "multiply") or not per_channel:
        return False
    if shape != editor.shape(editor.at(source)):
        return False
    spread = np.broadcast_to(value.reshape(-1), (channels,))
    part = {"scale" if number == "multiply" else "offset": spread}
    editor.last(
        node,
        lambda name: channel_scale(name, channels, trainable=weight.trainable, **part),
        [editor.at(source)],
    )
    return True


def _rescale(
    editor: Editor, node: LayerNode, source: int, scale: np.ndarray, offset: np.ndarray
) -> bool:
    shape = _output(editor, node)
    if shape != editor.shape(editor.at(source)):
        return False
    spread = [_per_channel(part, shape) for part in (scale, offset)]
    if None in spread:
        return False
    editor.last(
        node,
        lambda name: layers.Rescaling(scale=spread[0], offset=spread[1], name=name),
        [editor.at(source)],
    )
    return True


def _per_channel(value: np.ndarray, shape: Sequence[int | None]) -> float | list[float] | None:
    """A constant that is one number, or one for each channel, as Keras keeps it."""
    if value.size == 1:
        return float(value.reshape(()))
    if value.size == value.shape[-1] == shape[-1] and value.ndim <= len(shape):
        return [float(part) for part in value.reshape(-1)]
    return None


def _extreme(make: type[layers.Layer]) -> Twin:
    """max(x, y); max(x, 0) is a ReLU, min(max(x, 0), m) one with a ceiling (`arithmetic`)."""

    def twin(editor: Editor, node: LayerNode) -> bool:
        left, right = _operands(node)
        if isinstance(left, ValueRef) and isinstance(right, ValueRef):
            sources = [editor.at(left.id), editor.at(right.id)]
            editor.last(node, lambda name: make(name=name), sources, shape=_output(editor, node))
            return True
        reference, other = (left, right) if isinstance(left, ValueRef) else (right, left)
        value = constant(other)
        if value is None or value.size != 1 or not isinstance(reference, ValueRef):
            return False
        bound = float(value.reshape(()))
        source = editor.at(reference.id)
        if make is layers.Maximum and bound == 0:
            editor.last(node, lambda name: layers.ReLU(name=name), [source])
            return True
        if make is layers.Minimum and bound > 0 and _is_relu(editor, source):
            editor.last(node, lambda name: layers.ReLU(max_value=bound, name=name), [source])
            return True
        function = "maximum" if make is layers.Maximum else "minimum"
        editor.last(node, functools.partial(_by_table, function, bound), [source])
        return True

    return twin


def _is_relu(editor: Editor, value: int) -> bool:
    makers = [node for node in editor.nodes if value in node.outputs]
    operation = makers[0].operation if makers else None
    return isinstance(operation, layers.ReLU) and not operation.negative_slope


def _clip(editor: Editor, node: LayerNode) -> bool:
    low, high = constant(node.operation.x_min), constant(node.operation.x_max)
    if low is None or high is None or low.size != 1 or float(high) <= float(low):
        return False
    floor, ceiling = float(low), float(high) - float(low)
    make = lambda name: layers.ReLU(max_value=ceiling, name=name)  # noqa: E731
    sources = _sources(editor, node)
    if floor == 0:
        editor.last(node, make, sources)
        return True
    value = editor.part(
        node, "above", lambda name: layers.Rescaling(1.0, -floor, name=name), sources
    )
    value = editor.part(node, "relu", make, [value])
    editor.last(node, lambda name: layers.Rescaling(1.0, floor, name=name), [value])
    return True


def _activation(function: str) -> Twin:
    def twin(editor: Editor, node: LayerNode) -> bool:
        if getattr(node.operation, "axis", -1) not in (-1, len(_output(editor, node)) - 1):
            return False
        make = lambda name: layers.Activation(function, name=name)  # noqa: E731
        editor.last(node, make, _sources(editor, node))
        return True

    return twin


def _relu(editor: Editor, node: LayerNode) -> bool:
    operation = node.operation
    options = {key: getattr(operation, key) for key in ("max_value", "negative_slope", "threshold")}
    editor.last(node, lambda name: layers.ReLU(**options, name=name), _sources(editor, node))
    return True


def _leaky(editor: Editor, node: LayerNode) -> bool:
    slope = float(node.operation.negative_slope)
    editor.last(
        node, lambda name: layers.LeakyReLU(negative_slope=slope, name=name), _sources(editor, node)
    )
    return True


def _gelu(editor: Editor, node: LayerNode) -> bool:
    function = gelu_tanh if node.operation.approximate else "gelu"
    editor.last(node, lambda name: layers.Activation(function, name=name), _sources(editor, node))
    return True


def _elu(editor: Editor, node: LayerNode) -> bool:
    alpha = float(getattr(node.operation, "alpha", 1.0))
    editor.last(node, lambda name: layers.ELU(alpha=alpha, name=name), _sources(editor, node))
    return True


def _divided(
    editor: Editor, node: LayerNode
) -> tuple[int, tuple[int | None, ...], int, int] | None:
    """What an operation divides: value, shape, axis, and length along it, where that is known."""
    source = editor.at(node.inputs[0])
    shape = editor.shape(source)
    axis = node.operation.axis % len(shape)
    length = shape[axis]
    return None if axis == 0 or length is None else (source, shape, axis, length)


def _gated(editor: Editor, node: LayerNode) -> bool:
    """glu(x) = a · sigmoid(b) of the two halves of x."""
    found = _divided(editor, node)
    if found is None:
        return False
    source, shape, axis, length = found
    halves = []
    for part, start in (("value", 0), ("gate", length // 2)):
        starts = [0] * (len(shape) - 1)
        sizes = [size or 1 for size in shape[1:]]
        starts[axis - 1], sizes[axis - 1] = start, length // 2
        make = functools.partial(_slice, tuple(starts), tuple(sizes))
        halves.append(editor.part(node, part, make, [source]))
    make_gate = lambda name: layers.Activation("sigmoid", name=name)  # noqa: E731
    gate = editor.part(node, "sigmoid", make_gate, [halves[1]])
    editor.last(node, lambda name: layers.Multiply(name=name), [halves[0], gate])
    return True


def _slice(starts: tuple[int, ...], sizes: tuple[int, ...], name: str) -> layers.Layer:
    return Slice(starts, sizes, name=name)


def _matmul(editor: Editor, node: LayerNode) -> bool:
    """The product of two maps, or of one and a constant matrix, which is a dense layer."""
    left, right = _operands(node)
    if isinstance(left, ValueRef) and isinstance(right, ValueRef):
        sources = [editor.at(left.id), editor.at(right.id)]
        ranks = {len(editor.shape(source)) for source in sources}
        if len(ranks) != 1 or not ranks <= {3, 4}:
            return False
        if len({editor.shape(source)[:-2] for source in sources}) != 1:
            return False
        editor.last(node, lambda name: MatrixProduct(name=name), sources)
        return True
    matrix = constant(right)
    if not isinstance(left, ValueRef) or matrix is None or matrix.ndim != 2:
        return False
    source = editor.at(left.id)

    def make(name: str) -> layers.Layer:
        layer = layers.Dense(matrix.shape[1], use_bias=False, name=name)
        layer.build(editor.shape(source))
        layer.kernel.assign(matrix)
        layer.trainable = isinstance(right, keras.Variable) and right.trainable
        return layer

    editor.last(node, make, [source])
    return True


def _negative(editor: Editor, node: LayerNode) -> bool:
    return _rescale(editor, node, node.inputs[0], np.array(-1.0), np.array(0.0))


def _square(editor: Editor, node: LayerNode) -> bool:
    source = editor.at(node.inputs[0])
    editor.last(node, lambda name: layers.Multiply(name=name), [source, source])
    return True


def _power(editor: Editor, node: LayerNode) -> bool:
    value = constant(_operands(node)[1])
    if value is None or value.size != 1 or len(node.inputs) != 1:
        return False
    if float(value.reshape(())) == 1:
        editor.alias(node.outputs[0], editor.at(node.inputs[0]))
        return True
    if float(value.reshape(())) == 2:
        return _square(editor, node)
    if not isinstance(_operands(node)[0], ValueRef):
        return False
    make = functools.partial(_by_table, "power", float(value.reshape(())))
    editor.last(node, make, [editor.at(node.inputs[0])])
    return True


def _by_table(function: str, *arguments: Any) -> layers.Layer:
    """The layer of an elementwise function; the last argument is its name."""
    *numbers, name = arguments
    return Elementwise(function, arguments=numbers, name=name)


def _looked_up(function: str) -> Twin:
    def twin(editor: Editor, node: LayerNode) -> bool:
        editor.last(node, functools.partial(_by_table, function), _sources(editor, node))
        return True

    return twin


def _absolute(editor: Editor, node: LayerNode) -> bool:
    """|x| = relu(x) + relu(-x)."""
    source = editor.at(node.inputs[0])
    above = editor.part(node, "above", lambda name: layers.ReLU(name=name), [source])
    minus = editor.part(node, "minus", lambda name: layers.Rescaling(-1.0, name=name), [source])
    below = editor.part(node, "below", lambda name: layers.ReLU(name=name), [minus])
    editor.last(node, lambda name: layers.Add(name=name), [above, below])
    return True


def _reduce(pool: type[layers.Layer] | None, *, factor: Callable[[int], float]) -> Twin:
    """A mean, maximum or sum over all positions; a mean over channels is a convolution."""

    def twin(editor: Editor, node: LayerNode) -> bool:
        source = editor.at(node.inputs[0])
        shape = editor.shape(source)
        axes = _axes(node.operation.axis, len(shape))
        keepdims = bool(node.operation.keepdims)
        if None in shape[1:] or axes is None:
            return False
        if len(shape) == 2 and axes == (1,):
            if pool is layers.GlobalMaxPooling2D or not keepdims:
                return False
            return _mean_of_channels(editor, node, source, factor(shape[-1] or 1))
        if pool is layers.GlobalMaxPooling2D and axes == (len(shape) - 1,):
            return _largest_of_channels(editor, node, source)
        positions = tuple(range(1, len(shape) - 1))
        if axes == (len(shape) - 1,) and len(shape) == 4 and pool is not layers.GlobalMaxPooling2D:
            return _mean_of_channels(editor, node, source, factor(shape[-1] or 1))
        if axes != positions or len(shape) not in (3, 4) or pool is None:
            return False
        value = source
        if len(shape) == 3:
            value = editor.part(node, "map", _reshape(shape[1], 1, shape[2]), [value])
        scale = factor(math.prod(size or 1 for size in shape[1:-1]))
        inner_keep = keepdims and len(shape) == 4
        make = lambda name: pool(keepdims=inner_keep, name=name)  # noqa: E731
        steps: list[Any] = [make]
        if scale != 1:
            steps.append(lambda name: layers.Rescaling(scale, name=name))
        if keepdims and len(shape) == 3:
            steps.append(_reshape(1, shape[2]))
        for index, step in enumerate(steps[:-1]):
            value = editor.part(node, f"step{index}", step, [value])
        editor.last(node, steps[-1], [value])
        return True

    return twin


def _largest_of_channels(editor: Editor, node: LayerNode, source: int) -> bool:
    """The channels of a position stand side by side: a pooling over rows of them."""
    shape = editor.shape(source)
    if len(shape) not in (3, 4):
        return False
    positions, channels = math.prod(size or 1 for size in shape[1:-1]), shape[-1] or 1
    rows = editor.part(node, "rows", _reshape(positions, channels, 1), [source])
    make = lambda name: layers.MaxPooling2D((1, channels), name=name)  # noqa: E731
    largest = editor.part(node, "largest", make, [rows])
    editor.last(node, _reshape(*_output(editor, node)[1:]), [largest])
    return True


def _normalised(editor: Editor, node: LayerNode) -> bool:
    operation, source = node.operation, editor.at(node.inputs[0])
    last = operation.axis in (-1, len(editor.shape(source)) - 1)
    if not last or operation.order != 2:
        return False
    make = lambda name: UnitLength(epsilon=1e-12, name=name)  # noqa: E731
    editor.last(node, make, [source])
    return True


def _mean_of_channels(editor: Editor, node: LayerNode, source: int, scale: float) -> bool:
    """Σ over channels is a 1×1 convolution of equal weights, which training leaves alone."""
    shape = editor.shape(source)
    weight = scale / (shape[-1] or 1)

    def convolution(name: str) -> layers.Layer:
        options = {
            "use_bias": False,
            "kernel_initializer": keras.initializers.Constant(weight),
            "trainable": False,
            "name": name,
        }
        layer = layers.Dense(1, **options) if len(shape) == 2 else layers.Conv2D(1, 1, **options)
        layer.build(shape)
        return layer

    if node.operation.keepdims:
        editor.last(node, convolution, [source])
        return True
    value = editor.part(node, "mean", convolution, [source])
    editor.last(node, _reshape(*shape[1:-1]), [value])
    return True


def _moved(editor: Editor, node: LayerNode) -> bool:
    """What only changes the shape: the values of a sample stay in their order."""
    shape = _output(editor, node)
    source = editor.at(node.inputs[0])
    if None in shape[1:] or None in editor.shape(source)[1:]:
        return False
    if math.prod(shape[1:]) != math.prod(editor.shape(source)[1:]):  # type: ignore[arg-type]
        return False
    axis = getattr(node.operation, "axis", None)
    if type(node.operation).__name__ in ("Squeeze", "ExpandDims") and axis is not None:
        rank = len(editor.shape(source)) + (type(node.operation).__name__ == "ExpandDims")
        if 0 in (_axes(axis, rank) or (0,)):
            return False
    editor.last(node, _reshape(*shape[1:]), [source])
    return True


def _permuted(editor: Editor, node: LayerNode) -> bool:
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


def _joined(editor: Editor, node: LayerNode) -> bool:
    sources = _sources(editor, node)
    axis = node.operation.axis
    rank = len(editor.shape(sources[0]))
    if axis % rank == 0:
        return False
    if len(sources) == 1:
        editor.alias(node.outputs[0], sources[0])
        return True
    editor.last(node, lambda name: layers.Concatenate(axis=axis, name=name), sources)
    return True


def _stacked(editor: Editor, node: LayerNode) -> bool:
    sources = _sources(editor, node)
    shape = list(editor.shape(sources[0]))
    axis = node.operation.axis % (len(shape) + 1)
    if axis == 0 or None in shape[1:]:
        return False
    shape.insert(axis, 1)
    wide = [
        editor.part(node, f"part{index}", _reshape(*shape[1:]), [source])
        for index, source in enumerate(sources)
    ]
    editor.last(node, lambda name: layers.Concatenate(axis=axis, name=name), wide)
    return True


def _padded(editor: Editor, node: LayerNode) -> bool:
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


def _sliced(editor: Editor, node: LayerNode) -> bool:
    source = editor.at(node.inputs[0])
    key = node.args[1] if len(node.args) > 1 else node.kwargs.get("key")
    form = slicing(key, editor.shape(source))
    if form is None:
        return False
    _write_slice(editor, node, source, form, node.outputs[0], "")
    return True


def _split(editor: Editor, node: LayerNode) -> bool:
    found = _divided(editor, node)
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


def _unstacked(editor: Editor, node: LayerNode) -> bool:
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
        steps.append(("shape", _reshape(*form.shape)))
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


def _pooled(pool: type[layers.Layer]) -> Twin:
    def twin(editor: Editor, node: LayerNode) -> bool:
        source, operation = editor.at(node.inputs[0]), node.operation
        if len(editor.shape(source)) != 4 or operation.data_format == "channels_first":
            return False
        options = {"strides": operation.strides, "padding": operation.padding}
        size = operation.pool_size
        editor.last(node, lambda name: pool(size, **options, name=name), [source])
        return True

    return twin


def _resized(editor: Editor, node: LayerNode) -> bool:
    source, operation = editor.at(node.inputs[0]), node.operation
    plain = not (
        operation.antialias or operation.crop_to_aspect_ratio or operation.pad_to_aspect_ratio
    )
    if not plain or operation.data_format == "channels_first":
        return False
    rows, columns = operation.size
    make = lambda name: layers.Resizing(  # noqa: E731
        rows, columns, interpolation=operation.interpolation, name=name
    )
    editor.last(node, make, [source])
    return True


def _nothing(editor: Editor, node: LayerNode) -> bool:
    if getattr(node.operation, "dtype", None) not in (None, "float32"):
        return False
    editor.alias(node.outputs[0], editor.at(node.inputs[0]))
    return True


def _reshape(*shape: int | None) -> Callable[[str], layers.Layer]:
    return lambda name: layers.Reshape(shape, name=name)


def _sources(editor: Editor, node: LayerNode) -> list[int]:
    return [editor.at(value) for value in node.inputs]


def _output(editor: Editor, node: LayerNode) -> tuple[int | None, ...]:
    return editor.graph.values[node.outputs[0]].shape


def _operands(node: LayerNode) -> tuple[Any, Any]:
    named = [*node.args, *node.kwargs.values()]
    return (named[0], named[1]) if len(named) > 1 else (named[0], None)


def _axes(axis: Any, rank: int) -> tuple[int, ...] | None:
    if axis is None:
        return None
    axes = [axis] if isinstance(axis, (int, np.integer)) else list(axis)
    return tuple(sorted(int(item) % rank for item in axes))


TWINS: dict[str, Twin] = {
    "Absolute": _absolute,
    "Abs": _absolute,
    "Add": _merge(layers.Add, number="add"),
    "ArraySplit": _split,
    "AveragePool": _pooled(layers.AveragePooling2D),
    "Cast": _nothing,
    "Clip": _clip,
    "Concatenate": _joined,
    "Copy": _nothing,
    "Divide": _merge(layers.Multiply, number="divide"),
    "Elu": _elu,
    "ExpandDims": _moved,
    "Gelu": _gelu,
    "GetItem": _sliced,
    "Glu": _gated,
    "HardSigmoid": _activation("hard_sigmoid"),
    "HardSilu": _activation("hard_silu"),
    "HardTanh": _activation("hard_tanh"),
    "Identity": _nothing,
    "LeakyRelu": _leaky,
    "LogSigmoid": _activation("log_sigmoid"),
    "Matmul": _matmul,
    "Max": _reduce(layers.GlobalMaxPooling2D, factor=lambda count: 1.0),
    "MaxPool": _pooled(layers.MaxPooling2D),
    "Maximum": _extreme(layers.Maximum),
    "Mean": _reduce(layers.GlobalAveragePooling2D, factor=lambda count: 1.0),
    "Mish": _activation("mish"),
    "Minimum": _extreme(layers.Minimum),
    "Moveaxis": _permuted,
    "Multiply": _merge(layers.Multiply, number="multiply"),
    "Negative": _negative,
    "Normalize": _normalised,
    "Pad": _padded,
    "Power": _power,
    "Ravel": _moved,
    "ReLU": _relu,
    "Relu": _activation("relu"),
    "Relu6": _activation("relu6"),
    "Reshape": _moved,
    "Resize": _resized,
    "Selu": _activation("selu"),
    "Sigmoid": _activation("sigmoid"),
    "Silu": _activation("silu"),
    "Softmax": _activation("softmax"),
    "Softplus": _activation("softplus"),
    "Split": _split,
    "Square": _square,
    "Squeeze": _moved,
    "Stack": _stacked,
    "StopGradient": _nothing,
    "Subtract": _merge(layers.Subtract, number="subtract"),
    "Sum": _reduce(layers.GlobalAveragePooling2D, factor=float),
    "Swapaxes": _permuted,
    "Tanh": _activation("tanh"),
    "TanhShrink": _activation("tanh_shrink"),
    "Transpose": _permuted,
    "TrueDivide": _merge(layers.Multiply, number="divide"),
    "Unstack": _unstacked,
}
"""Operation of Keras → what writes the layers that do the same."""

TWINS |= {name: _looked_up(function) for name, function in FUNCTIONS.items()}
