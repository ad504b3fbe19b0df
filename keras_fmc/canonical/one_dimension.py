"""1-D layers as their 2-D twins on maps (length, 1, channels).

A sequence (batch, length, channels) is held as a map of one column from the first 1-D layer on, as
long as only layers follow that work on maps as well: activations, normalisation, dropout, merging.
Length stands for rows, as strips are bands of rows. A reshape leads in at the front, another one
out where something reads the sequence itself; neither moves a byte on the device.

    Conv1D(32, 5)             →  Conv2D(32, (5, 1)), the same weights
    Conv1D(…, "causal")       →  ZeroPadding2D on top, Conv2D(…, "valid")
    Dense on a sequence       →  Conv2D(units, 1)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.layers.centre import Centre
from keras_fmc.layers.channel_scale import ChannelScale
from keras_fmc.layers.unit_length import UnitLength
from keras_fmc.model.layer_graph import LayerGraph, LayerNode
from keras_fmc.model.operations import TABLE

Make = Callable[[str], keras.Layer]


def one_dimension(editor: Editor) -> LayerGraph:
    """Replaces 1-D layers, and lets what stands between them work on maps."""
    kept = frozenset[int]()
    while more := _in_two_forms(editor.graph, kept):
        kept |= more
    return _Lifting(editor, kept).run()


def _in_two_forms(graph: LayerGraph, kept: frozenset[int]) -> frozenset[int]:
    """Layers with weights that would be called on maps here and on sequences there."""
    calls = Counter(
        id(node.operation) for node in graph.nodes if getattr(node.operation, "weights", None)
    )
    if max(calls.values(), default=0) < 2:
        return frozenset()
    trial = _Lifting(Editor(graph), kept)
    trial.run()
    return frozenset(layer for layer in calls if len(trial.forms[layer]) > 1)


class _Lifting:
    """Which values are held as maps.

    `maps` gives for a sequence of the source the map that holds it; `written` says which of these
    also stand as a sequence. Layers among `kept`, by id, stay on sequences; `forms` says of each
    on which of both it was called.
    """

    def __init__(self, editor: Editor, kept: frozenset[int]) -> None:
        self.editor = editor
        self.kept = kept
        self.forms: defaultdict[int, set[bool]] = defaultdict(set)
        self.maps: dict[int, int] = {}
        self.written: set[int] = set(editor.graph.inputs)

    def run(self) -> LayerGraph:
        for node in self.editor.graph.nodes:
            self._add(node)
        for value in self.editor.graph.outputs:
            self._sequence(value)
        return self.editor.done()

    def _add(self, node: LayerNode) -> None:
        operation = node.operation
        twin = _TWINS.get(type(operation))
        shape = self.editor.graph.values[node.inputs[0]].shape if node.inputs else ()
        if type(operation) in _BOTH and len(shape) != 3:
            twin = None
        if twin is not None and getattr(operation, "data_format", None) != "channels_first":
            self._replace(node, twin(operation, shape))
            return
        is_sequence = bool(node.inputs) and all(
            len(self.editor.graph.values[value].shape) == 3 for value in node.inputs
        )
        lifted = is_sequence and any(value in self.maps for value in node.inputs)
        make = _on_maps(operation) if lifted and id(operation) not in self.kept else None
        self.forms[id(operation)].add(make is not None)
        if make is not None and len(node.outputs) == 1:
            self._replace(node, [make])
        elif lifted and isinstance(operation, (layers.Flatten, layers.Reshape)):
            self._flatten(node)
        else:
            for value in node.inputs:
                self._sequence(value)
            self.editor.keep(node)
            self.written.update(node.outputs)

    def _replace(self, node: LayerNode, makes: list[Make]) -> None:
        """Writes the twin of a call, which may have a padding in front."""
        editor = self.editor
        sources = [self._map(value) for value in node.inputs]
        for index, make in enumerate(makes[:-1]):
            sources = [editor.part(node, f"part{index}", make, sources)]
        (output,) = node.outputs
        layer, name = editor.layer(node, "", makes[-1])
        _built(node.operation, layer, editor.shape(sources[0]))
        rank = len(editor.graph.values[output].shape)
        if rank != 3:
            editor.call(layer, name, sources, name=node.name, output=output)
            self.written.add(output)
            return
        self.maps[output] = editor.call(layer, name, sources, name=node.name)

    def _flatten(self, node: LayerNode) -> None:
        """A reshape reads the map as well as the sequence: the values stand in the same order."""
        (value,) = node.inputs
        before = self.editor.moved.get(value)
        if value in self.maps:
            self.editor.moved[value] = self.maps[value]
        self.editor.keep(node)
        if value in self.maps:
            del self.editor.moved[value]
            if before is not None:
                self.editor.moved[value] = before
        self.written.update(node.outputs)

    def _map(self, value: int) -> int:
        """Returns the map that holds a sequence, and writes the reshape that makes it."""
        if value not in self.maps:
            editor = self.editor
            spec = editor.graph.values[value]
            _, length, channels = spec.shape
            name = editor.free(f"{spec.name}_map")
            layer = layers.Reshape((length, 1, channels), name=name)
            self.maps[value] = editor.call(layer, name, [editor.at(value)])
        return self.maps[value]

    def _sequence(self, value: int) -> None:
        """Writes a value as the sequence that it is in the source, if it is a map only."""
        if value in self.written or value not in self.maps:
            return
        editor = self.editor
        spec = editor.graph.values[value]
        name = editor.free(f"{spec.name}_sequence")
        layer = layers.Reshape(spec.shape[1:], name=name)
        editor.call(layer, name, [self.maps[value]], output=value)
        self.written.add(value)


def _built(source: keras.Operation, layer: keras.Layer, shape: tuple[int | None, ...]) -> None:
    """Gives a twin the weights of its source."""
    if layer.built or not isinstance(source, keras.Layer) or not source.weights:
        return
    layer.build(shape)
    targets = {weight.name: weight for weight in layer.weights}
    for weight in source.weights:
        target = targets[weight.name]
        target.assign(keras.ops.reshape(weight, target.shape))
    layer.trainable = source.trainable


def _shared(layer: keras.Layer, *keys: str) -> dict[str, Any]:
    config = layer.get_config()
    return {"dtype": layer.dtype_policy, **{key: config[key] for key in keys if key in config}}


_CONVOLUTION = (
    *("activation", "use_bias", "bias_regularizer", "kernel_regularizer"),
    *("depthwise_regularizer", "pointwise_regularizer", "depth_multiplier"),
)


def _convolution(cls: type[keras.Layer], *, square: bool) -> Callable[..., list[Make]]:
    """`square`: the strides of depthwise convolutions are the same for rows and columns, of which
    there is one."""

    def twin(layer: Any, shape: tuple[int | None, ...]) -> list[Make]:
        (window,), (stride,), (dilation,) = layer.kernel_size, layer.strides, layer.dilation_rate
        options = _shared(layer, *_CONVOLUTION, "groups")
        if hasattr(layer, "filters") and cls is not layers.DepthwiseConv2D:
            options["filters"] = layer.filters
        options["kernel_size"] = (window, 1)
        options["strides"] = (stride, stride if square else 1)
        options["dilation_rate"] = (dilation, 1)
        options["padding"] = "valid" if layer.padding == "causal" else layer.padding
        if cls is layers.Conv2DTranspose:
            (extra,) = (None,) if layer.output_padding is None else layer.output_padding
            options["output_padding"] = None if extra is None else (extra, 0)
        makes: list[Make] = [lambda name: cls(**options, name=name)]
        if layer.padding == "causal":
            pad = ((window - 1) * dilation, 0)
            makes.insert(0, lambda name: layers.ZeroPadding2D((pad, (0, 0)), name=name))
        return makes

    return twin


def _pool(cls: type[keras.Layer]) -> Callable[..., list[Make]]:
    def twin(layer: Any, shape: tuple[int | None, ...]) -> list[Make]:
        (size,), (stride,) = _tuple(layer.pool_size), _tuple(layer.strides)
        options = {"strides": (stride, 1), "padding": layer.padding}
        return [lambda name: cls((size, 1), **options, name=name)]

    return twin


def _global(cls: type[keras.Layer]) -> Callable[..., list[Make]]:
    return lambda layer, shape: [lambda name: cls(keepdims=layer.keepdims, name=name)]


def _tuple(size: Any) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)


def _padding(layer: Any, shape: tuple[int | None, ...]) -> list[Make]:
    pad = tuple(layer.padding)
    return [lambda name: layers.ZeroPadding2D((pad, (0, 0)), name=name)]


def _cropping(layer: Any, shape: tuple[int | None, ...]) -> list[Make]:
    cut = tuple(layer.cropping)
    return [lambda name: layers.Cropping2D((cut, (0, 0)), name=name)]


def _upsampling(layer: Any, shape: tuple[int | None, ...]) -> list[Make]:
    (size,) = _tuple(layer.size)
    return [lambda name: layers.UpSampling2D((size, 1), name=name)]


def _dropout(layer: Any, shape: tuple[int | None, ...]) -> list[Make]:
    return [lambda name: layers.SpatialDropout2D(layer.rate, seed=layer.seed, name=name)]


def _as_it_is(layer: Any, shape: tuple[int | None, ...]) -> list[Make]:
    config = layer.get_config()
    return [lambda name: type(layer).from_config({**config, "name": name})]


_BOTH = (Centre, ChannelScale, UnitLength)
"""Layers of the project that work on the last axis of anything, and come to the device as maps."""

_TWINS: dict[type[keras.Layer], Callable[..., list[Make]]] = {
    layers.AveragePooling1D: _pool(layers.AveragePooling2D),
    layers.Conv1D: _convolution(layers.Conv2D, square=False),
    layers.Conv1DTranspose: _convolution(layers.Conv2DTranspose, square=False),
    layers.Cropping1D: _cropping,
    layers.DepthwiseConv1D: _convolution(layers.DepthwiseConv2D, square=True),
    layers.GlobalAveragePooling1D: _global(layers.GlobalAveragePooling2D),
    layers.GlobalMaxPooling1D: _global(layers.GlobalMaxPooling2D),
    layers.MaxPooling1D: _pool(layers.MaxPooling2D),
    layers.SeparableConv1D: _convolution(layers.SeparableConv2D, square=True),
    layers.SpatialDropout1D: _dropout,
    layers.UpSampling1D: _upsampling,
    layers.ZeroPadding1D: _padding,
    **dict.fromkeys(_BOTH, _as_it_is),
}
"""1-D layer → what makes its twin, and before it a padding."""

LAYERS = tuple(cls for cls in _TWINS if cls not in _BOTH)
"""The 1-D layers that have a twin."""

_AS_THEY_ARE = (
    *(layer for layer, row in TABLE.items() if row.any_shape),
    *(layers.Activation, layers.Average, layers.LeakyReLU, layers.ReLU, layers.Rescaling),
)
"""Layers without weights that do not care for the shape of what they work on."""


def _on_maps(operation: keras.Operation) -> Make | None:
    """Returns what makes a layer that does to the map what `operation` does to the sequence."""
    if type(operation) in _AS_THEY_ARE:
        config = operation.get_config()
        return lambda name: type(operation).from_config({**config, "name": name})
    if isinstance(operation, layers.BatchNormalization) and operation.axis in (-1, 2):
        config = {**operation.get_config(), "axis": -1}
        return lambda name: layers.BatchNormalization.from_config({**config, "name": name})
    if isinstance(operation, layers.Softmax) and operation.axis in (-1, 2):
        return lambda name: layers.Softmax(name=name)
    if isinstance(operation, layers.Concatenate) and operation.axis in (-1, 1, 2, -2):
        axis = 1 if operation.axis in (1, -2) else -1
        return lambda name: layers.Concatenate(axis=axis, name=name)
    if isinstance(operation, layers.PReLU) and tuple(operation.shared_axes or ()) == (1,):
        return lambda name: layers.PReLU(shared_axes=[1, 2], name=name)
    if type(operation) is layers.Dense:
        options = _shared(operation, *_CONVOLUTION)
        units = operation.units
        return lambda name: layers.Conv2D(units, 1, **options, name=name)
    return None
