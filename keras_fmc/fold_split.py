"""Layers that hold several: taken apart into plain ones before folding.

    SeparableConv2D        →  DepthwiseConv2D, Conv2D 1×1
    ProjectionBottleneck   →  Conv2D 1×1 (P), code quantiser, Conv2D 1×1 (R)

On tensors that are no maps, P and R are dense layers without bias.
"""

from __future__ import annotations

import dataclasses

import keras
from keras import layers

from keras_fmc.fold_algebra import Kind, Linear
from keras_fmc.fold_graph import Weighted, WorkGraph, float64, pointwise
from keras_fmc.layer_graph import LayerNode
from keras_fmc.layers.projection import ProjectionBottleneck


@dataclasses.dataclass(frozen=True, slots=True)
class Bottlenecks:
    """Names of the calls that bottlenecks were taken apart into."""

    projections: tuple[str, ...]
    restorations: tuple[str, ...]


def split_composites(graph: WorkGraph) -> Bottlenecks:
    """Takes every composite layer of `graph` apart, in place."""
    projections, restorations = [], []
    for node in list(graph.nodes):
        if type(node.operation) is layers.SeparableConv2D:
            _split_separable(graph, node)
        elif isinstance(node.operation, ProjectionBottleneck):
            first, last = _split_bottleneck(graph, node)
            projections.append(first)
            restorations.append(last)
    return Bottlenecks(tuple(projections), tuple(restorations))


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
    quantizer = layer.quantizer
    if quantizer is not None and quantizer.calibrated:
        stored = graph.new_value(names[1], (*shape[:-1], layer.rank), dtype)
        graph.insert(node, names[1], quantizer, code, stored, layer_name=shared[1])
        code = stored
    graph.insert(
        node, names[2], layer, code, output, layer_name=shared[2],
        weighted=pointwise(float64(layer.restoration), **options),
    )  # fmt: skip
    graph.remove(node)
    return names[0], names[2]


_PARTS = ("projection", "code", "restoration")
