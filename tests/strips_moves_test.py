"""Moves of the search, what it counts them for, and where it ends, on graphs of a few maps."""

import itertools
import random
import sys

import numpy as np
import pytest

from deploy.backends.tflm.strips.core import Core
from deploy.backends.tflm.strips.costs import costs_of
from deploy.backends.tflm.strips.cuts import Cuts, normalised
from deploy.backends.tflm.strips.estimate import Candidate, Estimate, Estimator
from deploy.backends.tflm.strips.goal import Goal, Ranking, Worth
from deploy.backends.tflm.strips.layout import cut_graph
from deploy.backends.tflm.strips.moves import (
    Mover,
    other_ends,
    other_kinds,
    other_strips,
    single_changes,
    toggled,
    uneven_ends,
)
from deploy.backends.tflm.strips.polish import polish
from deploy.backends.tflm.strips.search import Search
from deploy.backends.tflm.strips.segments import Segment
from deploy.backends.tflm.strips.tuning import DRAWS
from deploy.graph import Graph
from deploy.targets import target
from tests.int8_graphs import Int8GraphMaker
from tests.operator_draws import outputs_in_litert, sample

_BOARD = target(board="nano33ble")


def skip_graph() -> Graph:
    """A map of 12x6x8 that a sum reads late, and a convolution with strides behind it."""
    make = Int8GraphMaker(1)
    x = make.conv(make.input((1, 12, 6, 2)), channels=8, kernel=(3, 3))
    y = make.conv(make.conv(x, channels=6, kernel=(3, 3)), channels=8, kernel=(1, 1))
    x = make.conv(make.binary("ADD", y, x), channels=4, kernel=(3, 3), stride=(2, 2))
    return make.build(outputs=[make.fully_connected(make.mean(x), units=3)])


def chain_graph() -> Graph:
    """A large map of 8 rows between two small ones."""
    make = Int8GraphMaker(2)
    x = make.conv(make.input((1, 8, 8, 1)), channels=16, kernel=(3, 3))
    return make.build(outputs=[make.conv(x, channels=1, kernel=(3, 3))])


def estimator_of(graph: Graph) -> Estimator:
    return Estimator(graph, costs_of(graph, _BOARD, overlap=True))


def estimated(estimator: Estimator, candidate: Candidate) -> Estimate:
    found = estimator.estimate(candidate)
    assert found is not None
    return found


def test_strips_grow_shrink_or_stay_equal():
    assert uneven_ends(12, 3, 1.0) == (4, 8, 12)
    # 12 · (1/2)² and 12 · √(1/2)
    assert uneven_ends(12, 2, 2.0) == (3, 12)
    assert uneven_ends(12, 2, 0.5) == (8, 12)
    # More strips than rows have one row each.
    assert uneven_ends(3, 9, 1.0) == (1, 2, 3)
    for rows, strips, power in itertools.product((1, 2, 7, 33), (1, 2, 5), (0.6, 1.0, 1.6)):
        ends = uneven_ends(rows, strips, power)
        assert ends[-1] == rows
        assert list(ends) == sorted(set(ends))
        assert ends[0] > 0


def test_one_end_is_elsewhere_or_gone_or_all_behind_it_are():
    ends = (3, 6, 8)
    found = list(other_ends(ends))
    one = {(2, 6, 8), (4, 6, 8), (1, 6, 8), (5, 6, 8), (3, 5, 8), (3, 7, 8), (3, 4, 8)}
    assert set(found) == one | {(3, 8), (6, 8), (2, 5, 8), (4, 7, 8)}
    assert list(other_ends(())) == list(other_ends((8,))) == []


def test_the_same_state_of_the_generator_gives_the_same_neighbour():
    estimator = estimator_of(skip_graph())
    walks = []
    for _ in range(2):
        mover = Mover(estimator, (), random.Random(5))
        here = estimated(estimator, Candidate())
        keys = []
        for _ in range(30):
            candidate = mover.neighbour(here)
            keys.append(candidate.key())
            here = estimator.estimate(candidate) or here
        walks.append(keys)
    assert walks[0] == walks[1]
    assert len(set(walks[0])) > 10


def test_every_move_has_a_weight_and_no_weight_is_left():
    mover = Mover(estimator_of(chain_graph()), (), random.Random(0))
    names = [move.__name__.removeprefix("_") for move in mover._moves]
    assert dict(zip(names, mover._weights, strict=True)) == DRAWS.weights


@pytest.mark.parametrize("seed", range(6))
def test_wherever_moves_lead_the_outputs_are_those_of_the_whole(seed):
    graph = skip_graph()
    estimator = estimator_of(graph)
    readers = graph.consumers()[graph.operators[0].outputs[0]]
    clones = ((0, readers[-1]),)
    mover = Mover(estimator, clones, random.Random(seed))
    here = estimated(estimator, Candidate())
    inputs = sample(graph, seed)
    expected = outputs_in_litert(graph, inputs)
    cut = 0
    for _ in range(25):
        candidate = mover.neighbour(here)
        network = estimator.network(candidate.clones)
        assert normalised(network, candidate.cuts).key() == candidate.cuts.key()
        found = estimator.estimate(candidate)
        if found is None:
            continue
        here = found
        network, program, footprint = estimator.footprint(candidate)
        assert footprint is not None
        strips = cut_graph(network, program, footprint, _BOARD.kernels)
        if strips is None or not candidate.cuts.ends:
            continue
        cut += 1
        for a, b in zip(expected, outputs_in_litert(strips.graph, inputs), strict=True):
            assert np.array_equal(a, b)
    assert cut > 5


def test_relief_takes_rows_from_the_strip_that_holds_the_most():
    estimator = estimator_of(chain_graph())
    cuts = normalised(estimator.network(), Cuts({0: (), 1: (5, 8)}, recomputed=frozenset({0})))
    here = estimated(estimator, Candidate(cuts=cuts))
    assert here.peak_strips == {1: 0}
    mover = Mover(estimator, (), random.Random(1))
    for _ in range(20):
        ends = mover._relieve(here).cuts.ends[1]
        assert ends[0] < 5


def test_a_clone_twice_toggled_leaves_what_was_there():
    graph = skip_graph()
    estimator = estimator_of(graph)
    readers = graph.consumers()[graph.operators[0].outputs[0]]
    cuts = normalised(estimator.network(), Cuts({1: (), 2: (4, 12)}, copied=frozenset({1})))
    before = Candidate(cuts=cuts)
    clone = (0, readers[-1])
    once = toggled(estimator, before, clone)
    assert once.clones == {clone}
    assert toggled(estimator, once, clone).key() == before.key()


def test_other_strips_have_the_number_that_is_asked_for():
    estimator = estimator_of(chain_graph())
    cuts = normalised(estimator.network(), Cuts({0: (), 1: (4, 8)}))
    for strips in (2, 3, 5):
        found = list(other_strips(estimator, Candidate(cuts=cuts), 1, strips))
        assert len({candidate.key() for candidate in found}) == len(found) > 3
        assert {len(candidate.cuts.ends[1]) for candidate in found} == {strips}


def test_other_kinds_have_one_operator_or_clone_more_or_less_or_a_region():
    graph = skip_graph()
    estimator = estimator_of(graph)
    cuts = normalised(estimator.network(), Cuts({1: (), 2: (4, 12)}, recomputed=frozenset({1})))
    here = estimated(estimator, Candidate(cuts=cuts))
    kinds = [set(c.cuts.ends) for c in other_kinds(estimator, (), here)]
    grown = [kind - {1, 2} for kind in kinds if kind > {1, 2}]
    assert {0} in grown
    assert {3} in grown
    assert all(kind >= {1, 2} or len({1, 2} - kind) == 1 for kind in kinds)


def estimate(head: int, tail: int, macs: int, name: int = 0) -> Estimate:
    candidate = Candidate(cuts=Cuts({name: (1, 2)}))
    return Estimate(candidate, head, head, tail, macs, 1, (), {}, {})


@pytest.mark.parametrize(
    "goal",
    [Goal(), Goal("head", 2.0), Goal("arena", 1.5, 900), Goal("head", 1.0, 400), Goal(max_macs=4)],
)
def test_a_head_at_its_limit_is_worth_more_than_the_limit(goal):
    worth = Worth(goal, total_macs=10_000, head_bytes=1_000)
    generator = random.Random(3)
    for _ in range(300):
        tail, macs = generator.randrange(2_000), generator.randrange(10_000, 40_000)
        limit = generator.uniform(-50, 3_000)
        head = max(0, int(np.ceil(worth.head_limit(limit, tail, macs))))
        assert worth.value(head, tail, macs) > limit


def test_within_a_given_arena_products_count_and_bytes_break_ties():
    worth = Worth(Goal("arena", 2.0, arena_bytes=1_000), total_macs=100, head_bytes=500)
    assert worth.value(600, 300, 110) < worth.value(300, 300, 120)
    assert worth.value(500, 300, 110) < worth.value(600, 300, 110)
    # A byte too many costs a byte.
    assert worth.value(801, 300, 100) - worth.value(701, 300, 100) == pytest.approx(100.1)


def test_the_ranking_keeps_the_best_and_what_no_other_beats():
    worth = Worth(Goal(max_macs=2.0), total_macs=100, head_bytes=1_000)
    ranking = Ranking(worth)
    generator = random.Random(9)
    seen = []
    for name in range(200):
        drawn = (generator.randrange(50, 99), generator.randrange(5), generator.randrange(90, 260))
        found = estimate(*drawn, name)
        ranking.remember(worth.value(*drawn), found)
        if found.macs <= 200:
            seen.append(found)
    pairs = {(e.arena_bytes, e.macs) for e in seen}
    pareto = {
        (a, m)
        for a, m in pairs
        if not any((b <= a and n <= m) and (b, n) != (a, m) for b, n in pairs)
    }
    assert {(e.arena_bytes, e.macs) for e in ranking.frontier} == pareto
    values = sorted(worth.value(e.head_bytes, e.tail_bytes, e.macs) for e in seen)
    assert [value for value, _ in ranking.best] == values[: len(ranking.best)]
    assert len({e.candidate.key() for _, e in ranking.best}) == len(ranking.best) == 24


def every_region(estimator: Estimator) -> list[Candidate]:
    """Both convolutions cut, at every set of ends of the last, with each of three halos."""
    network = estimator.network()
    every = frozenset({0, 1})
    halos = ({"recomputed": every}, {"copied": every}, {})
    return [
        Candidate(cuts=normalised(network, Cuts({0: (), 1: (*inner, 8)}).replace(**halo)))
        for count in range(1, 8)
        for inner in itertools.combinations(range(1, 8), count)
        for halo in halos
    ]


@pytest.mark.parametrize("goal", [Goal(max_macs=1.6), Goal("head", 4.0), Goal("arena", 2.0)])
def test_a_search_finds_no_less_than_all_regions_of_two_convolutions(goal):
    graph = chain_graph()
    costs = costs_of(graph, _BOARD, overlap=True)
    search = Search(graph, costs, goal, work=20_000, seed=1)
    search.run()
    values = []
    for candidate in every_region(Estimator(graph, costs)):
        found = Estimator(graph, costs).estimate(candidate)
        if found is not None and found.macs <= goal.max_macs * search.total_macs:
            values.append(search.worth.value(found.head_bytes, found.tail_bytes, found.macs))
    assert len(values) > 20
    assert search.ranking.best[0][0] <= min(values)


def test_a_search_is_a_function_of_its_seed_and_ends_when_it_is_told():
    graph = skip_graph()
    costs = costs_of(graph, _BOARD, overlap=True)

    def run(seed: int, **options: object) -> Search:
        search = Search(graph, costs, Goal(max_macs=2.0), work=4_000, seed=seed, **options)
        search.run()
        return search

    one, same = run(3), run(3)
    keys = [[e.candidate.key() for _, e in s.ranking.best] for s in (one, same)]
    assert keys[0] == keys[1]
    assert one.spent == same.spent >= 4_000
    shares: list[float] = []
    at_once = run(3, stop=lambda: True, progress=shares.append)
    assert at_once.spent < one.spent / 4
    assert all(0 <= share <= 1 for share in shares)


def test_after_the_polish_no_single_change_is_better():
    graph = chain_graph()
    costs = costs_of(graph, _BOARD)
    whole = estimated(Estimator(graph, costs), Candidate())
    worth = Worth(Goal(max_macs=3.0), whole.macs, whole.head_bytes)
    core = Core(Segment(graph, costs, 0, 2, 0), worth, whole)
    network = core.segment.estimator.network()
    first = normalised(network, Cuts({0: (), 1: (7, 8)}, recomputed=frozenset({0})))
    value, _ = core.score(Candidate(cuts=first))
    polish(core, lambda: False, ways=1)
    best, found = core.ranking.best[0]
    assert best < value
    for candidate in single_changes(core.segment.estimator, found.candidate):
        assert core.score(candidate)[0] >= best
    ended = Core(Segment(graph, costs, 0, 2, 0), worth, whole)
    ended.score(Candidate(cuts=first))
    polish(ended, lambda: True, ways=1)
    assert ended.ranking.best[0][0] == value


def test_a_search_for_maps_in_strips_only_holds_none_of_them_whole():
    graph = chain_graph()
    tensor = graph.operators[0].outputs[0]
    row_bytes = 8 * 16
    costs = costs_of(graph, _BOARD, overlap=True)
    never_whole = frozenset({graph.tensors[tensor].name})
    search = Search(graph, costs, Goal(max_macs=4.0), work=3_000, never_whole=never_whole)
    search.run()
    assert search.ranking.best
    for _, found in search.ranking.best:
        _, program, footprint = search.estimator.footprint(found.candidate)
        assert footprint is not None
        rows_held: list[set[int]] = [set() for _ in program.steps]
        for pieces, owners in zip(footprint.blocks, footprint.owners, strict=True):
            for live, owner in zip(pieces, owners, strict=True):
                value, (_, at) = program.values[owner], footprint.place[owner]
                if value.tensor == tensor:
                    low, high = ((end - at) // row_bytes for end in (live.start, live.stop))
                    rows = range(value.rows[0] + low, value.rows[0] + high)
                    for step in range(live.first, live.until):
                        rows_held[step].update(rows)
        assert 0 < max(map(len, rows_held)) < 8


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
