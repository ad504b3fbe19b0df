"""What a search finds early, whatever its seed: turned pieces, clones in pairs, good segments."""

import dataclasses
import itertools
import sys

import pytest

from deploy.backends.tflm.strips import search
from deploy.backends.tflm.strips.costs import costs_of
from deploy.backends.tflm.strips.goal import Goal
from deploy.backends.tflm.strips.search import Search
from deploy.backends.tflm.strips.segments import crossing_bytes
from deploy.backends.tflm.strips.templates import of_clones
from deploy.graph import Graph
from deploy.targets import target
from tests.int8_graphs import Int8GraphMaker

_BOARD = target(board="nano33ble")


def separable() -> Graph:
    """A chain whose first maps are large, each half the one before or twice it."""
    make = Int8GraphMaker(0)
    x = make.conv(make.input((1, 64, 64, 3)), channels=8, kernel=(3, 3), stride=(2, 2))
    for channels, stride in ((16, 1), (32, 2), (32, 1)):
        x = make.depthwise(x, kernel=(3, 3), stride=(stride, stride))
        x = make.conv(x, channels=channels)
    x = make.depthwise(x, kernel=(3, 3), stride=(2, 2))
    return make.build(outputs=[make.fully_connected(make.mean(x), units=2)])


def residual() -> Graph:
    """Two blocks with skips, the second one's a convolution with strides."""
    make = Int8GraphMaker(0)
    x = make.conv(make.input((1, 32, 32, 3)), channels=16, kernel=(3, 3))
    y = make.conv(x, channels=16, kernel=(3, 3))
    x = make.binary("ADD", x, make.conv(y, channels=16, kernel=(3, 3)))
    y = make.conv(x, channels=32, kernel=(3, 3), stride=(2, 2))
    y = make.conv(y, channels=32, kernel=(3, 3))
    x = make.binary("ADD", make.conv(x, channels=32, stride=(2, 2)), y)
    return make.build(outputs=[make.fully_connected(make.mean(x), units=10)])


def begun(graph: Graph, *, seed: int = 0, work: int = 50_000) -> Search:
    costs = costs_of(graph, _BOARD, overlap=True, view_operators=False)
    return Search(graph, costs, Goal(max_macs=1.1), work=work, seed=seed)


def test_pieces_that_do_not_fit_are_tried_turned(monkeypatch):
    found = []
    for turned in (0, 3):
        monkeypatch.setattr(search, "TUNING", dataclasses.replace(search.TUNING, turned=turned))
        one = begun(separable())
        one._try_templates(30_000)
        one._score_paths(one._paths()[:12])
        found.append(one.ranking.best[0])
    (without, _), (with_turned, best) = found
    assert with_turned < without
    assert best.candidate.cuts.upwards


def test_two_clones_spare_what_none_of_them_does_alone():
    one = begun(residual())
    one._try_clones(20_000)
    best = one.ranking.best[0][1]
    assert len(best.candidate.clones) == 2
    alone = [
        estimate
        for way in of_clones(one.estimator, one.clones)
        if len(way.clones) == 1 and (estimate := one.score(way)[1]) is not None
    ]
    assert len(alone) > 2
    assert best.arena_bytes < min(estimate.arena_bytes for estimate in alone)
    assert best.arena_bytes < one.whole.arena_bytes


def test_every_clone_is_tried_alone_in_pairs_and_in_strips():
    one = begun(residual())
    ways = list(of_clones(one.estimator, one.clones))
    sets = {way.clones for way in ways}
    assert len(one.clones) > 2
    assert sets >= {frozenset({clone}) for clone in one.clones}
    assert sets >= {frozenset(pair) for pair in itertools.combinations(one.clones, 2)}
    assert len({way.key() for way in ways}) == len(ways)
    in_strips = [way for way in ways if way.cuts.ends and len(way.clones) == 1]
    assert in_strips
    for way in in_strips:
        # What is computed again has no strips of its own: it runs along with its reader.
        assert way.cuts.recomputed == {o for o, ends in way.cuts.ends.items() if not ends}
        assert len(way.cuts.recomputed) == 1


def test_segments_that_hand_over_least_come_first():
    one = begun(separable())
    crossing = crossing_bytes(one.graph)
    places = one._stretches()
    lowest = min(start for start, _ in places)
    around = {pair: sum(crossing[k] for k in pair) for pair in places if pair[0] == lowest}
    assert len(set(around.values())) > 2
    assert around[places[0]] == min(around.values())
    # None is left out, and each operator is in one before any is in three.
    assert len(set(places)) == len(places)
    covered = [sum(a <= lowest < b for a, b in places[:n]) for n in range(1, len(places))]
    assert covered[1] == 1


def test_short_walks_end_alike_whatever_their_seed():
    arenas = []
    for seed in range(3):
        one = begun(residual(), seed=seed, work=8_000)
        one.run()
        arenas.append(one.ranking.best[0][0])
    assert max(arenas) <= min(arenas) * 1.02


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
