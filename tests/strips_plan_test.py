"""What strips need of memory: plans of cut graphs, replayed, and run in TFLM at their size."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.strips.blocks import LiveRows
from deploy.backends.tflm.strips.costs import costs_of
from deploy.backends.tflm.strips.cuts import Cuts, Halo, normalised, region_of
from deploy.backends.tflm.strips.diagonal import Diagonals
from deploy.backends.tflm.strips.emit import emit
from deploy.backends.tflm.strips.estimate import Candidate, Estimator
from deploy.backends.tflm.strips.layout import CutGraph, cut_graph, placed
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.packing import packed_height
from deploy.backends.tflm.strips.schedule import schedule
from deploy.flatbuffer import write
from deploy.graph import Graph
from deploy.memory.plan import AliasReason
from deploy.passes.dead import drop_dead, drop_dead_tensors
from deploy.runtime import tflm
from deploy.targets import target
from keras_fmc.errors import VerificationError
from tests.int8_graphs import Int8GraphMaker
from tests.random_graphs import random_graph
from tests.strip_graphs import banded_graph, random_cuts

_WHEEL = target(board="host")
_SEEDS = range(120)


def _estimator(graph: Graph, board: str = "host", *, overlap: bool = False) -> Estimator:
    return Estimator(graph, costs_of(graph, target(board=board), overlap=overlap))


def _cut(graph: Graph, seed: int, board: str, *, overlap: bool) -> CutGraph | None:
    estimator = _estimator(graph, board, overlap=overlap)
    cuts = random_cuts(Network(graph), random.Random(seed))
    network, program, found = estimator.footprint(Candidate(frozenset(), cuts))
    kernels = target(board=board).kernels
    return None if found is None else cut_graph(network, program, found, kernels)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("board", ["host", "nano33ble"])
def test_plans_of_random_strips_pass_the_replay(board, overlap):
    """``placed`` raises where a byte is overwritten before its last reader."""
    planned = overlapping = 0
    print(f"seeds {_SEEDS.start} to {_SEEDS.stop - 1}")
    for seed in _SEEDS:
        cut = _cut(drop_dead(banded_graph(seed)), seed, board, overlap=overlap)
        if cut is not None:
            memory = placed(cut, target(board=board).kernels, rounds=0)
            assert memory.head_bytes >= memory.lower_bound_bytes
            planned += 1
            overlapping += len(cut.overlaps)
            found = [a for a in cut.layout.aliases if a.reason is AliasReason.OVERLAP]
            assert len(found) == len(cut.overlaps)
    # The rest are combinations in which two values would need one place.
    assert planned >= len(_SEEDS) * 2 // 3
    assert overlapping > 30 if overlap else overlapping == 0


def test_a_strip_that_grows_too_far_into_its_input_is_stopped(monkeypatch):
    real = Diagonals.distance

    def near(*arguments):
        distance = real(*arguments)
        return None if distance is None else distance - 16

    monkeypatch.setattr(Diagonals, "distance", near)
    messages = []
    for seed in _SEEDS:
        cut = _cut(drop_dead(banded_graph(seed)), seed, "host", overlap=True)
        if cut is not None and cut.overlaps:
            try:
                placed(cut, _WHEEL.kernels, rounds=0)
                messages.append("")
            except VerificationError as error:
                messages.append(str(error))
    # The rest stand apart, or farther from each other as another strip of theirs needs it.
    stopped = sum("overwrites its input" in message for message in messages)
    assert stopped > len(messages) * 2 // 3 > 30


@pytest.mark.skipif(tflm.unavailable_reason() is not None, reason="needs tflite_micro")
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_tflm_computes_the_same_at_exactly_the_planned_arena(seed, overlap):
    graph = drop_dead(banded_graph(seed))
    # The distances of CMSIS-NN serve the reference kernels, too.
    cut = _cut(graph, seed, "nano33ble" if seed % 2 else "host", overlap=overlap)
    if cut is None:
        # These cuts are for another layout; the graph itself is no evidence.
        pytest.skip("two values would need one place")
    memory = placed(cut, _WHEEL.kernels, rounds=0)
    arena = predict_arena(cut.graph, offsets=memory.offsets, target=_WHEEL).arena_bytes
    generator = np.random.default_rng(seed)
    samples = [
        [generator.integers(-128, 128, graph.tensors[t].shape).astype(np.int8)]
        for t in graph.inputs
    ]
    strips = write(embed(cut.graph, memory.offsets))
    roomy = 2**20
    for whole, mine in zip(
        tflm.run(write(graph), samples, arena_bytes=roomy),
        tflm.run(strips, samples, arena_bytes=arena),
        strict=True,
    ):
        assert all(np.array_equal(a, b) for a, b in zip(whole, mine, strict=True))


def _two_convolutions() -> Graph:
    """16 rows of 8x4 bytes, two 3x3 convolutions."""
    make = Int8GraphMaker(7)
    x = make.input((1, 16, 8, 4))
    y = make.conv(x, channels=4, kernel=(3, 3))
    return make.build(outputs=[make.conv(y, channels=4, kernel=(3, 3))])


def test_rows_die_with_their_last_reader_and_are_born_with_their_writer():
    row = 8 * 4
    estimator = _estimator(_two_convolutions())
    cuts = region_of((0, 1), (8, 16), Halo.RECOMPUTED)
    _, program, found = estimator.footprint(Candidate(frozenset(), cuts))
    assert found is not None
    source, first_inner, out, second_inner, second_out = found.blocks
    # Steps: slice, conv, slice, conv of the first strip; the same of the second, from step 4;
    # crop, join. The first strip reads rows 0 to 9 of the input, the second rows 6 to 15.
    assert source == (LiveRows(0, 6 * row, 0, 2), LiveRows(6 * row, 16 * row, 0, 6))
    # 9 rows for the second convolution; the tenth, beside the cut, is wrong and read by nobody.
    assert first_inner == (LiveRows(0, 9 * row, 1, 4), LiveRows(9 * row, 10 * row, 1, 2))
    assert second_inner == (LiveRows(0, row, 5, 6), LiveRows(row, 10 * row, 5, 8))
    # Row 8 of the first output strip is garbage and gone when the second strip's row comes.
    assert out == (
        LiveRows(0, 8 * row, 3, 11),
        LiveRows(8 * row, 9 * row, 3, 4),
        LiveRows(8 * row, 16 * row, 9, 11),
    )
    # The garbage of the second one would fall on row 7, so its rows are copied.
    assert second_out == (LiveRows(0, row, 7, 8), LiveRows(row, 9 * row, 7, 10))
    assert found.copies == {9}
    # What a strip's second convolution holds: input from row 6 on, 9 rows, 9 rows.
    assert found.load(len(program.steps))[3] == (10 + 9 + 9) * row


def test_maps_that_grow_into_each_other_climb_by_the_distance():
    graph = _two_convolutions()
    estimator = _estimator(graph, overlap=True)
    _, program, found = estimator.footprint(Candidate())
    assert found is not None
    # Window (0, 0) of pixel (1, 1) is read until its last channel is written: (8 + 1 + 1) 4 - 1.
    distance, size = 48, 16 * 8 * 4
    assert len(found.blocks) == 1
    assert found.load(len(program.steps)) == [size + distance] * 2
    assert found.bound(len(program.steps)) == size + 2 * distance
    estimate = estimator.estimate(Candidate())
    assert estimate.head_bytes == size + 2 * distance
    apart = estimator.estimate(Candidate(frozenset(), Cuts(ends={1: ()}, own_place=frozenset({1}))))
    assert apart.head_bytes == 2 * size


def test_halos_that_are_kept_cost_no_convolution_rows_but_those_beside_cuts():
    graph = _two_convolutions()
    estimator = _estimator(graph)
    whole = estimator.network().total_macs
    ends = (8, 16)
    kept = estimator.estimate(Candidate(frozenset(), region_of((0, 1), ends, Halo.KEPT)))
    padded = Candidate(
        frozenset(), region_of((0, 1), ends, Halo.COPIED).replace(padded=frozenset({0, 1}))
    )
    exact = estimator.estimate(padded)
    again = estimator.estimate(Candidate(frozenset(), region_of((0, 1), ends, Halo.RECOMPUTED)))
    assert kept is not None
    assert exact is not None
    assert again is not None
    # With a PAD of its own no strip computes a row twice, or one that is wrong.
    assert exact.macs == whole
    # One row of garbage on each side of the one cut, in both convolutions: 2 of 16 rows.
    assert kept.macs == whole * 18 // 16
    assert again.macs > kept.macs


@pytest.mark.parametrize("board", ["host", "nano33ble"])
def test_the_estimated_tail_is_within_a_twentieth(board):
    """The estimate adds averages; what is aligned up differs from place to place."""
    seen = 0
    for seed in range(30):
        graph = drop_dead(banded_graph(seed))
        cuts = random_cuts(Network(graph), random.Random(seed))
        estimate = _estimator(graph, board).estimate(Candidate(frozenset(), cuts))
        cut = _cut(graph, seed, board, overlap=False)
        if estimate is not None and cut is not None:
            tail = predict_arena(cut.graph, offsets=None, target=target(board=board)).tail_bytes
            assert tail * 0.95 <= estimate.tail_bytes <= tail * 1.05
            seen += 1
    assert seen >= 20


def test_quick_height_lets_a_growing_map_follow_a_dying_one():
    # A map of 4 rows that dies row by row, and one of 4 rows born in the same steps.
    dying = tuple(LiveRows(8 * i * 16, 8 * (i + 1) * 16, 0, i + 1) for i in range(4))
    growing = tuple(LiveRows(8 * i * 16, 8 * (i + 1) * 16, i, 9) for i in range(4))
    row = 8 * 16
    assert packed_height([dying, growing], bound=5 * row, ceiling=8 * row) == 5 * row


def test_quick_height_never_goes_below_what_is_live():
    generator = random.Random(3)
    for _ in range(50):
        blocks = []
        for _ in range(generator.randint(1, 12)):
            first = generator.randint(0, 8)
            blocks.append(
                (
                    LiveRows(
                        0, 16 * generator.randint(1, 20), first, first + generator.randint(1, 5)
                    ),
                )
            )
        load = [0] * 16
        for ((_, size, first, until),) in blocks:
            for step in range(first, until):
                load[step] += size
        total = sum(block[0].stop for block in blocks)
        height = packed_height(blocks, bound=max(load), ceiling=total)
        assert max(load) <= height <= total


def test_quick_height_ends_where_the_ceiling_is_no_multiple_of_the_alignment():
    """20 bytes between a capacity that is too small and the ceiling once halved to the former."""
    spans = [(128, 0, 2), (64, 0, 3), (64, 2, 6), (80, 1, 4), (144, 3, 6)]
    blocks = [(LiveRows(0, size, first, until),) for size, first, until in spans]
    bound = 64 + 80 + 144
    assert packed_height(blocks, bound=bound, ceiling=bound + 52, swaps=0) == bound + 48
    # Another order of the blocks meets the bound.
    assert packed_height(blocks, bound=bound, ceiling=bound + 52) == bound


def test_every_step_is_read_by_another_or_leaves_the_graph():
    """Steps and operators correspond, so that a plan may speak of one by the other's number."""
    eager = 0
    for draw in (random_graph, banded_graph):
        for seed in range(150):
            network = Network(drop_dead(draw(seed)))
            cuts = random_cuts(network, random.Random(seed))
            cuts = normalised(network, cuts.replace(when_ready=frozenset(cuts.ends)))
            eager += len(cuts.when_ready)
            program = schedule(network, cuts)
            graph, _ = emit(network, program)
            assert len(drop_dead_tensors(graph)[0].operators) == len(program.steps), seed
    assert eager > 500


def test_cuts_without_effect_are_dropped():
    estimator = _estimator(_two_convolutions())
    estimate = estimator.estimate(Candidate(frozenset(), Cuts(ends={0: (16,), 1: ()})))
    assert estimate is not None
    assert estimate.candidate == Candidate()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
