"""Drives the exact searches: which heights to try, for how long, and in which orders.

An attempt asks whether a placement of a target height exists. It runs restarts of a fixed number
of nodes on a few lanes at once; a result counts only when every earlier restart of the other
lanes has ended, so the outcome is the same for any number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from itertools import count
from typing import NamedTuple, TypeVar

import numpy as np

from deploy.memory.conflicts import Conflicts, PieceArrays
from deploy.memory.greedy import static_orders
from deploy.memory.instance import build_instance
from deploy.memory.local_search import OrderWalk
from deploy.memory.search import FOUND, IMPOSSIBLE, UNKNOWN, search
from deploy.memory.search_gaps import search_gaps

_RESTARTS = 32
_GAP_TURNS = 4
_WALKS = 4
_MOST_MOVES = 4000
_MOVES_TIMES_PAIRS = 100_000_000
_FIRST_NODES = 500
_POLL_SECONDS = 0.02

Outcome = tuple[int, tuple[int, ...]]
_Result = TypeVar("_Result")


class NodeLimits(NamedTuple):
    """How much an attempt may cost: nodes for each restart of each lane."""

    nodes: int
    restarts: int


class Cancelled(Exception):
    """The caller asked to stop; raised between attempts and by them."""


class ExactSearch:
    """Attempts at single heights.

    Args:
        pieces, conflicts: the problem in columns.
        seed: of the random orders.
        workers: threads.

    Building one compiles the searches on first use, or loads them.
    """

    def __init__(
        self,
        pieces: PieceArrays,
        conflicts: Conflicts,
        *,
        seed: int,
        workers: int,
    ) -> None:
        self._conflicts = conflicts
        self._instance = build_instance(pieces, conflicts)
        self._seed = seed
        self._workers = workers
        self._lanes = [self._remembering, self._forgetting]
        self._walks: list[OrderWalk] = []
        if not (self._instance.solid and self._instance.complete):
            # Both are strong where blocks interlock and weak where they are boxes.
            self._lanes.insert(0, self._gaps)
            self._walks = [
                OrderWalk(pieces, order, seed=(seed, number))
                for number, order in enumerate(static_orders(pieces)[:_WALKS])
            ]
        self._moves = _MOVES_TIMES_PAIRS // conflicts.count**2
        stop = np.zeros(1, dtype=np.int64)
        for walk in self._walks:
            walk.go(0, 0, stop)
        tall = int(pieces.live_size.sum())
        search(self._instance, self._instance.priorities[0], tall, node_limit=0, stop=stop)
        search_gaps(conflicts, tall, node_limit=0, stop=stop)

    def attempt(self, target: int, effort: NodeLimits, cancelled: Callable[[], bool]) -> Outcome:
        """FOUND with offsets, IMPOSSIBLE (a proof), or UNKNOWN after the node limits.

        Raises:
            Cancelled: `cancelled`, which is called often, returned True.
        """
        race = _Race(len(self._lanes))
        lanes = [
            partial(lane, number, race, target, effort) for number, lane in enumerate(self._lanes)
        ]
        self._run(lanes, race.stop_all, cancelled)
        return race.outcome

    def walk(self, goal_bytes: int, cancelled: Callable[[], bool]) -> list[tuple[int, ...]]:
        """Offsets at which the local searches stand after going on for a while; may be none.

        Args:
            goal_bytes: a walk ends at this height.
        """
        stop = np.zeros(1, dtype=np.int64)
        moves = min(_MOST_MOVES, self._moves)
        tasks = [partial(walk.go, moves, goal_bytes, stop) for walk in self._walks]
        return self._run(tasks, lambda: stop.fill(1), cancelled)

    def _run(
        self,
        tasks: Sequence[Callable[[], _Result]],
        stop_all: Callable[[], None],
        cancelled: Callable[[], bool],
    ) -> list[_Result]:
        """Runs the tasks on the threads and returns their results in the order of the tasks."""
        with ThreadPoolExecutor(max_workers=self._workers) as pool:
            futures = [pool.submit(task) for task in tasks]
            running = set(futures)
            try:
                while running:
                    _, running = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                    if running and cancelled():
                        raise Cancelled
            except BaseException:
                stop_all()
                raise
        return [future.result() for future in futures]

    def _remembering(self, lane: int, race: _Race, target: int, effort: NodeLimits) -> None:
        """Restarts that keep half of what the sections' failures taught."""
        failures = np.ones(len(self._instance.member_first) - 1, dtype=np.int64)
        for restart in range(effort.restarts):
            if not self._restart(lane, race, target, effort.nodes, restart, failures):
                return
            failures = 1 + failures // 2

    def _forgetting(self, lane: int, race: _Race, target: int, effort: NodeLimits) -> None:
        """Restarts that begin afresh."""
        for restart in range(effort.restarts):
            if not self._restart(lane, race, target, effort.nodes, restart, None):
                return

    def _restart(
        self,
        lane: int,
        race: _Race,
        target: int,
        nodes: int,
        restart: int,
        failures: np.ndarray | None,
    ) -> bool:
        """One run; False if the lane has nothing more to do."""
        if not race.enter(lane, restart):
            return False
        outcome, offsets, _ = search(
            self._instance,
            self._order(lane, nodes, restart),
            target,
            node_limit=nodes,
            stop=race.flags[lane],
            failures=failures,
        )
        if outcome == FOUND or (outcome == IMPOSSIBLE and self._instance.complete):
            race.win(lane, restart, (outcome, tuple(offsets.tolist())))
        return outcome == UNKNOWN

    def _order(self, lane: int, nodes: int, restart: int) -> np.ndarray:
        """A static order; from the seventh restart on with noise of a tenth of its length."""
        priorities = self._instance.priorities
        order = priorities[restart % len(priorities)]
        if restart < len(priorities):
            return order
        size = len(order)
        generator = np.random.default_rng((self._seed, lane, nodes, restart))
        rank = np.argsort(order) + 0.1 * size * generator.standard_normal(size)
        return np.argsort(rank, kind="stable").astype(np.int64)

    def _gaps(self, lane: int, race: _Race, target: int, effort: NodeLimits) -> None:
        """Longer and longer runs of the search over gaps, each in the place of a restart."""
        for turn in range(_GAP_TURNS):
            restart = turn * effort.restarts // _GAP_TURNS
            if not race.enter(lane, restart):
                return
            outcome, offsets, _ = search_gaps(
                self._conflicts, target, node_limit=effort.nodes << turn, stop=race.flags[lane]
            )
            if outcome != UNKNOWN:
                race.win(lane, restart, (outcome, tuple(offsets.tolist())))
                return


class _Race:
    """Several lanes, one outcome: that of the smallest (restart, lane) that had a result."""

    def __init__(self, lanes: int) -> None:
        self.flags = [np.zeros(1, dtype=np.int64) for _ in range(lanes)]
        self._at: list[tuple[int, int]] = [(-1, lane) for lane in range(lanes)]
        self._winner: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self.outcome: Outcome = (UNKNOWN, ())

    def enter(self, lane: int, restart: int) -> bool:
        """Whether this restart can still matter."""
        with self._lock:
            self._at[lane] = (restart, lane)
            return not self._stopped and (self._winner is None or (restart, lane) < self._winner)

    def win(self, lane: int, restart: int, outcome: Outcome) -> None:
        """Records a result and stops the runs that come after it."""
        with self._lock:
            if self._winner is None or (restart, lane) < self._winner:
                self._winner, self.outcome = (restart, lane), outcome
            for other, at in enumerate(self._at):
                if at > self._winner:
                    self.flags[other][0] = 1

    def stop_all(self) -> None:
        """Ends all runs soon."""
        with self._lock:
            self._stopped = True
            for flag in self.flags:
                flag[0] = 1


def minimise(
    exact: ExactSearch,
    *,
    height_bytes: int,
    bound_bytes: int,
    capacity_bytes: int | None,
    step_bytes: int,
    cancelled: Callable[[], bool],
    found: Callable[[tuple[int, ...], str], int],
    raised: Callable[[int], None],
    rounds: int | None = None,
) -> None:
    """Lowers the height and raises the bound until they meet or the height fits the capacity.

    Every round tries hard for the lowest height that is not excluded, as that is most often
    possible. Then it tries the middle of what is left between the highest that it gave up and
    the lowest known, and so on, with less effort. The next round has twice the nodes.
    Returns when done, or after so many rounds; ends by `Cancelled` otherwise.

    Args:
        found: called with the offsets of a placement and who found it; returns its height.
        raised: called with a higher bound.
        rounds: most rounds; None for as many as it takes.
    """
    nodes = _FIRST_NODES
    for _ in count() if rounds is None else range(rounds):
        goal = bound_bytes
        if capacity_bytes is not None:
            goal = max(goal, capacity_bytes // step_bytes * step_bytes)
        if height_bytes <= goal:
            return
        for offsets in exact.walk(goal, cancelled):
            height_bytes = min(height_bytes, found(offsets, "local search"))
        target, given_up = goal, goal - step_bytes
        effort = NodeLimits(nodes, _RESTARTS)
        while target < height_bytes:
            outcome, offsets = exact.attempt(target, effort, cancelled)
            if outcome == FOUND:
                height_bytes = found(offsets, "exact search")
            else:
                given_up = target
            if outcome == IMPOSSIBLE:
                bound_bytes = target + step_bytes
                raised(bound_bytes)
            steps = -(-(height_bytes - given_up) // step_bytes)
            if steps <= 1:
                break
            target = given_up + steps // 2 * step_bytes
            effort = NodeLimits(nodes // 4, _RESTARTS // 4)
        nodes *= 2
