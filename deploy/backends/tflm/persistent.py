"""The tail of the arena, and what allocation itself needs: TFLM's allocations replayed.

The runtime fills the arena from both ends. Structures that stay (the tail) grow down from the
end, each aligned down to its own alignment. At the start stand, one after the other, the list of
scratch requests with the temporary tensors of the operator that prepares, then what the planner
needs, then the planned tensors (the head). The smallest arena is the largest sum of both ends at
any moment. Both ends of the arena are multiples of 16 here, as ``alignas(16)`` makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from deploy.backends.tflm.scratch import (
    OperatorNumbers,
    ScratchRequest,
    known_rule,
    operator_requests,
)
from deploy.graph import ASSIGN, Graph, Operator, Tensor
from deploy.implicit import as_written
from deploy.targets.records import KernelRule, PrepareStep, Runtime, StepKind, Structure
from deploy.targets.target import Target


@dataclass(frozen=True, slots=True)
class Tail:
    """The persistent part of the arena.

    Attributes:
        size_bytes: all of it, once the model is ready to be invoked.
        parts: (cause, bytes), in the order of allocation; they add up to ``size_bytes``.
        planning_bytes: the tail when the memory planner runs.
        planner_bytes: what the planner needs at the other end at that moment, rounded up to the
            alignment, without the 40 bytes or so for each buffer.
        preparing_bytes: arena that the kernels need while they prepare.
        start_bytes: what of that stands at the start, however large the tail is by then.
        scratch: the scratch buffers, in order.
    """

    size_bytes: int
    parts: tuple[tuple[str, int], ...]
    planning_bytes: int
    planner_bytes: int
    preparing_bytes: int
    start_bytes: int
    scratch: tuple[ScratchRequest, ...]


def persistent(
    graph: Graph,
    target: Target,
    *,
    allocator: Sequence[Structure] | None = None,
    below_bytes: int = 0,
) -> Tail:
    """Returns the tail that the file of a graph takes on a target.

    Scratch requests name operators as the file numbers them.

    Args:
        allocator: what the allocator takes of the tail before the model; None: as one that an
            interpreter makes for itself does.
        below_bytes: of the tail that other models hold already; it counts in the result.

    Raises:
        UnsupportedModelError: the kernel library has no data for an operator.
    """
    if allocator is None:
        allocator = target.runtime.fixed[:-1]
    return _Allocator(as_written(graph).graph, target, below_bytes).run(allocator)


_Site = tuple[tuple[int, int], Operator, OperatorNumbers]
"""(number of the subgraph, number of the operator in it), the operator, its numbers."""


def _sites(graph: Graph, runtime: Runtime) -> Iterator[_Site]:
    """Yields the operators of all subgraphs as the runtime prepares them.

    A resource variable gets its memory from the first operator that assigns to it and knows it by
    then, as its handle is made in the same subgraph.
    """
    given: set[str] = set()
    for number, part in enumerate(graph.subgraphs):
        handles = part.handles
        for index, operator in enumerate(part.operators):
            numbers = OperatorNumbers(part, operator)
            numbers["pointer_bytes"] = runtime.end_pointer.size_bytes
            name = handles.get(operator.inputs[0]) if operator.inputs else None
            numbers["state_bytes"] = 0
            if operator.opcode == ASSIGN and name is not None and name not in given:
                numbers["state_bytes"] = part.tensors[operator.inputs[1]].size_bytes
                given.add(name)
            yield (number, index), operator, numbers


class _Allocator:
    """Sizes of both ends while the runtime allocates; ``need`` is the largest sum so far, ``front``
    the most that stood at the start."""

    def __init__(self, graph: Graph, target: Target, below_bytes: int) -> None:
        self.graph = graph
        self.runtime: Runtime = target.runtime
        self.kernels = target.kernels
        self.sites = list(_sites(graph, target.runtime))
        self.tail = below_bytes
        self.start = 0
        self.front = 0
        self.need = 0
        self.parts: list[tuple[str, int]] = []
        self.scratch: list[ScratchRequest] = []

    def run(self, allocator: Sequence[Structure]) -> Tail:
        runtime, graph, parts = self.runtime, self.graph, self.graph.subgraphs
        # The register of resource variables stands before what the model itself takes.
        builtin_data = runtime.fixed[-1]
        self.part("runtime", allocator)
        variables = len(graph.variables)
        if variables:
            blocks = [runtime.resources, _times(runtime.resource, variables)]
            self.part("register of variables", blocks)
        before = self.tail
        self.put(builtin_data)
        self.put(_times(runtime.subgraph, len(parts)))
        self.parts[0] = ("runtime", self.parts[0][1] + self.tail - before)
        self.start = self.front = self.request_bytes()
        self.part("tensors", [_times(runtime.eval_tensor, len(p.tensors)) for p in parts])
        self.part("operators", [_times(runtime.node, len(p.operators)) for p in parts])
        operators = [operator for part in parts for operator in part.operators]
        parameters = (runtime.parameters.get(op.opcode) for op in operators)
        self.part("operator parameters", (block for block in parameters if block is not None))
        rules = self.rules()
        before = self.tail
        for (_, _, numbers), rule in zip(self.sites, rules, strict=True):
            size = rule.data_bytes.get(runtime.abi, 0)
            if size:
                self.keep(size, runtime.kernel_alignment_bytes)
            for step in rule.initial:
                assert step.size_bytes is not None
                size = step.size_bytes.evaluate(numbers)
                if size:
                    self.keep(size, runtime.kernel_alignment_bytes)
        moments = []
        for site, rule in zip(self.sites, rules, strict=True):
            start, before_operator = self.start, self.tail
            self.prepare(site, rule)
            moments.append((start, before_operator, self.tail))
        self.parts.append(("kernel data", self.tail - before))
        count = len(self.scratch)
        self.part("scratch handles", [_times(runtime.scratch_handle, count)] if count else [])
        states = [t.size_bytes for part in parts for t in part.tensors if t.is_variable]
        before = self.tail
        for size in states:
            self.keep(size, runtime.kernel_alignment_bytes)
        if states:
            self.parts.append(("variables", self.tail - before))
        planning_tail, planner = self.tail, self.planner_bytes()
        self.temporaries(rules, moments, planning_tail, planner)
        preparing = self.need
        self.start = 0
        before = self.tail
        for ends in (graph.inputs, graph.outputs):
            self.put(_times(runtime.end_pointer, len(ends)))
            for tensor in ends:
                for block in self.tensor_blocks(graph.tensors[tensor]):
                    self.put(block)
        self.parts.append(("inputs and outputs", self.tail - before))
        return Tail(
            size_bytes=self.tail,
            parts=tuple(self.parts),
            planning_bytes=planning_tail,
            planner_bytes=planner,
            preparing_bytes=preparing,
            start_bytes=self.front,
            scratch=tuple(self.scratch),
        )

    def rules(self) -> list[KernelRule]:
        return [
            known_rule(part, index, self.kernels)
            for part in self.graph.subgraphs
            for index in range(len(part.operators))
        ]

    def prepare(self, site: _Site, rule: KernelRule) -> None:
        """Replays one operator without its temporaries, which are given back at its end."""
        (number, index), _, numbers = site
        for step in rule.steps:
            if step.kind is StepKind.KEEP and step.size_bytes is not None:
                size = step.size_bytes.evaluate(numbers)
                if size > 0:
                    self.keep(size, self.runtime.kernel_alignment_bytes)
        if rule.has_scratch:
            self.scratch += (
                replace(request, subgraph=number)
                for request in operator_requests(index, rule, numbers)
            )
        self.start = self.request_bytes()
        self.front = max(self.front, self.start)
        self.need = max(self.need, self.start + self.tail)

    def temporaries(
        self,
        rules: Sequence[KernelRule],
        moments: Sequence[tuple[int, int, int]],
        later_tail: int,
        planner: int,
    ) -> None:
        """Adds the temporaries of the operators, which stand after the scratch requests.

        ``moments`` holds for each operator the start, and the tail before and after it. Where
        no temporaries that it could have reach what the ``planner`` needs later, when the tail is
        ``later_tail``, there is nothing to add.
        """
        scales = [
            len(t.quantization.scales)
            for part in self.graph.subgraphs
            for t in part.tensors
            if t.quantization
        ]
        largest = self.temporary_bytes(max(scales, default=0))
        pointers = 2 * self.runtime.end_pointer.size_bytes
        for ((number, _), operator, numbers), rule, (start, tail, after) in zip(
            self.sites, rules, moments, strict=True
        ):
            tensors = self.graph.subgraphs[number].tensors
            count = rule.temporaries + rule.temporary_inputs * len(operator.inputs)
            reach = start + count * largest
            if reach <= planner and reach + after <= later_tail + planner:
                continue
            position = firm = start
            for step in rule.steps:
                if step.kind is StepKind.TEMPORARY:
                    if step.condition is not None and not step.condition.evaluate(numbers):
                        continue
                    for tensor in _tensors(operator, step):
                        firm = position
                        for number, block in enumerate(self.tensor_blocks(tensors[tensor])):
                            if number == 1:
                                firm = _up(position, block.alignment_bytes) + pointers
                            position = _up(position, block.alignment_bytes) + block.size_bytes
                    self.front = max(self.front, position)
                    self.need = max(self.need, position + tail)
                elif step.kind is StepKind.KEEP and step.size_bytes is not None:
                    size = step.size_bytes.evaluate(numbers)
                    if size > 0:
                        tail = _up(tail + size, self.runtime.kernel_alignment_bytes)
                        # The runtime lets what is kept overwrite temporaries. It fails where
                        # that reaches the pointers by which the last one is given back.
                        self.need = max(self.need, firm + tail)

    def temporary_bytes(self, scales: int) -> int:
        """An upper bound of the bytes of one temporary tensor, alignment included."""
        runtime = self.runtime
        points = runtime.zero_point_item.size_bytes * (1 + scales)
        slack = 3 * runtime.arena_alignment_bytes
        return runtime.tensor.size_bytes + runtime.quantization.size_bytes + points + slack

    def tensor_blocks(self, tensor: Tensor) -> tuple[Structure, ...]:
        runtime = self.runtime
        if tensor.quantization is None:
            return (runtime.tensor,)
        points = _times(runtime.zero_point_item, 1 + len(tensor.quantization.scales))
        return (runtime.tensor, runtime.quantization, points)

    def request_bytes(self) -> int:
        """The list of scratch requests, with room for those of the next operator."""
        capacity = len(self.scratch) + self.runtime.scratch_requests
        return capacity * self.runtime.scratch_request.size_bytes

    def planner_bytes(self) -> int:
        runtime = self.runtime
        buffers = sum(len(part.tensors) for part in self.graph.subgraphs) + len(self.scratch)
        counters = _times(runtime.subgraph_counter, len(self.graph.subgraphs))
        position = self.start
        for block in (counters, _times(runtime.buffer_info, buffers)):
            position = _up(position, block.alignment_bytes) + block.size_bytes
        return _up(position, runtime.arena_alignment_bytes)

    def part(self, cause: str, blocks: Iterable[Structure]) -> None:
        before = self.tail
        for block in blocks:
            self.put(block)
        self.parts.append((cause, self.tail - before))

    def put(self, block: Structure) -> None:
        self.keep(block.size_bytes, block.alignment_bytes)

    def keep(self, size_bytes: int, alignment_bytes: int) -> None:
        self.tail = _up(self.tail + size_bytes, alignment_bytes)
        self.need = max(self.need, self.start + self.tail)


def _tensors(operator: Operator, step: PrepareStep) -> tuple[int, ...]:
    ends = operator.inputs if step.side == "input" else operator.outputs
    if step.index is None:
        return tuple(t for t in ends if t >= 0)
    if step.index >= len(ends) or ends[step.index] < 0:
        return ()
    return (ends[step.index],)


def _times(block: Structure, count: int) -> Structure:
    return Structure(block.size_bytes * count, block.alignment_bytes)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
