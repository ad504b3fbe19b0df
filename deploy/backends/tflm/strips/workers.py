"""Runs walks in several processes; what they find does not depend on how many there are.

The caller's own process takes walks like any other. A worker is started once and kept, as that
costs the import of NumPy. A worker that ends gives its walk back.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from deploy.backends.tflm.strips.costs import Costs
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.packing import load_compiled
from deploy.backends.tflm.strips.tuning import EFFORT
from deploy.backends.tflm.strips.walks import Found, Walk, run_walk
from deploy.graph import Graph
from deploy.passes.dead import drop_dead
from deploy.runtime.child import Child
from deploy.targets import Target

_MOST_WORKERS = 8
_WORTH_A_WORKER = 100_000
"""Work below which starting a process costs more than it saves."""

_Job = tuple[Graph, Costs, Target, Walk, frozenset[str]]


def run_walks(
    graph: Graph,
    costs: Costs,
    target: Target,
    walks: Sequence[Walk],
    *,
    never_whole: frozenset[str] = frozenset(),
    workers: int | None = None,
    progress: Callable[[float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[Found]:
    """Returns what each of the walks found, in their order.

    Ctrl-C ends all of them with what they have; so does ``stop``, which only this thread asks.
    """
    board = _Board(walks, stop, progress)
    count = min(workers or _cores(), len(walks), _MOST_WORKERS)
    if sum(walk.work for walk in walks) < _WORTH_A_WORKER and workers is None:
        count = 1
    helpers = [
        threading.Thread(
            target=_help, args=(board, number, (graph, costs, target, never_whole)), daemon=True
        )
        for number in range(count - 1)
    ]
    for helper in helpers:
        helper.start()

    def run_here(number: int) -> None:
        def report(fraction: float) -> None:
            board.report(number, fraction)

        found = board.found[number] = run_walk(
            graph,
            costs,
            target,
            walks[number],
            never_whole=never_whole,
            progress=report,
            stop=board.ended,
        )
        if found.ended_early:
            board.stopped.set()
        else:
            board.report(number, 1.0)

    while (number := board.take()) is not None:
        run_here(number)
    for helper in helpers:
        while helper.is_alive():
            try:
                helper.join(0.05)
                board.ended()
            except KeyboardInterrupt:
                board.stopped.set()
    # Walks that a worker did not bring back.
    for number in range(len(walks)):
        if board.found[number] is None:
            run_here(number)
    return [found for found in board.found if found is not None]


class _Board:
    """Which walks are to be done, and what came of them."""

    def __init__(
        self,
        walks: Sequence[Walk],
        stop: Callable[[], bool] | None,
        progress: Callable[[float], None] | None,
    ) -> None:
        self.walks = walks
        self.found: list[Found | None] = [None] * len(walks)
        self.stopped = threading.Event()
        self._stop = stop
        self._progress = progress
        self._lock = threading.Lock()
        # The longest first, so that none is left alone at the end.
        self._left = sorted(range(len(walks)), key=lambda n: (walks[n].work, -n))
        self._done = [0.0] * len(walks)

    def take(self) -> int | None:
        """The next walk to do."""
        with self._lock:
            return self._left.pop() if self._left else None

    def ended(self) -> bool:
        if not self.stopped.is_set() and self._stop is not None and self._stop():
            self.stopped.set()
        return self.stopped.is_set()

    def report(self, number: int, fraction: float) -> None:
        """Called from the main thread only, as what shows progress may not be safe elsewhere."""
        self._done[number] = fraction
        if self._progress is not None:
            done = [
                1.0 if found is not None else own
                for found, own in zip(self.found, self._done, strict=True)
            ]
            work = [max(walk.work, 1) for walk in self.walks]
            self._progress(sum(d * w for d, w in zip(done, work, strict=True)) / sum(work))


def _help(board: _Board, number: int, job: tuple[Graph, Costs, Target, frozenset[str]]) -> None:
    """A thread that hands walks to a worker, one after the other."""
    graph, costs, target, never_whole = job
    worker = _lend(number)
    if worker is None:
        return
    try:
        while not board.stopped.is_set() and (walk := board.take()) is not None:
            worker.connection.send((graph, costs, target, board.walks[walk], never_whole))
            told = False
            while not worker.connection.poll(0.02):
                if board.stopped.is_set() and not told:
                    worker.connection.send(None)
                    told = True
            board.found[walk] = worker.connection.recv()
    except (EOFError, OSError, pickle.UnpicklingError):
        # It ended, or what it sent is no answer: its walk is done by the caller.
        worker.close()
        return
    _give_back(number, worker)


def start_early(graph: Graph) -> None:
    """Loads what a search needs while the caller waits for something else, here and in a worker.

    Either takes half a second or more. Where the graph is not worth a worker, none is started.
    """
    network = Network(drop_dead(graph))
    if network.row_operators:
        threading.Thread(target=load_compiled).start()
    if _cores() > 1 and len(network.row_operators) >= EFFORT.few:
        worker = _lend(0)
        if worker is not None:
            _give_back(0, worker)


_LOCK = threading.Lock()
_idle: dict[int, Child] = {}


def _lend(number: int) -> Child | None:
    """A worker for this thread alone; None where no process can be started."""
    with _LOCK:
        worker = _idle.pop(number, None)
    if worker is not None and worker.process.poll() is None:
        return worker
    try:
        return Child(__name__)
    except OSError:
        return None


def _give_back(number: int, worker: Child) -> None:
    with _LOCK:
        if number not in _idle:
            _idle[number] = worker
            return
    worker.close()


def close() -> None:
    """Ends the workers."""
    with _LOCK:
        for worker in _idle.values():
            worker.close()
        _idle.clear()


atexit.register(close)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _serve(descriptor: int) -> None:
    """The worker: runs walks until the caller closes the connection."""
    # Ctrl-C in a terminal reaches all processes of a command; the caller decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    load_compiled()

    def stop() -> bool:
        return connection.poll(0)

    while True:
        try:
            job: _Job | None = connection.recv()
            if job is None:
                # A wish to stop that came after the walk had ended.
                continue
            graph, costs, target, walk, never_whole = job
            connection.send(
                run_walk(graph, costs, target, walk, never_whole=never_whole, stop=stop)
            )
        except (EOFError, OSError):
            return


if __name__ == "__main__":
    from deploy.backends.tflm.strips import workers

    workers._serve(int(sys.argv[1]))
