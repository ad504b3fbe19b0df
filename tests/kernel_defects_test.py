"""Shapes that a kernel library gets wrong: known, warned of, and never made by strips."""

from __future__ import annotations

import dataclasses
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.defects import (
    defective_operators,
    defects_of,
    selected_function,
    warnings_of,
)
from deploy.backends.tflm.online import simulate
from deploy.backends.tflm.place import place
from deploy.backends.tflm.scratch import scratch_requests
from deploy.backends.tflm.settle import settled
from deploy.backends.tflm.strips import choose_strips
from deploy.backends.tflm.strips.costs import costs_of
from deploy.backends.tflm.strips.cuts import Cuts, normalised
from deploy.backends.tflm.strips.emit import emit
from deploy.backends.tflm.strips.estimate import Candidate, Estimator
from deploy.backends.tflm.strips.layout import cut_graph
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.schedule import schedule
from deploy.backends.tflm.strips.unsound import Unsound
from deploy.graph import Graph, Padding
from deploy.memory.plan import MemoryPlan
from deploy.targets import kernels, target
from deploy.targets.load_kernels import read_kernels
from keras_fmc.errors import BadInputError, VerificationError
from tests.int8_graphs import Int8GraphMaker
from tests.strip_graphs import random_cuts
from tests.window_graphs import graph_of

MEASURED = json.loads((Path(__file__).parent / "data" / "kernel_defects.json").read_text())["rows"]
MVE = kernels("cmsis-nn-mve")


def of_kind(op: str) -> list[dict[str, Any]]:
    return [row for row in MEASURED if row["op"] == op]


def names(row: dict[str, Any], library: str) -> set[str]:
    graph = graph_of({**row, "dilation": (1, 1)})
    return {d.name for d in defects_of(graph.operators[0], graph, kernels(library))}


def test_convolutions_over_one_row_are_known_to_be_wrong_where_a_core_says_so() -> None:
    rows = of_kind("CONV_2D")
    assert len({row["wrong"] for row in rows}) == 2
    for row in rows:
        assert names(row, "cmsis-nn-mve") == ({"one-row-padding"} if row["wrong"] else set()), row
        assert names(row, "cmsis-nn-dsp") == set()


@pytest.mark.parametrize("core", ["scalar", "dsp", "mve"])
def test_transposed_convolutions_are_known_to_be_wrong_where_a_core_says_so(core: str) -> None:
    harm = {"transpose-conv-partial-rows", "transpose-conv-rows-beyond"}
    for row in of_kind("TRANSPOSE_CONV"):
        found, later = names(row, f"cmsis-nn-{core}"), names(row, f"cmsis-nn-{core}-2026-07")
        assert bool(found & harm) == row["wrong"], row
        assert bool(later & harm) == row["wrong_later"], row
        assert ("transpose-conv-scratch" in found) == (row["used"] > row["asked"]), row


def test_scratch_has_the_room_that_a_core_was_seen_to_use() -> None:
    beyond = 0
    for row in of_kind("TRANSPOSE_CONV"):
        graph = graph_of({**row, "dilation": (1, 1)})
        first = scratch_requests(graph, kernels("cmsis-nn-dsp"))[0]
        assert first.size_bytes == row["asked"]
        assert first.room_bytes >= row["used"], row
        beyond += first.room_bytes > first.size_bytes
    assert beyond > 10


def wide_strides() -> Graph:
    """A transposed convolution that writes past its scratch, between two others."""
    make = Int8GraphMaker(3)
    x = make.conv(make.input((1, 6, 7, 3)), channels=8, kernel=(3, 3))
    x = make.transpose_conv(x, channels=5, kernel=(2, 2), stride=(1, 3))
    return make.build(outputs=[make.conv(x, channels=4)])


def test_a_plan_keeps_the_bytes_behind_a_scratch_buffer_free() -> None:
    graph, goal = wide_strides(), target(board="nano33ble")
    memory = place(graph, goal.kernels)
    requests = scratch_requests(graph, goal.kernels)
    online = simulate(graph, requests, offsets=memory.offsets)
    (at,) = [i for i, r in enumerate(requests) if r.room_bytes > r.size_bytes]
    # 6 x 3 + 3 columns of 5 channels and 2 rows, not 6 x 3 + 2.
    assert requests[at].size_bytes == 4 * (6 * 3 + 2) * 5 * 2
    assert requests[at].room_bytes == 4 * (6 * 3 + 3) * 5 * 2
    start = online.scratch_offsets[at]
    stop = start + requests[at].room_bytes
    operator = graph.operators[requests[at].operator_index]
    for tensor in (operator.inputs[2], operator.outputs[0]):
        offset = memory.offsets[tensor]
        assert stop <= offset or offset + graph.tensors[tensor].size_bytes <= start
    arena = predict_arena(graph, offsets=memory.offsets, target=goal)
    assert arena.arena_bytes >= stop + arena.tail_bytes
    assert "writes past the scratch buffer" in warnings_of(graph, goal.kernels)[0]


def test_scratch_past_the_head_counts_in_the_arena() -> None:
    make = Int8GraphMaker(3)
    graph = make.build(
        outputs=[
            make.transpose_conv(make.input((1, 6, 7, 3)), channels=5, kernel=(2, 2), stride=(1, 3))
        ]
    )
    goal = target(board="nano33ble")
    source, made = graph.inputs[0], graph.outputs[0]
    offsets = [-1] * len(graph.tensors)
    # 6 x 7 x 3 bytes, and behind them 7 x 21 x 5: the buffer comes last.
    offsets[source], offsets[made] = 0, 128
    online = simulate(graph, scratch_requests(graph, goal.kernels), offsets=offsets)
    start = online.scratch_offsets[0]
    assert online.head_bytes == start + 4 * (6 * 3 + 2) * 5 * 2
    assert online.reach_bytes == start + -(-4 * (6 * 3 + 3) * 5 * 2 // 16) * 16
    arena = predict_arena(graph, offsets=offsets, target=goal)
    assert arena.head_bytes == online.head_bytes
    assert arena.arena_bytes >= online.reach_bytes + arena.tail_bytes


def test_a_plan_with_something_behind_a_scratch_buffer_is_refused() -> None:
    make = Int8GraphMaker(3)
    x = make.input((1, 6, 7, 3))
    made = make.transpose_conv(x, channels=5, kernel=(2, 2), stride=(1, 3))
    graph, library = make.build(outputs=[made]), kernels("cmsis-nn-dsp")
    plan = place(graph, library)
    asked, used = 4 * (6 * 3 + 2) * 5 * 2, 4 * (6 * 3 + 3) * 5 * 2

    def moved(gap: int) -> MemoryPlan:
        """The output so far behind the input that the buffer just fits between them."""
        offsets = list(plan.offsets)
        offsets[x], offsets[made] = 0, 128 + gap
        return dataclasses.replace(plan, offsets=tuple(offsets))

    settled(graph, moved(-(-used // 16) * 16), library, overlaps={})
    with pytest.raises(VerificationError, match=r"scratch of TRANSPOSE_CONV #0 .* overlaps"):
        settled(graph, moved(asked), library, overlaps={})


def one_row_at_a_time() -> Graph:
    """A map of many rows whose strips of one row select another function of the library."""
    make = Int8GraphMaker(0)
    x = make.input((1, 31, 16, 4))
    x = make.conv(x, channels=24, kernel=(1, 3), stride=(1, 2), padding=Padding.VALID)
    x = make.conv(x, channels=8, kernel=(3, 1), stride=(2, 1))
    return make.build(outputs=[make.mean(x)])


def test_the_search_makes_no_strip_that_the_library_gets_wrong() -> None:
    graph, goal = one_row_at_a_time(), target(board="corstone300")
    found = choose_strips(graph, target=goal, minimise="head", work=60_000, plan_rounds=0)
    assert found.regions, "nothing was cut"
    assert defective_operators(found.graph, goal.kernels) == ()


def test_a_way_of_cutting_with_an_unsound_strip_is_neither_judged_nor_written() -> None:
    graph, goal = one_row_at_a_time(), target(board="corstone300")
    cuts = normalised(Network(graph), Cuts({0: tuple(range(1, 32))}))
    sound = dataclasses.replace(goal.kernels, defects=())
    for library, allowed in ((goal.kernels, False), (sound, True)):
        costs = costs_of(graph, dataclasses.replace(goal, kernels=library), overlap=False)
        estimator = Estimator(graph, costs)
        candidate = Candidate(cuts=cuts)
        assert (estimator.estimate(candidate) is not None) is allowed
        network, program, footing = estimator.footprint(candidate)
        assert footing is not None
        assert (cut_graph(network, program, footing, library) is not None) is allowed


def test_programs_with_an_unsound_strip_are_told_from_the_emitted_graph() -> None:
    unsound = 0
    for seed in range(120):
        generator = random.Random(seed)
        make = Int8GraphMaker(seed)
        rows, columns = generator.choice(((9, 16), (9, 13), (1, 40), (1, 33)))
        x = make.input((1, rows, columns, 4))
        padding = generator.choice((Padding.SAME, Padding.VALID))
        kernel, stride = generator.choice((2, 3, 5)), generator.choice((1, 2, 3))
        down = 1 if rows == 1 else generator.choice((1, 2))
        x = make.conv(x, channels=4, kernel=(1, kernel), stride=(down, stride), padding=padding)
        graph = make.build(outputs=[make.conv(x, channels=3)])
        network = Network(graph)
        program = schedule(network, normalised(network, random_cuts(network, generator)))
        emitted = emit(network, program)[0]
        whole = {graph.tensors[t].shape for t in (graph.operators[0].inputs[0],)}
        wrong = {
            item.operator_index
            for item in defective_operators(emitted, MVE)
            if emitted.tensors[emitted.operators[item.operator_index].inputs[0]].shape not in whole
        }
        assert Unsound(network, MVE).any_in(program) == bool(wrong), seed
        unsound += bool(wrong)
    assert 5 < unsound < 110


def test_an_operator_that_runs_whole_is_the_models_own() -> None:
    make = Int8GraphMaker(0)
    window = {"kernel": (1, 3), "stride": (1, 2), "padding": Padding.VALID}
    x = make.conv(make.input((1, 1, 16, 4)), channels=24, **window)
    graph = make.build(outputs=[make.mean(x)])
    network = Network(graph)
    assert not Unsound(network, MVE).any_in(schedule(network, normalised(network, Cuts())))
    sentence = warnings_of(graph, MVE)[0]
    assert sentence.startswith("CONV_2D #0")
    for word in (
        "arm_convolve_1_x_n_s8",
        "CMSIS-NN",
        "4ab83cc",
        "last columns wrong",
        "stride of 1",
    ):
        assert word in sentence


@pytest.mark.parametrize(
    ("function", "window"),
    [
        ("arm_convolve_1x1_s8_fast", {}),
        ("arm_convolve_1x1_s8", {"stride": (2, 2)}),
        ("arm_convolve_s8", {"groups": 2}),
        ("arm_convolve_s8", {"kernel": (1, 3)}),
    ],
)
def test_the_function_follows_the_shape(function: str, window: dict[str, Any]) -> None:
    make = Int8GraphMaker(0)
    graph = make.build(outputs=[make.conv(make.input((1, 8, 8, 4)), channels=4, **window)])
    assert selected_function(graph.operators[0], graph, MVE) == function


def test_defects_are_inherited_until_they_are_mended() -> None:
    data = {"name": "x", "summary": "", "source": "", "extends": "cmsis-nn-mve"}
    older = read_kernels(data, where="x")
    assert older.defects == MVE.defects
    assert older.rules["CONV_2D"] == MVE.rules["CONV_2D"]
    newer = read_kernels({**data, "mended": ["one-row-padding"]}, where="x")
    assert {d.name for d in older.defects} - {d.name for d in newer.defects} == {"one-row-padding"}
    with pytest.raises(BadInputError, match="x mends what is not known; received nothing"):
        read_kernels({**data, "mended": ["nothing"]}, where="x")
    entry = {"name": "d", "function": "f", "when": "1", "effect": "", "remedy": "", "source": ""}
    with pytest.raises(BadInputError, match="'d' is of a function that nothing selects"):
        read_kernels({**data, "defects": [entry]}, where="x")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
