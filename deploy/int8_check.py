"""The check that a converted model is int8 throughout, with the scales it was trained with.

The converter falls back to float, or inserts a requantisation, with no more than a line in its
log, and clips biases that overflow without one. So its result is held against the model: types,
operators, biases, and the scale and zero point of each activation.
"""

from __future__ import annotations

import numpy as np

from deploy.graph import Graph
from deploy.operators.sets import CHANGES_TYPE
from deploy.supported import check_supported
from keras_fmc.errors import UnsupportedModelError

Scale = tuple[float, int]
"""(scale, zero point) of an activation."""

_SCALE_TOLERANCE = 1e-5
_INTEGERS = ("int8", "int32")


def check_int8(
    graph: Graph,
    *,
    scales: dict[str, Scale] | None = None,
    complete: bool = False,
    requantised: int = 0,
) -> None:
    """Checks that a converted model is int8 throughout.

    Args:
        graph: what the converter made.
        scales: (scale, zero point) by the name of the layer that rounds to it; each must be in
            the model.
        complete: whether these are all scales that the activations may have.
        requantised: how many QUANTIZE from int8 to int8 the model has at most.

    Raises:
        UnsupportedModelError: an operator or tensor that is not so; names it.
    """
    places = look_up_places(graph)
    for step, operator in enumerate(graph.operators):
        if operator.opcode == "QUANTIZE" and requantised > 0:
            types = {graph.tensors[index].dtype for index in (*operator.inputs, *operator.outputs)}
            if types == {"int8"}:
                requantised -= 1
                continue
        if operator.opcode in CHANGES_TYPE:
            tensor = graph.tensors[operator.outputs[0]]
            raise UnsupportedModelError(
                f"the converter left {graph.label(step)} at tensor {tensor.name!r}",
                expected="no QUANTIZE or DEQUANTIZE inside the model",
                received=f"{graph.tensors[operator.inputs[0]].dtype} to {tensor.dtype}",
                remedy="Quantise the model with keras_fmc.quantize; if it was, the layer at that "
                "tensor has no int8 form: replace it",
            )
        for index in (*operator.present_inputs, *operator.outputs):
            tensor = graph.tensors[index]
            allowed = _INTEGERS if tensor.is_constant or index in places else ("int8",)
            if tensor.dtype not in allowed:
                raise UnsupportedModelError(
                    f"tensor {tensor.name!r} of {graph.label(step)} is {tensor.dtype}",
                    expected=" or ".join(allowed),
                    remedy="Quantise the model with keras_fmc.quantize; if it was, replace the "
                    "layer at that tensor",
                )
        _check_bias(graph, step)
    for index in (*graph.inputs, *graph.outputs):
        tensor = graph.tensors[index]
        if tensor.dtype != "int8" or tensor.shape[:1] != (1,):
            raise UnsupportedModelError(
                f"input or output {tensor.name!r} is {tensor.dtype} of shape {tensor.shape}",
                expected="int8 with batch 1",
            )
    check_supported(graph)
    if scales is not None:
        _check_scales(graph, scales, complete)


def look_up_places(graph: Graph) -> set[int]:
    """The int32 tensors that are cast from codes and say where a GATHER looks."""
    places: set[int] = set()
    for operator in graph.operators:
        cast = operator.opcode == "CAST"
        shifted = operator.opcode == "ADD" and operator.inputs[0] in places
        if cast or shifted:
            places.update(operator.outputs)
    return {index for index in places if graph.tensors[index].dtype == "int32"}


def _check_bias(graph: Graph, step: int) -> None:
    """Refuses biases at the end of int32: the converter clips what is larger."""
    operator = graph.operators[step]
    for index in operator.present_inputs:
        tensor = graph.tensors[index]
        if tensor.is_constant and tensor.dtype == "int32" and tensor.quantization is not None:
            extremes = np.iinfo(np.int32)
            clipped = np.isin(tensor.array(), (extremes.min, extremes.max))
            if clipped.any():
                raise UnsupportedModelError(
                    f"bias {tensor.name!r} of {graph.label(step)} overflows int32 in "
                    f"{int(clipped.sum())} channels, whose weights are next to nothing",
                    remedy="Quantise the model again with keras_fmc.quantize (backend 'native'), "
                    "which leaves room for biases, or prune these channels",
                )


def _check_scales(graph: Graph, scales: dict[str, Scale], complete: bool) -> None:
    found: dict[int, Scale] = {}
    for index in set(graph.activations()) - look_up_places(graph):
        quantization = graph.tensors[index].quantization
        if quantization is None or len(quantization.scales) != 1:
            raise UnsupportedModelError(
                f"tensor {graph.tensors[index].name!r} has no scale",
                expected="one scale and zero point",
            )
        found[index] = (quantization.scales[0], quantization.zero_points[0])
    constants = [
        (tensor.quantization.scales[0], tensor.quantization.zero_points[0])
        for tensor in graph.tensors
        if tensor.is_constant and tensor.dtype == "int8" and tensor.quantization is not None
    ]
    for name, scale in sorted(scales.items()):
        if not any(_same(scale, other) for other in (*found.values(), *constants)):
            raise UnsupportedModelError(
                f"no tensor of the converted model has the range of layer {name!r}",
                expected=f"scale {scale[0]:.6g} and zero point {scale[1]}",
                remedy="Report this model: the converter moved or dropped a rounding",
            )
    if not complete:
        return
    for index, scale in found.items():
        if not any(_same(scale, other) for other in scales.values()):
            raise UnsupportedModelError(
                f"tensor {graph.tensors[index].name!r} has a scale that was not trained",
                expected="a range of the QAT model",
                received=f"scale {scale[0]:.6g} and zero point {scale[1]}",
                remedy="Report this model: the converter quantised a tensor by itself",
            )


def _same(one: Scale, other: Scale) -> bool:
    return one[1] == other[1] and abs(one[0] - other[0]) <= _SCALE_TOLERANCE * other[0]
