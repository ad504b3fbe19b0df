"""Stretches of a graph that can be cut independently of each other.

Between two places of its order a graph hands over whole maps. So a *segment*, the operators
between two places, can be estimated as a graph of its own, in a fraction of the time; maps that
pass it by only take room. The head of segments one after the other is the largest of theirs, their
costs in the tail and in MACs add up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from deploy.backends.tflm.strips.clones import THINNED, Clone, cloneable
from deploy.backends.tflm.strips.costs import Costs
from deploy.backends.tflm.strips.cuts import FLAGS, Cuts, normalised
from deploy.backends.tflm.strips.estimate import Candidate, Estimate, Estimator
from deploy.backends.tflm.strips.moves import single_changes
from deploy.graph import Graph
from deploy.lifetimes import TensorNumber, reading_steps

_UNTOUCHED: Iterator[Candidate] = iter(())


@dataclass(frozen=True, slots=True)
class SegmentCut:
    """A segment cut in one way: its head, and what it adds to the tail and to the MACs.

    ``candidate`` counts operators from the segment's first.
    """

    start: int
    stop: int
    head_bytes: int
    tail_bytes: int
    macs: int
    candidate: Candidate


class Segment:
    """Operators [start, stop) of a graph as a graph of their own.

    Attributes:
        passing_bytes: maps that are live throughout and that no operator of the segment touches.
        pieces: ways of cutting it of which none is better than another in everything.
        whole_bytes: what its operators need if they are not cut; no way of cutting it that needs
            so much is of interest.
    """

    def __init__(
        self,
        graph: Graph,
        costs: Costs,
        start: int,
        stop: int,
        max_macs: int,
        *,
        never_whole: frozenset[str] = frozenset(),
    ) -> None:
        self.start = start
        self.stop = stop
        part, self.passing_bytes = _part(graph, start, stop)

        def inside(sizes: dict[int, int]) -> dict[int, int]:
            return {o - start: size for o, size in sizes.items() if start <= o < stop}

        own = costs.operators[start:stop]
        self.estimator = Estimator(
            part,
            replace(
                costs,
                operators=own,
                whole_bytes=sum(own),
                scratch=inside(costs.scratch),
                thinnings=inside(costs.thinnings),
            ),
            never_whole=never_whole,
        )
        network = self.estimator.network()
        self.macs = network.total_macs
        self.clones: tuple[Clone, ...] = tuple(cloneable(part, max_macs, network.macs))
        self.pieces: list[SegmentCut] = []
        self.whole_tail_bytes = sum(own)
        self.whole_bytes = sys.maxsize
        # SegmentCut -> single changes of it that were not tried; and what was tried.
        self._changes: dict[tuple[object, ...], Iterator[Candidate] | None] = {}
        self._tried: set[tuple[object, ...]] = set()

    def changes_left(self, piece: SegmentCut) -> bool:
        """Whether there may be single changes of a piece that were not tried."""
        return self._changes.get(piece.candidate.key(), _UNTOUCHED) is not None

    def has_changes_left(self) -> bool:
        return any(self.changes_left(piece) for piece in self.pieces)

    def next_change(self, piece: SegmentCut) -> Candidate | None:
        """The next single change of a piece that nothing led to before."""
        key = piece.candidate.key()
        changes = self._changes.get(key)
        if changes is None:
            changes = self._changes[key] = single_changes(self.estimator, piece.candidate)
        for candidate in changes:
            changed = candidate.key()
            if changed not in self._tried:
                self._tried.add(changed)
                return candidate
        self._changes[key] = None
        return None

    def estimated(
        self, candidate: Candidate, *, head_limit: Callable[[int, int], float]
    ) -> Estimate | None:
        """Estimates a candidate of the segment; ``head_limit`` as ``Estimator.estimate`` has it."""
        estimate = self.estimator.estimate(
            candidate, head_limit=lambda tail, macs: head_limit(tail, macs) - self.passing_bytes
        )
        if estimate is None:
            return None
        return estimate._replace(
            head_bytes=estimate.head_bytes + self.passing_bytes,
            bound_bytes=estimate.bound_bytes + self.passing_bytes,
        )

    def piece(self, estimate: Estimate) -> SegmentCut:
        return SegmentCut(
            self.start,
            self.stop,
            estimate.head_bytes,
            estimate.tail_bytes - self.whole_tail_bytes,
            estimate.macs - self.macs,
            estimate.candidate,
        )

    def offer(self, piece: SegmentCut) -> bool:
        """Keeps a piece unless one that is kept is as good in everything."""
        for kept in self.pieces:
            if (
                kept.head_bytes <= piece.head_bytes
                and kept.tail_bytes <= piece.tail_bytes
                and kept.macs <= piece.macs
            ):
                return False
        self.pieces = [
            kept
            for kept in self.pieces
            if kept.head_bytes < piece.head_bytes
            or kept.tail_bytes < piece.tail_bytes
            or kept.macs < piece.macs
        ]
        self.pieces.append(piece)
        return True


def _part(graph: Graph, start: int, stop: int) -> tuple[Graph, int]:
    """The operators [start, stop) as a graph, and the bytes of the maps that only pass."""
    inside = graph.operators[start:stop]
    written = {t for operator in inside for t in operator.outputs}
    read = {t for operator in inside for t in operator.present_inputs if graph.tensors[t].in_head}
    later = {t for t, steps in reading_steps(graph).items() if steps[-1] >= stop}
    earlier = set(graph.inputs) | {t for t, o in graph.producers().items() if o < start}
    inputs = sorted(read - written)
    made = {t for t in written if graph.tensors[t].in_head}
    outputs = sorted((made | set(inputs)) & later) or sorted(made)[-1:]
    passing = {t for t in earlier & later if graph.tensors[t].in_head} - set(inputs)
    part = graph.replace(
        operators=inside, inputs=tuple(inputs), outputs=tuple(outputs), signatures=()
    )
    return part, sum(graph.tensors[t].size_bytes for t in passing)


def crossing_bytes(graph: Graph) -> list[int]:
    """Bytes of the maps that live from before each place in the order to after it."""
    steps, producers = reading_steps(graph), graph.producers()
    crossing = [0] * (len(graph.operators) + 1)
    for tensor in graph.activations():
        born = producers[tensor] + 1 if tensor in producers else 0
        last = max(steps.get(TensorNumber(tensor), (born,)))
        for place in range(born, last + 1):
            crossing[place] += graph.tensors[tensor].size_bytes
    return crossing


def joined(estimator: Estimator, pieces: Sequence[SegmentCut]) -> Candidate:
    """One candidate for the whole graph out of pieces that do not overlap."""
    count = len(estimator.graph.operators)
    own = [
        {
            (operator, reader): (
                operator + p.start,
                THINNED if reader == THINNED else reader + p.start,
            )
            for operator, reader in p.candidate.clones
        }
        for p in pieces
    ]
    clones = frozenset(clone for moved in own for clone in moved.values())
    numbers = {clone: count + i for i, clone in enumerate(sorted(clones))}
    readers = estimator.graph.consumers()
    ends: dict[int, tuple[int, ...]] = {}
    sets: dict[str, set[int]] = {name: set() for name in FLAGS}
    for piece, moved in zip(pieces, own, strict=True):
        size = piece.stop - piece.start
        number = {size + i: numbers[moved[c]] for i, c in enumerate(sorted(moved))}
        number |= {i: piece.start + i for i in range(size)}
        cuts = piece.candidate.cuts
        ends |= {number[o]: strips for o, strips in cuts.ends.items()}
        for name, chosen in sets.items():
            chosen.update(number[o] for o in getattr(cuts, name))
        # What is read after the piece has to be whole by then.
        sets["finished"].update(
            number[o]
            for o in cuts.ends
            if number[o] < count
            and any(
                reader >= piece.stop
                for tensor in estimator.graph.operators[number[o]].outputs
                for reader in readers.get(tensor, ())
            )
        )
    cuts = Cuts(ends).replace(**{name: frozenset(chosen) for name, chosen in sets.items()})
    return Candidate(clones, normalised(estimator.network(clones), cuts))


def cheapest(
    pieces: Sequence[SegmentCut], peaks: Sequence[int], *, head: int, macs: int, price: float
) -> list[SegmentCut] | None:
    """The pieces that make a head of at most ``head`` bytes possible at the least cost.

    A shortest path over the places of the order; cost = bytes of the tail + price * MACs.

    Args:
        peaks: bytes that are live at each operator if it is not cut.
        macs: most MACs that may be added.
        price: bytes of the tail that one MAC is worth.
    """
    by_start: dict[int, list[SegmentCut]] = {}
    for piece in pieces:
        if piece.head_bytes <= head:
            by_start.setdefault(piece.start, []).append(piece)
    best: list[tuple[float, int, list[SegmentCut]] | None] = [None] * (len(peaks) + 1)
    best[0] = (0.0, 0, [])
    for place, peak in enumerate(peaks):
        here = best[place]
        if here is None:
            continue
        cost, added, path = here
        ways = [(place + 1, cost, added, path)] if peak <= head else []
        ways += [
            (p.stop, cost + p.tail_bytes + price * p.macs, added + p.macs, [*path, p])
            for p in by_start.get(place, ())
        ]
        for there, new_cost, new_macs, new_path in ways:
            known = best[there]
            if new_macs <= macs and (known is None or new_cost < known[0]):
                best[there] = (new_cost, new_macs, new_path)
    end = best[-1]
    return None if end is None else end[2]
