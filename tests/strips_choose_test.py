"""The choice of strips: smaller arenas, within the MACs, the same bytes, clean ends."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.strips import StripChoice, choose_strips
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.walks import usual_work
from deploy.flatbuffer import read_file, write
from deploy.graph import Graph
from deploy.macs import graph_macs
from deploy.operators.by_rows import Uncut
from deploy.runtime import litert, tflm
from deploy.targets import target
from tests.int8_graphs import Int8GraphMaker
from tests.support import mlperf_tiny

_WHEEL = target(board="host")
_WORK = 30_000


def _tall_graph() -> Graph:
    """A 32x32 map of 16 channels between a small input and a small output."""
    make = Int8GraphMaker(11)
    x = make.input((1, 32, 32, 3))
    x = make.conv(x, channels=16, kernel=(3, 3))
    x = make.conv(x, channels=32)
    x = make.conv(x, channels=8, kernel=(3, 3), stride=(2, 2))
    return make.build(outputs=[make.mean(x)])


@pytest.fixture(scope="module")
def chosen() -> StripChoice:
    return choose_strips(_tall_graph(), target=_WHEEL, work=_WORK, plan_rounds=0)


def _same_outputs(graph: Graph, choice: StripChoice) -> bool:
    generator = np.random.default_rng(4)
    samples = [
        [generator.integers(-128, 128, graph.tensors[t].shape).astype(np.int8)]
        for t in graph.inputs
    ]
    content = write(embed(choice.graph, choice.memory.offsets))
    whole, strips = litert.run(write(graph), samples), litert.run(content, samples)
    same = all(np.array_equal(a, b) for a, b in zip(whole[0], strips[0], strict=True))
    if tflm.unavailable_reason() is None:
        mine = tflm.run(content, samples, arena_bytes=choice.arena.arena_bytes)
        theirs = tflm.run(write(graph), samples, arena_bytes=2**22)
        same &= all(np.array_equal(a, b) for a, b in zip(theirs[0], mine[0], strict=True))
    return same


def test_a_map_that_only_passes_through_is_never_whole(chosen):
    # Whole: 16 and 32 channels of 32x32 at the second convolution.
    assert chosen.memory.head_bytes < (16 + 32) * 32 * 32 * 2 // 3
    assert 1.0 <= chosen.macs_ratio <= 1.10
    assert chosen.macs == graph_macs(chosen.graph)
    assert chosen.source_macs == graph_macs(_tall_graph())
    assert _same_outputs(_tall_graph(), chosen)


def test_regions_and_reasons_explain_the_choice(chosen):
    (region,) = chosen.regions[:1]
    assert region.strips >= 2
    assert region.operators[0].startswith("CONV_2D")
    assert region.halo in ("kept", "recomputed", "kept and recomputed")
    reasons = {decision.subject.split(" ")[0]: decision.reason for decision in chosen.reasons}
    assert reasons["MEAN"] == f"left whole: {Uncut.ROWS_REDUCED.value}"


def test_the_frontier_falls_in_macs_as_it_rises_in_arena(chosen):
    others = [p for p in chosen.frontier if not p.chosen]
    arenas = [p.arena_bytes for p in others]
    macs = [p.macs_ratio for p in others]
    assert arenas == sorted(arenas)
    assert macs == sorted(macs, reverse=True)
    assert sum(p.chosen for p in chosen.frontier) == 1


def test_the_same_graph_gives_the_same_bytes(chosen):
    again = choose_strips(_tall_graph(), target=_WHEEL, work=_WORK, plan_rounds=0)
    assert write(embed(again.graph, again.memory.offsets)) == write(
        embed(chosen.graph, chosen.memory.offsets)
    )


def test_max_macs_of_one_computes_no_row_twice():
    choice = choose_strips(_tall_graph(), target=_WHEEL, max_macs=1.0, work=_WORK, plan_rounds=0)
    assert choice.macs == choice.source_macs
    assert choice.memory.head_bytes <= (16 + 32) * 32 * 32
    assert _same_outputs(_tall_graph(), choice)


def test_minimise_head_gives_a_head_no_larger(chosen):
    choice = choose_strips(_tall_graph(), target=_WHEEL, minimise="head", work=_WORK, plan_rounds=0)
    assert choice.memory.head_bytes <= chosen.memory.head_bytes
    assert _same_outputs(_tall_graph(), choice)


def test_a_budget_takes_the_fewest_macs_that_fit(chosen):
    budget = chosen.arena.arena_bytes + 4096
    choice = choose_strips(
        _tall_graph(),
        target=_WHEEL,
        arena_bytes=budget,
        work=3 * _WORK,
        plan_rounds=0,
    )
    assert choice.fits
    assert choice.arena.arena_bytes <= budget
    assert choice.macs <= chosen.macs


def test_a_budget_below_what_is_possible_gives_the_smallest_arena_found():
    choice = choose_strips(
        _tall_graph(), target=_WHEEL, arena_bytes=4096, work=_WORK, plan_rounds=0
    )
    assert not choice.fits
    assert choice.arena.arena_bytes > 4096
    assert choice.memory.lower_bound_bytes > 4096
    assert choice.memory.head_bytes < (16 + 32) * 32 * 32


def test_stopping_keeps_the_best_so_far():
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 5

    choice = choose_strips(_tall_graph(), target=_WHEEL, work=10**9, plan_rounds=0, stop=stop)
    assert choice.interrupted
    assert choice.arena.arena_bytes > 0


def test_an_interrupt_from_the_keyboard_keeps_the_best_so_far():
    def progress(fraction: float) -> None:
        raise KeyboardInterrupt

    choice = choose_strips(
        _tall_graph(), target=_WHEEL, work=_WORK, plan_rounds=0, progress=progress
    )
    assert choice.interrupted
    assert _same_outputs(_tall_graph(), choice)


def test_progress_rises_to_one():
    seen: list[float] = []
    choose_strips(_tall_graph(), target=_WHEEL, work=5_000, plan_rounds=0, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def _chain(operators: int) -> Graph:
    """Convolutions and a mean, which cannot be cut."""
    make = Int8GraphMaker(2)
    x = make.input((1, 32, 32, 3))
    for number in range(operators - 1):
        stride = (2, 2) if number % 4 == 1 else (1, 1)
        x = make.conv(x, channels=16 + 8 * (number % 2), kernel=(3, 3), stride=stride)
    return make.build(outputs=[make.mean(x)])


@pytest.mark.parametrize("for_head", [False, True])
def test_few_operators_take_little_work(for_head):
    most, full, few = (250_000, 250_000, 5) if for_head else (50_000, 200_000, 10)
    for operators in (2, 3, 4, 5, 9, 10, 40):
        share = max(((operators - 1) / few) ** 1.5, 0.02) if operators < few else 1
        work = usual_work(Network(_chain(operators)), for_head=for_head)
        assert work == pytest.approx(min(most, full * share), abs=1)
    assert usual_work(Network(_chain(1)), for_head=for_head) == full * 0.02
    # Nothing changes above, nor where few of ten operators can be cut.
    assert usual_work(Network(_chain(41))) == 400_000
    make = Int8GraphMaker(2)
    x = make.conv(make.input((1, 8, 8, 4)), channels=4, kernel=(3, 3))
    for _ in range(9):
        x = make.mean(x, keep_dims=True)
    assert usual_work(Network(make.build(outputs=[x]))) == 50_000


def test_little_work_finds_what_much_work_does():
    graph = _chain(4)
    little = choose_strips(graph, target=_WHEEL, plan_rounds=0)
    much = choose_strips(graph, target=_WHEEL, plan_rounds=0, work=400_000)
    assert little.arena.arena_bytes <= much.arena.arena_bytes
    assert _same_outputs(graph, little)


def test_a_batch_above_one_is_left_whole_with_the_reason():
    make = Int8GraphMaker(5)
    x = make.input((2, 16, 16, 4))
    graph = make.build(outputs=[make.conv(x, channels=4, kernel=(3, 3))])
    choice = choose_strips(graph, target=_WHEEL, work=_WORK, plan_rounds=0)
    assert choice.regions == ()
    assert len(choice.graph.operators) == 1
    (decision,) = choice.reasons
    assert decision.reason == f"left whole: {Uncut.BATCH.value}"


def test_resnet_needs_a_good_quarter_less_arena_in_the_wheel():
    graph = read_file(mlperf_tiny("pretrainedResnet_quant"))
    choice = choose_strips(graph, target=_WHEEL, work=500_000, plan_rounds=0)
    # TFLM by itself: 49,152 of head and 6,832 of tail.
    assert choice.arena.arena_bytes <= 40_000
    assert choice.macs_ratio <= 1.10
    assert _same_outputs(graph, choice)


def test_resnet_needs_a_third_of_the_head():
    graph = read_file(mlperf_tiny("pretrainedResnet_quant"))
    choice = choose_strips(graph, target=_WHEEL, minimise="head", work=200_000)
    # A 16x16x32 map and two of 8x8x64 are alive together where no strips pay off.
    assert choice.memory.head_bytes == 16 * 16 * 32 + 2 * 8 * 8 * 64
    assert choice.macs_ratio <= 1.10
    assert _same_outputs(graph, choice)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
