"""Quantisation-aware training on Keras 3 itself.

    fold → take activations apart → find scale groups → calibrate → rebuild

The result is an ordinary functional model: layers of `weight_layers`, stock layers without
weights, and one `FakeQuant` for each scale group, called wherever the device rounds to its scale.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_fmc.layers.code_quantizer import CodeQuantizer
from keras_fmc.layers.fake_quant import LEVELS, SMALLEST_RANGE, FakeQuant
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, consumers
from keras_fmc.model.ranges import best_range, record
from keras_fmc.model.surgery import clone, rebuild
from keras_fmc.names import layer_name
from keras_fmc.qat.codes import capped_sources, code_of, feeds_gf2, gf2_ranges
from keras_fmc.qat.device_form import device_form, ends_in_activation, quantised_graph
from keras_fmc.qat.input_scale import BYTES, is_image, scaled_inputs
from keras_fmc.qat.other_scales import with_other_scales
from keras_fmc.qat.placement import ScaleGroup, activation_name, scale_groups
from keras_fmc.qat.weight_bits import bits_of_layers
from keras_fmc.qat.weight_layers import QUANTIZED, smallest_magnitude


def quantize(
    model: keras.Model,
    arrays: tuple[np.ndarray, ...],
    *,
    momentum: float | None,
    weight_bits: int | Mapping[str, int] = 8,
) -> keras.Model:
    """Returns the QAT model of `model`; see `keras_fmc.qat.quantize`, which checks the inputs."""
    graph = with_other_scales(device_form(quantised_graph(model)))
    bits = bits_of_layers(graph, weight_bits)
    groups = scale_groups(graph)
    ranges = group_ranges(graph, groups, arrays)
    return _build(graph, groups, ranges, momentum, bits)


def group_ranges(
    graph: LayerGraph, groups: tuple[ScaleGroup, ...], arrays: tuple[np.ndarray, ...]
) -> list[tuple[float, float]]:
    """Returns the range of each group: fixed by a kernel, trained with a code, or from data.

    That of an image of bytes is 0 … 255, and that of a scaled input the input's, scaled.

    A code of fewer bits bounds its whole group (`keras_fmc.qat.codes`); an 8-bit one bounds the
    sources that it reads, and data widen its range for the others.
    """
    trained = [_trained(graph, group) for group in groups]
    unknown = {
        index: values
        for index, group in enumerate(groups)
        if group.fixed is None
        and (trained[index] is None or code_of(graph, group) is None)
        and (values := _unbounded(graph, group))
    }
    images = {
        index
        for index, group in enumerate(groups)
        for value, array in zip(graph.inputs, arrays, strict=True)
        if group.sources == (value,) and is_image(array)
    }
    records = {}
    if unknown:
        probe, owners = _probe(graph, unknown)
        records = record(probe, owners, arrays)
    ranges = []
    for index, group in enumerate(groups):
        found = [part for part in (group.fixed, trained[index]) if part is not None]
        if group.fixed is not None:
            found = [group.fixed]
        if index in records:
            found.append(best_range(records[index]))
        if index in images and trained[index] is None:
            found = [BYTES]
        # As the rounding layers hold them, and so the file its scales.
        low, high = min(low for low, _ in found), max(high for _, high in found)
        if group.fixed is None and trained[index] is None:
            low, high = off_ties(low, high)
        ranges.append((float(np.float32(low)), float(np.float32(high))))
    of = {value: index for index, group in enumerate(groups) for value in group.values}
    for value, (source, factor) in scaled_inputs(graph).items():
        index = of[value]
        if groups[index].sources == (value,) and groups[index].fixed is trained[index] is None:
            low, high = ranges[of[source]]
            ranges[index] = (float(np.float32(low * factor)), float(np.float32(high * factor)))
    return ranges


def off_ties(low: float, high: float) -> tuple[float, float]:
    """A range whose zero does not lie half-way between two codes, as that of -1 … 1 does.

    There float32 decides which code stands for zero, and the operator that training rounds with
    decides otherwise than the file. The range grows by a fiftieth of a code.
    """
    step = (high - low) / LEVELS
    place = -low / step if step > 0 else 0.0
    if not 0 < place < LEVELS or abs(place % 1 - 0.5) > _NEAR_TIE:
        return low, high
    wider = 0.02 * step
    return (low - wider, high) if place <= LEVELS / 2 else (low, high + wider)


_NEAR_TIE = 0.005


def _unbounded(graph: LayerGraph, group: ScaleGroup) -> tuple[int, ...]:
    """The sources of a group that no trained code quantiser bounds."""
    readers = consumers(graph)
    return tuple(
        value
        for value in group.sources
        if len(readers[value]) != 1 or not _is_trained(graph.nodes[readers[value][0]])
    )


def _is_trained(node: LayerNode) -> bool:
    return isinstance(node.operation, FakeQuant) and node.operation.calibrated


def _trained(graph: LayerGraph, group: ScaleGroup) -> tuple[float, float] | None:
    """The range that all trained code quantisers of the group cover, None without any."""
    nodes = [graph.node(name) for name in group.quantizers]
    parts = [node.operation.range for node in nodes if _is_trained(node)]
    if not parts:
        return None
    return min(low for low, _ in parts), max(high for _, high in parts)


def _probe(graph: LayerGraph, wanted: dict[int, tuple[int, ...]]) -> tuple[keras.Model, list[int]]:
    """Returns a float model with an output for each wanted value, and the group of each output."""
    seen: dict[int, Any] = {}

    def wrap_input(value: int, tensor: Any) -> Any:
        seen[value] = tensor
        return tensor

    def call(node: LayerNode, layer: Any, inputs: tuple[Any, ...]) -> Any:
        outputs = inputs[0] if layer is None else node.replay(layer, inputs)
        seen.update(zip(node.outputs, keras.tree.flatten(outputs), strict=True))
        return outputs

    model = rebuild(graph, layer=_float_layer, call=call, wrap_input=wrap_input)
    owners = [index for index, values in wanted.items() for _ in values]
    tensors = [seen[value] for values in wanted.values() for value in values]
    return keras.Model(model.inputs, tensors), owners


def _build(
    graph: LayerGraph,
    groups: tuple[ScaleGroup, ...],
    ranges: list[tuple[float, float]],
    momentum: float | None,
    bits: Mapping[str, int],
) -> keras.Model:
    readers = consumers(graph)
    taken = {node.layer_name for node in graph.nodes}
    quantizers: dict[int, FakeQuant] = {}
    first_time: set[int] = set()
    made = []
    for group, range_ in zip(groups, ranges, strict=True):
        taken -= set(group.quantizers)
        quantizer = _quantizer(graph, group, momentum, layer_name(group.name, taken))
        made.append((quantizer, range_))
        # A GF(2) bottleneck rounds by itself.
        own = () if group.codes is not None else group.sources
        for value in (*own, *group.rounded_again):
            if group.fixed is None or readers[value]:
                quantizers[value] = quantizer
        first_time |= set(group.sources)

    def rounded(value: int, tensor: Any) -> Any:
        if value not in quantizers:
            return tensor
        # Only values as they are made count for a range that follows the data.
        quantizer = quantizers[value]
        if value in first_time:
            return quantizer(tensor)
        options = {"clip": False} if isinstance(quantizer, CodeQuantizer) else {}
        return quantizer(tensor, training=False, **options)

    def call(node: LayerNode, layer: Any, inputs: tuple[Any, ...]) -> Any:
        if layer is None:
            return inputs[0]
        called = dataclasses.replace(node, kwargs={**node.kwargs, **own_scales.get(node.name, {})})
        outputs = keras.tree.flatten(called.replay(layer, inputs))
        return [rounded(*pair) for pair in zip(node.outputs, outputs, strict=True)]

    by_value = {
        value: range_
        for group, range_ in zip(groups, ranges, strict=True)
        for value in group.values
    }

    own_scales: dict[str, dict[str, float]] = {}
    capped = capped_sources(graph, groups)
    scales = {
        value: _scale(quantizer, group, range_)
        for (quantizer, range_), group in zip(made, groups, strict=True)
        for value in group.values
    }
    signs = {
        value
        for (quantizer, _), group in zip(made, groups, strict=True)
        if isinstance(quantizer, CodeQuantizer) and quantizer.is_sign
        for value in group.sources
    }
    # The binariser centres levels that are 2 apart.
    levels = {**scales, **dict.fromkeys(signs, 2.0)}

    def layer(node: LayerNode) -> keras.Operation | None:
        if isinstance(node.operation, FakeQuant):
            return None
        changes: dict[str, Any] = {"activation": "relu"} if node.outputs[0] in capped else {}
        if type(node.operation) in QUANTIZED:
            changes["weight_bits"] = bits[node.layer_name]
            changes["smallest"] = max(
                _smallest(call, by_value, readers, graph, bits[node.layer_name])
                for call in graph.nodes
                if call.operation is node.operation
            )
            if momentum is None:
                calls = [call for call in graph.nodes if call.operation is node.operation]
                pairs = {
                    (call.inputs[0], _rounded_output(call, by_value, readers, graph))
                    for call in calls
                }
                changes["input_scale"] = scales[node.inputs[0]]
                changes["signs"] = any(output in signs for _, output in pairs)
                first = _rounded_output(node, by_value, readers, graph)
                changes["output_scale"] = levels[first]
                if len({(scales[source], levels[output]) for source, output in pairs}) > 1:
                    for call in calls:
                        output = _rounded_output(call, by_value, readers, graph)
                        own_scales[call.name] = {
                            "input_scale": scales[call.inputs[0]],
                            "output_scale": levels[output],
                        }
                # Rounded only behind the ReLU that fuses.
                changes["rectified"] = (
                    node.outputs[0] not in by_value or activation_name(node.operation) != "linear"
                )
            return _weight_layer(node, changes)
        if changes:
            return keras.layers.ReLU(name=node.layer_name, dtype="float32")
        return clone(node)

    model = rebuild(graph, layer=layer, call=call, wrap_input=rounded)
    for quantizer, range_ in made:
        if quantizer.built and quantizer.fixed_range is None:
            quantizer.set_range(*range_)
    for name, codes in gf2_ranges(graph, groups, ranges).items():
        model.get_layer(name).quantizer.set_range(*codes)
    return model


def _quantizer(
    graph: LayerGraph, group: ScaleGroup, momentum: float | None, name: str
) -> FakeQuant:
    """The rounding layer of a group, of the class that its code has."""
    code = code_of(graph, group)
    if code is None or group.fixed is not None:
        return FakeQuant(fixed_range=group.fixed, momentum=momentum, name=name)
    if feeds_gf2(graph, group):
        # The bottleneck behind it knows these levels, too, and cannot follow.
        momentum = None
    return CodeQuantizer.from_config({**code.get_config(), "momentum": momentum, "name": name})


def _scale(quantizer: FakeQuant, group: ScaleGroup, range_: tuple[float, float]) -> float:
    """Real value of one int8 step of a group's tensors."""
    low, high = range_
    if isinstance(quantizer, CodeQuantizer) and group.codes is None:
        probe = CodeQuantizer.from_config({**quantizer.get_config(), "name": None})
        probe.build(())
        probe.set_range(low, high)
        # The binariser centres its bits with a step of one.
        return probe.scale
    return max(high - low, SMALLEST_RANGE) / LEVELS


def _smallest(
    node: LayerNode,
    by_value: dict[int, tuple[float, float]],
    readers: dict[int, tuple[int, ...]],
    graph: LayerGraph,
    bits: int,
) -> float:
    """The least magnitude of a channel's weights, so that biases fit (`smallest_magnitude`)."""
    low, high = by_value[node.inputs[0]]
    largest = max(map(abs, by_value[_rounded_output(node, by_value, readers, graph)]))
    if node.operation.use_bias:
        largest = max(largest, float(np.abs(keras.ops.convert_to_numpy(node.operation.bias)).max()))
    return smallest_magnitude(max(high - low, SMALLEST_RANGE) / LEVELS, largest, bits=bits)


def _rounded_output(
    node: LayerNode,
    by_value: dict[int, tuple[float, float]],
    readers: dict[int, tuple[int, ...]],
    graph: LayerGraph,
) -> int:
    """What is rounded of the output of a layer: itself, or what the fused activation makes."""
    output = node.outputs[0]
    while output not in by_value:
        # Rounded only behind the activation that fuses, the one reader.
        output = graph.nodes[readers[output][0]].outputs[0]
    return output


def _float_layer(node: LayerNode) -> keras.Operation | None:
    if isinstance(node.operation, FakeQuant) and not node.operation.calibrated:
        return None
    if not ends_in_activation(node):
        return clone(node)
    return type(node.operation).from_config(_config(node))


def _weight_layer(node: LayerNode, changes: dict[str, Any]) -> keras.Layer:
    return QUANTIZED[type(node.operation)].from_config({**_config(node), **changes})


def _config(node: LayerNode) -> dict[str, Any]:
    config = {**node.operation.get_config(), "name": node.layer_name}
    if ends_in_activation(node):
        config["activation"] = "linear"
    return config
