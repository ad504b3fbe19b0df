"""The end of a walk: the best ways of cutting, with the best strips for each of them.

Good ways of one *kind*, the same operators cut with the same clones, differ in how many strips
there are and where these end. So for the best kinds, and those that are one step away from them,

1. each operator with strips of its own gets every number of them, from equal heights on;
2. their ends are moved one by one as long as that helps;
3. whatever other single change makes the result better is made, until none does.
"""

from __future__ import annotations

from collections.abc import Callable

from deploy.backends.tflm.strips.core import Core
from deploy.backends.tflm.strips.estimate import Candidate, Estimate
from deploy.backends.tflm.strips.moves import (
    changed_ends,
    other_ends,
    other_kinds,
    other_strips,
    single_changes,
)
from deploy.backends.tflm.strips.tuning import TUNING


def polish(core: Core, ended: Callable[[], bool], *, ways: int) -> None:
    """Improves the best of a core's ranking until nothing is left to try, or ``ended`` says so.

    Args:
        ways: of running a number of strips, the best of which the ends are moved.
    """
    _Polish(core, ended, ways).run()


class _Polish:
    def __init__(self, core: Core, ended: Callable[[], bool], ways: int) -> None:
        self.core = core
        self.ways = ways
        self.estimator = core.segment.estimator
        self.ended = ended
        self.done: set[tuple[object, ...]] = set()

    def run(self) -> None:
        core = self.core
        while not self.ended():
            kinds = ((v, _kind(v.candidate)) for _, v in core.ranking.best)
            start = next((estimate for estimate, kind in kinds if kind not in self.done), None)
            if start is None:
                return
            here = self._improved(start)
            self.done.add(_kind(here.candidate))
            others = [v for v in self._neighbours(here) if _kind(v.candidate) not in self.done]
            for other in others[: TUNING.tried_kinds]:
                self._improved(other)

    def _neighbours(self, here: Estimate) -> list[Estimate]:
        """What is best of each kind that is one step away, best first."""
        core, found = self.core, list[Estimate]()
        limit = core.value(here) * TUNING.near_kinds
        before = here.candidate.cuts.ends
        for kind in other_kinds(self.estimator, core.segment.clones, here):
            ways = [kind]
            drivers = [o for o, ends in kind.cuts.ends.items() if ends]
            # The course of what is new, if anything is.
            for operator in sorted(drivers, key=lambda o: (bool(before.get(o)), o))[:1]:
                ways += other_strips(self.estimator, kind, operator, len(kind.cuts.ends[operator]))
            estimates = [v for _, v in (core.score(way, limit) for way in ways) if v]
            if estimates:
                found.append(min(estimates, key=core.value))
            if self.ended():
                break
        return sorted(found, key=core.value)

    def _improved(self, start: Estimate) -> Estimate:
        """The best of a kind that is found."""
        self.done.add(_kind(start.candidate))
        core, here = self.core, start
        while not self.ended():
            reached = self._descend(self._with_other_strips(here))
            if core.value(reached) >= core.value(here):
                break
            here = reached
        return here

    def _with_other_strips(self, here: Estimate) -> Estimate:
        """One operator after the other in the number of strips that is best for it."""
        core = self.core
        for operator in here.candidate.cuts.ends:
            ends = here.candidate.cuts.ends.get(operator)
            for strips in _near(len(ends), min(TUNING.most_strips, ends[-1])) if ends else ():
                if not here.candidate.cuts.ends.get(operator):
                    break
                ways = other_strips(self.estimator, here.candidate, operator, strips)
                limit = core.value(here) * TUNING.near_strips
                found = [v for _, v in (core.score(way, limit) for way in ways) if v]
                if self.ended():
                    return here
                for start in sorted(found, key=core.value)[: self.ways]:
                    reached = self._move_ends(start, operator)
                    if core.value(reached) < core.value(here):
                        here = reached
        return here

    def _descend(self, start: Estimate) -> Estimate:
        """Whatever single change makes it better, until none does."""
        core, here, improved = self.core, start, True
        while improved:
            improved = False
            for candidate in single_changes(self.estimator, here.candidate):
                if self.ended():
                    return here
                found, estimate = core.score(candidate, core.value(here))
                if estimate is not None and found < core.value(here):
                    here, improved = estimate, True
                    break
        return here

    def _move_ends(self, start: Estimate, operator: int) -> Estimate:
        """Moves the ends of an operator's strips as long as that makes it better.

        What made it better is tried again at once, and the other ends after it.
        """
        core, here, failed, number = self.core, start, 0, 0
        changes = list(other_ends(here.candidate.cuts.ends.get(operator, ())))
        while failed < len(changes) and not self.ended():
            ends = changes[number % len(changes)]
            changed = changed_ends(self.estimator, here.candidate, operator, ends)
            found, estimate = core.score(changed, core.value(here))
            if estimate is not None and found < core.value(here):
                here, failed = estimate, 0
                changes = list(other_ends(here.candidate.cuts.ends.get(operator, ())))
            else:
                failed, number = failed + 1, number + 1
        return here


def _kind(candidate: Candidate) -> tuple[object, ...]:
    """What is cut and how, but for the number of strips and where they end."""
    cuts = candidate.cuts
    drivers = frozenset(operator for operator, ends in cuts.ends.items() if ends)
    inner = (cuts.recomputed, cuts.padded & frozenset(cuts.ends))
    return candidate.clones, frozenset(cuts.ends), drivers, *inner


def _near(count: int, most: int) -> list[int]:
    """The numbers from 2 to ``most``, the nearest first."""
    return sorted({*range(2, most + 1)}, key=lambda number: (abs(number - count), number))
