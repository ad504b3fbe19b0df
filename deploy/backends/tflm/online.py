"""TFLM's own memory planner, repeated step by step: where it puts what has no offset yet.

The greedy planner takes buffers with an offline offset as they are, in order; then the others,
largest first, each into the first gap between the buffers that are alive at the same time. Among
buffers of one size the one that was added last goes first; scratch buffers, which never have an
offline offset, are added after all tensors. Sizes are rounded up to 16 bytes.

Subgraphs that operators call are planned together with the main one: their operators are moments
of their own, after the one that calls and before the next.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deploy.backends.tflm.scratch import ScratchRequest, scratch_requests
from deploy.graph import Graph
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES, round_up
from deploy.targets.records import Kernels
from keras_fmc.errors import BadInputError

ONLINE = -1


@dataclass(frozen=True, slots=True)
class OnlinePlan:
    """What the runtime makes of a graph.

    Attributes:
        head_bytes: the largest end of a buffer, a multiple of the alignment if all offsets are.
        offsets: one entry for each tensor of the graph; -1 for those that are not in the head.
        scratch_offsets: one entry for each scratch request of the graph itself.
        buffers: number of buffers that were planned.
        reach_bytes: the head and what kernels write behind it, past their scratch buffers.
        called: (operator of the graph, offset, bytes) of each buffer of the subgraphs that the
            operator calls.
    """

    head_bytes: int
    offsets: tuple[int, ...]
    scratch_offsets: tuple[int, ...]
    buffers: int
    reach_bytes: int
    called: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Buffer:
    size: int
    first: int
    last: int
    offset: int


def simulate(
    graph: Graph,
    scratch: Sequence[ScratchRequest] = (),
    *,
    offsets: Sequence[int] | None = None,
    alignment: int = HEIGHT_ALIGNMENT_BYTES,
) -> OnlinePlan:
    """Returns the plan that TFLM makes while it allocates a graph.

    Args:
        scratch: buffers of the kernels, in the order of their requests.
        offsets: the offline plan, one entry for each tensor (-1: planned online), or None.
        alignment: the runtime rounds the size of every buffer up to this.

    Raises:
        BadInputError: ``offsets`` does not have one entry for each tensor.
    """
    count = len(graph.tensors)
    if offsets is None:
        offsets = (ONLINE,) * count
    if len(offsets) != count:
        raise BadInputError(
            "an offline plan has one offset for each tensor",
            expected=f"{count} offsets",
            received=f"{len(offsets)}",
        )
    spans = _Lifetimes(graph)
    buffers: list[_Buffer] = []
    owners: list[tuple[int, int]] = []
    for number, part in enumerate(graph.subgraphs):
        handles = part.handles
        for index, tensor in enumerate(part.tensors):
            if tensor.is_constant or tensor.is_variable or not tensor.elements or index in handles:
                continue
            first, last = spans.tensors[number][index]
            offset = offsets[index] if number == 0 else ONLINE
            buffers.append(_Buffer(round_up(tensor.size_bytes, alignment), first, last, offset))
            owners.append((number, index))
    for request in scratch:
        first, last = spans.operators[request.subgraph][request.operator_index]
        buffers.append(_Buffer(round_up(request.size_bytes, alignment), first, last, ONLINE))
    placed = _place(buffers)
    tensor_offsets = [ONLINE] * count
    for (number, owner), offset in zip(owners, placed, strict=False):
        if number == 0:
            tensor_offsets[owner] = offset
    head = max((o + b.size for o, b in zip(placed, buffers, strict=True)), default=0)
    scratch_offsets = tuple(placed[len(owners) :])
    ends = (
        o + round_up(r.room_bytes, alignment) for o, r in zip(scratch_offsets, scratch, strict=True)
    )
    numbers = [number for number, _ in owners] + [request.subgraph for request in scratch]
    called = (
        (step, offset, buffer.size)
        for number, offset, buffer in zip(numbers, placed, buffers, strict=True)
        for step in (spans.calling(buffer.first, buffer.last) if number else ())
    )
    return OnlinePlan(
        head_bytes=head,
        offsets=tuple(tensor_offsets),
        scratch_offsets=tuple(
            offset
            for offset, request in zip(scratch_offsets, scratch, strict=True)
            if request.subgraph == 0
        ),
        buffers=len(buffers),
        reach_bytes=max(head, *ends, 0),
        called=tuple(called),
    )


def momentary_bytes(
    graph: Graph, kernels: Kernels, *, alignment: int = HEIGHT_ALIGNMENT_BYTES
) -> list[tuple[int, int]]:
    """Returns (operator, bytes) of all that the runtime plans for one operator of the graph alone:
    the scratch buffers of its kernel, and the subgraphs that it calls, each as if by itself."""
    requests = scratch_requests(graph, kernels)
    own = [(r.operator_index, r.room_bytes) for r in requests if not r.subgraph and r.room_bytes]
    if not graph.others:
        return own
    alone = simulate(graph, requests, alignment=alignment)
    for step in sorted({step for step, _, _ in alone.called}):
        low = min(offset for at, offset, _ in alone.called if at == step)
        high = max(offset + size for at, offset, size in alone.called if at == step)
        own.append((step, high - low))
    return own


class _Lifetimes:
    """When the runtime thinks that tensors and operators of all subgraphs live.

    Moment 0 is before the first operator; each operator has the next moment, and what it calls
    those after it. A tensor that nothing touches has (-1, -1), and still gets memory.
    """

    def __init__(self, graph: Graph) -> None:
        self._parts = graph.subgraphs
        self._moment = 0
        self._of_step: list[int] = []
        self.tensors = [[(-1, -1)] * len(part.tensors) for part in self._parts]
        self.operators = [[(-1, -1)] * len(part.operators) for part in self._parts]
        self._walk(0)

    def calling(self, first: int, last: int) -> tuple[int, ...]:
        """Operators of the main graph that are under way between two moments."""
        ends = (*self._of_step[1:], self._moment + 1)
        return tuple(
            step
            for step, (start, end) in enumerate(zip(self._of_step, ends, strict=True))
            if start <= last and first < end
        )

    def _walk(self, number: int) -> None:
        part, spans = self._parts[number], self.tensors[number]

        def born(index: int) -> None:
            if spans[index][0] == -1:
                spans[index] = (self._moment, spans[index][1])

        def used(index: int) -> None:
            spans[index] = (spans[index][0], self._moment)

        for index in part.inputs:
            born(index)
            used(index)
        for step, operator in enumerate(part.operators):
            self._moment += 1
            start = self._moment
            if number == 0:
                self._of_step.append(start)
            for index in operator.outputs:
                born(index)
            for called in operator.called:
                self._moment += 1
                self._walk(called)
            for index in (*operator.present_inputs, *operator.outputs):
                used(index)
            first = self.operators[number][step][0]
            self.operators[number][step] = (start if first == -1 else first, self._moment)
        for index in part.outputs:
            born(index)
            used(index)


def _place(buffers: Sequence[_Buffer]) -> list[int]:
    """Returns the offset of every buffer."""
    offsets = [buffer.offset for buffer in buffers]
    offline = [i for i, offset in enumerate(offsets) if offset != ONLINE]
    online = [i for i, offset in enumerate(offsets) if offset == ONLINE]
    # The runtime lists them backwards and sorts stably by size.
    online.sort(key=lambda i: (-buffers[i].size, -i))
    # Entries (offset, order of placement, end, first, last) stand in the order of addresses,
    # those of one offset in the order in which they were placed.
    placed = sorted(
        (offsets[i], order, offsets[i] + buffers[i].size, buffers[i].first, buffers[i].last)
        for order, i in enumerate(offline)
    )
    alive = _Moments(buffers, online, placed)
    for order, i in enumerate(online, len(offline)):
        buffer = buffers[i]
        candidate = 0
        for offset, _, end, _, _ in alive.during(buffer, placed):
            if offset - candidate >= buffer.size:
                break
            candidate = max(candidate, end)
        offsets[i] = candidate
        entry = (candidate, order, candidate + buffer.size, buffer.first, buffer.last)
        insort(placed, entry)
        alive.add(entry)
    return offsets


_Entry = tuple[int, int, int, int, int]


class _Moments:
    """Which placed buffers are alive when, kept ready for buffers that live for one operator."""

    def __init__(
        self, buffers: Sequence[_Buffer], online: Sequence[int], placed: Sequence[_Entry]
    ) -> None:
        brief = (buffers[i] for i in online if buffers[i].first == buffers[i].last)
        self._steps = sorted({buffer.first for buffer in brief})
        self._alive: dict[int, list[_Entry]] = {step: [] for step in self._steps}
        for entry in placed:
            for step in self._within(entry):
                self._alive[step].append(entry)

    def during(self, buffer: _Buffer, placed: Sequence[_Entry]) -> Iterable[_Entry]:
        if buffer.first == buffer.last:
            return self._alive[buffer.first]
        return (e for e in placed if e[3] <= buffer.last and buffer.first <= e[4])

    def add(self, entry: _Entry) -> None:
        for step in self._within(entry):
            insort(self._alive[step], entry)

    def _within(self, entry: _Entry) -> Sequence[int]:
        start = bisect_left(self._steps, entry[3])
        return self._steps[start : bisect_right(self._steps, entry[4])]
