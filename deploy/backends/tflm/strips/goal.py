"""What a search is after, what a way of cutting is worth to it, and the best ways so far."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.backends.tflm.strips.estimate import Estimate
from deploy.backends.tflm.strips.tuning import TUNING


@dataclass(frozen=True, slots=True)
class Goal:
    """What the search is after.

    Attributes:
        minimise: "arena" or "head".
        max_macs: most multiply-accumulates, as a multiple of the graph's own.
        arena_bytes: if set, the fewest MACs in an arena of this size.
        max_time: if set, most estimated time, as a multiple of the graph's own.
    """

    minimise: str = "arena"
    max_macs: float = 1.10
    arena_bytes: int | None = None
    max_time: float | None = None

    @property
    def tail_weight(self) -> float:
        """What a byte of the tail counts, where there is no budget."""
        return TUNING.tie if self.minimise == "head" else 1.0


@dataclass(frozen=True, slots=True)
class Worth:
    """What a way of cutting is worth, in bytes; less is better.

    Attributes:
        total_macs: of the graph that is not cut.
        head_bytes: its head, which multiply-accumulates are weighed with.
    """

    goal: Goal
    total_macs: int
    head_bytes: int

    def value(self, head: int, tail: int, macs: int) -> float:
        extra = macs / self.total_macs - 1
        penalty = self._penalty(macs)
        if self.goal.arena_bytes is not None:
            over = max(0, head + tail - self.goal.arena_bytes)
            macs_count = extra * self.head_bytes * TUNING.macs_in_budget
            return over + macs_count + TUNING.tie * (head + tail) + penalty
        return head + self.goal.tail_weight * tail + penalty

    def head_limit(self, limit: float, tail: int, macs: int) -> float:
        """A head so large or larger makes a candidate worth more than ``limit``."""
        if self.goal.arena_bytes is not None:
            # A byte beyond the budget costs one, as does every other in the end.
            return max(limit, 0.0) + max(self.goal.arena_bytes - tail, 0) + 1
        return limit - self.goal.tail_weight * tail - self._penalty(macs) + 1

    def _penalty(self, macs: int) -> float:
        over = macs / self.total_macs - self.goal.max_macs
        return max(0.0, over) * self.head_bytes * TUNING.macs_over


class Ranking:
    """The best estimates so far, distinct, best first.

    Attributes:
        best: (value, estimate).
        promising: those that would be best if their heads could be packed down to their bounds.
        frontier: estimates that no other beats in arena and MACs both.
    """

    def __init__(self, worth: Worth) -> None:
        self.worth = worth
        self.best: list[tuple[float, Estimate]] = []
        self.promising: list[tuple[float, Estimate]] = []
        self.frontier: list[Estimate] = []

    def remember(self, value: float, estimate: Estimate) -> None:
        """Enters a estimate, unless it takes too many multiply-accumulates."""
        if estimate.macs > self.worth.goal.max_macs * self.worth.total_macs:
            return
        self._extend_frontier(estimate)
        hope = self.worth.value(estimate.bound_bytes, estimate.tail_bytes, estimate.macs)
        _keep(self.best, value, estimate)
        _keep(self.promising, hope, estimate)

    def _extend_frontier(self, estimate: Estimate) -> None:
        if any(
            v.arena_bytes <= estimate.arena_bytes and v.macs <= estimate.macs for v in self.frontier
        ):
            return
        self.frontier = [
            v
            for v in self.frontier
            if v.arena_bytes < estimate.arena_bytes or v.macs < estimate.macs
        ]
        self.frontier.append(estimate)


def _keep(entries: list[tuple[float, Estimate]], value: float, estimate: Estimate) -> None:
    """Enters a estimate among the few with the least values."""
    if len(entries) == TUNING.kept and value >= entries[-1][0]:
        return
    if any(v.candidate.key() == estimate.candidate.key() for _, v in entries):
        return
    entries.append((value, estimate))
    entries.sort(key=lambda entry: (entry[0], entry[1].macs, entry[1].steps))
    del entries[TUNING.kept :]
