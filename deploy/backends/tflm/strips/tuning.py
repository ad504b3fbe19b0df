"""The numbers of the search that experience chose: how a walk spends its work, and what counts.

None of them decides whether a plan is right, only how soon a good one is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Cooling(NamedTuple):
    """One annealing walk.

    Attributes:
        until: part of the work at its end.
        anew: from the graph that is not cut, rather than from the best so far.
        hottest, coldest: temperatures in bytes, for a graph of ``Tuning.usual_bytes``.
    """

    until: float
    anew: bool
    hottest: float
    coldest: float


class Course(NamedTuple):
    """How a walk spends its work.

    Attributes:
        rounds: parts of the work after which templates, and then the improvement of segments, end.
        walks: the annealing after it.
        polish: work of the last improvement of strips, as a part of the rest.
        ways: see ``polish.polish``.
    """

    rounds: tuple[tuple[float, float], ...]
    walks: tuple[Cooling, ...]
    polish: float
    ways: int = 1


def _rounds(until: float, count: int = 6) -> tuple[tuple[float, float], ...]:
    """Rounds of templates, then improvement, in equal parts of the work."""
    return tuple(((n + 0.5) * until / count, (n + 1) * until / count) for n in range(count))


_LONG_ROUNDS = tuple((n * 0.08 + 0.05, n * 0.08 + 0.08) for n in range(9))
_COOL = (Cooling(0.9, False, 300.0, 20.0), Cooling(1.0, False, 100.0, 10.0))

OF_FEW_OPERATORS: dict[int, Course] = {
    1: Course(_rounds(0.7), (Cooling(1.0, True, 1500.0, 30.0),), 1.0),
    3: Course(
        _rounds(0.3),
        tuple(Cooling(until, True, 1500.0, 30.0) for until in (0.55, 0.8, 1.0)),
        2.0,
        3,
    ),
}
"""By the number of annealing walks from the graph that is not cut."""
OF_MANY_OPERATORS = Course(_LONG_ROUNDS, _COOL, 0.5)
FOR_THE_HEAD = Course(tuple((0.5 + 0.45 * a, 0.5 + 0.45 * b) for a, b in _LONG_ROUNDS), _COOL, 0.1)


@dataclass(frozen=True, slots=True)
class Tuning:
    """The rest.

    Attributes:
        few_operators: up to so many, a graph is searched as a small one.
        clone_macs: a map is computed twice only for at most this part of the MACs.
        rows_until: part of the work for strips of single rows, where the head alone counts.
        clones_until: part of the work for clones by themselves.
        slice_of_work: how long one segment is improved before another one is.
        heads: how many heads the shortest paths are looked for below.
        mac_prices: what doubling the MACs may cost, in heads of the graph that is not cut.
        core: where less than this part of the head is live, cutting brings nothing.
        loaded: the same for the operators that segments lie around.
        crossing: maps larger than this part of the head are not handed over between segments.
        row_load: where less than this part of the head is live, single rows are not tried.
        tightest_goal: a segment's walk aims at the head in use times this, to times 1.
        over_goal: what a byte above that aim costs in bytes.
        usual_bytes: graphs of this size have the temperatures that are given.
        least_scale: smaller graphs have no smaller part of them.
        hot_segment, cool_segment: temperatures for segments.
        paths, first_paths: how many paths are estimated in the whole graph, at the end and between.
        paths_in_use: from so many of them one is drawn whose segments are improved.
        turned: of so many pieces of a path, those from the first on, the strips are turned around.
        taken_over, promising_taken_over: best ways of a core that are estimated in the whole graph.
    """

    few_operators: int = 40
    clone_macs: float = 0.06
    rows_until: float = 0.5
    clones_until: float = 0.15
    slice_of_work: float = 0.01
    heads: int = 40
    mac_prices: tuple[float, ...] = (0.0, 0.1, 0.5, 2.0)
    core: float = 0.7
    loaded: float = 0.6
    crossing: float = 0.75
    row_load: float = 0.125
    tightest_goal: float = 0.85
    over_goal: float = 1.5
    usual_bytes: int = 50_000
    least_scale: float = 0.02
    hot_segment: float = 300.0
    cool_segment: float = 20.0
    paths: int = 12
    first_paths: int = 6
    paths_in_use: int = 8
    turned: int = 3
    taken_over: int = 12
    promising_taken_over: int = 6


TUNING = Tuning()
