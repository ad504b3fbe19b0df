"""Switching a quantised model between one rounding, to train and convert, and the device's two."""

from __future__ import annotations

import keras

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layer_graph import LayerGraph, LayerNode, consumers, trace
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.qat.pooling import DeviceAveragePooling2D
from keras_fmc.qat.weight_layers import FAKE_QUANT_LAYERS
from keras_fmc.surgery import clone, rebuild


def device_rounding(model: keras.Model, on: bool = True) -> keras.Model:
    """Returns a quantised model that rounds sums and means as the device's kernels do.

    A model from `keras_fmc.quantize` rounds the real value of a sum to a level once. The device
    has an int32 sum acc and M = input scale · weight scale / output scale = m · 2^-s, ½ ≤ m < 1:

        level = round(round(acc · m) · 2^-s),    ties of the outer rounding away from zero

    where s > 0 (`keras_fmc.qat.requantize`), and ties of average pooling go away from the code 0
    (`keras_fmc.qat.pooling`). For convolutions, dense layers, average pooling and what chooses
    among their values, the model returned has the levels of the device, but for the rounding of
    float32. Additions do too, up to true ties; global averages and products keep the rounding of
    the model, which may be off by one level.

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
    pools = _pools(graph) if on else {}

    def switched(node: LayerNode) -> keras.Operation:
        if node.layer_name in pools:
            grid = pools[node.layer_name]
            config = {**node.operation.get_config(), **grid, "name": node.layer_name}
            return DeviceAveragePooling2D.from_config(config)
        if isinstance(node.operation, DeviceAveragePooling2D) and not on:
            config = {**node.operation.get_config(), "name": node.layer_name}
            del config["scale"], config["zero_point"]
            return keras.layers.AveragePooling2D.from_config(config)
        layer = clone(node)
        if isinstance(layer, FAKE_QUANT_LAYERS):
            layer.device_rounding = on
        return layer

    return rebuild(graph, layer=switched)


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
            raise _several_scales(node)


def _several_scales(node: LayerNode) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"layer {node.name!r} has no one output scale",
        expected="the same scales in all calls of a layer",
        remedy="Give each call a layer of its own, and quantise again",
    )


def _pools(graph: LayerGraph) -> dict[str, dict[str, float]]:
    """Returns average pooling → scale and zero point that its output is rounded to."""
    readers = consumers(graph)
    found: dict[str, dict[str, float]] = {}
    for node in graph.nodes:
        if type(node.operation) is not keras.layers.AveragePooling2D:
            continue
        value = node.outputs[0]
        while readers[value]:
            reader = graph.nodes[readers[value][0]]
            if isinstance(reader.operation, FakeQuant):
                grid = {"scale": reader.operation.scale, "zero_point": reader.operation.zero_point}
                if found.setdefault(node.layer_name, grid) != grid:
                    raise _several_scales(node)
                break
            # A fused ReLU, or what does nothing at inference.
            value = reader.outputs[0]
    return found
