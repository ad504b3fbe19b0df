"""Scales in front that change no code: the convolution behind them reads the input itself.

    x → DEPTHWISE_CONV_2D 1×1 of one weight → CONV_2D      →      x → CONV_2D

where output and input have the same codes, scale out = factor · scale in. The weights of the
reader keep their codes and get the scale that includes the factor (`keras_fmc.qat.input_scale`).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from deploy.graph import Graph, Operator
from deploy.operators.sets import SUMS_WINDOWS
from deploy.passes.dead import drop_dead

_CLOSE = 1e-5


def without_input_scales(graph: Graph) -> Graph:
    """Returns the graph with such operators left out."""
    readers = graph.consumers()
    tensors = list(graph.tensors)
    operators = list(graph.operators)
    for operator in graph.operators:
        factor = _factor(graph, operator)
        if factor is None or operator.inputs[0] not in graph.inputs:
            continue
        (target,) = operator.outputs
        steps = readers.get(target, ())
        if any(graph.operators[step].opcode not in SUMS_WINDOWS for step in steps):
            continue
        weights = [graph.operators[step].inputs[1] for step in steps]
        # Weights that something else reads, too, must keep their scale.
        shared = any(set(readers[weight]) - set(steps) for weight in weights)
        if not steps or shared or target in graph.outputs:
            continue
        for weight in dict.fromkeys(weights):
            quantization = tensors[weight].quantization
            assert quantization is not None
            scales = tuple(float(np.float32(scale * factor)) for scale in quantization.scales)
            tensors[weight] = dataclasses.replace(
                tensors[weight], quantization=dataclasses.replace(quantization, scales=scales)
            )
        for step in steps:
            inputs = (operator.inputs[0], *operators[step].inputs[1:])
            operators[step] = dataclasses.replace(operators[step], inputs=inputs)
    return drop_dead(graph.replace(tensors=tuple(tensors), operators=tuple(operators)))


def _factor(graph: Graph, operator: Operator) -> float | None:
    """By what an operator scales, where its output has the codes of its input."""
    if operator.opcode != "DEPTHWISE_CONV_2D" or operator.integer("fused_activation_function"):
        return None
    source, weight, *bias = (graph.tensors[index] for index in operator.present_inputs)
    target = graph.tensors[operator.outputs[0]]
    quantizations = [tensor.quantization for tensor in (source, weight, target)]
    if not weight.is_constant or weight.shape[:3] != (1, 1, 1) or source.shape != target.shape:
        return None
    one, kernel, other = quantizations
    if one is None or kernel is None or other is None:
        return None
    if one.zero_points != other.zero_points or any(tensor.array().any() for tensor in bias):
        return None
    factors = weight.array().reshape(-1) * np.array(kernel.scales, np.float64)
    factor = float(factors[0])
    same = np.allclose(factors, factor, rtol=_CLOSE)
    exact = abs(one.scales[0] * factor / other.scales[0] - 1) < _CLOSE
    return factor if same and factor > 0 and exact else None
