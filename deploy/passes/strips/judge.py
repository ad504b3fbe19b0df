"""What a way of cutting is worth: head, tail and MACs, estimated in a millisecond."""

from __future__ import annotations

from typing import NamedTuple

from deploy.graph import Graph
from deploy.passes.strips.clones import Clone, with_clones
from deploy.passes.strips.costs import Costs
from deploy.passes.strips.cuts import Cuts, normalised
from deploy.passes.strips.footprint import Footprint, LiveRows, footprint
from deploy.passes.strips.network import Network
from deploy.passes.strips.packing import quick_height
from deploy.passes.strips.schedule import Concatenation, Program, Run, Slice, schedule
from deploy.passes.strips.tiles import TileSolver


class Candidate(NamedTuple):
    """Which operators are computed twice, and how the graph with them is cut."""

    clones: frozenset[Clone] = frozenset()
    cuts: Cuts = Cuts()

    def key(self) -> tuple[object, ...]:
        return (tuple(sorted(self.clones)), self.cuts.key())


class Verdict(NamedTuple):
    """Estimates for a candidate.

    ``hot`` are operators at which the most bytes are live, ``peaks`` the largest load (bytes) at
    each operator. ``crowded`` tells for operators with strips of their own which strip it is
    during which the most bytes are live. ``candidate`` is without cuts that had no effect.
    """

    candidate: Candidate
    head_bytes: int
    bound_bytes: int
    tail_bytes: int
    macs: int
    steps: int
    hot: tuple[int, ...]
    peaks: dict[int, int]
    crowded: dict[int, int]

    @property
    def arena_bytes(self) -> int:
        return self.head_bytes + self.tail_bytes


class Judge:
    """Judges candidates for one graph on one target; ``work`` counts how much that took."""

    def __init__(self, graph: Graph, costs: Costs) -> None:
        self.graph = graph
        self.costs = costs
        self.work = 0
        self._contexts: dict[frozenset[Clone], tuple[Network, TileSolver]] = {}

    def network(self, clones: frozenset[Clone] = frozenset()) -> Network:
        return self._context(clones)[0]

    def _context(self, clones: frozenset[Clone]) -> tuple[Network, TileSolver]:
        if clones not in self._contexts:
            network = Network(*with_clones(self.graph, clones))
            self._contexts[clones] = network, TileSolver(network)
        return self._contexts[clones]

    def program(self, candidate: Candidate) -> tuple[Network, Cuts, Program]:
        network, solver = self._context(candidate.clones)
        cuts = normalised(network, candidate.cuts)
        return network, cuts, schedule(network, cuts, solver)

    def footprint(self, candidate: Candidate) -> tuple[Network, Program, Footprint | None]:
        network, cuts, program = self.program(candidate)
        return network, program, footprint(network, cuts, program, self.costs.in_place)

    def verdict(
        self, candidate: Candidate, *, ceiling: int | None = None, pack: bool = True
    ) -> Verdict | None:
        """Returns the estimates; None if the tensors cannot share places as the cuts want it.

        Args:
            ceiling: heads of this many bytes and more are not told apart.
            pack: False takes the lower bound for the head.
        """
        network, cuts, program = self.program(candidate)
        self.work += len(program.steps)
        found = footprint(network, cuts, program, self.costs.in_place)
        if found is None:
            return None
        count = len(program.steps)
        load = found.load(count)
        blocks = list(found.blocks)
        scratch = self.costs.scratch
        if scratch:
            self._add_scratch(candidate, program, load, blocks)
        bound = max(found.bound(count), *load)
        peaks: dict[int, int] = {}
        strips: dict[int, int] = {}
        for step, here in zip(program.steps, load, strict=True):
            if isinstance(step, Slice | Concatenation):
                continue
            if here > peaks.get(step.operator, 0):
                peaks[step.operator] = here
            if isinstance(step, Run):
                strips[step.operator] = strips.get(step.operator, 0) + 1
        head = bound
        if pack:
            self.work += len(program.steps)
            limit = sum(max(r.stop for r in b) for b in blocks) if ceiling is None else ceiling
            head = quick_height(blocks, bound=bound, ceiling=max(limit, bound))
        idle = [operator for operator in cuts.ends if strips.get(operator, 0) <= 1]
        if idle:
            ends = {o: e for o, e in cuts.ends.items() if strips.get(o, 0) > 1}
            cuts = normalised(network, cuts.replace(ends=ends))
        largest = max(load)
        # A copy may need more than any operator of the graph, and has no place among the hot ones.
        hottest = max(peaks.values())
        return Verdict(
            candidate=Candidate(candidate.clones, cuts),
            head_bytes=head,
            bound_bytes=bound,
            tail_bytes=self.costs.tail_bytes(program, candidate.clones),
            macs=program.macs,
            steps=count,
            hot=tuple(o for o, here in peaks.items() if here * 100 >= hottest * 97),
            peaks=peaks,
            crowded=_crowded(program, cuts, load.index(largest)),
        )

    def _add_scratch(
        self,
        candidate: Candidate,
        program: Program,
        load: list[int],
        blocks: list[tuple[LiveRows, ...]],
    ) -> None:
        count = len(self.graph.operators)
        cloned = [operator for operator, _ in sorted(candidate.clones)]
        largest = max(load)
        for index, step in enumerate(program.steps):
            if not isinstance(step, Run):
                continue
            operator = step.operator if step.operator < count else cloned[step.operator - count]
            size = self.costs.scratch.get(operator, 0)
            if size:
                load[index] += size
                # Elsewhere there is room for it in any case.
                if load[index] * 10 > largest * 8:
                    blocks.append((LiveRows(0, size, index, index + 1),))


def _crowded(program: Program, cuts: Cuts, moment: int) -> dict[int, int]:
    """Operator with strips of its own -> the strip that it is in, or before, at a step."""
    strips = dict.fromkeys((o for o, ends in cuts.ends.items() if ends), 0)
    for step in program.steps[:moment]:
        if isinstance(step, Run) and step.operator in strips:
            strips[step.operator] += 1
    return strips
