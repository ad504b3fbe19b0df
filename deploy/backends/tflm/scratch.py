"""Scratch buffers of the kernels: which operator asks for how many bytes, in TFLM's order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from deploy.graph import CUSTOM, ITEM_BYTES, Graph, Operator, Tensor
from deploy.operators import OPERATORS
from deploy.operators.custom import CUSTOM_NUMBERS, custom_number
from deploy.operators.window import MovesOver, Window
from deploy.targets.records import KernelRule, Kernels, StepKind
from keras_fmc.errors import UnsupportedModelError

_WEIGHTS, _BIAS = 1, 2
_CELL_STATE = 19
_POINTER_BYTES = 4
"""Of a microcontroller; the replay of the tail sets that of its runtime."""
_NO_WINDOW = Window((1, 1))


_OF_THE_USER = KernelRule(data_bytes={}, steps=())


@dataclass(frozen=True, slots=True)
class ScratchRequest:
    """A buffer that a kernel asks for while it prepares; alive during its operator only.

    ``used_bytes`` is what the kernel writes of it where that is more than it asks for,
    ``subgraph`` the number of the one that the operator is in.
    """

    operator_index: int
    size_bytes: int
    used_bytes: int = 0
    subgraph: int = 0

    @property
    def room_bytes(self) -> int:
        """What has to be free from the start of the buffer on."""
        return max(self.size_bytes, self.used_bytes)


def scratch_requests(graph: Graph, kernels: Kernels) -> tuple[ScratchRequest, ...]:
    """Returns the scratch buffers of all operators in the order in which TFLM gets to know them.

    Raises:
        UnsupportedModelError: the kernel library has no data for an operator.
    """
    requests: list[ScratchRequest] = []
    for number, part in enumerate(graph.subgraphs):
        for index, operator in enumerate(part.operators):
            rule = known_rule(part, index, kernels)
            if rule.has_scratch:
                numbers = OperatorNumbers(part, operator)
                found = operator_requests(index, rule, numbers)
                requests += (replace(request, subgraph=number) for request in found)
    return tuple(requests)


def operator_requests(
    index: int, rule: KernelRule, numbers: Mapping[str, int]
) -> list[ScratchRequest]:
    """Returns the scratch buffers of one operator in order."""
    requests: list[ScratchRequest] = []
    for step in rule.steps:
        if step.size_bytes is None or step.kind is StepKind.KEEP:
            continue
        size = step.size_bytes.evaluate(numbers)
        if step.kind is StepKind.ROOM:
            if requests and size > requests[-1].size_bytes:
                requests[-1] = replace(requests[-1], used_bytes=size)
        elif size > 0 or (size == 0 and step.kind is StepKind.REQUEST):
            requests.append(ScratchRequest(index, size))
    return requests


def known_rule(graph: Graph, index: int, kernels: Kernels) -> KernelRule:
    """Returns what the kernel of an operator allocates; of a custom operator that is the user's
    own, nothing: nobody else knows.

    Raises:
        UnsupportedModelError: the data of the kernel library do not cover the operator, or not
            for maps of int16.
    """
    operator = graph.operators[index]
    rule = kernels.rules.get(operator.kind)
    if rule is None and operator.opcode == CUSTOM:
        return _OF_THE_USER
    if rule is None:
        raise UnsupportedModelError(
            f"the memory of {graph.label(index)} is not known for the {kernels.name} kernels",
            expected=f"one of {', '.join(sorted(kernels.rules))}",
            remedy="Add the operator to a copy of the kernel data, or leave it out of the model",
        )
    touched = (*operator.present_inputs, *operator.outputs)
    if not rule.int16 and any(graph.tensors[t].dtype == "int16" for t in touched):
        raise UnsupportedModelError(
            f"the memory of {graph.label(index)} is not known for the {kernels.name} kernels "
            "with maps of int16",
            expected="maps of int8",
            remedy="Convert with int8 activations, or plan for --kernels=reference",
        )
    return rule


def largest_scratch(requests: Iterable[ScratchRequest]) -> int:
    """Returns the most bytes of scratch that one operator needs at once.

    max over operators of the sum of their buffers, each as large as the kernel asks for.
    """
    needed: Counter[int] = Counter()
    for request in requests:
        needed[request.operator_index] += request.size_bytes
    return max(needed.values(), default=0)


class OperatorNumbers(dict[str, int]):
    """What formulas may name, worked out when it is asked for.

    ``in_*`` and ``out_*`` are NHWC extents of input and output (missing leading dimensions are
    1), ``kernel_*`` those of the weights or the pooling window, ``pad_*`` rows above and columns
    left, ``multiplier`` that of a depthwise convolution, ``operand_elements`` the elements of the
    second input, ``operand_rows`` its first extent, ``cell_bytes`` the size of the cell state of
    an LSTM, ``per_channel`` 1 where the weights have several scales, ``fixed_weights`` 1
    where weights and bias are constants, ``item_bytes`` the size of an element of the input,
    ``bias_bytes`` that of the bias.
    Names of ``custom.CUSTOM_NUMBERS`` are options of TFLM's custom operators. ``pointer_bytes`` are
    those of a microcontroller, unless the replay of the tail sets them; only that knows
    ``state_bytes``, those of a variable that is assigned to for the first time.
    """

    def __init__(self, graph: Graph, operator: Operator) -> None:
        super().__init__()
        self._graph = graph
        self._operator = operator
        self._row = OPERATORS.get(operator.kind)

    @cached_property
    def _window(self) -> Window:
        rule = None if self._row is None else self._row.window
        return _NO_WINDOW if rule is None else rule(self._graph, self._operator)

    def __missing__(self, name: str) -> int:
        value = self[name] = self._find(name)
        return value

    def _find(self, name: str) -> int:
        prefix, _, axis = name.partition("_")
        if prefix in ("in", "out"):
            return self._extent(prefix, axis)
        if prefix == "kernel":
            return (*self._window.kernel, self._window.depth)["hwc".index(axis)]
        if prefix == "stride":
            return self._window.strides["hw".index(axis)]
        if prefix == "dilation":
            return self._window.dilations["hw".index(axis)]
        if prefix == "pad":
            padded = "out" if self._window.over is MovesOver.OUTPUT else "in"
            sizes = self[f"{padded}_h"], self[f"{padded}_w"]
            return self._window.paddings(*sizes)["hw".index(axis)][0]
        if name == "multiplier":
            return self._operator.integer("depth_multiplier", 1)
        if name == "operand_elements":
            operand = self._input(1)
            return 0 if operand is None else operand.elements
        if name == "operand_rank":
            operand = self._input(1)
            return 0 if operand is None else len(operand.shape)
        if name == "operand_rows":
            operand = self._input(1)
            return 0 if operand is None else operand.shape[0]
        if name == "cell_bytes":
            cell = self._input(_CELL_STATE)
            return 0 if cell is None else cell.size_bytes
        if name == "per_channel":
            weights = self._input(_WEIGHTS)
            quantization = None if weights is None else weights.quantization
            return int(quantization is not None and len(quantization.scales) > 1)
        if name == "fixed_weights":
            given = (self._input(_WEIGHTS), self._input(_BIAS))
            return int(all(tensor is None or tensor.is_constant for tensor in given))
        if name == "item_bytes":
            source = self._end("in")
            return 1 if source is None else ITEM_BYTES[source.dtype]
        if name == "bias_bytes":
            bias = self._input(_BIAS)
            return 0 if bias is None else ITEM_BYTES[bias.dtype]
        if name == "is_float":
            source = self._end("in")
            return int(source is not None and source.dtype == "float32")
        if name == "inputs":
            return len(self._operator.inputs)
        if name in ("adj_x", "adj_y"):
            return int(bool(self._operator.option(name, False)))
        if name == "pointer_bytes":
            return _POINTER_BYTES
        if name in CUSTOM_NUMBERS:
            return custom_number(self._operator, name)
        raise KeyError(name)

    def _input(self, index: int) -> Tensor | None:
        inputs = self._operator.inputs
        return (
            self._graph.tensors[inputs[index]]
            if index < len(inputs) and inputs[index] >= 0
            else None
        )

    def _end(self, side: str) -> Tensor | None:
        if side == "in":
            return self._input(0 if self._row is None else self._row.data)
        return self._graph.tensors[self._operator.outputs[0]] if self._operator.outputs else None

    def _extent(self, side: str, what: str) -> int:
        tensor = self._end(side)
        shape = () if tensor is None else tensor.shape
        if what == "rank":
            return len(shape)
        if what == "elements":
            return math.prod(shape)
        place = "cwhn".index(what)
        return shape[-1 - place] if place < len(shape) else 1
