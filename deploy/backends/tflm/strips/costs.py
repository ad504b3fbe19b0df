"""What an operator instance costs in the tail of the arena, on a given target.

Every strip repeats its operators, and every repetition takes persistent memory. The search adds
these costs up; they are differences of the tail that ``deploy.backends.tflm.persistent`` works out
for graphs with and without one more operator, so they hold for any runtime and kernel library.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from deploy.backends.tflm.persistent import persistent
from deploy.backends.tflm.scratch import OperatorNumbers, operator_requests
from deploy.backends.tflm.strips.clones import THINNED, Clone, reads_few_pixels, thinning
from deploy.backends.tflm.strips.diagonal import OfStrips, strip_operator
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.schedule import Concatenation, Program, RowSlice, Run
from deploy.graph import Graph, GraphBuilder, Operator, Options
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES
from deploy.targets import Kernels, Target
from deploy.targets.records import StepKind

_INSTANCES = 8


@dataclass(frozen=True, slots=True)
class Costs:
    """Bytes of the tail, and what the kernels of a target do.

    Attributes:
        whole_bytes: the tail of the graph that is not cut.
        operators: bytes of one more instance of each operator, its output tensor included.
        slice_bytes, concatenation_bytes, pad_bytes: the same for what strips add.
        constant_bytes: a tensor that only says where to slice.
        view_bytes: the tensor of a slice or concatenation without an operator; None where views
            keep theirs.
        thinnings: operator -> bytes of one more pooling that thins what it reads.
        scratch: operator -> bytes of its kernel's buffers in the head.
        varying: operators whose buffers depend on how many rows a strip has.
        in_place: opcodes whose output may take the place of an input.
        overlapping: kernels whose outputs may grow into their inputs; None where none shall.
        kernels: those that the strips run in, of which some shapes may be known to be wrong.
        alignment_bytes: what the runtime rounds buffers up to.
    """

    whole_bytes: int
    operators: tuple[int, ...]
    slice_bytes: int
    concatenation_bytes: int
    pad_bytes: int
    constant_bytes: int
    view_bytes: int | None
    thinnings: dict[int, int]
    scratch: dict[int, int]
    varying: frozenset[int]
    in_place: frozenset[str]
    overlapping: Kernels | None = None
    kernels: Kernels | None = None
    alignment_bytes: int = HEIGHT_ALIGNMENT_BYTES

    def tail_bytes(self, program: Program, clones: frozenset[Clone]) -> int:
        """The tail of a program, to within a few bytes of alignment.

        Slices that are real copies take ``copies_bytes`` more than views without operators.
        """
        total = self.whole_bytes - sum(self.operators)
        costs = list(self.operators)
        for operator, reader in sorted(clones):
            thins = reader == THINNED
            costs.append(self.thinnings[operator] if thins else self.operators[operator])
        constants: set[tuple[object, ...]] = set()
        values = program.values
        for step in program.steps:
            if isinstance(step, Run):
                total += costs[step.operator]
            elif self.view_bytes is not None and isinstance(step, RowSlice | Concatenation):
                total += self.view_bytes
            elif isinstance(step, RowSlice):
                (first, end), (start, stop) = values[step.source].rows, values[step.output].rows
                total += self.slice_bytes
                constants.add(("begin", start - first))
                constants.add(("size", -1 if stop == end else stop - start))
            elif isinstance(step, Concatenation):
                total += self.concatenation_bytes
            else:
                total += self.pad_bytes
                constants.add((step.operator, values[step.output].padding))
        return total + len(constants) * self.constant_bytes

    def copies_bytes(self, count: int) -> int:
        """What ``count`` slices take that are no views, beyond what ``tail_bytes`` has for them."""
        if self.view_bytes is None:
            return 0
        return count * (self.slice_bytes + self.constant_bytes - self.view_bytes)


def costs_of(
    graph: Graph, target: Target, *, overlap: bool = False, view_operators: bool = True
) -> Costs:
    """Returns the costs of a graph's operators on a target; with or without diagonal overlap.

    Args:
        view_operators: whether views keep an operator in the file.
    """
    tail = persistent(graph, target)
    scratch: dict[int, int] = {}
    for request in tail.scratch:
        scratch[request.operator_index] = (
            scratch.get(request.operator_index, 0) + request.room_bytes
        )

    def more(operators: list[Operator], builder: GraphBuilder) -> int:
        builder.operators += operators
        return persistent(builder.build(like=graph), target).size_bytes

    def instance(operator: Operator) -> int:
        # Several instances, and what they add on average, so that alignment evens out.
        builder = GraphBuilder(graph)
        instances = [
            replace(
                operator, outputs=tuple(builder.tensor(graph.tensors[t]) for t in operator.outputs)
            )
            for _ in range(_INSTANCES)
        ]
        return round((more(instances, builder) - tail.size_bytes) / _INSTANCES)

    def thinning_of(operator: Operator) -> int:
        builder = GraphBuilder(graph)
        poolings = [thinning(builder, operator, name=str(n)) for n in range(_INSTANCES)]
        return round((more(poolings, builder) - tail.size_bytes) / _INSTANCES)

    maps = graph.activations()
    some_map = next((t for t in maps if graph.tensors[t].shape), maps[0])
    builder = GraphBuilder(graph)
    for number in range(_INSTANCES):
        builder.constant(f"constant {number}", np.zeros(4, np.int32))
    with_constants = persistent(builder.build(like=graph), target).size_bytes
    axis = (("axis", 0), ("fused_activation_function", 0))
    joined = Options("ConcatenationOptions", axis)
    absent = (some_map, some_map, some_map)
    return Costs(
        whole_bytes=tail.size_bytes,
        operators=tuple(instance(operator) for operator in graph.operators),
        slice_bytes=instance(Operator("SLICE", absent, (some_map,), Options("SliceOptions"))),
        concatenation_bytes=instance(Operator("CONCATENATION", absent[:2], (some_map,), joined)),
        pad_bytes=instance(Operator("PAD", absent[:2], (some_map,), Options("PadOptions"))),
        constant_bytes=round((with_constants - tail.size_bytes) / _INSTANCES),
        view_bytes=None if view_operators else target.runtime.eval_tensor.size_bytes,
        thinnings={
            index: thinning_of(operator)
            for index, operator in enumerate(graph.operators)
            if reads_few_pixels(graph, operator)
        },
        scratch=scratch,
        varying=frozenset(
            index for index in scratch if _varies(graph.operators[index], target.kernels)
        ),
        in_place=frozenset(target.kernels.in_place),
        overlapping=target.kernels if overlap else None,
        kernels=target.kernels,
        alignment_bytes=target.runtime.arena_alignment_bytes,
    )


_ROW_NAMES = frozenset({"in_h", "in_w", "out_h", "out_w", "out_elements"})
"""What formulas call the extents that a strip has less of."""


def _varies(operator: Operator, kernels: Kernels) -> bool:
    steps = kernels.rules[operator.kind].steps
    sizes = [s.size_bytes for s in steps if s.kind is StepKind.SCRATCH and s.size_bytes]
    return any(size.names & _ROW_NAMES for size in sizes)


class StripScratch:
    """Bytes of the kernels' buffers for the strips of one network."""

    def __init__(self, network: Network, kernels: Kernels) -> None:
        self.network = network
        self.kernels = kernels
        self.bytes_of = OfStrips(self._bytes_of)
        """What one step of a program asks for."""

    def _bytes_of(self, program: Program, step: Run) -> int:
        operator, graph = strip_operator(self.network, program, step)
        rule = self.kernels.rules[operator.opcode]
        requests = operator_requests(0, rule, OperatorNumbers(graph, operator))
        return sum(request.room_bytes for request in requests)
