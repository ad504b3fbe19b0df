"""Puts the operators of a graph in the order in which the fewest bytes are live at once.

Where branches leave freedom, states are the sets of operators that have run, and the largest
live set on the way to a state is minimised by best-first search (Dijkstra's algorithm with max in
place of +). The first complete order is optimal; if the search is cut off, no order is better than
the state it would have looked at next.

    before: a → big1 → small1 ↘          after: a → big1 → small1 ↘
            a → big2 → small2 → join             a → big2 → small2 → join
    order:  big1, big2, small1, small2   order: big1, small1, big2, small2
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from deploy.graph import Graph
from deploy.lifetimes import TensorNumber, reading_steps
from deploy.passes.context import Context

DEFAULT_STATES = 20_000


@dataclass(frozen=True, slots=True)
class OrderForMemory:
    """The pass; see the module. ``states``: most sets of operators to look at."""

    name: ClassVar[str] = "order_for_memory"
    states: int = DEFAULT_STATES

    def apply(self, graph: Graph, context: Context) -> Graph:
        """Returns the graph in the best order found for what the target runs in place."""
        return order_for_memory(graph, in_place=context.in_place, states=self.states).graph


@dataclass(frozen=True, slots=True)
class Ordering:
    """An order and how good it is.

    Attributes:
        graph: the graph in that order; the graph as it was, if that is as good.
        peak_bytes: the largest live set.
        lower_bound_bytes: no order has a smaller one.
    """

    graph: Graph
    peak_bytes: int
    lower_bound_bytes: int

    @property
    def proven_optimal(self) -> bool:
        """Whether no order has a smaller ``peak_bytes``; where tensors stand is another matter."""
        return self.peak_bytes == self.lower_bound_bytes


def order_for_memory(
    graph: Graph, *, in_place: Iterable[str] = (), states: int = DEFAULT_STATES
) -> Ordering:
    """Returns the best order found.

    Args:
        in_place: opcodes whose output may take the place of an input that dies with them.
        states: most sets of operators to look at.
    """
    lives = _Lives(graph, frozenset(in_place))
    given = lives.peak(range(len(graph.operators)))
    order, bound = _search(lives, states)
    if order is None or lives.peak(order) >= given:
        return Ordering(graph, given, min(bound, given))
    operators = tuple(graph.operators[i] for i in order)
    return Ordering(graph.replace(operators=operators), lives.peak(order), bound)


class _Lives:
    """Bytes that are live while an operator runs, given the set of those that ran before."""

    def __init__(self, graph: Graph, in_place: frozenset[str]) -> None:
        self.count = len(graph.operators)
        self.needs = [0] * self.count
        self.inputs: list[tuple[TensorNumber, ...]] = []
        self.outputs: list[tuple[int, ...]] = []
        self.size = {t: graph.tensors[t].size_bytes for t in graph.activations()}
        # Tensor -> the steps that read it, as bits; that of the user never runs.
        self.readers = {
            tensor: sum({1 << step for step in steps})
            for tensor, steps in reading_steps(graph).items()
            if tensor in self.size
        }
        self.in_place = [operator.opcode in in_place for operator in graph.operators]
        producers = graph.producers()
        before = graph.predecessors()
        for index, operator in enumerate(graph.operators):
            for earlier in before[index]:
                self.needs[index] |= 1 << earlier
            for tensor in operator.present_inputs:
                if tensor in producers:
                    self.needs[index] |= 1 << producers[tensor]
            read = tuple(
                TensorNumber(t) for t in dict.fromkeys(operator.present_inputs) if t in self.size
            )
            self.inputs.append(read)
            self.outputs.append(tuple(t for t in operator.outputs if t in self.size))
        self.start_bytes = sum(self.size[t] for t in set(graph.inputs) if t in self.size)

    def dying(self, done: int, index: int) -> list[TensorNumber]:
        """Inputs of an operator that nobody reads after it."""
        after = done | 1 << index
        return [t for t in self.inputs[index] if not self.readers[t] & ~after]

    def step(self, done: int, live: int, index: int) -> tuple[int, int]:
        """(bytes live while the operator runs, bytes live after it)."""
        dying = [self.size[t] for t in self.dying(done, index)]
        born = [self.size[t] for t in self.outputs[index]]
        during = live + sum(born)
        if self.in_place[index] and len(born) == 1 and born[0] in dying:
            during -= born[0]
        # What nobody reads is gone at once.
        lost = sum(self.size[t] for t in self.outputs[index] if t not in self.readers)
        return during, live + sum(born) - sum(dying) - lost

    def peak(self, order: Iterable[int]) -> int:
        done, live, peak = 0, self.start_bytes, self.start_bytes
        for index in order:
            during, live = self.step(done, live, index)
            peak = max(peak, during)
            done |= 1 << index
        return peak


def _search(lives: _Lives, states: int) -> tuple[list[int] | None, int]:
    """(the best order or None, no order has a smaller peak than this)."""
    complete = (1 << lives.count) - 1
    # Among equal peaks the state that is furthest on, then the order given.
    queue: list[tuple[int, int, tuple[int, ...], int, int]] = [
        (lives.start_bytes, 0, (), 0, lives.start_bytes)
    ]
    seen: set[int] = set()
    while queue:
        peak, _, order, done, live = heapq.heappop(queue)
        if done == complete:
            return list(order), peak
        if done in seen:
            continue
        if len(seen) == states:
            return None, peak
        seen.add(done)
        for index in range(lives.count):
            after = done | 1 << index
            if after == done or lives.needs[index] & ~done or after in seen:
                continue
            during, left = lives.step(done, live, index)
            entry = (max(peak, during), -len(order) - 1, (*order, index), after, left)
            heapq.heappush(queue, entry)
    raise AssertionError("the operators of a graph can always be ordered")
