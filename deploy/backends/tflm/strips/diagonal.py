"""Diagonal overlap of strips: how far the output of a strip may grow into what it reads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

from deploy.backends.tflm.overlap import overlap_distance
from deploy.backends.tflm.strips.network import Network, Value
from deploy.backends.tflm.strips.operators import same_paddings
from deploy.backends.tflm.strips.schedule import Program, Run
from deploy.backends.tflm.strips.tiles import TileStep
from deploy.graph import Graph, Operator, Tensor
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES, round_up
from deploy.operators import OPERATORS
from deploy.operators.by_rows import Parameters, Strip
from deploy.targets import Kernels

_NEVER = sys.maxsize
"""A distance of operators that do not overlap."""
_Figure = TypeVar("_Figure")


class OfStrips(Generic[_Figure]):
    """Something that depends on the shapes and options of a strip's operator alone.

    It is worked out once for each kind of strips, and found at once for a strip seen before.
    """

    def __init__(self, work_out: Callable[[Program, Run], _Figure]) -> None:
        self._work_out = work_out
        self._of_kind: dict[tuple[object, ...], _Figure] = {}
        self._of_strip: dict[TileStep | int, _Figure] = {}

    def __call__(self, program: Program, step: Run) -> _Figure:
        # The rows of all values of a step follow from its tile.
        strip = step.tile or step.operator
        found = self._of_strip.get(strip)
        if found is None:
            kind = strip_kind(program, step)
            if kind not in self._of_kind:
                self._of_kind[kind] = self._work_out(program, step)
            found = self._of_strip[strip] = self._of_kind[kind]
        return found


class Diagonals:
    """Distances between input and output for the strips of one network.

    They are multiples of ``alignment``, which is the runtime's.
    """

    def __init__(
        self, network: Network, kernels: Kernels, alignment: int = HEIGHT_ALIGNMENT_BYTES
    ) -> None:
        self.network = network
        self.kernels = kernels
        self.alignment = alignment
        self.overlapping = frozenset(
            index
            for index, operator in enumerate(network.graph.operators)
            if operator.opcode in kernels.overlap
        )
        self._known = OfStrips(self._distance)

    def distance(self, program: Program, step: Run) -> int | None:
        """The smallest safe ``input start - output start`` of a strip, in bytes, or None."""
        if step.operator not in self.overlapping or step.inputs[0] < 0:
            return None
        found = self._known(program, step)
        return None if found == _NEVER else found

    def _distance(self, program: Program, step: Run) -> int:
        operator, graph = strip_operator(self.network, program, step)
        found = overlap_distance(operator, graph, self.kernels)
        return _NEVER if found is None else round_up(found, self.alignment)


def strip_operator(network: Network, program: Program, step: Run) -> tuple[Operator, Graph]:
    """The operator of a strip, and a graph in which its tensors have the strip's shapes."""
    graph, operator = network.graph, network.graph.operators[step.operator]
    tensors = list(graph.tensors)
    for value in (*step.inputs, *step.outputs):
        if value >= 0:
            entry = program.values[value]
            tensors[entry.tensor] = _strip(network, entry, step.operator)
    if step.tile is not None:
        shape = tensors[operator.outputs[0]].shape
        options = strip_parameters(network, step.tile, shape).options
        operator = replace(operator, options=options)
    return operator, graph.replace(tensors=tuple(tensors))


def strip_kind(program: Program, step: Run) -> tuple[object, ...]:
    """What the shapes and options of a strip's operator depend on."""
    mode = None if step.tile is None else (step.tile.padding, step.tile.single)
    values = (program.values[v] for v in (*step.inputs, *step.outputs) if v >= 0)
    kinds = tuple((v.rows[1] - v.rows[0], v.padding) for v in values)
    return (step.operator, kinds, mode)


def _strip(network: Network, value: Value, operator: int) -> Tensor:
    graph, axis = network.graph, network.axis.get(value.tensor)
    tensor = graph.tensors[value.tensor]
    if axis is None:
        return tensor
    shape = list(tensor.shape)
    shape[axis] = value.rows[1] - value.rows[0]
    if value.padding is not None:
        paddings = same_paddings(graph, operator)
        paddings[axis] = value.padding
        shape = [n + sum(around) for n, around in zip(shape, paddings, strict=True)]
    return replace(tensor, shape=tuple(shape), shape_signature=None)


def strip_parameters(network: Network, tile: TileStep, shape: tuple[int, ...]) -> Parameters:
    """What an operator is given for a strip whose output has this shape."""
    operator, info = network.graph.operators[tile.operator], network.row_operators[tile.operator]
    if tile.out == (0, info.rule.out_rows):
        return Parameters(operator.options)
    by_rows = OPERATORS[operator.opcode].by_rows
    assert by_rows is not None
    strip = Strip(
        network.graph,
        operator,
        info.axis,
        shape,
        window_rows=tile.window[1] - tile.window[0],
        padding=tile.padding,
        single=tile.single,
    )
    return by_rows.parameters(strip)
