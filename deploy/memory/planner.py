"""Packs the blocks of a problem into as little memory as possible, and says how good that is.

1. First fit in several orders, and a short walk through their neighbours: enough for most models.
2. If the height does not meet the lower bound, exact search (`search.py`, `search_gaps.py`)
   lowers the one and raises the other until they meet. Interlocking blocks get a longer walk
   (`local_search.py`) before each of its rounds.

The planner does not check itself; `verify.py` does.
"""

from __future__ import annotations

from collections.abc import Callable

from deploy.memory.bound import bound_of
from deploy.memory.conflicts import Conflicts, PieceArrays, find_conflicts, piece_arrays
from deploy.memory.greedy import first_fit, improved_orders, static_orders
from deploy.memory.problem import Placement, Problem, round_up

_FIRST_FIT_WORK = 200_000
"""Pairs of blocks that the walk through neighbouring orders may look at; some 0.1 s."""
ROUNDS = 6
"""Rounds of the exact search that are usual; some seconds for a hundred blocks that are hard."""


def plan(
    problem: Problem,
    *,
    rounds: int | None = ROUNDS,
    seed: int = 0,
    progress: Callable[[Placement], None] | None = None,
    stop: Callable[[], bool] | None = None,
    workers: int = 2,
) -> Placement:
    """Returns the lowest placement found.

    With a capacity the search ends at the first placement that fits; `proven_optimal` then only
    says whether that one happens to meet the bound. A capacity that is too small is no error:
    the result is the lowest placement found.

    The result depends on the problem and the seed alone, not on the number of workers, if the
    search ends by itself. If `stop` ends it, a faster machine may find a lower placement or a
    better bound, and the placement says that it was interrupted.

    Args:
        problem: what to place.
        rounds: most rounds of the exact search, each with twice the effort of the one before; 0
            asks for first fit alone, None for as many as it takes to prove the optimum.
        seed: of the random orders.
        progress: called with each better placement or bound, from the calling thread.
        stop: called some fifty times a second; True ends the search with the best so far.
        workers: threads for the search.

    Returns:
        The placement. Ctrl-C ends the search and returns the best so far, `interrupted` set.
    """
    pieces = piece_arrays(problem)
    conflicts = find_conflicts(pieces)
    best = _Best(problem, bound_of(pieces, conflicts), progress)
    try:
        _try_first_fit(best, pieces, conflicts, seed)
        interrupted = False
        if not best.good_enough and rounds != 0:
            interrupted = (stop is not None and stop()) or not _search(
                best, pieces, conflicts, seed, workers, stop, rounds
            )
    except KeyboardInterrupt:
        if best.offsets is None:
            raise
        return best.placement(interrupted=True)
    return best.placement(interrupted=interrupted)


class _Best:
    """The best placement and bound so far."""

    def __init__(
        self,
        problem: Problem,
        bound_bytes: int,
        progress: Callable[[Placement], None] | None,
    ) -> None:
        self.problem = problem
        self._live_sizes = tuple(block.live_size_bytes for block in problem.blocks)
        self.bound_bytes = bound_bytes
        self.height_bytes = 0
        self.offsets: tuple[int, ...] | None = None
        self._engine = "first fit"
        self._progress = progress

    @property
    def good_enough(self) -> bool:
        """Whether the height meets the bound or the capacity."""
        capacity = self.problem.capacity_bytes
        return self.height_bytes <= max(self.bound_bytes, capacity or 0)

    def offer(self, offsets: tuple[int, ...], engine: str) -> int:
        """Takes offsets if they are lower than the best; returns their height."""
        ends = [o + size for o, size in zip(offsets, self._live_sizes, strict=True) if size]
        height = round_up(max(ends, default=0), self.problem.alignment_bytes)
        if self.offsets is None or height < self.height_bytes:
            self.offsets, self.height_bytes, self._engine = offsets, height, engine
            self._report()
        return height

    def raise_bound(self, bound_bytes: int) -> None:
        """Takes a better lower bound."""
        self.bound_bytes = min(bound_bytes, self.height_bytes)
        self._report()

    def placement(self, *, interrupted: bool = False) -> Placement:
        """The best so far as a result."""
        return Placement(
            offsets=self.offsets or (),
            height_bytes=self.height_bytes,
            lower_bound_bytes=self.bound_bytes,
            proven_optimal=self.height_bytes <= self.bound_bytes,
            engine=self._engine,
            interrupted=interrupted,
        )

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self.placement())


def _try_first_fit(best: _Best, pieces: PieceArrays, conflicts: Conflicts, seed: int) -> None:
    """Static orders, then a walk from the best of them that never goes up."""
    if not conflicts.count:
        best.offer((), "first fit")
        return
    neighbours, alignment = conflicts.neighbours(), conflicts.alignment.tolist()

    def height_with(order: list[int]) -> int:
        return best.offer(tuple(first_fit(neighbours, alignment, order)), "first fit")

    ranked = []
    for number, order in enumerate(static_orders(pieces)):
        ranked.append((height_with(order), number, order))
        if best.good_enough:
            return
    if conflicts.count < 2:
        return
    lowest, _, order = min(ranked)
    walk = improved_orders(order, seed)
    accepted = None
    for _ in range(min(300, _FIRST_FIT_WORK // (len(conflicts.first) + conflicts.count))):
        order = walk.send(accepted)
        height = height_with(order)
        accepted = height <= lowest
        lowest = min(lowest, height)
        if best.good_enough:
            return


def _search(
    best: _Best,
    pieces: PieceArrays,
    conflicts: Conflicts,
    seed: int,
    workers: int,
    stop: Callable[[], bool] | None,
    rounds: int | None,
) -> bool:
    """The exact search; False if `stop` ended it. Imports the compiler only here."""
    from deploy.memory.exact import Cancelled, ExactSearch, minimise

    exact = ExactSearch(pieces, conflicts, seed=seed, workers=workers)
    try:
        minimise(
            exact,
            height_bytes=best.height_bytes,
            bound_bytes=best.bound_bytes,
            capacity_bytes=best.problem.capacity_bytes,
            step_bytes=conflicts.granularity_bytes,
            cancelled=stop or (lambda: False),
            found=best.offer,
            raised=best.raise_bound,
            rounds=rounds,
        )
    except Cancelled:
        return False
    return True


def _height(pieces: PieceArrays, offsets: list[int]) -> int:
    ends = (o + size for o, size in zip(offsets, pieces.live_size.tolist(), strict=True) if size)
    top = max(ends, default=0)
    return round_up(top, pieces.unit)
