"""The part of a graph that a walk changes: where what is live could still decide the head.

Operators that hold little are better left alone: cutting them costs and brings nothing. So a walk
over a whole graph estimates the *core* alone, from the first to the last operator that holds a good
part of the head, and adds what the rest needs:

    head = max(head of the core, largest load of the rest), tail and MACs = core + rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from deploy.backends.tflm.strips.clones import THINNED, Clone
from deploy.backends.tflm.strips.cuts import FLAGS, Cuts, normalised
from deploy.backends.tflm.strips.estimate import Candidate, Estimate
from deploy.backends.tflm.strips.goal import Ranking, Worth
from deploy.backends.tflm.strips.segments import Segment


class Core:
    """What candidates of a segment are worth as candidates of the whole graph.

    Attributes:
        segment: its operators.
        ranking: the best estimates so far, in the figures of the whole graph and the operators of
            the segment.
    """

    def __init__(self, segment: Segment, worth: Worth, whole: Estimate) -> None:
        self.segment = segment
        self.worth = worth
        self.ranking = Ranking(worth)
        self.rest_tail = whole.tail_bytes - segment.whole_tail_bytes
        self.rest_macs = whole.macs - segment.macs
        outside = (
            peak
            for operator, peak in whole.peaks.items()
            if not segment.start <= operator < segment.stop
        )
        self.rest_head = max(outside, default=0)
        self._scores: dict[tuple[object, ...], tuple[float, Estimate]] = {}
        # Candidate -> a value that it is known to be above.
        self._worse_than: dict[tuple[object, ...], float] = {}

    def score(self, candidate: Candidate, limit: float = math.inf) -> tuple[float, Estimate | None]:
        """What the goal says about a candidate, less is better; no estimate if above ``limit``."""
        key = candidate.key()
        known = self._scores.get(key)
        if known is not None:
            return known
        if limit <= self._worse_than.get(key, -math.inf):
            return math.inf, None
        worth, rest_tail, rest_macs = self.worth, self.rest_tail, self.rest_macs

        def head_limit(tail: int, macs: int) -> float:
            most = worth.head_limit(limit, tail + rest_tail, macs + rest_macs)
            return 0.0 if most <= self.rest_head else most

        found = self.segment.estimated(candidate, head_limit=head_limit)
        if found is None:
            # Should the limit rise it is estimated again.
            self._worse_than[key] = limit
            return math.inf, None
        estimate = found._replace(
            head_bytes=max(found.head_bytes, self.rest_head),
            bound_bytes=max(found.bound_bytes, self.rest_head),
            tail_bytes=found.tail_bytes + rest_tail,
            macs=found.macs + rest_macs,
        )
        value = worth.value(estimate.head_bytes, estimate.tail_bytes, estimate.macs)
        self._scores[key] = value, estimate
        self.ranking.remember(value, estimate)
        return value, estimate

    def value(self, estimate: Estimate) -> float:
        """What a estimate of ``score`` is worth."""
        return self.worth.value(estimate.head_bytes, estimate.tail_bytes, estimate.macs)

    def inside(self, candidate: Candidate, operators: int) -> Candidate:
        """What a candidate of the whole graph, of so many operators, says of the segment."""
        start, stop = self.segment.start, self.segment.stop
        number = {o: o - start for o in range(start, stop)}
        clones: dict[Clone, Clone] = {}
        for operator, reader in candidate.clones:
            if start <= operator < stop and (reader == THINNED or start <= reader < stop):
                moved = reader if reader == THINNED else reader - start
                clones[operator, reader] = (operator - start, moved)
        places = {clone: i for i, clone in enumerate(sorted(clones.values()))}
        for place, clone in enumerate(sorted(candidate.clones)):
            if clone in clones:
                number[operators + place] = stop - start + places[clones[clone]]
        cuts = candidate.cuts
        own = Cuts({number[o]: ends for o, ends in cuts.ends.items() if o in number}).replace(
            **{
                name: frozenset(number[o] for o in getattr(cuts, name) if o in number)
                for name in FLAGS
            }
        )
        chosen = frozenset(clones.values())
        return Candidate(chosen, normalised(self.segment.estimator.network(chosen), own))


def extent(
    loads: Sequence[int], candidate: Candidate, touched: Sequence[bool], *, above: float
) -> tuple[int, int]:
    """Returns [start, stop) of the operators of a core.

    Those at which more than ``above`` bytes are live, one more at each end, and all that the
    candidate cuts or computes twice; it ends where no map has to exist in strips (``touched``).
    """
    count = len(loads)
    busy = {o for o, load in enumerate(loads) if load > above}
    busy |= {o for o in candidate.cuts.ends if o < count}
    for operator, reader in candidate.clones:
        busy |= {operator} if reader == THINNED else {operator, reader}
    if not busy:
        # What a variable keeps is no load, so that a graph that reads one may have none.
        busy = {max(range(count), key=loads.__getitem__)}
    start, stop = max(min(busy) - 1, 0), min(max(busy) + 2, count)
    while touched[start]:
        start -= 1
    while touched[stop]:
        stop += 1
    return start, stop
