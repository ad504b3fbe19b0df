"""Searches for the best way of cutting a graph.

1. *Segments* (``segments.py``) are cut in templated ways.
2. By turns, a shortest path puts pieces together, below one head after the other, and simulated
   annealing improves the pieces of segments that the best paths use.
3. Annealing over the whole graph has the last word: walks that begin hot, from the graph that is
   not cut and from the best so far, and a last cool one.

Effort is counted in steps of the programs that are judged, not in seconds, so the result is the
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
from deploy.backends.tflm.strips.goal import Goal, Ranking, Worth
from deploy.backends.tflm.strips.judge import Candidate, Judge, Verdict
from deploy.backends.tflm.strips.moves import (
    Mover,
    changed_ends,
    other_ends,
    other_kinds,
    other_strips,
    single_changes,
)
from deploy.backends.tflm.strips.segments import Piece, Segment, cheapest, crossing_bytes, joined
from deploy.backends.tflm.strips.templates import in_strips, rows, templates
from deploy.graph import Graph

_CLONE_MACS = 0.06
"""A map is computed twice only if that costs at most this part of the MACs."""
_SMALL_GRAPH_OPERATORS = 40
_Shares = tuple[tuple[tuple[float, float], ...], tuple[tuple[float, bool, float, float], ...]]


def _rounds(until: float, count: int = 6) -> tuple[tuple[float, float], ...]:
    """Rounds of templates, then improvement, in equal parts of the work."""
    return tuple(((n + 0.5) * until / count, (n + 1) * until / count) for n in range(count))


_ROUNDS = tuple((n * 0.08 + 0.05, n * 0.08 + 0.08) for n in range(9))
_SHARES_OF_MANY: _Shares = _ROUNDS, ((0.9, False, 300.0, 20.0), (1.0, False, 100.0, 10.0))
_SHARES_FOR_THE_HEAD: _Shares = (
    tuple((0.5 + 0.45 * a, 0.5 + 0.45 * b) for a, b in _ROUNDS),
    ((0.9, False, 300.0, 20.0), (1.0, False, 100.0, 10.0)),
)
_SHARES_OF_FEW: dict[int, _Shares] = {
    1: (_rounds(0.35), ((1.0, True, 1500.0, 30.0),)),
    3: (_rounds(0.3), tuple((until, True, 1500.0, 30.0) for until in (0.55, 0.8, 1.0))),
}
"""Parts of the work after which templates, and then the improvement of segments, end; and walks:
(part of the work at its end, from the graph that is not cut, heat at begin and end)."""
_ROWS_UNTIL = 0.5
"""Part of the work for strips of single rows, where the head alone counts."""
_SLICE = 0.01
_CORE = 0.7
"""Where less than this part of the head is live, cutting brings nothing."""
_POLISH = 0.9
"""What the last improvement of strips may take, as a part of the work."""
_MOST_STRIPS = 8
_TRIED_KINDS = 3
"""Neighbouring kinds of cutting, of which the strips are improved as well."""
_SHORT = 4
"""Operators of a segment that counts as short."""
_HEADS = 40
_MAC_PRICES = (0.0, 0.1, 0.5, 2.0)
"""What doubling the MACs may cost, in heads of the graph that is not cut."""


class Search:
    """One search; ``ranking`` has the best verdicts so far."""

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
        self.judge = Judge(graph, costs, never_whole=never_whole)
        self.goal = goal
        self.work = work
        self.progress = progress or (lambda fraction: None)
        self.stop = stop or (lambda: False)
        self.random = random.Random(seed)
        self.restarts = restarts
        network = self.judge.network()
        self.total_macs = max(network.total_macs, 1)
        self.is_small = len(graph.operators) <= _SMALL_GRAPH_OPERATORS
        self.clone_macs = int(self.total_macs * _CLONE_MACS)
        self.extra_macs = int(self.total_macs * (goal.max_macs - 1))
        self.clones = cloneable(graph, self.clone_macs, network.macs)
        self.segments: list[Segment] = []
        self._cores: dict[tuple[int, int], Core] = {}
        self._scores: dict[tuple[object, ...], tuple[float, Verdict | None]] = {}
        # Candidate -> a value that it is known to be above.
        self._worse_than: dict[tuple[object, ...], float] = {}
        whole = self.judge.verdict(Candidate(), maps_whole=True)
        assert whole is not None, "a graph that is not cut has no conflicts"
        self.whole = whole
        # Without growing outputs, too: what pieces of the graph have to be smaller than.
        still = replace(costs, overlapping=None)
        apart = Judge(graph, still).verdict(Candidate()) if costs.overlapping else whole
        self.apart = apart or whole
        self.worth = Worth(goal, self.total_macs, self.apart.head_bytes)
        self.ranking = Ranking(self.worth)
        self.peaks = [whole.peaks.get(o, 0) for o in range(len(graph.operators))]
        self.score(Candidate())
        self.start = whole
        self.handed_over = _crossing(self.judge)

    def _loads(self) -> list[int]:
        """Bytes that are live at each operator if it is not cut and nothing grows."""
        return [max(peak, self.apart.peaks.get(o, 0)) for o, peak in enumerate(self.peaks)]

    @property
    def spent(self) -> int:
        parts = [*self.segments, *(core.segment for core in self._cores.values())]
        return self.judge.work + sum(part.judge.work for part in parts)

    def run(self) -> None:
        """Searches until the work is done or ``stop`` says so; ``ranking`` holds the outcome."""
        if self.judge.in_strips():
            self._begin_in_strips()
        if not self.judge.network().row_operators or not self.ranking.best:
            return
        if self.goal.arena_bytes is None and self.goal.minimise == "head":
            shares, walks = _SHARES_FOR_THE_HEAD
        else:
            few = _SHARES_OF_FEW[self.restarts]
            shares, walks = few if self.is_small else _SHARES_OF_MANY
        if self.goal.minimise == "head":
            self._try_rows(self.work * _ROWS_UNTIL)
        for templates_until, segments_until in shares:
            self._try_templates(self.work * templates_until)
            self._improve_segments(self.work * segments_until)
        for number, (until, anew, hottest, coldest) in enumerate(walks):
            if number and self.goal.arena_bytes is None and not self._is_cut():
                # Neither segments nor a walk found anything that is worth cutting.
                break
            start = self.start if anew else self.ranking.best[0][1]
            self._anneal_core(start, self.work * until, hottest, coldest)
        self._polish(self.work * (1 + _POLISH))

    def _is_cut(self) -> bool:
        best = self.ranking.best[0][1].candidate
        return bool(best.cuts.ends or best.clones)

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
            for ways in in_strips(segment.judge):
                any(self._offer(segment, way) for way in ways)
            self.segments.append(segment)
        for ways in in_strips(self.judge):
            any(self.score(way)[1] for way in ways)
        for _, path, _ in self._paths()[:12]:
            self.score(joined(self.judge, path))
        if self.ranking.best:
            self.start = min((v for _, v in self.ranking.best), key=lambda v: (v.steps, v.macs))

    def _try_rows(self, until: float) -> None:
        """Strips of single rows, between the places where the least is handed over."""
        crossing = crossing_bytes(self.graph)
        doors = [
            k
            for k, here in enumerate(crossing)
            if not self.handed_over[k]
            if k in (0, len(crossing) - 1) or (here <= crossing[k - 1] and here < crossing[k + 1])
        ]
        pairs = [
            (a, b)
            for distance in (1, 2, 3, len(doors) - 1)
            for a, b in zip(doors, doors[distance:], strict=False)
        ]
        for start, stop in dict.fromkeys(pairs):
            if self.spent > until or self.stop():
                break
            if max(self._loads()[start:stop]) * 8 < self.apart.bound_bytes:
                continue
            segment = self._segment(start, stop)
            for candidate in rows(segment.judge):
                self._offer(segment, candidate)
            if segment.pieces:
                self.segments.append(segment)
            self._report()
        for _, path, _ in self._paths()[:12]:
            self.score(joined(self.judge, path))

    def _try_templates(self, until: float) -> None:
        thin = self.goal.minimise == "head"
        known = {(segment.start, segment.stop) for segment in self.segments}
        for start, stop in self._stretches():
            if self.spent > until or self.stop():
                break
            if (start, stop) in known:
                continue
            segment = self._segment(start, stop)
            self.segments.append(segment)
            for candidate in templates(segment.judge, segment.clones, thin=thin):
                if self.spent > until or self.stop():
                    break
                self._offer(segment, candidate, self._useful(segment))
            self._report()

    def _stretches(self) -> list[tuple[int, int]]:
        """Segments around the operators that hold more than a smaller head would allow."""
        largest = self.ranking.best[0][1].bound_bytes
        loads = self._loads()
        busy = [place for place, load in enumerate(loads) if load > largest * 0.6]
        crossing = crossing_bytes(self.graph)
        low, high = busy[0], busy[-1] + 1
        # It does not end where maps cross that are larger than what cutting is to reach.
        doors = [k for k in range(low, high + 1) if crossing[k] <= largest * 0.75]
        doors = sorted(k for k in {low, *doors, high} if not self.handed_over[k])
        pairs = [(a, b) for i, a in enumerate(doors) for b in doors[i + 1 :]]
        pairs = [(a, b) for a, b in pairs if max(loads[a:b]) > largest * 0.6]
        # Effort may not suffice for all, so what was tried least is next; thin strips pay off most
        # through many operators, so for them the longest segments come in between.
        spread = self._spread(pairs, [place for place in busy if place < high])
        if self.goal.minimise != "head":
            # Short ones cost least, and a path puts them together.
            return sorted(spread, key=lambda pair: max(pair[1] - pair[0], _SHORT))
        longest = sorted(pairs, key=lambda pair: (pair[0] - pair[1], pair))
        return list(dict.fromkeys(itertools.chain.from_iterable(zip(longest, spread, strict=True))))

    def _spread(self, pairs: list[tuple[int, int]], busy: list[int]) -> list[tuple[int, int]]:
        """Random order in which the segments cover all busy operators about equally."""
        covered = dict.fromkeys(busy, 0)
        for segment in self.segments:
            for place in range(segment.start, segment.stop):
                if place in covered:
                    covered[place] += 1
        left, order = sorted(pairs), []
        while left:
            rare = min(covered, key=lambda place: (covered[place], place))
            holding = [pair for pair in left if pair[0] <= rare < pair[1]]
            pair = self.random.choice(holding or left)
            left.remove(pair)
            order.append(pair)
            for place in range(*pair):
                if place in covered:
                    covered[place] += 1
            if not holding:
                del covered[rare]
                covered = covered or {pair[0]: 0}
        return order

    def _offer(
        self,
        segment: Segment,
        candidate: Candidate,
        room: Callable[[int, int], float] | None = None,
    ) -> Verdict | None:
        most = self._most(segment)
        verdict = segment.judged(candidate, room=room or (lambda tail, macs: most))
        if verdict is None:
            return None
        if verdict.head_bytes < most:
            piece = segment.piece(verdict)
            if piece.macs <= self.extra_macs:
                segment.offer(piece)
        return verdict

    def _improve_segments(self, until: float) -> None:
        slice_of_work = max(int(self.work * _SLICE), 1)
        rounds = 0
        paths = self._paths()
        while self.segments and self.spent < until and not self.stop():
            if rounds % 4 == 0:
                paths = self._paths()
                for _, path, _ in paths[:6]:
                    self.score(joined(self.judge, path))
            # The segments of a good path, or now and then any other.
            head, path = self.apart.head_bytes, []
            if paths:
                _, path, head = paths[self.random.randrange(min(len(paths), 8))]
            used = [
                s
                for s in self.segments
                if any(p.start == s.start and p.stop == s.stop for p in path)
            ]
            if not used or rounds % 4 == 3:
                used = self.segments
            fresh = [s for s in used if s.has_changes_left()] or [
                s for s in self.segments if s.has_changes_left()
            ]
            segment = self.random.choice(fresh or used)
            until_here = segment.judge.work + slice_of_work
            if not fresh or not self._explore(segment, until_here):
                self._anneal_segment(segment, head, until_here)
            rounds += 1
            self._report()
        for _, path, _ in self._paths()[:12]:
            self.score(joined(self.judge, path))

    def _paths(self) -> list[tuple[float, list[Piece], int]]:
        """Sequences of pieces by what they are estimated to be worth, best first."""
        pieces = [piece for segment in self.segments for piece in segment.pieces]
        heads = sorted({p.head_bytes for p in pieces} | {self.apart.head_bytes})
        found: dict[tuple[object, ...], tuple[float, list[Piece], int]] = {}
        # What is live where outputs grow says little about blocks that climb; so both are tried.
        ways = (self.peaks,) if self.apart is self.whole else (self.peaks, self._loads())
        for head in heads[:: max(1, len(heads) // _HEADS)]:
            for peaks, price in itertools.product(ways, _MAC_PRICES):
                path = cheapest(
                    pieces,
                    peaks,
                    head=head,
                    macs=self.extra_macs,
                    price=price * self.apart.head_bytes / self.total_macs,
                )
                if path is None:
                    continue
                tail = self.whole.tail_bytes + sum(p.tail_bytes for p in path)
                macs = self.total_macs + sum(p.macs for p in path)
                key = tuple((p.start, p.stop, p.candidate.key()) for p in path)
                found.setdefault(key, (self.worth.value(head, tail, macs), path, head))
        return sorted(found.values(), key=lambda entry: (entry[0], entry[2]))

    def _explore(self, segment: Segment, until: int) -> bool:
        """Tries single changes of a segment's pieces, of the best first; whether any were left."""
        weight = self.goal.tail_weight
        tried = False
        while segment.judge.work < until and not self.stop():
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

        def room(tail: int, macs: int) -> float:
            if macs - segment.macs > self.extra_macs:
                return 0.0
            return min(most, least - weight * (tail - segment.whole_tail_bytes))

        return room

    def _most(self, segment: Segment) -> int:
        """Heads of that size are of no interest; some have to be cut even so."""
        if segment.judge.in_strips():
            return self.apart.head_bytes * 2
        return min(self.apart.head_bytes, segment.whole_bytes)

    def _anneal_segment(self, segment: Segment, head: int, until: int) -> None:
        """Looks for cheaper pieces with a head of at most ``head`` bytes."""
        mover = Mover(segment.judge, segment.clones, self.random)
        # A little below what is in use is where progress comes from.
        goal = int(head * self.random.uniform(0.85, 1.0))
        near = sorted(segment.pieces, key=lambda p: (abs(p.head_bytes - goal), p.tail_bytes))
        start = self.random.choice(near[:4]).candidate if near else Candidate()
        price = self.random.choice(_MAC_PRICES) * self.apart.head_bytes / self.total_macs
        weight = self.goal.tail_weight

        def value(verdict: Verdict) -> float:
            extra = verdict.macs - segment.macs
            over = max(0, extra - self.extra_macs) / self.total_macs * self.apart.head_bytes
            return (
                weight * verdict.tail_bytes
                + price * extra
                + 1.5 * max(0, verdict.head_bytes - goal)
                + over
            )

        here = self._offer(segment, start)
        if here is None:
            return
        now = value(here)
        limit = math.inf

        def room(tail: int, macs: int) -> float:
            over = max(0, macs - segment.macs - self.extra_macs)
            rest = limit - weight * tail - price * (macs - segment.macs)
            rest -= over / self.total_macs * self.apart.head_bytes
            return goal + rest / 1.5 + 1 if rest >= 0 else 0.0

        scale = max(self.apart.bound_bytes / 50_000, 0.02)
        begin = segment.judge.work
        while segment.judge.work < until and not self.stop():
            done = (segment.judge.work - begin) / max(until - begin, 1)
            heat = scale * 300.0 * (20.0 / 300.0) ** done
            limit = now - heat * math.log(1.0 - self.random.random())
            segment.judge.work += 1
            verdict = self._offer(segment, mover.neighbour(here), room)
            if verdict is not None and value(verdict) <= limit:
                now, here = value(verdict), verdict

    def _core(self) -> Core:
        """What a walk from the best so far may change."""
        best = self.ranking.best[0][1]
        above = best.head_bytes * _CORE
        place = extent(self._loads(), best.candidate, self.handed_over, above=above)
        if place not in self._cores:
            segment = self._segment(*place)
            self._cores[place] = Core(segment, self.worth, self.whole)
        return self._cores[place]

    def _anneal_core(self, start: Verdict, until: float, hottest: float, coldest: float) -> None:
        """A walk whose heat falls from ``hottest`` to ``coldest`` bytes for a graph of 50 kB."""
        core = self._core()
        mover = Mover(core.segment.judge, core.segment.clones, self.random)
        value, found = core.score(core.inside(start.candidate, len(self.graph.operators)))
        if found is None:
            return
        here = found
        scale = max(self.apart.bound_bytes / 50_000, 0.02)
        begin = self.spent
        while self.spent < until and not self.stop():
            done = (self.spent - begin) / max(until - begin, 1)
            heat = scale * hottest * (coldest / hottest) ** done
            limit = value - heat * math.log(1.0 - self.random.random())
            new, verdict = core.score(mover.neighbour(here), limit)
            # Candidates that were judged before cost nothing, yet the walk must end.
            core.segment.judge.work += 1
            if verdict is not None and new <= limit:
                value, here = new, verdict
            self._report()
        self._take_over(core)

    def _take_over(self, core: Core) -> None:
        """Judges the best of a core in the whole graph."""
        best = [v for _, v in core.ranking.best[:12]]
        hopeful = [v for _, v in core.ranking.hopeful[:6]]
        for verdict in (*best, *hopeful, *core.ranking.frontier):
            piece = core.segment.piece(verdict)
            self.score(joined(self.judge, [piece]))

    def _polish(self, until: float) -> None:
        """Other numbers of strips for the best ways so far, and what single changes make better.

        Good ways of one kind differ in how many strips there are and where these end. For each
        operator with strips of its own every number is tried, from equal heights on; the ends
        are moved one by one as long as that helps.
        """
        core = self._core()
        best = self.ranking.best[0][1].candidate
        core.score(core.inside(best, len(self.graph.operators)))
        polished: set[tuple[object, ...]] = set()
        while self.spent < until and not self.stop():
            kinds = ((v, _kind(v.candidate)) for _, v in core.ranking.best)
            here = next((verdict for verdict, kind in kinds if kind not in polished), None)
            if here is None:
                break
            polished.add(_kind(here.candidate))
            here = self._polish_kind(core, here, until)
            polished.add(_kind(here.candidate))
            others = self._other_kinds(core, here, until)
            for other in [v for v in others if _kind(v.candidate) not in polished][:_TRIED_KINDS]:
                polished.add(_kind(other.candidate))
                self._polish_kind(core, other, until)
        self._take_over(core)

    def _other_kinds(self, core: Core, here: Verdict, until: float) -> list[Verdict]:
        """What is best of each kind of cutting that is one step away, best first."""
        judge, found = core.segment.judge, list[Verdict]()
        for kind in other_kinds(judge, core.segment.clones, here.candidate):
            drivers = [o for o, ends in kind.cuts.ends.items() if ends]
            ways = [kind]
            for operator in drivers[:1]:
                ways += other_strips(judge, kind, operator, len(kind.cuts.ends[operator]))
            verdicts = [v for _, v in (core.score(way) for way in ways) if v is not None]
            if verdicts:
                found.append(min(verdicts, key=core.value))
            if self.spent > until or self.stop():
                break
        return sorted(found, key=core.value)

    def _polish_kind(self, core: Core, start: Verdict, until: float) -> Verdict:
        here = self._descend(core, start, until)
        judge, improved = core.segment.judge, True
        while improved:
            improved = False
            cuts = here.candidate.cuts
            for operator, ends in cuts.ends.items():
                for strips in _near(len(ends), min(_MOST_STRIPS, ends[-1])) if ends else ():
                    ways = other_strips(judge, here.candidate, operator, strips)
                    found = [v for _, v in (core.score(way) for way in ways) if v is not None]
                    if self.spent > until or self.stop():
                        return here
                    if found:
                        best = min(found, key=core.value)
                        reached = self._move_ends(core, best, operator, until)
                        if core.value(reached) < core.value(here):
                            here, improved = self._descend(core, reached, until), True
                if improved:
                    break
        return here

    def _descend(self, core: Core, start: Verdict, until: float) -> Verdict:
        """Whatever single change makes it better, until none does."""
        here, improved = start, True
        while improved:
            improved = False
            for candidate in single_changes(core.segment.judge, here.candidate):
                if self.spent > until or self.stop():
                    return here
                found, verdict = core.score(candidate, core.value(here))
                if verdict is not None and found < core.value(here):
                    here, improved = verdict, True
                    break
        return here

    def _move_ends(self, core: Core, start: Verdict, operator: int, until: float) -> Verdict:
        """Moves the ends of an operator's strips as long as that makes it better.

        What made it better is tried again at once, and the other ends after it.
        """
        here, failed, number = start, 0, 0
        while True:
            ends = here.candidate.cuts.ends.get(operator, ())
            changes = list(other_ends(ends))
            if failed >= len(changes) or self.spent > until or self.stop():
                return here
            changed = changed_ends(
                core.segment.judge, here.candidate, operator, changes[number % len(changes)]
            )
            found, verdict = core.score(changed, core.value(here))
            if verdict is not None and found < core.value(here):
                here, failed = verdict, 0
            else:
                failed, number = failed + 1, number + 1

    def score(self, candidate: Candidate, limit: float = math.inf) -> tuple[float, Verdict | None]:
        """What the goal says about a candidate, less is better; no verdict if above ``limit``."""
        key = candidate.key()
        if key in self._scores:
            return self._scores[key]
        room = None
        if limit < math.inf:
            if limit <= self._worse_than.get(key, -math.inf):
                return math.inf, None

            def room(tail: int, macs: int) -> float:
                return self.worth.room(limit, tail, macs)

        verdict = self.judge.verdict(candidate, room=room)
        if verdict is None:
            # Should the limit rise it is judged again.
            self._worse_than[key] = limit
            return math.inf, None
        value = self.worth.value(verdict.head_bytes, verdict.tail_bytes, verdict.macs)
        self._scores[key] = value, verdict
        self.ranking.remember(value, verdict)
        return value, verdict

    def _report(self) -> None:
        self.progress(min(1.0, self.spent / self.work))


def _kind(candidate: Candidate) -> tuple[object, ...]:
    """What is cut and how, but for the number of strips and where they end."""
    cuts = candidate.cuts
    drivers = frozenset(operator for operator, ends in cuts.ends.items() if ends)
    inner = (cuts.recomputed, cuts.padded & frozenset(cuts.ends))
    return candidate.clones, frozenset(cuts.ends), drivers, *inner


def _near(count: int, most: int) -> list[int]:
    """The numbers from 2 to ``most`` but for one of them, the nearest first."""
    return sorted({*range(2, most + 1)} - {count}, key=lambda number: (abs(number - count), number))


def _crossing(judge: Judge) -> list[bool]:
    """For each place in the order, whether a map that may exist in strips only lives across."""
    network, operators = judge.network(), judge.graph.operators
    crossed = [False] * (len(operators) + 1)
    for tensor in judge.in_strips():
        born = network.producer.get(tensor, -1) + 1
        for place in range(born, max(network.readers.get(tensor, ()), default=born - 1) + 1):
            crossed[place] = True
    return crossed
