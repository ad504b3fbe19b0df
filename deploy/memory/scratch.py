"""Scratch buffers of the kernels: which operator asks for how many bytes, in TFLM's order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.graph import ITEM_BYTES, Graph, Operator, Padding
from deploy.targets.records import Kernels, StepKind
from keras_fmc.errors import UnsupportedModelError

_WEIGHTS = 1
_WINDOWED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"})
_POOLS = frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"})


@dataclass(frozen=True, slots=True)
class ScratchRequest:
    """A buffer that a kernel asks for while it prepares; alive during its operator only."""

    operator_index: int
    size_bytes: int


def scratch_requests(graph: Graph, kernels: Kernels) -> tuple[ScratchRequest, ...]:
    """Returns the scratch buffers of all operators in the order in which TFLM gets to know them.

    Raises:
        UnsupportedModelError: the kernel library has no data for an operator.
    """
    requests = []
    for index, operator in enumerate(graph.operators):
        rule = kernels.rules.get(operator.opcode)
        if rule is None:
            raise unknown_operator(graph, index, kernels)
        numbers: Mapping[str, int] | None = None
        for step in rule.steps:
            if step.size_bytes is None or step.kind is StepKind.KEEP:
                continue
            if numbers is None:
                numbers = operator_numbers(graph, operator)
            size = step.size_bytes.evaluate(numbers)
            if size > 0 or step.kind is StepKind.REQUEST:
                requests.append(ScratchRequest(index, size))
    return tuple(requests)


def unknown_operator(graph: Graph, index: int, kernels: Kernels) -> UnsupportedModelError:
    """The error for an operator that the data of a kernel library does not cover."""
    return UnsupportedModelError(
        f"the memory of {graph.label(index)} is not known for the {kernels.name} kernels",
        expected=f"one of {', '.join(sorted(kernels.rules))}",
        remedy="Add the operator to a copy of the kernel data, or leave it out of the model",
    )


def operator_numbers(graph: Graph, operator: Operator) -> dict[str, int]:
    """Returns what formulas may name: extents, kernel, strides, padding of an operator.

    ``in_*`` and ``out_*`` are NHWC extents of input and output (missing leading dimensions are
    1), ``kernel_*`` those of the weights or the pooling window, ``pad_*`` rows above and columns
    left, ``operand_elements`` the elements of the second input.
    """
    windowed = operator.opcode in _WINDOWED
    source = 2 if operator.opcode == "TRANSPOSE_CONV" else 0
    tensors = graph.tensors
    given = tensors[operator.inputs[source]] if len(operator.inputs) > source else None
    made = tensors[operator.outputs[0]] if operator.outputs else None
    second = operator.inputs[1] if len(operator.inputs) > 1 else -1
    operand = tensors[second] if second >= 0 else None
    numbers = {"multiplier": operator.integer("depth_multiplier", 1)}
    for prefix, tensor in (("in_", given), ("out_", made)):
        shape = () if tensor is None else tensor.shape
        extents = (1, 1, 1, 1, *shape)[-4:]
        numbers |= zip((f"{prefix}{axis}" for axis in "nhwc"), extents, strict=True)
        numbers[f"{prefix}rank"] = len(shape)
    numbers["out_elements"] = 0 if made is None else made.elements
    numbers["item_bytes"] = 1 if given is None else ITEM_BYTES[given.dtype]
    numbers["operand_elements"] = 0 if operand is None else math.prod(operand.shape)
    kernel = (1, 1, 1)
    numbers["per_channel"] = 0
    if windowed and operand is not None:
        kernel = (1, 1, 1, *operand.shape)[-3:]
        scales = operand.quantization.scales if operand.quantization else ()
        numbers["per_channel"] = int(len(scales) > 1)
    elif operator.opcode in _POOLS:
        kernel = (operator.integer("filter_height"), operator.integer("filter_width"), 1)
    numbers |= zip(("kernel_h", "kernel_w", "kernel_c"), kernel, strict=True)
    same = operator.option("padding") == Padding.SAME
    for axis in "hw":
        stride = operator.integer(f"stride_{axis}", 1) or 1
        dilation = operator.integer(f"dilation_{axis}_factor", 1) or 1
        reach = (numbers[f"out_{axis}"] - 1) * stride + (numbers[f"kernel_{axis}"] - 1) * dilation
        spare = reach + 1 - numbers[f"in_{axis}"]
        numbers[f"stride_{axis}"] = stride
        numbers[f"dilation_{axis}"] = dilation
        numbers[f"pad_{axis}"] = max(spare, 0) // 2 if same else 0
    return numbers
