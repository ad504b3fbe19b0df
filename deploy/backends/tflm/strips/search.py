"""Searches for the best way of cutting a graph.

1. *Segments* (``segments.py``) are cut in templated ways.
2. By turns, a shortest path puts pieces together, below one head after the other, and single
   changes, or simulated annealing, improve the pieces of segments that the best paths use.
3. Annealing over the *core* of the graph (``core.py``): walks that begin at a high temperature,
   from the graph that is not cut, or at a lower one from the best so far.
4. The best ways get the best number of strips, at the best places (``polish.py``).

Effort is counted in steps of the programs that are estimated, not in seconds, so the result is the
same on every machine unless a time limit or Ctrl-C ends the search early.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Callable
from dataclasses import replace

from deploy.backends.tflm.strips.clones import cloneable
from deploy.backends.tflm.strips.core import Core, extent
from deploy.backends.tflm.strips.costs import Costs
from deploy.backends.tflm.strips.estimate import Candidate, Estimate, Estimator
from deploy.backends.tflm.strips.goal import Goal, Ranking, Worth
from deploy.backends.tflm.strips.moves import Mover
from deploy.backends.tflm.strips.polish import polish
from deploy.backends.tflm.strips.segments import (
    Segment,
    SegmentCut,
    cheapest,
    crossing_bytes,
    joined,
)
from deploy.backends.tflm.strips.templates import in_strips, of_clones, rows, templates
from deploy.backends.tflm.strips.tuning import (
    FOR_THE_HEAD,
    OF_FEW_OPERATORS,
    OF_MANY_OPERATORS,
    TUNING,
    Cooling,
)
from deploy.graph import Graph


class Search:
    """One search; ``ranking`` has the best estimates so far."""

    def __init__(
        self,
        graph: Graph,
        costs: Costs,
        goal: Goal,
        *,
        work: int,
        never_whole: frozenset[str] = frozenset(),
        seed: int = 0,
        restarts: int = 1,
        progress: Callable[[float], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.graph = graph
        self.costs = costs
        self.never_whole = never_whole
        self.estimator = Estimator(graph, costs, never_whole=never_whole)
        self.goal = goal
        self.work = work
        self.progress = progress or (lambda fraction: None)
        self.stop = stop or (lambda: False)
        self.random = random.Random(seed)
        self.restarts = restarts
        network = self.estimator.network()
        self.total_macs = max(network.total_macs, 1)
        self.is_small = len(graph.operators) <= TUNING.few_operators
        self.clone_macs = int(self.total_macs * TUNING.clone_macs)
        self.extra_macs = int(self.total_macs * (goal.max_macs - 1))
        self.clones = cloneable(graph, self.clone_macs, network.macs)
        self.segments: list[Segment] = []
        # Segments whose templates were tried, and whether those with clones.
        self._templates_tried: set[tuple[tuple[int, int], bool]] = set()
        self._cores: dict[tuple[int, int], Core] = {}
        self._scores: dict[tuple[object, ...], tuple[float, Estimate | None]] = {}
        # Candidate -> a value that it is known to be above.
        self._worse_than: dict[tuple[object, ...], float] = {}
        whole = self.estimator.estimate(Candidate(), maps_whole=True)
        assert whole is not None, "a graph that is not cut has no conflicts"
        self.whole = whole
        # Without growing outputs, too: what pieces of the graph have to be smaller than.
        without_overlap = replace(costs, overlapping=None)
        ungrown = (
            Estimator(graph, without_overlap).estimate(Candidate()) if costs.overlapping else whole
        )
        self.ungrown = ungrown or whole
        self.worth = Worth(goal, self.total_macs, self.ungrown.head_bytes)
        self.ranking = Ranking(self.worth)
        self.peaks = [whole.peaks.get(o, 0) for o in range(len(graph.operators))]
        self.score(Candidate())
        self.start = whole
        self.handed_over = _crossing(self.estimator)

    def _loads(self) -> list[int]:
        """Bytes that are live at each operator if it is not cut and nothing grows."""
        return [max(peak, self.ungrown.peaks.get(o, 0)) for o, peak in enumerate(self.peaks)]

    @property
    def spent(self) -> int:
        parts = [*self.segments, *(core.segment for core in self._cores.values())]
        return self.estimator.work + sum(part.estimator.work for part in parts)

    def run(self) -> None:
        """Searches until the work is done or ``stop`` says so; ``ranking`` holds the outcome."""
        if self.estimator.in_strips():
            self._begin_in_strips()
        if not self.estimator.network().row_operators or not self.ranking.best:
            return
        if self.goal.arena_bytes is None and self.goal.minimise == "head":
            course = FOR_THE_HEAD
        elif self.is_small:
            course = OF_FEW_OPERATORS[self.restarts]
        else:
            course = OF_MANY_OPERATORS
        if self.goal.minimise == "head":
            self._try_rows(self.work * TUNING.rows_until)
        elif self.is_small:
            self._try_clones(self.work * TUNING.clones_until)
        for templates_until, segments_until in course.rounds:
            self._try_templates(self.work * templates_until)
            self._improve_segments(self.work * segments_until)
        for cooling in course.walks:
            start = self.start if cooling.anew else self.ranking.best[0][1]
            self._anneal_core(start, cooling)
        self._polish(self.work * (1 + course.polish), course.ways)

    def _segment(self, start: int, stop: int) -> Segment:
        segment = Segment(
            self.graph,
            self.costs,
            start,
            stop,
            self.clone_macs,
            never_whole=self.never_whole,
        )
        segment.whole_bytes = max(self._loads()[start:stop])
        return segment

    def _begin_in_strips(self) -> None:
        """Finds ways of cutting that ``never_whole`` allows, which may take too many MACs.

        ``ranking.best`` is empty if there are none.
        """
        touched = self.handed_over
        places = [o for o in range(len(self.peaks)) if touched[o] or touched[o + 1]]
        for place in places:
            # No path of pieces may leave it whole.
            self.peaks[place] = sys.maxsize
        for start in (o for o in places if not touched[o]):
            stop = touched.index(False, start + 1)
            segment = self._segment(start, stop)
            for ways in in_strips(segment.estimator):
                any(self._offer(segment, way) for way in ways)
            self.segments.append(segment)
        for ways in in_strips(self.estimator):
            any(self.score(way)[1] for way in ways)
        self._score_paths(self._paths()[: TUNING.paths])
        if self.ranking.best:
            self.start = min((v for _, v in self.ranking.best), key=lambda v: (v.steps, v.macs))

    def _try_rows(self, until: float) -> None:
        """Strips of single rows, between the places where the least is handed over."""
        crossing = crossing_bytes(self.graph)
        cut_points = [
            k
            for k, here in enumerate(crossing)
            if not self.handed_over[k]
            if k in (0, len(crossing) - 1) or (here <= crossing[k - 1] and here < crossing[k + 1])
        ]
        pairs = [
            (a, b)
            for distance in (*TUNING.row_distances, len(cut_points) - 1)
            for a, b in zip(cut_points, cut_points[distance:], strict=False)
        ]
        for start, stop in dict.fromkeys(pairs):
            if self.spent > until or self.stop():
                break
            if max(self._loads()[start:stop]) < self.ungrown.bound_bytes * TUNING.row_load:
                continue
            segment = self._segment(start, stop)
            for candidate in rows(segment.estimator):
                self._offer(segment, candidate)
            if segment.pieces:
                self.segments.append(segment)
            self._report()
        self._score_paths(self._paths()[: TUNING.paths])

    def _try_clones(self, until: float) -> None:
        """Clones in the whole graph: what they spare, no segment shows by itself."""
        for candidate in of_clones(self.estimator, self.clones):
            if self.spent > until or self.stop():
                break
            self.score(candidate, self.ranking.best[0][0])

    def _try_templates(self, until: float) -> None:
        """In every segment without clones first: few of them need any, and they take most ways."""
        thin = self.goal.minimise == "head"
        known = {(segment.start, segment.stop): segment for segment in self.segments}
        stretches = self._stretches()
        for with_clones in (False, True):
            for place in stretches:
                if self.spent > until or self.stop():
                    return
                if (place, with_clones) in self._templates_tried:
                    continue
                if place not in known:
                    known[place] = self._segment(*place)
                    self.segments.append(known[place])
                segment = known[place]
                clones = segment.clones if with_clones else None
                for candidate in templates(segment.estimator, clones, thin=thin):
                    if self.spent > until or self.stop():
                        break
                    self._offer(segment, candidate, self._useful(segment))
                self._templates_tried.add((place, with_clones))
                self._report()

    def _stretches(self) -> list[tuple[int, int]]:
        """Segments around the operators that hold more than a smaller head would allow."""
        largest = self.ranking.best[0][1].bound_bytes
        loads = self._loads()
        busy = [place for place, load in enumerate(loads) if load > largest * TUNING.loaded]
        crossing = crossing_bytes(self.graph)
        low, high = busy[0], busy[-1] + 1
        # It does not end where maps cross that are larger than what cutting is to reach.
        cut_points = [k for k in range(low, high + 1) if crossing[k] <= largest * TUNING.crossing]
        cut_points = sorted(k for k in {low, *cut_points, high} if not self.handed_over[k])
        pairs = [(a, b) for i, a in enumerate(cut_points) for b in cut_points[i + 1 :]]
        pairs = [(a, b) for a, b in pairs if max(loads[a:b]) > largest * TUNING.loaded]
        # Effort may not suffice for all, so what was tried least is next; thin strips pay off most
        # through many operators, so for them the longest segments come in between.
        handed = {(a, b): crossing[a] + crossing[b] for a, b in pairs}
        spread = self._spread(handed, [place for place in busy if place < high])
        if self.goal.minimise != "head":
            return spread
        longest = sorted(pairs, key=lambda pair: (pair[0] - pair[1], pair))
        return list(dict.fromkeys(itertools.chain.from_iterable(zip(longest, spread, strict=True))))

    def _spread(self, handed: dict[tuple[int, int], int], busy: list[int]) -> list[tuple[int, int]]:
        """Order in which the segments cover all busy operators about equally.

        Of those that cover the operator that was covered least, the one to which and from which
        the fewest bytes are ``handed`` over comes first: no strips spare these.
        """
        covered = dict.fromkeys(busy, 0)
        for segment in self.segments:
            for place in range(segment.start, segment.stop):
                if place in covered:
                    covered[place] += 1
        left = sorted(handed, key=lambda pair: (handed[pair], pair[1] - pair[0], pair))
        order = []
        while left:
            rare = min(covered, key=lambda place: (covered[place], place))
            pair = next((pair for pair in left if pair[0] <= rare < pair[1]), None)
            if pair is None:
                del covered[rare]
                covered = covered or {left[0][0]: 0}
                continue
            left.remove(pair)
            order.append(pair)
            for place in range(*pair):
                if place in covered:
                    covered[place] += 1
        return order

    def _offer(
        self,
        segment: Segment,
        candidate: Candidate,
        head_limit: Callable[[int, int], float] | None = None,
    ) -> Estimate | None:
        most = self._most(segment)
        estimate = segment.estimated(candidate, head_limit=head_limit or (lambda tail, macs: most))
        if estimate is None:
            return None
        if estimate.head_bytes < most:
            piece = segment.piece(estimate)
            if piece.macs <= self.extra_macs:
                segment.offer(piece)
        return estimate

    def _improve_segments(self, until: float) -> None:
        slice_of_work = max(int(self.work * TUNING.slice_of_work), 1)
        rounds = 0
        paths = self._paths()
        while self.segments and self.spent < until and not self.stop():
            if rounds % TUNING.turns == 0:
                paths = self._paths()
                self._score_paths(paths[: TUNING.first_paths])
            # The segments of a good path, or now and then any other.
            head, path = self.ungrown.head_bytes, list[SegmentCut]()
            if paths:
                _, path, head = paths[self.random.randrange(min(len(paths), TUNING.paths_in_use))]
            used = [
                s
                for s in self.segments
                if any(p.start == s.start and p.stop == s.stop for p in path)
            ]
            if not used or rounds % TUNING.turns == TUNING.turns - 1:
                used = self.segments
            fresh = [s for s in used if s.has_changes_left()] or [
                s for s in self.segments if s.has_changes_left()
            ]
            segment = self.random.choice(fresh or used)
            until_here = segment.estimator.work + slice_of_work
            if not fresh or not self._explore(segment, until_here):
                self._anneal_segment(segment, head, until_here)
            rounds += 1
            self._report()
        self._score_paths(self._paths()[: TUNING.paths])

    def _paths(self) -> list[tuple[float, list[SegmentCut], int]]:
        """Sequences of pieces by what they are estimated to be worth, best first."""
        pieces = [piece for segment in self.segments for piece in segment.pieces]
        heads = sorted({p.head_bytes for p in pieces} | {self.ungrown.head_bytes})
        found: dict[tuple[object, ...], tuple[float, list[SegmentCut], int]] = {}
        # What is live where outputs grow says little about blocks that climb; so both are tried.
        ways = (self.peaks,) if self.ungrown is self.whole else (self.peaks, self._loads())
        for head in heads[:: max(1, len(heads) // TUNING.heads)]:
            for peaks, price in itertools.product(ways, TUNING.mac_prices):
                path = cheapest(
                    pieces,
                    peaks,
                    head=head,
                    macs=self.extra_macs,
                    price=price * self.ungrown.head_bytes / self.total_macs,
                )
                if path is None:
                    continue
                tail = self.whole.tail_bytes + sum(p.tail_bytes for p in path)
                macs = self.total_macs + sum(p.macs for p in path)
                key = tuple((p.start, p.stop, p.candidate.key()) for p in path)
                found.setdefault(key, (self.worth.value(head, tail, macs), path, head))
        return sorted(found.values(), key=lambda entry: (entry[0], entry[2]))

    def _score_paths(self, paths: list[tuple[float, list[SegmentCut], int]]) -> None:
        """Estimates pieces together, and where they do not fit as each of them would, turned.

        Strips from the last rows on free other bytes than those from the first on, which counts
        only beside what stands around a piece.
        """
        for promised, path, _ in paths:
            candidate = joined(self.estimator, path)
            found, _ = self.score(candidate)
            best = self.ranking.best[0][0] if self.ranking.best else math.inf
            if not best > promised < found:
                continue
            cuts = candidate.cuts
            drivers = [
                frozenset(o for o, ends in cuts.ends.items() if ends and p.start <= o < p.stop)
                for p in path[: TUNING.turned]
            ]
            for count in range(1, len(drivers) + 1):
                for turned in itertools.combinations(drivers, count):
                    upwards = cuts.upwards ^ frozenset().union(*turned)
                    changed = candidate._replace(cuts=cuts.replace(upwards=upwards))
                    self.score(changed, best)

    def _explore(self, segment: Segment, until: int) -> bool:
        """Tries single changes of a segment's pieces, of the best first; whether any were left."""
        weight = self.goal.tail_weight
        tried = False
        while segment.estimator.work < until and not self.stop():
            left = [p for p in segment.pieces if segment.changes_left(p)]
            if not left:
                return tried
            piece = min(left, key=lambda p: (p.head_bytes + weight * p.tail_bytes, p.macs))
            candidate = segment.next_change(piece)
            if candidate is not None:
                tried = True
                self._offer(segment, candidate, self._useful(segment))
        return tried

    def _useful(self, segment: Segment) -> Callable[[int, int], float] | None:
        """What a piece has to be below: alone in the graph it has to be better than the best."""
        if self.goal.arena_bytes is not None or not self.ranking.best:
            return None
        weight = self.goal.tail_weight
        least = self.ranking.best[0][0] - weight * self.whole.tail_bytes
        most = self._most(segment)

        def head_limit(tail: int, macs: int) -> float:
            if macs - segment.macs > self.extra_macs:
                return 0.0
            return min(most, least - weight * (tail - segment.whole_tail_bytes))

        return head_limit

    def _most(self, segment: Segment) -> int:
        """Heads of that size are of no interest; some have to be cut even so."""
        if segment.estimator.in_strips():
            return self.ungrown.head_bytes * TUNING.most_in_strips
        return min(self.ungrown.head_bytes, segment.whole_bytes)

    def _anneal_segment(self, segment: Segment, head: int, until: int) -> None:
        """Looks for cheaper pieces with a head of at most ``head`` bytes."""
        mover = Mover(segment.estimator, segment.clones, self.random)
        # A little below what is in use is where progress comes from.
        goal = int(head * self.random.uniform(TUNING.tightest_goal, 1.0))
        near = sorted(segment.pieces, key=lambda p: (abs(p.head_bytes - goal), p.tail_bytes))
        start = self.random.choice(near[: TUNING.near_pieces]).candidate if near else Candidate()
        price = self.random.choice(TUNING.mac_prices) * self.ungrown.head_bytes / self.total_macs
        weight = self.goal.tail_weight

        def value(estimate: Estimate) -> float:
            extra = estimate.macs - segment.macs
            over = max(0, extra - self.extra_macs) / self.total_macs * self.ungrown.head_bytes
            return (
                weight * estimate.tail_bytes
                + price * extra
                + TUNING.over_goal * max(0, estimate.head_bytes - goal)
                + over
            )

        here = self._offer(segment, start)
        if here is None:
            return
        now = value(here)
        limit = math.inf

        def head_limit(tail: int, macs: int) -> float:
            over = max(0, macs - segment.macs - self.extra_macs)
            rest = limit - weight * tail - price * (macs - segment.macs)
            rest -= over / self.total_macs * self.ungrown.head_bytes
            return goal + rest / TUNING.over_goal + 1 if rest >= 0 else 0.0

        scale, hot, cool = self._scale(), TUNING.hot_segment, TUNING.cool_segment
        begin = segment.estimator.work
        while segment.estimator.work < until and not self.stop():
            done = (segment.estimator.work - begin) / max(until - begin, 1)
            heat = scale * hot * (cool / hot) ** done
            limit = now - heat * math.log(1.0 - self.random.random())
            segment.estimator.work += 1
            estimate = self._offer(segment, mover.neighbour(here), head_limit)
            if estimate is not None and value(estimate) <= limit:
                now, here = value(estimate), estimate

    def _core(self) -> Core:
        """What a walk from the best so far may change."""
        best = self.ranking.best[0][1]
        above = best.head_bytes * TUNING.core
        place = extent(self._loads(), best.candidate, self.handed_over, above=above)
        if place not in self._cores:
            segment = self._segment(*place)
            self._cores[place] = Core(segment, self.worth, self.whole)
        return self._cores[place]

    def _anneal_core(self, start: Estimate, cooling: Cooling) -> None:
        """One walk over the core."""
        until = self.work * cooling.until
        core = self._core()
        mover = Mover(core.segment.estimator, core.segment.clones, self.random)
        value, found = core.score(core.inside(start.candidate, len(self.graph.operators)))
        if found is None:
            return
        here = found
        scale = self._scale()
        begin = self.spent
        while self.spent < until and not self.stop():
            done = (self.spent - begin) / max(until - begin, 1)
            heat = scale * cooling.hottest * (cooling.coldest / cooling.hottest) ** done
            limit = value - heat * math.log(1.0 - self.random.random())
            new, estimate = core.score(mover.neighbour(here), limit)
            # Candidates that were estimated before cost nothing, yet the walk must end.
            core.segment.estimator.work += 1
            if estimate is not None and new <= limit:
                value, here = new, estimate
            self._report()
        self._take_over(core)

    def _scale(self) -> float:
        return max(self.ungrown.bound_bytes / TUNING.usual_bytes, TUNING.least_scale)

    def _take_over(self, core: Core) -> None:
        """Estimates the best of a core in the whole graph."""
        best = [v for _, v in core.ranking.best[: TUNING.taken_over]]
        promising = [v for _, v in core.ranking.promising[: TUNING.promising_taken_over]]
        for estimate in (*best, *promising, *core.ranking.frontier):
            piece = core.segment.piece(estimate)
            self.score(joined(self.estimator, [piece]))

    def _polish(self, until: float, ways: int) -> None:
        core = self._core()
        best = self.ranking.best[0][1].candidate
        core.score(core.inside(best, len(self.graph.operators)))
        polish(core, lambda: self.spent > until or self.stop(), ways=ways)
        self._take_over(core)

    def score(self, candidate: Candidate, limit: float = math.inf) -> tuple[float, Estimate | None]:
        """What the goal says about a candidate, less is better; no estimate if above ``limit``."""
        key = candidate.key()
        if key in self._scores:
            return self._scores[key]
        head_limit = None
        if limit < math.inf:
            if limit <= self._worse_than.get(key, -math.inf):
                return math.inf, None

            def head_limit(tail: int, macs: int) -> float:
                return self.worth.head_limit(limit, tail, macs)

        estimate = self.estimator.estimate(candidate, head_limit=head_limit)
        if estimate is None:
            # Should the limit rise it is estimated again.
            self._worse_than[key] = limit
            return math.inf, None
        value = self.worth.value(estimate.head_bytes, estimate.tail_bytes, estimate.macs)
        self._scores[key] = value, estimate
        self.ranking.remember(value, estimate)
        return value, estimate

    def _report(self) -> None:
        self.progress(min(1.0, self.spent / self.work))


def _crossing(estimator: Estimator) -> list[bool]:
    """For each place in the order, whether a map that may exist in strips only lives across."""
    network, operators = estimator.network(), estimator.graph.operators
    crossed = [False] * (len(operators) + 1)
    for tensor in estimator.in_strips():
        born = network.producer.get(tensor, -1) + 1
        for place in range(born, max(network.readers.get(tensor, ()), default=born - 1) + 1):
            crossed[place] = True
    return crossed
