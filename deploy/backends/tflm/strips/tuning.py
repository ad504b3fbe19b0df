"""The numbers of the search that experience chose: how a walk spends its work, and what counts.

None of them decides whether a plan is right, only how soon a good one is found.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        most_in_strips: where maps may only exist in strips, pieces may take so many heads of the
            whole graph on the way to one that is smaller.
        near_pieces: a segment's walk begins at one of so many whose heads are nearest to its aim.
        turns: in one of so many any segment is improved; in the others those of the best paths.
        row_distances: how many cut points apart strips of single rows begin and end.
        kept: the best ways that a ranking holds.
        tie: what a byte counts that does not matter: within a given arena, or of the tail where
            the head alone is to be small. It decides between ways that are else alike.
        macs_in_budget: what doubling the MACs costs within a given arena, in heads.
        macs_over: what exceeding the limit by the graph's own MACs costs, in heads: above 1, so
            that no saving of memory makes up for it.
        most_strips: of an operator, in the last improvement.
        tried_kinds: neighbouring kinds of which the strips are improved as well.
        near_strips, near_kinds: what other strips, or kinds, may be worth before their ends are
            moved, by the best so far.
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
    most_in_strips: int = 2
    near_pieces: int = 4
    turns: int = 4
    row_distances: tuple[int, ...] = (1, 2, 3)
    kept: int = 24
    tie: float = 0.001
    macs_in_budget: float = 0.2
    macs_over: float = 1.2
    most_strips: int = 8
    tried_kinds: int = 3
    near_strips: float = 1.1
    near_kinds: float = 1.12


TUNING = Tuning()


_Parts = tuple[float, float]
"""(part recomputed, part copied) of operators."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What an annealing walk draws, see ``moves.Mover``. A value that stands twice is drawn twice
    as often.

    Attributes:
        region: part of the changes that lay a new region over an operator at which memory is
            scarce; without it a walk seldom gets from one region to another.
        relief: part that makes a strip smaller during which memory is scarce.
        one_more: chance of one more small change after each.
        weights: how often each small change is drawn. Most move an end or change a halo: these
            are what fine differences come of.
        one_end: chance that a shift moves one end, not two.
        shifts: by how many rows, or long steps.
        far: chance of a long step.
        long_steps: of a map, from its first to its last row.
        taken_rows: how many rows, or long steps, relief takes from a strip.
        at_begin: chance that relief takes them where the strip begins.
        stretches: powers by which ends are moved; below 1 strips get smaller to the end.
        halo_flags, join_flags, course_flags: which flags are turned.
        copied_too: chance that rows that are no longer recomputed are copied instead.
        takes_over: chance that a neighbour gets the strips of the operator before it.
        neighbour_halo: parts of such neighbours that are recomputed, and copied.
        most_new_ends: of strips that a follower gets.
        wider: chance of one more operator at either end of a new region.
        region_strips, region_powers: into how many strips it is cut, and how unevenly.
        region_halos: what its operators with windows do, and the others.
        region_flag: chance that all of it is untrimmed, or padded.
        keeps_inner: chance that strips inside it stay.
        runs_along: chance that what others read of it is there as soon as it can be.
        other_powers: how unevenly another number of strips is tried, see ``other_strips``.
        new_region_strips: into how many strips ``other_kinds`` cuts a region.
    """

    weights: Mapping[str, int]
    region: float = 0.2
    relief: float = 0.2
    one_more: float = 0.35
    one_end: float = 0.7
    shifts: tuple[int, ...] = (-3, -2, -1, -1, 1, 1, 2, 3)
    far: float = 0.5
    long_steps: int = 32
    taken_rows: tuple[int, ...] = (1, 1, 2, 3)
    at_begin: float = 0.5
    stretches: tuple[float, ...] = (0.8, 0.9, 1.1, 1.25)
    halo_flags: tuple[str, ...] = (
        *("recomputed", "recomputed", "copied", "copied", "untrimmed", "padded"),
    )
    join_flags: tuple[str, ...] = ("swapped", "swapped", "own_place")
    course_flags: tuple[str, ...] = ("finished", "upwards", "when_ready")
    copied_too: float = 0.5
    takes_over: float = 0.7
    neighbour_halo: _Parts = (0.5, 0.35)
    most_new_ends: int = 3
    wider: float = 0.6
    region_strips: tuple[int, ...] = (2, 2, 3, 3, 4, 5, 6)
    region_powers: tuple[float, ...] = (0.6, 0.8, 1.0, 1.0, 1.25, 1.6)
    region_halos: tuple[tuple[_Parts, _Parts], ...] = (
        *(((1.0, 0.0), (1.0, 0.0)),) * 2,
        ((0.0, 1.0), (0.0, 1.0)),
        ((0.0, 0.0), (0.0, 0.0)),
        ((0.5, 0.3), (0.5, 0.3)),
        *(((1.0, 0.0), (0.0, 1.0)),) * 2,
    )
    region_flag: float = 0.3
    keeps_inner: float = 0.4
    runs_along: float = 0.7
    other_powers: tuple[float, ...] = (1.0, 0.8, 1.25)
    new_region_strips: tuple[int, ...] = (2, 3)


DRAWS = Draws(
    weights={
        "shift_end": 30,
        "drop_end": 6,
        "add_end": 7,
        "stretch_ends": 5,
        "change_halo": 18,
        "swap_inputs": 4,
        "change_course": 6,
        "uncut": 5,
        "cut_neighbour": 10,
        "change_driver": 6,
        "cut_anything": 3,
        "toggle_clone": 4,
        "part": 3,
    }
)


@dataclass(frozen=True, slots=True)
class Templates:
    """The usual ways of cutting, see ``templates``.

    Attributes:
        powers: how unevenly strips are cut; the first alone where they need not be thin.
        most_clones: maps that are tried to be computed twice, one at a time.
        clones_in_pairs: of so many, one or two are tried in a graph that is else left as it is.
        most_runs: operator instances of a template of thin strips.
        strips, thin_strips: numbers of strips; thin ones begin with one for each row.
        strips_of_given_maps: the same where maps may only exist in strips.
        most_rows, few_rows: rows of all operators, for strips of single rows, and for trying more
            ways of having them.
        dear: operators of more than one part in so many of the MACs are padded rather than cut
            with a halo.
    """

    powers: tuple[float, ...] = (1.0, 0.7, 1.4)
    most_clones: int = 3
    clones_in_pairs: int = 6
    most_runs: int = 360
    strips: tuple[int, ...] = (2, 3, 4, 6)
    thin_strips: tuple[int, ...] = (32, 24, 16, 8, 4)
    strips_of_given_maps: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 16)
    most_rows: int = 1200
    few_rows: int = 400
    dear: int = 10


TEMPLATES = Templates()

WalksByLevel = Mapping[float, tuple[int, int, int]]
"""Level of multiply-accumulates -> number of walks for each effort."""


@dataclass(frozen=True, slots=True)
class Walks:
    """How many walks an effort stands for, and what each may do; work is in steps estimated.

    Attributes:
        for_the_arena: below a limit between two levels, what the walks of the upper one found on
            their way counts, too.
        for_the_head: the same for the head, or a given arena; the walks for the arena come in
            addition.
        shares: parts of the usual work for levels at which there is less to find.
        small_work, large_work: of one walk; ``Tuning.few_operators`` says where it is large.
        small_work_for_the_head: a step costs more there, as strips are many.
        few, few_for_the_head: below so many operators work falls with the power ``few_power`` of
            those that can be cut, from ``few_work`` on and down to ``least_share``.
        restarts: by turns, at one level and from level to level: one long walk finds some ways,
            several short ones find others.
        long_up_to: the first walk of levels above is one of several short ones.
        most_walks: at one level; seeds are counted in it.
        more_of_few: walks that graphs of few operators get besides at each level: they are short,
            and one may miss what is there.
        planned, promising: ways that every walk plans, and hands on to be planned with effort.
        cheap: ways with fewer multiply-accumulates that every walk plans, for limits below its own.
        long_program: steps above which one of ``long_share`` candidates is planned.
    """

    for_the_arena: WalksByLevel
    for_the_head: WalksByLevel
    shares: Mapping[float, float]
    small_work: int = 50_000
    large_work: int = 400_000
    small_work_for_the_head: int = 250_000
    few: int = 10
    few_for_the_head: int = 5
    few_power: float = 1.5
    few_work: int = 200_000
    least_share: float = 0.02
    restarts: tuple[int, int] = (1, 3)
    long_up_to: float = 1.05
    most_walks: int = 64
    more_of_few: int = 2
    planned: int = 6
    promising: int = 2
    cheap: int = 3
    long_program: int = 500
    long_share: int = 3


EFFORT = Walks(
    for_the_arena={
        1.0: (1, 1, 2),
        1.02: (0, 0, 4),
        1.05: (1, 1, 8),
        1.1: (0, 1, 8),
        1.2: (1, 1, 4),
        1.3: (0, 1, 4),
        1.5: (1, 1, 4),
        2.0: (1, 1, 4),
        4.0: (1, 1, 4),
    },
    for_the_head={
        1.0: (0, 1, 2),
        1.05: (1, 1, 4),
        1.1: (0, 1, 4),
        1.3: (1, 1, 4),
        2.0: (1, 1, 4),
    },
    shares={1.0: 0.1, 1.02: 0.5},
)
