"""Segments and cores: parts of a graph that are estimated alone and put together again."""

import itertools
import random
import sys

import pytest

from deploy.backends.tflm.strips.core import Core, extent
from deploy.backends.tflm.strips.costs import costs_of
from deploy.backends.tflm.strips.cuts import Cuts
from deploy.backends.tflm.strips.estimate import Candidate, Estimator
from deploy.backends.tflm.strips.goal import Goal, Worth
from deploy.backends.tflm.strips.moves import Mover
from deploy.backends.tflm.strips.segments import (
    Segment,
    SegmentCut,
    cheapest,
    crossing_bytes,
    joined,
)
from deploy.graph import Graph
from deploy.targets import target
from tests.int8_graphs import Int8GraphMaker

_BOARD = target(board="nano33ble")


def network() -> Graph:
    """A skip over two convolutions, then a chain: maps of 16x16x8, 16x16x4 and 8x8x4 bytes."""
    make = Int8GraphMaker(1)
    x = make.conv(make.input((1, 16, 16, 3)), channels=8, kernel=(3, 3))
    y = make.conv(make.conv(x, channels=8, kernel=(3, 3)), channels=8, kernel=(3, 3))
    x = make.conv(make.binary("ADD", y, x), channels=4, kernel=(3, 3))
    x = make.conv(x, channels=4, kernel=(3, 3), stride=(2, 2))
    return make.build(outputs=[make.fully_connected(make.mean(x), units=4)])


def test_what_crosses_a_place_is_what_lives_on_both_sides():
    large, small, pooled = 16 * 16 * 8, 16 * 16 * 4, 8 * 8 * 4
    # input | x | x, and the first of the two | x, and the second | sum | ...
    expected = [16 * 16 * 3, large, 2 * large, 2 * large, large, small, pooled, 4, 4]
    assert crossing_bytes(network()) == expected


def test_an_output_that_is_also_read_crosses_to_the_end():
    make = Int8GraphMaker(2)
    x = make.unary("RELU", make.input((1, 4, 4, 2)))
    graph = make.build(outputs=[x, make.unary("RELU", x)])
    assert crossing_bytes(graph) == [32, 32, 64]


def test_a_segment_has_what_it_reads_and_what_is_read_later():
    graph = network()
    segment = Segment(graph, costs_of(graph, _BOARD), 1, 3, 0)
    part = segment.estimator.graph
    x, y = graph.operators[0].outputs[0], graph.operators[2].outputs[0]
    assert part.inputs == (x,)
    # The skip is read by the sum, so the segment has to leave it there.
    assert set(part.outputs) == {x, y}
    assert segment.passing_bytes == 0
    behind = Segment(graph, costs_of(graph, _BOARD), 2, 3, 0)
    assert behind.passing_bytes == 16 * 16 * 8


def test_of_pieces_those_stay_that_are_better_in_something():
    graph = network()
    segment = Segment(graph, costs_of(graph, _BOARD), 0, 4, 0)
    generator = random.Random(2)
    offered = []
    for _ in range(200):
        head, tail, macs = (generator.randrange(12) for _ in range(3))
        offered.append((head, tail, macs))
        segment.offer(SegmentCut(0, 4, head, tail, macs, Candidate()))
    kept = {(p.head_bytes, p.tail_bytes, p.macs) for p in segment.pieces}
    best = {
        one
        for one in offered
        if not any(
            other != one and all(o <= mine for o, mine in zip(other, one, strict=True))
            for other in offered
        )
    }
    assert kept == best
    assert len(segment.pieces) == len(kept)


@pytest.mark.parametrize("seed", range(3))
def test_the_cheapest_path_is_the_cheapest_of_all(seed):
    generator = random.Random(seed)
    peaks = [generator.randint(40, 100) for _ in range(6)]
    pieces = []
    for start, stop in itertools.combinations(range(7), 2):
        head, tail = generator.randint(30, 90), generator.randint(1, 40)
        pieces.append(SegmentCut(start, stop, head, tail, generator.randint(0, 5), Candidate()))
    for head in (50, 70, 100):
        found = cheapest(pieces, peaks, head=head, macs=1000, price=0.5)
        costs = []
        for count in range(7):
            for chosen in itertools.combinations(pieces, count):
                if all(a.stop <= b.start for a, b in itertools.pairwise(chosen)):
                    covered = {o for p in chosen for o in range(p.start, p.stop)}
                    loads = [p.head_bytes for p in chosen]
                    loads += [peak for o, peak in enumerate(peaks) if o not in covered]
                    if max(loads) <= head:
                        costs.append(sum(p.tail_bytes + 0.5 * p.macs for p in chosen))
        if found is None:
            assert not costs
        else:
            assert sum(p.tail_bytes + 0.5 * p.macs for p in found) == min(costs)


def test_what_a_core_says_is_what_the_whole_graph_says():
    """Where nothing grows into anything a segment is exact, and so is its core."""
    graph = network()
    costs = costs_of(graph, _BOARD)
    estimator = Estimator(graph, costs)
    whole = estimator.estimate(Candidate())
    assert whole is not None
    segment = Segment(graph, costs, 0, 5, 10**9)
    worth = Worth(Goal(max_macs=2.0), whole.macs, whole.head_bytes)
    core = Core(segment, worth, whole)
    mover = Mover(segment.estimator, segment.clones, random.Random(4))
    _, here = core.score(Candidate())
    compared = cut = 0
    for _ in range(80):
        assert here is not None
        value, found = core.score(mover.neighbour(here))
        if found is None:
            continue
        here = found
        there = joined(estimator, [segment.piece(found)])
        exact = estimator.estimate(there)
        assert exact is not None
        assert (found.macs, found.tail_bytes) == (exact.macs, exact.tail_bytes)
        assert found.bound_bytes <= exact.bound_bytes
        assert value == worth.value(found.head_bytes, found.tail_bytes, found.macs)
        back = core.inside(there, len(graph.operators))
        assert back.clones == found.candidate.clones
        assert back.cuts.ends == found.candidate.cuts.ends
        compared += exact.bound_bytes == found.bound_bytes
        cut += bool(found.candidate.cuts.ends)
    assert compared > 20
    assert cut > 20


def test_a_limit_ends_the_judging_of_what_is_worse():
    graph = network()
    costs = costs_of(graph, _BOARD)
    whole = Estimator(graph, costs).estimate(Candidate())
    assert whole is not None
    worth = Worth(Goal(), whole.macs, whole.head_bytes)
    core = Core(Segment(graph, costs, 0, 5, 0), worth, whole)
    value, found = Core(Segment(graph, costs, 0, 5, 0), worth, whole).score(Candidate())
    assert found is not None
    assert core.score(Candidate(), value - 100) == (float("inf"), None)
    spent = core.segment.estimator.work
    assert core.score(Candidate(), value - 200) == (float("inf"), None)
    assert core.segment.estimator.work == spent
    assert core.score(Candidate(), value + 1)[0] == value


def test_a_core_holds_what_is_large_what_is_cut_and_no_torn_map():
    loads = [1, 1, 9, 1, 8, 1, 1, 1, 1]
    free = [False] * 10
    plain = Candidate()
    assert extent(loads, plain, free, above=5) == (1, 6)
    assert extent(loads, plain, free, above=8) == (1, 4)
    far = Candidate(cuts=Cuts({7: (2, 4)}))
    assert extent(loads, far, free, above=5) == (1, 9)
    again = Candidate(clones=frozenset({(0, 3)}))
    assert extent(loads, again, free, above=5) == (0, 6)
    # A map that exists in strips only lives across places 1 and 6.
    torn = [place in (1, 6) for place in range(10)]
    assert extent(loads, plain, torn, above=5) == (0, 7)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
