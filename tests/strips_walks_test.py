"""More never gives less, the same is always the same, and what ends a search early says so."""

import dataclasses
import random
import re
import sys
import time

import pytest

from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.strips import choose, choose_strips, walks
from deploy.backends.tflm.strips.choose import StripChoice
from deploy.backends.tflm.strips.costs import costs_of
from deploy.backends.tflm.strips.estimate import Candidate, Estimator
from deploy.backends.tflm.strips.floor import floor_bytes
from deploy.backends.tflm.strips.goal import Goal
from deploy.backends.tflm.strips.moves import Mover, single_changes
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.walks import Walk, walks_of
from deploy.effort import Effort
from deploy.flatbuffer import write
from deploy.graph import Graph
from deploy.pipeline import plan
from deploy.report.text import to_text
from deploy.targets import target
from tests.int8_graphs import Int8GraphMaker

_WHEEL, _BOARD = target(board="host"), target(board="nano33ble")


@pytest.fixture(autouse=True)
def little_work(monkeypatch):
    """As many walks as ever, each of them short."""
    monkeypatch.setattr(
        walks,
        "EFFORT",
        dataclasses.replace(walks.EFFORT, small_work=6_000, small_work_for_the_head=6_000),
    )


@pytest.fixture
def few_plans(monkeypatch):
    """Each walk plans its two best ways only; for searches in this process."""
    monkeypatch.setattr(
        walks,
        "EFFORT",
        dataclasses.replace(
            walks.EFFORT, planned=2, small_work=2_000, small_work_for_the_head=2_000
        ),
    )


def drawn(seed: int) -> Graph:
    """A small network with skips, strides, pools and depthwise convolutions."""
    generator = random.Random(seed)
    make = Int8GraphMaker(seed)
    x = make.input((1, generator.choice((16, 18, 24)), 16, 3))
    x = make.conv(x, channels=8, kernel=(3, 3))
    for _ in range(generator.randint(2, 4)):
        kind = generator.choice(("skip", "separable", "conv", "pool"))
        channels = make.shape(x)[3]
        if kind == "skip":
            y = make.conv(x, channels=channels, kernel=(3, 3))
            x = make.binary("ADD", make.conv(y, channels=channels, kernel=(3, 3)), x)
        elif kind == "separable":
            x = make.depthwise(x, kernel=(3, 3), stride=generator.choice(((1, 1), (2, 2))))
            x = make.conv(x, channels=channels + 8)
        elif kind == "conv":
            x = make.conv(x, channels=channels + 4, kernel=(3, 3), stride=(2, 2))
        else:
            x = make.conv(make.conv(x, channels=2 * channels), channels=channels)
    return make.build(outputs=[make.fully_connected(make.mean(x), units=4)])


def content(choice: StripChoice) -> bytes:
    return write(embed(choice.graph, choice.memory.offsets))


def size(choice: StripChoice, minimise: str) -> int:
    return choice.memory.head_bytes if minimise == "head" else choice.arena.arena_bytes


@pytest.mark.parametrize(("seed", "minimise"), [(0, "arena"), (1, "head"), (2, "arena")])
def test_more_effort_never_gives_a_larger_arena_or_head(few_plans, seed, minimise):
    choices = [
        choose_strips(drawn(seed), target=_BOARD, minimise=minimise, effort=effort, plan_rounds=0)
        for effort in Effort
    ]
    sizes = [size(choice, minimise) for choice in choices]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(("seed", "minimise"), [(3, "arena"), (4, "head"), (5, "arena")])
def test_more_macs_never_give_a_larger_arena_or_head(few_plans, seed, minimise):
    sizes = []
    for macs in (1.0, 1.04, 1.10, 1.3, 2.0):
        choice = choose_strips(
            drawn(seed), target=_WHEEL, minimise=minimise, max_macs=macs, plan_rounds=0
        )
        assert choice.macs_ratio <= macs
        sizes.append(size(choice, minimise))
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("seed", [1])
def test_the_smallest_head_is_no_larger_than_that_of_the_smallest_arena(few_plans, seed):
    arena = choose_strips(drawn(seed), target=_BOARD, plan_rounds=0)
    head = choose_strips(drawn(seed), target=_BOARD, minimise="head", plan_rounds=0)
    assert head.memory.head_bytes <= arena.memory.head_bytes
    assert head.smallest_arena_bytes <= head.arena.arena_bytes


@pytest.mark.parametrize("seed", range(2))
def test_an_arena_that_was_found_fits_when_it_is_given(few_plans, seed):
    found = choose_strips(drawn(seed), target=_BOARD)
    given = choose_strips(drawn(seed), target=_BOARD, arena_bytes=found.arena.arena_bytes)
    assert given.fits
    assert given.macs <= found.macs


def test_a_larger_effort_is_a_larger_set_of_walks():
    network = Network(drawn(0))
    for goal in (Goal(), Goal("head"), Goal(arena_bytes=4096)):
        sets = [set(walks_of(goal, effort, network)) for effort in Effort]
        assert sets[0] < sets[1] < sets[2]
        more = set(walks_of(dataclasses.replace(goal, max_macs=3.0), Effort.NORMAL, network))
        assert sets[1] < more
    assert set(walks_of(Goal(), Effort.NORMAL, network)) < set(
        walks_of(Goal("head"), Effort.NORMAL, network)
    )


def worth_cutting() -> Graph:
    """Two maps of 64x16x24 bytes at once; what is smaller costs multiply-accumulates."""
    make = Int8GraphMaker(7)
    x = make.conv(make.input((1, 64, 16, 3)), channels=24, kernel=(3, 3))
    x = make.conv(x, channels=24, kernel=(3, 3))
    x = make.conv(x, channels=8, kernel=(3, 3), stride=(2, 2))
    return make.build(outputs=[make.fully_connected(make.mean(x), units=4)])


def test_a_plan_does_not_depend_on_the_number_of_processes():
    choices = [
        choose_strips(worth_cutting(), target=_WHEEL, workers=n, plan_rounds=0) for n in (1, 2, 3)
    ]
    first = choices[0]
    # Several walks found several ways, and the best of them is cut.
    assert first.regions
    assert len(first.frontier) > 1
    assert first.arena.arena_bytes < 2 * 64 * 16 * 24
    assert len({content(choice) for choice in choices}) == 1
    for choice in choices[1:]:
        assert choice.frontier == first.frontier
        assert choice.regions == first.regions
        assert choice.candidate == first.candidate
        assert choice.smallest_arena_bytes == first.smallest_arena_bytes


def test_a_smaller_head_that_takes_a_larger_arena_is_warned_of():
    model = write(drawn(5))
    head = plan(model, board="nano33ble", minimise="head").report
    arena = plan(model, board="nano33ble").report
    assert head.head_bytes < arena.head_bytes
    (warning,) = [w for w in head.warnings if "the smallest head" in w]
    said = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", warning)]
    usual = head.arena_bytes - said[1]
    assert said == [head.arena_bytes, said[1], usual]
    assert arena.arena_bytes <= usual < head.arena_bytes
    assert "the smallest head has an arena of" in " ".join(to_text(head).split())
    assert not [w for w in arena.warnings if "the smallest head" in w]


def test_a_head_that_costs_no_arena_is_not_warned_of():
    make = Int8GraphMaker(4)
    x = make.fully_connected(make.input((1, 64)), units=32)
    head = plan(
        write(make.build(outputs=[make.fully_connected(x, units=4)])),
        board="nano33ble",
        minimise="head",
    ).report
    assert not [w for w in head.warnings if "the smallest head" in w]


def test_no_clock_decides_anything(monkeypatch):
    """Every clock is one that jumps; a limit read from it would end the search."""
    usual = choose_strips(drawn(2), target=_BOARD, workers=1)
    calls = []

    def jumping() -> float:
        calls.append(None)
        return 1e6 * len(calls)

    for name in ("monotonic", "perf_counter", "time", "process_time"):
        monkeypatch.setattr(time, name, jumping)
    again = choose_strips(drawn(2), target=_BOARD, workers=1)
    assert not again.interrupted
    assert content(again) == content(usual)


@pytest.mark.parametrize("workers", [1, 2])
def test_stopping_ends_every_process_with_the_best_so_far(monkeypatch, workers):
    monkeypatch.setattr(walks, "EFFORT", dataclasses.replace(walks.EFFORT, small_work=10**9))
    asked = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > 200

    choice = choose_strips(drawn(1), target=_BOARD, workers=workers, stop=stop)
    assert choice.interrupted
    assert choice.arena.arena_bytes > 0
    assert len(choice.graph.operators) >= len(drawn(1).operators)


def test_an_interrupted_plan_says_so_and_calls_nothing_optimal(monkeypatch):
    model = write(drawn(1))
    whole = plan(model, board="nano33ble").report
    assert whole.interrupted is None
    assert "interrupted" not in to_text(whole)
    clock = iter(range(0, 10**9, 1000))
    monkeypatch.setattr("deploy.effort.time.monotonic", lambda: float(next(clock)))
    ended = plan(model, board="nano33ble", time_limit=1.0)
    assert ended.exit_code == 0
    assert ended.report.interrupted == "the time limit of 1 s"
    assert not ended.report.proven_optimal
    assert ended.report.bit_exact
    assert "interrupted: the time limit of 1 s ended the search" in to_text(ended.report)
    assert "optimal" not in to_text(ended.report)


def test_the_floor_is_below_every_way_of_cutting():
    generator = random.Random(4)
    for seed in range(3):
        for goal in (_WHEEL, _BOARD):
            graph = drawn(seed)
            costs = costs_of(graph, goal, overlap=True)
            estimator = Estimator(graph, costs)
            mover = Mover(estimator, (), generator)
            floor = floor_bytes(estimator.network(), costs)
            here = estimator.estimate(Candidate())
            assert here is not None
            for _ in range(60):
                found = estimator.estimate(mover.neighbour(here))
                if found is not None:
                    here = found
                    assert floor <= found.bound_bytes <= found.head_bytes


def test_single_changes_are_distinct_and_change_one_thing():
    estimator = Estimator(drawn(1), costs_of(drawn(1), _BOARD, overlap=True))
    mover = Mover(estimator, (), random.Random(3))
    here = estimator.estimate(Candidate())
    assert here is not None
    while not here.candidate.cuts.ends:
        here = estimator.estimate(mover.neighbour(here)) or here
    changed = list(single_changes(estimator, here.candidate))
    keys = {candidate.key() for candidate in changed}
    assert len(keys) == len(changed) > 8
    assert here.candidate.key() not in keys


def test_a_walk_below_the_work_of_one_template_still_ends():
    graph = drawn(0)
    found = walks.run_walk(graph, costs_of(graph, _WHEEL), _WHEEL, Walk(Goal(), 0, 1))
    assert found.points
    assert not found.ended_early
    assert choose.PLAN_ROUNDS > 0


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
