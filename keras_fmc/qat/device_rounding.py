"""Switching a quantised model between one rounding, to train and convert, and the device's two."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, consumers, producers, trace
from keras_fmc.model.surgery import clone, rebuild
from keras_fmc.qat.kernel_rounding import DeviceAverage, DeviceRequantize, requantized_mean
from keras_fmc.qat.weight_layers import FAKE_QUANT_LAYERS

_ROUNDINGS = (DeviceAverage, DeviceRequantize)


def device_rounding(model: keras.Model, on: bool = True) -> keras.Model:
    """Returns a quantised model that rounds as the device's kernels do.

    A model from `keras_fmc.quantize` rounds the real value of a sum to a level once. The device
    has an int32 sum acc and M = input scale · weight scale / output scale = m · 2^-s, ½ ≤ m < 1:

        level = round(round(acc · m) · 2^-s),    ties of the outer rounding away from zero

    where s > 0 (`keras_fmc.qat.requantize`); so do products and global averages, and ties of
    average pooling go away from the code 0 (`keras_fmc.qat.kernel_rounding`). The model returned
    has the levels of the device, but for what float32 loses. Additions agree as they are, up to
    ties, and so does whatever chooses among values. Sigmoid, tanh, softmax, leaky ReLUs, hard swish
    and bilinear resizing keep the rounding of the model, and may be a level off.

    The result is a clone with the same weights, not compiled. It trains, with the gradient of the
    model that it came from (straight through the roundings), saves and loads. It is not what
    `quantize` returns, as TensorFlow's converter reads the device's scales from a graph of single
    roundings, and would keep every further operator. `deploy` therefore turns it back first, and
    converts it to the same bytes as the model it came from.

    Args:
        model: from `keras_fmc.quantize(..., backend="native", momentum=None)`, trained or not.
        on: False gives the model back that rounds once.

    Raises:
        BadInputError: a model that was not quantised natively, or whose ranges follow the data, so
            that scales are not known.
        UnsupportedModelError: a subclassed model, or a layer that is called with several scales.

    Source: `MultiplyByQuantizedMultiplier` of tensorflow/lite/kernels/internal/common.cc.
    """
    graph = trace(model)
    _check(graph, on)
    roundings = _roundings(graph) if on else {}

    def switched(node: LayerNode) -> keras.Operation | None:
        if isinstance(node.operation, _ROUNDINGS):
            return None
        layer = clone(node)
        if isinstance(layer, FAKE_QUANT_LAYERS):
            layer.device_rounding = on
        return layer

    def call(node: LayerNode, layer: Any, inputs: tuple[Any, ...]) -> Any:
        if layer is None:
            return inputs[0]
        outputs = node.replay(layer, inputs)
        return roundings[node.name](outputs) if node.name in roundings else outputs

    return rebuild(graph, layer=switched, call=call)


def rounds_as_device(model: keras.Model) -> bool:
    """Whether a layer of the model is switched to the device's rounding."""
    return any(
        isinstance(node.operation, FAKE_QUANT_LAYERS) and node.operation.device_rounding
        for node in trace(model).nodes
    )


def _check(graph: LayerGraph, on: bool) -> None:
    weighted = [node for node in graph.nodes if isinstance(node.operation, FAKE_QUANT_LAYERS)]
    if not weighted:
        raise BadInputError(
            f"model {graph.name!r} has no layer that was quantised natively",
            expected="a model from keras_fmc.quantize(model, calibration=samples)",
            received=", ".join(sorted({type(node.operation).__name__ for node in graph.nodes})),
        )
    for node in weighted if on else ():
        layer = node.operation
        if layer.input_scale is None:
            raise BadInputError(
                f"scales of layer {node.name!r} follow the data",
                expected="ranges that training does not move",
                received="a momentum",
                remedy="Quantise with momentum=None",
            )
        if layer.output_scale is None:
            raise UnsupportedModelError(
                f"layer {node.name!r} has no one output scale",
                expected="the same scales in all calls of a layer",
                remedy="Give each call a layer of its own, and quantise again",
            )


def _roundings(graph: LayerGraph) -> dict[str, keras.Layer]:
    """Returns call of an operator without weights → what rounds behind it."""
    makers, readers = producers(graph), consumers(graph)
    taken = {node.layer_name for node in graph.nodes if not isinstance(node.operation, _ROUNDINGS)}

    def grid_before(value: int) -> FakeQuant:
        """The grid of a value: of the rounding before it, or of the one before what hands it on."""
        node = graph.nodes[makers[value]]
        if isinstance(node.operation, GF2Bottleneck):
            return node.operation.quantizer
        return (
            node.operation if isinstance(node.operation, FakeQuant) else grid_before(node.inputs[0])
        )

    def grid_behind(value: int) -> FakeQuant:
        """The grid that a value is rounded to, behind the ReLU that fuses if there is one."""
        reader = graph.nodes[readers[value][0]]
        operation = reader.operation
        return operation if isinstance(operation, FakeQuant) else grid_behind(reader.outputs[0])

    def rounding(node: LayerNode) -> keras.Layer | None:
        operation, name = node.operation, f"{node.name}_device"
        while name in taken:
            name += "_"
        if type(operation) is layers.AveragePooling2D:
            grid = grid_behind(node.outputs[0])
            positions = math.prod(operation.pool_size)
            return DeviceAverage(
                scale=grid.scale, zero_point=grid.zero_point, positions=positions, name=name
            )
        if type(operation) is layers.GlobalAveragePooling2D:
            output_scale = grid_behind(node.outputs[0]).scale
            positions = math.prod(size or 1 for size in graph.values[node.inputs[0]].shape[1:3])
            scale = grid_before(node.inputs[0]).scale
            return requantized_mean(
                scale=scale, output_scale=output_scale, positions=positions, name=name
            )
        if type(operation).__name__ == "Multiply" and len(node.inputs) == 2:
            step = math.prod(grid_before(value).scale for value in node.inputs)
            output_scale = grid_behind(node.outputs[0]).scale
            return DeviceRequantize(step=step, output_scale=output_scale, name=name)
        return None

    made = {node.name: rounding(node) for node in graph.nodes}
    return {name: layer for name, layer in made.items() if layer is not None}
