"""Plans of random graphs, on two kernel libraries, run in the wheel at the predicted size."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from random_graphs import random_graph
from support import mlperf_tiny

from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.online import simulate
from deploy.backends.tflm.place import place
from deploy.backends.tflm.prepare import prepare
from deploy.backends.tflm.scratch import scratch_requests
from deploy.backends.tflm.settle import settled
from deploy.backends.tflm.strips import choose_strips
from deploy.backends.tflm.strips.costs import costs_of
from deploy.backends.tflm.strips.cuts import Cuts, normalised
from deploy.backends.tflm.strips.diagonal import Diagonals
from deploy.backends.tflm.strips.estimate import Candidate, Estimator
from deploy.backends.tflm.strips.schedule import Run
from deploy.backends.tflm.strips.walks import measure
from deploy.graph import Padding
from deploy.progress import Progress
from deploy.proof.samples import sample_inputs
from deploy.runtime import tflm
from deploy.settings import PlanSettings
from deploy.targets import Target, kernels, target
from tests.int8_graphs import Int8GraphMaker

SEEDS = range(150)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_run_as_planned(seed: int) -> None:
    graph = random_graph(seed)
    host = target(board="host")
    memory = place(graph, host.kernels, rounds=2, overlap=seed % 2 == 0)
    assert memory.lower_bound_bytes <= memory.head_bytes
    planned = embed(graph, memory.offsets)
    content = flatbuffer.write(planned)
    # The replay inside place() judges the plan for these kernels; the wheel cannot run them.
    place(graph, target(board="nano33ble").kernels, rounds=2)
    if tflm.unavailable_reason():
        pytest.skip(str(tflm.unavailable_reason()))
    predicted = predict_arena(planned, offsets=memory.offsets, target=host).arena_bytes
    assert tflm.smallest_arena(content, guess=predicted) == predicted
    samples = sample_inputs(graph)[3:8]
    roomy = tflm.ROOMY_ARENA_BYTES
    expected = tflm.run(flatbuffer.write(graph), samples, arena_bytes=roomy)
    found = tflm.run(content, samples, arena_bytes=predicted)
    for one, other in zip(expected, found, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def of_four_bytes(goal: Target) -> Target:
    runtime = dataclasses.replace(goal.runtime, arena_alignment_bytes=4)
    return dataclasses.replace(goal, runtime=runtime)


def test_a_runtime_that_aligns_to_four_bytes_is_planned() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 1, 5, 4))
    y = make.conv(make.conv(x, channels=3, kernel=(1, 2), padding=Padding.VALID), channels=5)
    graph = make.build(outputs=[y])
    goal = target(board="nano33ble", kernels="reference")
    for subject, head in ((goal, 32 + 16), (of_four_bytes(goal), 12 + 20)):
        settings = PlanSettings(board="nano33ble", kernels="reference", strips=False)
        memory = prepare(graph, subject, settings, Progress(enabled=False)).memory
        arena = predict_arena(graph, offsets=memory.offsets, target=subject)
        assert memory.head_bytes == memory.lower_bound_bytes == arena.head_bytes == head
        assert arena.arena_bytes % subject.runtime.arena_alignment_bytes == 0


def test_random_graphs_are_planned_for_four_bytes() -> None:
    goal = target(board="nano33ble", kernels="reference")
    smaller = 0
    for seed in range(20):
        graph = random_graph(seed, operators=(2, 6))
        heads = []
        for subject in (goal, of_four_bytes(goal)):
            unit = subject.runtime.arena_alignment_bytes
            memory = place(graph, subject.kernels, rounds=1, alignment=unit)
            arena = predict_arena(graph, offsets=memory.offsets, target=subject)
            assert arena.head_bytes == memory.head_bytes
            assert all(o % unit == 0 for o in memory.offsets if o >= 0)
            heads.append(arena.head_bytes)
        assert heads[1] <= heads[0]
        smaller += heads[1] < heads[0]
    assert smaller > 0


def test_strips_have_the_head_of_a_runtime_of_four_bytes() -> None:
    make = Int8GraphMaker(0)
    x = make.conv(make.input((1, 40, 5, 1)), channels=9, kernel=(3, 3))
    graph = make.build(outputs=[make.conv(x, channels=1, kernel=(3, 3))])
    goal = of_four_bytes(target(board="nano33ble", kernels="reference"))
    choice = choose_strips(
        graph, target=goal, max_macs=3.0, minimise="head", work=300, plan_rounds=1, workers=1
    )
    assert choice.regions
    arena = predict_arena(choice.graph, offsets=choice.memory.offsets, target=goal)
    assert arena.head_bytes == choice.memory.head_bytes


def test_the_search_for_strips_counts_in_steps_of_the_runtime() -> None:
    make = Int8GraphMaker(0)
    x = make.conv(make.input((1, 20, 3, 1)), channels=9, kernel=(3, 3))
    graph = make.build(outputs=[make.conv(x, channels=1, kernel=(3, 3))])
    usual = target(board="nano33ble", kernels="reference")
    goal = of_four_bytes(usual)
    estimates, heads, distances = [], [], []
    for subject in (usual, goal):
        estimator = Estimator(graph, costs_of(graph, subject, overlap=True))
        # Ten strips of two rows; those of the map of nine channels are made again.
        cuts = Cuts(ends={0: (), 1: tuple(range(2, 21, 2))}, recomputed=frozenset({0}))
        candidate = Candidate(cuts=normalised(estimator.network(), cuts))
        estimate = estimator.estimate(candidate)
        assert estimate is not None
        measured = measure(estimator, estimate, subject)
        assert measured is not None
        unit = subject.runtime.arena_alignment_bytes
        assert measured.cut.layout.problem.alignment_bytes == unit
        assert all(block.alignment == unit for block in measured.cut.layout.problem.blocks)
        assert estimate.head_bytes % unit == measured.memory.head_bytes % unit == 0
        network, program, _ = estimator.footprint(candidate)
        growing = Diagonals(network, subject.kernels, unit)
        steps = [step for step in program.steps if isinstance(step, Run)]
        distances.append([growing.distance(program, step) for step in steps][:2])
        estimates.append(estimate.head_bytes)
        heads.append(measured.memory.head_bytes)
    # 20·3 bytes of input, of output what is done, and four rows of 3·9 at most.
    assert estimates == heads == [19 * 16, 69 * 4]
    assert distances == [[7 * 16, 16], [25 * 4, 4]]


def test_the_kernel_library_changes_offsets_and_the_number() -> None:
    graph = flatbuffer.read_file(mlperf_tiny("pretrainedResnet_quant"))
    plans, heads = {}, {}
    for name in ("reference", "cmsis-nn-dsp"):
        goal = target(board="nano33ble", kernels=name)
        plans[name] = place(graph, goal.kernels).offsets
        heads[name] = predict_arena(graph, offsets=plans[name], target=goal).head_bytes
    assert plans["reference"] != plans["cmsis-nn-dsp"]
    requests = scratch_requests(graph, target(board="nano33ble").kernels)
    # Three maps of 32×32×16 live while the second convolution of the first block runs.
    at_peak = next(r.size_bytes for r in requests if r.operator_index == 2)
    assert heads["reference"] == 3 * 32 * 32 * 16
    assert heads["cmsis-nn-dsp"] == 3 * 32 * 32 * 16 + at_peak
    # In the reference kernels' plan there is no better gap for the scratch.
    elsewhere = simulate(graph, requests, offsets=plans["reference"]).head_bytes
    assert elsewhere >= heads["cmsis-nn-dsp"]


@pytest.mark.parametrize(
    ("head_less", "bound_less", "proven", "still"),
    [
        (0, 0, True, True),
        (16, 32, True, False),
        (0, 32, True, True),
        (0, 32, False, False),
        (16, 0, False, True),
        (0, -64, True, True),
    ],
)
def test_what_was_proven_holds_for_the_head_that_the_runtime_has(
    head_less: int, bound_less: int, proven: bool, still: bool
) -> None:
    make = Int8GraphMaker(2)
    x = make.conv(make.input((1, 8, 8, 4)), channels=8, kernel=(3, 3))
    graph, library = make.build(outputs=[make.conv(x, channels=4)]), kernels("cmsis-nn-dsp")
    plan = place(graph, library)
    head = plan.head_bytes
    claimed = dataclasses.replace(
        plan,
        head_bytes=head - head_less,
        lower_bound_bytes=head - bound_less,
        proven_optimal=proven,
    )
    found = settled(graph, claimed, library, overlaps={})
    assert found.head_bytes == head
    assert found.lower_bound_bytes == min(head - bound_less, head)
    assert found.proven_optimal is still


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
