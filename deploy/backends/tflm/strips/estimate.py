"""What a way of cutting is worth: head, tail and MACs, estimated in a millisecond."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from deploy.backends.tflm.strips.clones import THINNED, Clone, with_clones
from deploy.backends.tflm.strips.costs import Costs, StripScratch
from deploy.backends.tflm.strips.cuts import Cuts, normalised
from deploy.backends.tflm.strips.diagonal import Diagonals
from deploy.backends.tflm.strips.footprint import Analysis, Footprint, LiveRows
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.never_whole import is_in_one_tensor, is_live_at_once, tensors_named
from deploy.backends.tflm.strips.packing import packed_height
from deploy.backends.tflm.strips.schedule import Concatenation, Program, RowSlice, Run, schedule
from deploy.backends.tflm.strips.tiles import TileSolver
from deploy.backends.tflm.strips.unsound import Unsound
from deploy.graph import Graph

_EACH = 20
"""What estimating takes however short the program is, in steps."""


class Candidate(NamedTuple):
    """Which operators are computed twice, and how the graph with them is cut."""

    clones: frozenset[Clone] = frozenset()
    cuts: Cuts = Cuts()

    def key(self) -> tuple[object, ...]:
        return self.clones, self.cuts.key()


class Estimate(NamedTuple):
    """Estimates for a candidate.

    ``peak_operators`` are operators at which the most bytes are live, ``peaks`` the largest load
    (bytes) at each operator. ``peak_strips`` tells for operators with strips of their own which
    strip it is during which the most bytes are live. ``candidate`` is without cuts that had no
    effect.
    """

    candidate: Candidate
    head_bytes: int
    bound_bytes: int
    tail_bytes: int
    macs: int
    steps: int
    peak_operators: tuple[int, ...]
    peaks: dict[int, int]
    peak_strips: dict[int, int]

    @property
    def arena_bytes(self) -> int:
        return self.head_bytes + self.tail_bytes


class _Packed(NamedTuple):
    """A quick placement of a program; ``load`` are the bytes that are live at each step."""

    head_bytes: int
    bound_bytes: int
    load: list[int]


class Estimator:
    """Estimates candidates for one graph on one target.

    Attributes:
        work: how much that took, in steps of programs.
        floor: no head is smaller, however the graph is cut.
        never_whole: names of maps of which no candidate may hold all rows at once.
    """

    def __init__(
        self, graph: Graph, costs: Costs, *, never_whole: frozenset[str] = frozenset()
    ) -> None:
        self.graph = graph
        self.costs = costs
        self.never_whole = never_whole
        self.work = 0
        self._contexts: dict[frozenset[Clone], tuple[Network, TileSolver]] = {}
        self._in_strips: dict[frozenset[Clone], frozenset[int]] = {}
        self._diagonals: dict[frozenset[Clone], Diagonals] = {}
        self._unsound: dict[frozenset[Clone], Unsound] = {}
        self._strip_scratches: dict[frozenset[Clone], StripScratch] = {}
        network = self.network()
        self.floor = max(
            (
                sum(graph.tensors[t].size_bytes for t in graph.operators[o].outputs)
                for o in network.reasons
            ),
            default=0,
        )

    def network(self, clones: frozenset[Clone] = frozenset()) -> Network:
        return self._context(clones)[0]

    def in_strips(self, clones: frozenset[Clone] = frozenset()) -> frozenset[int]:
        """The tensors that may exist in strips only."""
        if clones not in self._in_strips:
            self._in_strips[clones] = tensors_named(self.network(clones), self.never_whole)
        return self._in_strips[clones]

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
        analysis = self._analysis(candidate, network, cuts, program)
        footing = analysis.blocks(growing=not cuts.no_growth)
        return network, program, None if footing is None else analysis.footprint(footing)

    def _analysis(
        self, candidate: Candidate, network: Network, cuts: Cuts, program: Program
    ) -> Analysis:
        kernels, distance = self.costs.overlapping, None
        if kernels is not None:
            if candidate.clones not in self._diagonals:
                self._diagonals[candidate.clones] = Diagonals(
                    network, kernels, self.costs.alignment_bytes
                )
            distance = self._diagonals[candidate.clones].distance
        return Analysis(network, cuts, program, self.costs.in_place, distance).scan()

    def _strip_scratch(self, clones: frozenset[Clone]) -> StripScratch:
        if clones not in self._strip_scratches:
            assert self.costs.kernels is not None
            self._strip_scratches[clones] = StripScratch(self.network(clones), self.costs.kernels)
        return self._strip_scratches[clones]

    def _is_unsound(self, clones: frozenset[Clone], network: Network, program: Program) -> bool:
        if self.costs.kernels is None:
            return False
        if clones not in self._unsound:
            self._unsound[clones] = Unsound(network, self.costs.kernels)
        return self._unsound[clones].any_in(program)

    def estimate(
        self,
        candidate: Candidate,
        *,
        head_limit: Callable[[int, int], float] | None = None,
        maps_whole: bool = False,
    ) -> Estimate | None:
        """Returns the estimates; None if they are of no interest or do not exist.

        They do not exist where tensors cannot share places as the cuts want it. Whether outputs
        grow into inputs is decided here, and the estimate's candidate says so.

        Args:
            maps_whole: whether a candidate that holds one of ``never_whole`` is of interest.
            head_limit: what the head has to be smaller than, in bytes, to be of interest, given the
                bytes of the tail and the MACs; those are known long before the head is.
        """
        network, cuts, program = self.program(candidate)
        cuts = cuts.replace(no_growth=False)
        count = len(program.steps)
        self.work += count + _EACH
        tail = self.costs.tail_bytes(program, candidate.clones)
        ceiling = math.inf if head_limit is None else head_limit(tail, program.macs)
        if ceiling <= self.floor or self._is_unsound(candidate.clones, network, program):
            return None
        in_strips = frozenset[int]() if maps_whole else self.in_strips(candidate.clones)
        if in_strips and is_in_one_tensor(network, program, in_strips):
            return None
        self.work += count
        analysis = self._analysis(candidate, network, cuts, program)
        if analysis.copies:
            tail += self.costs.copies_bytes(len(analysis.copies))
            ceiling = math.inf if head_limit is None else head_limit(tail, program.macs)
        scratch = self._scratch(candidate, program)
        if analysis.least_load(scratch) >= ceiling:
            return None
        packed, bound_without_growth = self._packed(analysis, scratch, ceiling, in_strips)
        if packed is not None:
            ceiling = packed.head_bytes
        if bound_without_growth < ceiling:
            # What grows into its input can stand in fewer places.
            other, _ = self._packed(analysis, scratch, ceiling, in_strips, growing=False)
            if other is not None:
                packed, cuts = other, cuts.replace(no_growth=True)
        if packed is None:
            return None
        load = packed.load
        peaks: dict[int, int] = {}
        strips: dict[int, int] = {}
        for step, here in zip(program.steps, load, strict=True):
            if isinstance(step, RowSlice | Concatenation):
                continue
            if here > peaks.get(step.operator, 0):
                peaks[step.operator] = here
            if isinstance(step, Run):
                strips[step.operator] = strips.get(step.operator, 0) + 1
        idle = [operator for operator in cuts.ends if strips.get(operator, 0) <= 1]
        if idle:
            ends = {o: e for o, e in cuts.ends.items() if strips.get(o, 0) > 1}
            cuts = normalised(network, cuts.replace(ends=ends))
            if in_strips:
                # What runs whole may run at another time.
                return self.estimate(Candidate(candidate.clones, cuts), head_limit=head_limit)
        # A copy may need more than any operator of the graph, and is none of the peak operators.
        largest = max(peaks.values())
        return Estimate(
            candidate=Candidate(candidate.clones, cuts),
            head_bytes=packed.head_bytes,
            bound_bytes=packed.bound_bytes,
            tail_bytes=tail,
            macs=program.macs,
            steps=count,
            peak_operators=tuple(o for o, here in peaks.items() if here * 100 >= largest * 97),
            peaks=peaks,
            peak_strips=_peak_strips(program, cuts, load.index(max(load))),
        )

    def _packed(
        self,
        analysis: Analysis,
        scratch: list[int],
        ceiling: float,
        in_strips: frozenset[int],
        *,
        growing: bool = True,
    ) -> tuple[_Packed | None, float]:
        """What a program needs if that is below ``ceiling``, and the bound if nothing grew.

        That bound is infinite where nothing could grow, or what is found is of no interest.
        """
        network, program = analysis.network, analysis.program
        count = len(program.steps)
        self.work += count // 2
        footing = analysis.blocks(growing=growing)
        if footing is None:
            return None, math.inf
        if in_strips and is_live_at_once(network, program, analysis.footprint(footing), in_strips):
            return None, math.inf
        bound_without_growth = footing.bound_without_growth or math.inf
        load = footing.blocks.load(count)
        blocks = footing.pieces()
        largest = max(load)
        for index, size in enumerate(scratch):
            if size:
                load[index] += size
                # Elsewhere there is room for it in any case.
                if load[index] * 10 > largest * 8:
                    blocks.append((LiveRows(0, size, index, index + 1),))
        tops = [max([r.stop for r in block]) for block in blocks]
        bound = max(max(load), max(tops, default=0))
        if bound >= ceiling:
            return None, bound_without_growth
        self.work += count // 2
        unit = self.costs.alignment_bytes
        limit = sum(tops) + len(blocks) * unit
        limit = max(limit if ceiling >= limit else math.ceil(ceiling), bound)
        head = packed_height(blocks, bound=bound, ceiling=limit, alignment=unit)
        return (None if head >= ceiling else _Packed(head, bound, load)), bound_without_growth

    def _scratch(self, candidate: Candidate, program: Program) -> list[int]:
        """Bytes of the kernels' buffers in each step."""
        sizes = [self.costs.scratch.get(o, 0) for o in range(len(self.graph.operators))]
        if not any(sizes):
            return [0] * len(program.steps)
        # A pooling that thins needs none of its own that counts.
        sizes += [0 if reader == THINNED else sizes[o] for o, reader in sorted(candidate.clones)]
        found = [sizes[s.operator] if isinstance(s, Run) else 0 for s in program.steps]
        if self.costs.varying:
            known = self._strip_scratch(candidate.clones)
            for index, step in enumerate(program.steps):
                if found[index] and isinstance(step, Run) and step.tile is not None:
                    found[index] = known.bytes_of(program, step)
        return found


def _peak_strips(program: Program, cuts: Cuts, moment: int) -> dict[int, int]:
    """Operator with strips of its own -> the strip that it is in, or before, at a step."""
    strips = dict.fromkeys((o for o, ends in cuts.ends.items() if ends), 0)
    for step in program.steps[:moment]:
        if isinstance(step, Run) and step.operator in strips:
            strips[step.operator] += 1
    return strips
