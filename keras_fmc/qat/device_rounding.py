"""Switching a quantised model between one rounding, to train and convert, and the device's two."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fmc import fixed_point
from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.inverse_root import InverseRoot
from keras_fmc.layers.matrix_product import MatrixProduct
from keras_fmc.layers.other_scale import OtherScale
from keras_fmc.layers.unit_length import UnitLength
from keras_fmc.model.custom_layers import is_elementwise
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, producers, trace
from keras_fmc.model.operations import activation_name, fixed_range, is_activation, row_of
from keras_fmc.model.surgery import clone, rebuild
from keras_fmc.qat.grids import Grids
from keras_fmc.qat.kernel_rounding import (
    FROM_CODES,
    DeviceAverage,
    DeviceProduct,
    DeviceRequantize,
    DeviceResize,
    DeviceSoftmax,
    DeviceSum,
    DeviceTable,
    DeviceUnitLength,
    inverse_root,
    requantized_mean,
    times_power,
)
from keras_fmc.qat.weight_layers import FAKE_QUANT_LAYERS

_POOLS = (layers.AveragePooling2D, layers.MaxPooling2D)
_ROUNDINGS = (DeviceAverage, DeviceRequantize, *FROM_CODES)


def device_rounding(model: keras.Model, on: bool = True) -> keras.Model:
    """Returns a quantised model that rounds as the device's kernels do.

    A model from `keras_fmc.quantize` rounds the real value of a sum to a level once. The device
    has an int32 sum acc and M = input scale · weight scale / output scale = m · 2^-s, ½ ≤ m < 1:

        level = round(round(acc · m) · 2^-s),    ties of the outer rounding away from zero

    where s > 0 (`keras_fmc.qat.requantize`); so do products and global averages, and ties of
    average pooling go away from the code 0. Sums, activations, softmax and bilinear resizing have
    fixed-point arithmetic of their own (`keras_fmc.qat.kernel_rounding`). The model returned has
    the levels of TensorFlow Lite Micro's reference kernels, computed in integers; whatever chooses
    among values agrees as it is. A PReLU keeps the rounding of the model, and may be a level off.

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
            that scales are not known; JAX without its 64-bit integers.
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
        if node.name not in roundings:
            return outputs
        behind = roundings[node.name]
        reads = isinstance(behind, FROM_CODES)
        return behind([outputs, *inputs]) if reads else behind(outputs)

    return rebuild(graph, layer=switched, call=call)


def probes(model: keras.Model) -> tuple[keras.Model, keras.Model, tuple[str, ...]]:
    """Returns models that put out every map that is rounded to 8 bits: one that rounds once, to
    convert, and one that rounds as `model`; and the names of the layers that make the maps.

    Raises:
        BadInputError: a model that was not quantised natively.
    """
    single = device_rounding(model, on=False)
    own = device_rounding(single) if rounds_as_device(model) else single
    (one, names), (other, _) = (_with_maps(source) for source in (single, own))
    return one, other, names


def _with_maps(model: keras.Model) -> tuple[keras.Model, tuple[str, ...]]:
    graph = trace(model)
    makers = producers(graph)
    found: dict[str, Any] = {}

    def maker(value: int) -> LayerNode | None:
        node = graph.nodes[makers[value]] if value in makers else None
        inside = node is not None and isinstance(node.operation, _ROUNDINGS)
        return maker(node.inputs[0]) if node is not None and inside else node

    def call(node: LayerNode, layer: Any, inputs: tuple[Any, ...]) -> Any:
        outputs = node.replay(layer, inputs)
        made = maker(node.inputs[0]) if type(node.operation) is FakeQuant else None
        if made is not None:
            found[made.name] = outputs
        return outputs

    whole = rebuild(graph, call=call)
    rounded = {id(tensor) for tensor in found.values()}
    for value, tensor in zip(graph.outputs, whole.outputs, strict=True):
        if id(tensor) not in rounded and value in makers:
            made = maker(value)
            found.setdefault(graph.values[value].name if made is None else made.name, tensor)
    return keras.Model(whole.inputs, list(found.values())), tuple(found)


def rounds_as_device(model: keras.Model) -> bool:
    """Whether a layer of the model is switched to the device's rounding."""
    return any(
        isinstance(node.operation, FAKE_QUANT_LAYERS) and node.operation.device_rounding
        for node in trace(model).nodes
    )


def _check(graph: LayerGraph, on: bool) -> None:
    if on and keras.backend.backend() == "jax":
        import jax

        if not jax.config.read("jax_enable_x64"):
            raise BadInputError(
                "device_rounding computes in 64-bit integers, which JAX has switched off",
                expected="jax_enable_x64",
                remedy="Set JAX_ENABLE_X64=1, or convert the model, which needs no switch",
            )
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
    grids_of = Grids(graph)
    grid_before, grid_behind = grids_of.before, grids_of.behind
    makers, readers = grids_of.makers, grids_of.readers
    taken = {node.layer_name for node in graph.nodes if not isinstance(node.operation, _ROUNDINGS)}

    def fused(value: int) -> bool:
        """Whether a ReLU reads a value as it is made, before it is rounded."""
        node = graph.nodes[makers[value]] if value in makers else None
        while node is not None and row_of(node.operation) is _NOTHING:
            node = graph.nodes[makers[node.inputs[0]]]
        if node is None:
            return False
        if isinstance(node.operation, (*_ROUNDINGS, *_POOLS)):
            return True
        # What hands rounded values on, such as Reshape, does not fuse.
        row = row_of(node.operation)
        return row is not None and row.fuses

    def rounding(node: LayerNode) -> keras.Layer | None:
        operation, name = node.operation, f"{node.name}_device"
        while name in taken:
            name += "_"
        last = not readers[node.outputs[0]]
        if not node.inputs or (last and fixed_range(operation) is None):
            return None
        kind = type(operation)
        if kind is layers.AveragePooling2D:
            grid = grid_behind(node.outputs[0])
            positions = math.prod(operation.pool_size)
            return DeviceAverage(
                scale=grid.scale, zero_point=grid.zero_point, positions=positions, name=name
            )
        if kind is layers.GlobalAveragePooling2D:
            output_scale = grid_behind(node.outputs[0]).scale
            positions = math.prod(size or 1 for size in graph.values[node.inputs[0]].shape[1:3])
            scale = _float32(grid_before(node.inputs[0]).scale)
            return requantized_mean(
                scale=scale, output_scale=output_scale, positions=positions, name=name
            )
        if kind.__name__ == "Multiply" and len(node.inputs) == 2:
            step = math.prod(_float32(grid_before(value).scale) for value in node.inputs)
            output_scale = grid_behind(node.outputs[0]).scale
            return DeviceRequantize(step=step, output_scale=output_scale, name=name)
        if kind is OtherScale:
            step = _float32(grid_before(node.inputs[0]).scale)
            return DeviceRequantize(
                step=step, output_scale=grid_behind(node.outputs[0]).scale, name=name
            )
        is_table = is_activation(operation) and not fused(node.inputs[0])
        smooth = isinstance(operation, (layers.Resizing, layers.UpSampling2D))
        is_table = is_table or kind is InverseRoot or is_elementwise(operation)
        summed = kind in (layers.Add, layers.Subtract)
        if not (summed or is_table or smooth or kind in (MatrixProduct, UnitLength)):
            return None
        if is_activation(operation) and activation_name(operation) == "linear":
            return None
        grids = [grid_before(value) for value in node.inputs]
        # Codes of fewer bits are no int8 tensors of one scale.
        if any(type(grid) is not FakeQuant for grid in (*grids, grid_behind(node.outputs[0]))):
            return None
        options: dict[str, Any] = {
            "inputs": [(grid.scale, grid.zero_point) for grid in grids],
            "output": (lambda grid: (grid.scale, grid.zero_point))(grid_behind(node.outputs[0])),
            "name": name,
        }
        if smooth:
            if operation.interpolation != "bilinear":
                return None
            size = graph.values[node.outputs[0]].shape[1:3]
            return DeviceResize(size=[length or 0 for length in size], **options)
        if kind is MatrixProduct:
            return DeviceProduct(
                transpose_a=operation.transpose_a, transpose_b=operation.transpose_b, **options
            )
        if kind is UnitLength:
            return DeviceUnitLength(**options)
        if not is_table:
            return DeviceSum(sign=1 if kind is layers.Add else -1, **options)
        if activation_name(operation) == "softmax":
            return DeviceSoftmax(**options)
        if is_elementwise(operation):
            return DeviceTable(table=grids_of.table(node), **options)
        table = _table(operation, *options["inputs"][0], *options["output"])
        return DeviceTable(table=table, **options)

    made = {node.name: rounding(node) for node in graph.nodes}
    return {name: layer for name, layer in made.items() if layer is not None}


def _float32(scale: float) -> float:
    """A scale as the file holds it."""
    return float(np.float32(scale))


_NOTHING = row_of(layers.Dropout(0.0))


def _table(
    operation: Any, scale: float, zero_point: int, output_scale: float, output_zero: int
) -> list[int]:
    """The codes that an activation of its own makes of each code."""
    scale, output_scale = _float32(scale), _float32(output_scale)
    name = activation_name(operation)
    if isinstance(operation, InverseRoot):
        return _inverse_root_table(scale, zero_point, output_scale, output_zero)
    if name == "elu":
        found = fixed_point.elu_table(scale, zero_point, output_scale, output_zero)
    elif name == "sigmoid":
        found = fixed_point.sigmoid_table(scale, zero_point)
    elif name == "tanh":
        found = fixed_point.tanh_table(scale, zero_point)
    elif name in ("hard_silu", "hard_swish"):
        found = fixed_point.hard_swish_table(scale, zero_point, output_scale, output_zero)
    elif name == "leaky_relu":
        slope = getattr(operation, "negative_slope", _KERAS_SLOPE)
        found = fixed_point.leaky_table(scale, zero_point, output_scale, output_zero, float(slope))
    else:
        found = fixed_point.relu_table(
            scale, zero_point, output_scale, output_zero, 6.0 if name == "relu6" else None
        )
    return [int(code) for code in found]


def _inverse_root_table(
    scale: float, zero_point: int, output_scale: float, output_zero: int
) -> list[int]:
    """The codes that RSQRT makes: 0 becomes the largest, 20 bits of fraction between two steps.

    Source: tensorflow/lite/micro/kernels/elementwise.cc.
    """
    values = np.maximum(fixed_point.CODES - zero_point, 0)
    multiplier, shift = inverse_root(keras.ops.convert_to_tensor(values, "int64"))
    fine = times_power(keras.ops.ones_like(shift), multiplier, shift + 20)
    fine = keras.ops.convert_to_numpy(fine)
    real = 1.0 / float(np.sqrt(np.float32(scale)) * np.float32(output_scale))
    quantized, power = fixed_point.quantized_multiplier(real)
    power -= 20
    high = fixed_point.high_mul(fine << max(power, 0), quantized)
    codes = fixed_point.divide_by_power(high, max(-power, 0)) + output_zero
    codes = np.where(values == 0, 127, np.clip(codes, -128, 127))
    return [int(code) for code in codes]


_KERAS_SLOPE = 0.2
"""Of `keras.activations.leaky_relu`."""
