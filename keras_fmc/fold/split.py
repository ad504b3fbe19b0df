"""Layers that hold several: taken apart into plain ones before folding.

    SeparableConv2D        →  DepthwiseConv2D, Conv2D 1×1
    ProjectionBottleneck   →  Conv2D 1×1 (P), code quantiser, Conv2D 1×1 (R)
      with stride 2        →  Conv2D w×w of stride 2 (P), code quantiser,
                              Conv2D (R), DepthToSpace, Cropping2D

On tensors that are no maps, P and R are dense layers without bias. The R of stride 2 makes the four
pixels of a block as channels (`keras_fmc.layers.transposed`); a 3×3 one pads the code first, and
only maps of odd size need the cropping.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fmc.fold.algebra import Kind, Linear
from keras_fmc.fold.graph import Weighted, WorkGraph, float64, pointwise
from keras_fmc.layers.projection import ProjectionBottleneck
from keras_fmc.layers.transposed import DepthToSpace, by_phase, crop
from keras_fmc.model.layer_graph import LayerNode


@dataclasses.dataclass(frozen=True, slots=True)
class Bottlenecks:
    """Names of the calls that bottlenecks were taken apart into.

    Attributes:
        projections, restorations: those of stride 1.
        windows: P and R of stride 2.
    """

    projections: tuple[str, ...]
    restorations: tuple[str, ...]
    windows: tuple[str, ...] = ()


def split_composites(graph: WorkGraph) -> Bottlenecks:
    """Takes every composite layer of `graph` apart, in place."""
    projections: list[str] = []
    restorations: list[str] = []
    windows: list[str] = []
    for node in list(graph.nodes):
        if type(node.operation) is layers.SeparableConv2D:
            _split_separable(graph, node)
        elif isinstance(node.operation, ProjectionBottleneck) and node.operation.strides > 1:
            windows += _split_strided(graph, node)
        elif isinstance(node.operation, ProjectionBottleneck):
            first, last = _split_bottleneck(graph, node)
            projections.append(first)
            restorations.append(last)
    return Bottlenecks(tuple(projections), tuple(restorations), tuple(windows))


def _split_separable(graph: WorkGraph, node: LayerNode) -> None:
    layer = node.operation
    if layer.data_format != "channels_last":
        return
    common = {"dtype": layer.dtype_policy}
    depthwise = Linear(
        Kind.DEPTHWISE,
        float64(layer.depthwise_kernel),
        None,
        strides=tuple(layer.strides),
        padding=layer.padding,
        dilation=tuple(layer.dilation_rate),
    )
    across = Linear(
        Kind.CONV, float64(layer.pointwise_kernel), float64(layer.bias) if layer.use_bias else None
    )
    first_config = layers.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        depth_multiplier=layer.depth_multiplier,
        depthwise_regularizer=layer.depthwise_regularizer,
        **common,
    ).get_config()
    second_config = layers.Conv2D(
        layer.filters,
        1,
        activation=layer.activation,
        kernel_regularizer=layer.pointwise_regularizer,
        bias_regularizer=layer.bias_regularizer,
        **common,
    ).get_config()
    is_linear = layer.activation in (None, keras.activations.linear)
    (source,), (output,) = node.inputs, node.outputs
    rows, columns = graph.values[output].shape[1:3]
    name = graph.free_name(f"{node.name}_depthwise")
    middle = graph.new_value(
        name, (None, rows, columns, depthwise.out_channels), graph.values[output].dtype
    )
    trainable = layer.trainable
    graph.insert(
        node,
        name,
        layer,
        source,
        middle,
        layer_name=f"{node.layer_name}_depthwise",
        weighted=Weighted(depthwise, first_config, True, trainable, changed=True),
    )
    graph.rewire(node, source, middle)
    graph.weighted[node.layer_name] = Weighted(
        across, second_config, is_linear, trainable, changed=True
    )


def _split_bottleneck(graph: WorkGraph, node: LayerNode) -> tuple[str, str]:
    layer = node.operation
    (source,), (output,) = node.inputs, node.outputs
    shape = graph.values[source].shape
    dtype = graph.values[output].dtype
    options = {"rank": len(shape), "dtype": layer.dtype_policy, "trainable": layer.trainable}
    names = [graph.free_name(f"{node.name}_{part}") for part in _PARTS]
    shared = [f"{node.layer_name}_{part}" for part in _PARTS]
    code = graph.new_value(names[0], (*shape[:-1], layer.rank), dtype)
    graph.insert(
        node, names[0], layer, source, code, layer_name=shared[0],
        weighted=pointwise(float64(layer.projection), **options),
    )  # fmt: skip
    code = _insert_quantizer(graph, node, names[1], code)
    graph.insert(
        node, names[2], layer, code, output, layer_name=shared[2],
        weighted=pointwise(float64(layer.restoration), **options),
    )  # fmt: skip
    graph.remove(node)
    return names[0], names[2]


def _split_strided(graph: WorkGraph, node: LayerNode) -> tuple[str, str]:
    layer = node.operation
    (source,), (output,) = node.inputs, node.outputs
    rows, columns, channels = graph.values[source].shape[1:]
    assert rows is not None
    assert columns is not None
    assert channels is not None
    dtype, policy = graph.values[output].dtype, layer.dtype_policy
    window, strides, rank = layer.kernel_size, layer.strides, layer.rank
    narrow = (-(-rows // strides), -(-columns // strides))
    names = [graph.free_name(f"{node.name}_{part}") for part in _PARTS]

    def weighted(config: layers.Layer, kernel: np.ndarray, **options: Any) -> Weighted:
        linear = Linear(Kind.CONV, kernel, None, **options)
        return Weighted(linear, config.get_config(), True, layer.trainable, changed=True)

    def insert(
        part: str, operation: keras.Layer, value: int, shape: tuple[int, ...], **options: Any
    ) -> int:
        made = graph.new_value(part, (None, *shape), dtype)
        shared = f"{node.layer_name}_{part.removeprefix(f'{node.name}_')}"
        graph.insert(node, part, operation, value, made, layer_name=shared, **options)
        return made

    down = layers.Conv2D(rank, window, strides, padding="same", dtype=policy)
    code = insert(
        names[0], layer, source, (*narrow, rank),
        weighted=weighted(
            down, float64(layer.projection), strides=(strides, strides), padding="same"
        ),
    )  # fmt: skip
    code = _insert_quantizer(graph, node, names[1], code)
    kernel = float64(by_phase(float64(layer.restoration), strides))
    taps = kernel.shape[0]
    if taps > 1:
        before = ((taps - 1, 0), (taps - 1, 0))
        padded = tuple(size + taps - 1 for size in narrow)
        name = graph.free_name(f"{node.name}_pad")
        pad = layers.ZeroPadding2D(before, dtype=policy)
        code = insert(name, pad, code, (*padded, rank))
    up = layers.Conv2D(kernel.shape[-1], taps, dtype=policy)
    blocks = insert(
        names[2], layer, code, (*narrow, kernel.shape[-1]), weighted=weighted(up, kernel)
    )
    cut = crop((rows, columns), window, strides)
    spread = DepthToSpace(strides, dtype=policy)
    name = graph.free_name(f"{node.name}_pixels")
    if not any(map(any, cut)):
        graph.insert(node, name, spread, blocks, output)
    else:
        whole = tuple(strides * size for size in narrow)
        pixels = insert(name, spread, blocks, (*whole, channels))
        name = graph.free_name(f"{node.name}_crop")
        graph.insert(node, name, layers.Cropping2D(cut, dtype=policy), pixels, output)
    graph.remove(node)
    return names[0], names[2]


def _insert_quantizer(graph: WorkGraph, node: LayerNode, name: str, code: int) -> int:
    """Puts the quantiser of a bottleneck behind its code, if it has a range; returns the value."""
    quantizer = node.operation.quantizer
    if quantizer is None or not quantizer.calibrated:
        return code
    stored = graph.new_value(name, graph.values[code].shape, graph.values[code].dtype)
    graph.insert(node, name, quantizer, code, stored, layer_name=f"{node.layer_name}_code")
    return stored


_PARTS = ("projection", "code", "restoration")
