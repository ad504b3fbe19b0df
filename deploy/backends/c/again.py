"""Maps made again: rows that are computed more than once, where that saves memory.

    producer → map → reader … late reader       producer  → map  → reader
                                                producer' → map' → late reader

A map that waits for a late reader (a skip, a gate, a decoder) has to stand, or to be held in a
longer line buffer. Where what it is made from is smaller, making it a second time takes less
memory, at the price of its multiply-accumulates. Which maps are made again depends on levels of
that price, not on the limit itself: a higher limit only adds levels, so that it never makes the
memory larger.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deploy.backends.c.assign import RowLayout
from deploy.graph import Graph, GraphBuilder
from deploy.macs import graph_macs, operator_macs

_LEVELS = (1.05, 1.10, 1.25, 1.5, 2.0, 3.0)
"""Multiply-accumulates that maps made again are chosen within, as multiples of the graph's."""

_DEEPEST = 4
_MOST_ROUNDS = 6
_WORK = 50_000
"""Steps times rows that the tries of a level may make; about a second and a half."""

_LEAST_TRIES = 1
_TALL = 0.9
"""Of the height: regions whose maps are in the way. The tallest may be one of several ways."""


@dataclass(frozen=True, slots=True)
class Again:
    """A map that is made again for a reader and those behind it.

    ``operators`` are cloned, in order; the last of them makes the map.
    """

    tensor: int
    reader: int
    operators: tuple[int, ...]

    def apply(self, graph: Graph) -> Graph:
        """Returns the graph with the clones in front of the reader."""
        builder = GraphBuilder(graph)
        renamed: dict[int, int] = {}
        clones = []
        for number in self.operators:
            operator = graph.operators[number]
            (made,) = operator.outputs
            entry = graph.tensors[made]
            renamed[made] = builder.tensor(
                dataclasses.replace(entry, name=_name(graph, entry.name))
            )
            inputs = tuple(renamed.get(t, t) for t in operator.inputs)
            clones.append(dataclasses.replace(operator, inputs=inputs, outputs=(renamed[made],)))
        again = renamed[self.tensor]
        late = [
            dataclasses.replace(
                operator, inputs=tuple(again if t == self.tensor else t for t in operator.inputs)
            )
            for operator in graph.operators[self.reader :]
        ]
        operators = (*graph.operators[: self.reader], *clones, *late)
        return builder.build(like=graph).replace(operators=operators)


@dataclass(frozen=True, slots=True)
class Tried:
    """A graph with maps made again, the graph with its codes packed, and its layout."""

    graph: Graph
    coded: Graph
    layout: RowLayout
    static_bytes: int

    @property
    def rows_again(self) -> bool:
        """Whether steps make rows that they read themselves."""
        return any(step.inner is not None for step in self.layout.program.steps)


def with_maps_made_again(
    tried: Tried,
    *,
    max_macs: float,
    work: int,
    lay_out: Callable[[Graph], Tried | None],
    by_rows: Callable[[Tried, float], Tried],
) -> Tried:
    """Returns what takes the least memory within a limit of multiply-accumulates.

    Args:
        tried: the graph as it is.
        max_macs: the limit, as a multiple of the graph's own.
        work: steps times rows of the graph's program, which a try costs about.
        lay_out: graph -> its layout; None where it has none.
        by_rows: a layout, and how many multiply-accumulates more it may take -> the layout with
            rows made again for each row of their reader.
    """
    macs = graph_macs(tried.graph)
    known: dict[tuple[Again, ...], Tried | None] = {}
    best = tried
    for level in _LEVELS:
        if level > max_macs:
            break
        found = _at_level(tried, level * macs, work, lay_out, known)
        found = by_rows(found, level * macs - graph_macs(found.graph))
        if found.static_bytes < best.static_bytes:
            best = found
    return best


def _at_level(
    tried: Tried,
    most_macs: float,
    work: int,
    lay_out: Callable[[Graph], Tried | None],
    known: dict[tuple[Again, ...], Tried | None],
) -> Tried:
    """One map after the other, always the one that saves most."""
    tries = max(_LEAST_TRIES, _WORK // max(work, 1))
    chosen: tuple[Again, ...] = ()
    best = tried
    for _ in range(_MOST_ROUNDS):
        start, step = best, None
        for again in candidates(start):
            graph = again.apply(start.graph)
            if graph_macs(graph) > most_macs:
                continue
            if tries == 0:
                break
            tries -= 1
            key = (*chosen, again)
            if key not in known:
                known[key] = lay_out(graph)
            found = known[key]
            if found is not None and found.static_bytes < best.static_bytes:
                best, step = found, again
        if step is None:
            return best
        chosen += (step,)
    return best


def candidates(tried: Tried) -> Iterator[Again]:
    """Yields what may be made again: maps of the tall regions, the largest first."""
    graph, layout = tried.graph, tried.layout
    height = max(region.placed.height_bytes for region in layout.regions)
    tall = {
        layout.program.maps[m].tensor
        for region in layout.regions
        if region.placed.height_bytes >= _TALL * height
        for m in region.offsets
    }
    producers, consumers = graph.producers(), graph.consumers()
    maps = [t for t in sorted(tall) if t in producers and len(set(consumers.get(t, ()))) > 1]
    for tensor in sorted(maps, key=lambda t: (-graph.tensors[t].size_bytes, t)):
        for reader in sorted(set(consumers[tensor]))[1:]:
            seen: set[tuple[int, ...]] = set()
            for depth in range(1, _DEEPEST + 1):
                operators = _chain(graph, producers, producers[tensor], depth)
                if operators is None:
                    break
                if operators not in seen:
                    seen.add(operators)
                    yield Again(tensor, reader, operators)


def _chain(
    graph: Graph, producers: dict[int, int], last: int, depth: int
) -> tuple[int, ...] | None:
    """The operator and ``depth`` - 1 with products before it; those without come along.

    None where one of them makes several maps.
    """
    found: set[int] = set()
    waiting = [(last, depth)]
    while waiting:
        number, left = waiting.pop()
        if len(graph.operators[number].outputs) != 1:
            return None
        found.add(number)
        left -= int(operator_macs(graph, number) > 0)
        for tensor in graph.operators[number].present_inputs:
            before = producers.get(tensor)
            if before is not None and (left > 0 or operator_macs(graph, before) == 0):
                waiting.append((before, left))
    return tuple(sorted(found))


def _name(graph: Graph, name: str) -> str:
    """A name that no tensor has; of joined names the first one tells."""
    taken = {tensor.name for tensor in graph.tensors}
    first, *others = name.split(";")
    number = 2
    while ";".join([f"{first}_again{number}", *others]) in taken:
        number += 1
    return ";".join([f"{first}_again{number}", *others])
