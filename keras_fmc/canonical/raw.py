"""Operations of `keras.ops` and of operators, as the layers that do the same.

One table, `TWINS`, says for each operation what it is on the device. Constants per channel become
`Rescaling`; slices become `Cropping2D`, `Slice` and, with strides, a pooling over single positions;
means and maxima over all positions become global pooling. What moves values only, without the
batch, becomes `Reshape`, `Permute`, `ZeroPadding2D` or `Concatenate`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.canonical.expand import constant
from keras_fmc.canonical.functions import gelu_tanh
from keras_fmc.canonical.twin_arithmetic import (
    absolute,
    extreme,
    looked_up,
    matmul,
    merge,
    negative,
    power,
    square,
)
from keras_fmc.canonical.twin_convolutions import convolved
from keras_fmc.canonical.twin_moves import (
    filled,
    joined,
    moved,
    padded,
    permuted,
    sliced,
    split,
    stacked,
    unstacked,
)
from keras_fmc.canonical.twins import (
    Twin,
    axes_of,
    divided,
    output_of,
    reshape_to,
    sources_of,
)
from keras_fmc.layers.elementwise import FUNCTIONS, WITH_ARGUMENTS
from keras_fmc.layers.slice import Slice
from keras_fmc.layers.unit_length import UnitLength
from keras_fmc.model.layer_graph import LayerGraph, LayerNode


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


_ON_THE_HOST = "Put out the values that it reads, and choose among them on the host"
_LOGITS = "Put out the values that it reads, and take the logarithm on the host"
_CHOOSE = (
    "Write it with ops.maximum, ops.minimum, ops.relu or ops.clip; a function of each value alone "
    "may be a layer of your own that is a table of codes on the device: "
    "keras_fmc.register_layer(elementwise=True)"
)

REMEDIES = {
    "Matmul": "Multiply two maps of one rank, or a map by a constant matrix",
    "Einsum": "Write it as Dense layers, additions and products",
    "Normalize": "Normalise the last axis to length 1",
    "Multiply": "Multiply by a number, by one number a channel, or by another map",
    "Add": "Add a number, one number a channel, a map that is the same for all samples, or another "
    "map",
    **dict.fromkeys(("LogSoftmax", "Logsumexp"), _LOGITS),
    **dict.fromkeys(("Argmax", "Argmin", "InTopK", "TopK"), _ON_THE_HOST),
    **dict.fromkeys(("Where", "Greater", "GreaterEqual", "Less", "LessEqual"), _CHOOSE),
    **dict.fromkeys(("Equal", "NotEqual", "LogicalAnd", "LogicalOr", "LogicalNot"), _CHOOSE),
}


def _clip(editor: Editor, node: LayerNode) -> bool:
    low, high = constant(node.operation.x_min), constant(node.operation.x_max)
    if low is None or high is None or low.size != 1 or float(high) <= float(low):
        return False
    floor, ceiling = float(low), float(high) - float(low)
    make = lambda name: layers.ReLU(max_value=ceiling, name=name)  # noqa: E731
    sources = sources_of(editor, node)
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
        if getattr(node.operation, "axis", -1) not in (-1, len(output_of(editor, node)) - 1):
            return False
        make = lambda name: layers.Activation(function, name=name)  # noqa: E731
        editor.last(node, make, sources_of(editor, node))
        return True

    return twin


def _softmax(editor: Editor, node: LayerNode) -> bool:
    axis = node.operation.axis
    if axis is None:
        return False
    editor.last(node, lambda name: layers.Softmax(axis, name=name), sources_of(editor, node))
    return True


def _relu(editor: Editor, node: LayerNode) -> bool:
    operation = node.operation
    options = {key: getattr(operation, key) for key in ("max_value", "negative_slope", "threshold")}
    editor.last(node, lambda name: layers.ReLU(**options, name=name), sources_of(editor, node))
    return True


def _leaky(editor: Editor, node: LayerNode) -> bool:
    slope = float(node.operation.negative_slope)
    editor.last(
        node,
        lambda name: layers.LeakyReLU(negative_slope=slope, name=name),
        sources_of(editor, node),
    )
    return True


def _gelu(editor: Editor, node: LayerNode) -> bool:
    function = gelu_tanh if node.operation.approximate else "gelu"
    editor.last(node, lambda name: layers.Activation(function, name=name), sources_of(editor, node))
    return True


def _elu(editor: Editor, node: LayerNode) -> bool:
    alpha = float(getattr(node.operation, "alpha", 1.0))
    editor.last(node, lambda name: layers.ELU(alpha=alpha, name=name), sources_of(editor, node))
    return True


def _gated(editor: Editor, node: LayerNode) -> bool:
    """glu(x) = a · sigmoid(b) of the two halves of x."""
    found = divided(editor, node)
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


def _reduce(pool: type[layers.Layer], *, factor: Callable[[int], float]) -> Twin:
    """A mean, maximum or sum over all positions; a mean over channels is a convolution."""

    def twin(editor: Editor, node: LayerNode) -> bool:
        source = editor.at(node.inputs[0])
        shape = editor.shape(source)
        axes = axes_of(node.operation.axis, len(shape))
        keepdims = bool(node.operation.keepdims)
        if None in shape[1:] or axes is None:
            return False
        largest = pool is layers.GlobalMaxPooling2D
        if len(shape) == 2 and axes == (1,):
            if largest or not keepdims:
                return False
            return _mean_of_channels(editor, node, source, factor(shape[-1] or 1))
        if largest and axes == (len(shape) - 1,):
            return _largest_of_channels(editor, node, source)
        positions = tuple(range(1, len(shape) - 1))
        if axes == (len(shape) - 1,) and len(shape) in (3, 4):
            return _mean_of_channels(editor, node, source, factor(shape[-1] or 1))
        if len(shape) == 4 and axes in ((1,), (2,)):
            return _along(editor, node, largest, axes[0], factor)
        if axes != positions or len(shape) not in (3, 4):
            return False
        value = source
        if len(shape) == 3:
            value = editor.part(node, "map", reshape_to(shape[1], 1, shape[2]), [value])
        scale = factor(math.prod(size or 1 for size in shape[1:-1]))
        inner_keep = keepdims and len(shape) == 4
        make = lambda name: pool(keepdims=inner_keep, name=name)  # noqa: E731
        steps: list[Any] = [make]
        if scale != 1:
            steps.append(lambda name: layers.Rescaling(scale, name=name))
        if keepdims and len(shape) == 3:
            steps.append(reshape_to(1, shape[2]))
        for index, step in enumerate(steps[:-1]):
            value = editor.part(node, f"step{index}", step, [value])
        editor.last(node, steps[-1], [value])
        return True

    return twin


def _along(
    editor: Editor, node: LayerNode, largest: bool, axis: int, factor: Callable[[int], float]
) -> bool:
    """Over rows or columns alone: a pooling over all of them."""
    source = editor.at(node.inputs[0])
    length = editor.shape(source)[axis] or 1
    window = (length, 1) if axis == 1 else (1, length)
    pool = layers.MaxPooling2D if largest else layers.AveragePooling2D
    value = editor.part(node, "pool", lambda name: pool(window, name=name), [source])
    scale = factor(length)
    if scale != 1:
        make = lambda name: layers.Rescaling(scale, name=name)  # noqa: E731
        value = editor.part(node, "sum", make, [value])
    editor.last(node, reshape_to(*output_of(editor, node)[1:]), [value])
    return True


def _largest_of_channels(editor: Editor, node: LayerNode, source: int) -> bool:
    """The channels of a position stand side by side: a pooling over rows of them."""
    shape = editor.shape(source)
    if len(shape) < 3:
        return False
    positions, channels = math.prod(size or 1 for size in shape[1:-1]), shape[-1] or 1
    rows = editor.part(node, "rows", reshape_to(positions, channels, 1), [source])
    make = lambda name: layers.MaxPooling2D((1, channels), name=name)  # noqa: E731
    largest = editor.part(node, "largest", make, [rows])
    editor.last(node, reshape_to(*output_of(editor, node)[1:]), [largest])
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
        layer = layers.Dense(1, **options) if len(shape) < 4 else layers.Conv2D(1, 1, **options)
        layer.build(shape)
        return layer

    if node.operation.keepdims:
        editor.last(node, convolution, [source])
        return True
    value = editor.part(node, "mean", convolution, [source])
    editor.last(node, reshape_to(*shape[1:-1]), [value])
    return True


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


def _dot(editor: Editor, node: LayerNode) -> bool:
    """By a constant it is a matrix product; of two maps it is none."""
    return len(node.inputs) == 1 and matmul(editor, node)


def _nothing(editor: Editor, node: LayerNode) -> bool:
    if getattr(node.operation, "dtype", None) not in (None, "float32"):
        return False
    editor.alias(node.outputs[0], editor.at(node.inputs[0]))
    return True


TWINS: dict[str, Twin] = {
    "Absolute": absolute,
    "Abs": absolute,
    "Add": merge(layers.Add, number="add"),
    "ArraySplit": split,
    "AveragePool": _pooled(layers.AveragePooling2D),
    "Cast": _nothing,
    "Clip": _clip,
    "Concatenate": joined,
    "Conv": convolved(depthwise=False),
    "Copy": _nothing,
    "DepthwiseConv": convolved(depthwise=True),
    "Dot": _dot,
    "Divide": merge(layers.Multiply, number="divide"),
    "Elu": _elu,
    "ExpandDims": moved,
    "FullLike": filled(None),
    "Gelu": _gelu,
    "GetItem": sliced,
    "Glu": _gated,
    "HardSigmoid": _activation("hard_sigmoid"),
    "HardSilu": _activation("hard_silu"),
    "HardTanh": _activation("hard_tanh"),
    "Identity": _nothing,
    "LeakyRelu": _leaky,
    "LogSigmoid": _activation("log_sigmoid"),
    "Matmul": matmul,
    "Max": _reduce(layers.GlobalMaxPooling2D, factor=lambda count: 1.0),
    "MaxPool": _pooled(layers.MaxPooling2D),
    "Maximum": extreme(layers.Maximum),
    "Mean": _reduce(layers.GlobalAveragePooling2D, factor=lambda count: 1.0),
    "Mish": _activation("mish"),
    "Minimum": extreme(layers.Minimum),
    "Moveaxis": permuted,
    "Multiply": merge(layers.Multiply, number="multiply"),
    "Negative": negative,
    "Normalize": _normalised,
    "OnesLike": filled(1.0),
    "Pad": padded,
    "Power": power,
    "Ravel": moved,
    "ReLU": _relu,
    "Relu": _activation("relu"),
    "Relu6": _activation("relu6"),
    "Reshape": moved,
    "Resize": _resized,
    "Selu": _activation("selu"),
    "Sigmoid": _activation("sigmoid"),
    "Silu": _activation("silu"),
    "Softmax": _softmax,
    "Softplus": _activation("softplus"),
    "Split": split,
    "Square": square,
    "Squeeze": moved,
    "Stack": stacked,
    "StopGradient": _nothing,
    "Subtract": merge(layers.Subtract, number="subtract"),
    "Sum": _reduce(layers.GlobalAveragePooling2D, factor=float),
    "Swapaxes": permuted,
    "Tanh": _activation("tanh"),
    "TanhShrink": _activation("tanh_shrink"),
    "Transpose": permuted,
    "TrueDivide": merge(layers.Multiply, number="divide"),
    "Unstack": unstacked,
    "ZerosLike": filled(0.0),
}
"""Operation of Keras → what writes the layers that do the same."""

TWINS |= {name: looked_up(function) for name, function in FUNCTIONS.items()}
TWINS |= {name: looked_up(*entry) for name, entry in WITH_ARGUMENTS.items()}
