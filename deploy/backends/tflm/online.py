"""TFLM's own memory planner, repeated step by step: where it puts what has no offset yet.

The greedy planner takes buffers with an offline offset as they are, in order; then the others,
largest first, each into the first gap between the buffers that are alive at the same time. Among
buffers of one size the one that was added last goes first; scratch buffers, which never have an
offline offset, are added after all tensors. Sizes are rounded up to 16 bytes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deploy.backends.tflm.scratch import ScratchRequest
from deploy.graph import Graph
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES, round_up
from keras_fmc.errors import BadInputError

ONLINE = -1


@dataclass(frozen=True, slots=True)
class OnlinePlan:
    """What the runtime makes of a graph.

    Attributes:
        head_bytes: the largest end of a buffer, a multiple of the alignment if all offsets are.
        offsets: one entry for each tensor of the graph; -1 for those that are not in the head.
        scratch_offsets: one entry for each scratch request.
        buffers: number of buffers that were planned.
        reach_bytes: the head and what kernels write behind it, past their scratch buffers.
    """

    head_bytes: int
    offsets: tuple[int, ...]
    scratch_offsets: tuple[int, ...]
    buffers: int
    reach_bytes: int


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
    spans = _lifetimes(graph)
    buffers: list[_Buffer] = []
    owners: list[int] = []
    for index, tensor in enumerate(graph.tensors):
        if tensor.is_constant or tensor.is_variable or not tensor.elements:
            continue
        first, last = spans[index]
        buffers.append(_Buffer(round_up(tensor.size_bytes, alignment), first, last, offsets[index]))
        owners.append(index)
    for request in scratch:
        step = request.operator_index + 1
        buffers.append(_Buffer(round_up(request.size_bytes, alignment), step, step, ONLINE))
    placed = _place(buffers)
    tensor_offsets = [ONLINE] * count
    for owner, offset in zip(owners, placed, strict=False):
        tensor_offsets[owner] = offset
    head = max((o + b.size for o, b in zip(placed, buffers, strict=True)), default=0)
    scratch_offsets = tuple(placed[len(owners) :])
    ends = (
        o + round_up(r.room_bytes, alignment) for o, r in zip(scratch_offsets, scratch, strict=True)
    )
    return OnlinePlan(
        head_bytes=head,
        offsets=tuple(tensor_offsets),
        scratch_offsets=scratch_offsets,
        buffers=len(buffers),
        reach_bytes=max(head, *ends, 0),
    )


def _lifetimes(graph: Graph) -> list[tuple[int, int]]:
    """Returns (first, last) of every tensor; inputs are born at 0, operator i is at i + 1.

    A tensor that nothing touches has (-1, -1), and still gets memory.
    """
    first = [-1] * len(graph.tensors)
    last = [-1] * len(graph.tensors)
    for index in graph.inputs:
        first[index] = last[index] = 0
    for step, operator in enumerate(graph.operators, 1):
        for index in operator.outputs:
            if first[index] == -1:
                first[index] = step
            last[index] = step
        for index in operator.inputs:
            if index >= 0:
                last[index] = step
    for index in graph.outputs:
        last[index] = len(graph.operators)
    return list(zip(first, last, strict=True))


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
