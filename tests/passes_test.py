"""Dead code, operator order and MACs: against every order, and against LiteRT."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from deploy.flatbuffer import write
from deploy.graph import Graph, Operator, Padding
from deploy.macs import graph_macs, operator_macs
from deploy.passes import PASSES, USUAL_PASSES, Context, passes_of, run_passes
from deploy.passes.dead import DropDead, drop_dead
from deploy.passes.order import OrderForMemory, order_for_memory
from deploy.passes.text import passes_text
from deploy.runtime import litert
from deploy.settings import PlanSettings
from deploy.targets import kernels
from keras_fmc.errors import BadInputError
from tests.int8_graphs import Int8GraphMaker
from tests.random_graphs import random_graph


def _run(graph: Graph, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    sample = [
        generator.integers(-128, 128, graph.tensors[t].shape).astype(graph.tensors[t].dtype)
        for t in graph.inputs
    ]
    return litert.run(write(graph), [sample])[0]


@pytest.mark.parametrize("seed", range(30))
def test_passes_change_no_output_byte(seed):
    graph = random_graph(seed)
    for before, after in zip(_run(graph, seed), _run(run_passes(graph), seed), strict=True):
        assert np.array_equal(before, after)


def test_every_pass_says_why_it_stands_where_it_stands():
    assert [p.name for p, _ in PASSES] == ["plain_slices", "drop_dead", "order_for_memory"]
    assert all(reason for _, reason in PASSES)


def test_passes_are_text_and_back():
    assert passes_text(passes_of(USUAL_PASSES)) == USUAL_PASSES
    assert passes_of(USUAL_PASSES) == tuple(p for p, _ in PASSES)
    assert passes_of(" order_for_memory:states=7 , drop_dead") == (OrderForMemory(7), DropDead())
    assert passes_of("") == ()
    assert PlanSettings(passes="drop_dead").pass_list == (DropDead(),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drop_deaf", "unknown pass 'drop_deaf'; expected plain_slices, drop_dead, order"),
        ("drop_dead:states=3", "drop_dead has a wrong option; expected no option"),
        ("order_for_memory:state=3", "expected states=NUMBER; received state=3"),
        ("order_for_memory:states=0", "received states=0"),
        ("order_for_memory:states", "received states"),
    ],
)
def test_wrong_passes_are_refused(text, message):
    with pytest.raises(BadInputError, match=message):
        PlanSettings(passes=text)


def test_only_the_passes_that_are_named_run():
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 2))
    make.unary("RELU", x)
    y = make.strided_slice(x, (0, 1, 0, 0), (1, 3, 4, 2), (1,) * 4)
    graph = make.build(outputs=[y])
    assert run_passes(graph, passes=()) is graph
    opcodes = [
        [o.opcode for o in run_passes(graph, passes=passes_of(text)).operators]
        for text in ("drop_dead", "plain_slices", "plain_slices,drop_dead")
    ]
    assert opcodes == [["STRIDED_SLICE"], ["RELU", "SLICE"], ["SLICE"]]


def test_the_order_knows_what_the_target_runs_in_place():
    library = kernels("reference")
    assert Context(library).in_place == library.in_place
    assert Context().in_place == frozenset()
    differs = 0
    for seed in range(60):
        graph = random_graph(seed)
        plain, aware = run_passes(graph), run_passes(graph, Context(library))
        peaks = [
            order_for_memory(g, in_place=library.in_place, states=1).peak_bytes
            for g in (plain, aware)
        ]
        assert peaks[1] <= peaks[0]
        differs += peaks[1] < peaks[0]
    assert differs > 0


def test_dead_operators_and_tensors_go_and_the_rest_keeps_its_order():
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 2))
    dead = make.unary("RELU", x)
    make.unary("TANH", dead)
    y = make.unary("LOGISTIC", x)
    make.constant_like(x, (3,))
    graph = make.build(outputs=[y])
    alive = drop_dead(graph)
    assert [operator.opcode for operator in alive.operators] == ["LOGISTIC"]
    assert len(alive.tensors) == 2
    assert alive.tensors[alive.inputs[0]] == graph.tensors[x]
    assert alive.tensors[alive.outputs[0]] == graph.tensors[y]
    assert len(graph.operators) == 3


def test_a_graph_without_dead_parts_comes_back_as_it_is():
    make = Int8GraphMaker(0)
    graph = make.build(outputs=[make.unary("RELU", make.input((1, 4, 4, 2)))])
    assert drop_dead(graph) is graph


def test_absent_inputs_stay_absent():
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 2))
    make.constant_like(x, (1,))
    y = make.depthwise(x, bias=False)
    graph = make.build(outputs=[y])
    (operator,) = graph.operators
    graph = graph.replace(
        operators=(
            Operator(
                operator.opcode, (*operator.inputs, -1), operator.outputs, operator.options, 3
            ),
        )
    )
    assert drop_dead(graph).operators[0].inputs[-1] == -1


def _peak(graph: Graph, order: tuple[int, ...]) -> int | None:
    """The largest live set of an order by definition, or None if it cannot run."""
    written = set(graph.inputs)
    peak = 0
    for place, index in enumerate(order):
        operator = graph.operators[index]
        read = [t for t in operator.present_inputs if not graph.tensors[t].is_constant]
        if any(t not in written for t in read):
            return None
        later = {t for other in order[place:] for t in graph.operators[other].present_inputs}
        live = (written & (later | set(graph.outputs))) | set(operator.outputs)
        peak = max(peak, sum(graph.tensors[t].size_bytes for t in live))
        written |= set(operator.outputs)
    return peak


def _branches(seed: int) -> Graph:
    """Three or four branches of two operators between one input and one sum."""
    make = Int8GraphMaker(seed)
    x = make.input((1, 6, 6, 2))
    ends = []
    for _ in range(2 + seed % 2):
        wide = make.conv(x, channels=int(make.rng.choice((2, 8, 16))))
        ends.append(make.conv(wide, channels=4, kernel=(3, 3)))
    # As a converter would not write them: all first halves before all second halves.
    graph = make.build(outputs=[make.concatenation(ends, axis=3)])
    operators = graph.operators
    mixed = (*operators[:-1:2], *operators[1:-1:2], operators[-1])
    return graph.replace(operators=mixed)


@pytest.mark.parametrize("seed", range(8))
def test_the_order_is_the_best_of_all_orders(seed):
    graph = _branches(seed)
    found = order_for_memory(graph)
    peaks = [
        peak
        for order in itertools.permutations(range(len(graph.operators)))
        if (peak := _peak(graph, order)) is not None
    ]
    assert found.peak_bytes == min(peaks)
    assert found.proven_optimal
    assert _peak(found.graph, tuple(range(len(graph.operators)))) == min(peaks)


def test_a_search_cut_off_gives_a_bound_that_holds():
    for seed in range(8):
        graph = _branches(seed)
        best = order_for_memory(graph).peak_bytes
        early = order_for_memory(graph, states=3)
        assert early.lower_bound_bytes <= best <= early.peak_bytes
        assert not early.proven_optimal or early.peak_bytes == best


def test_an_order_that_is_as_good_as_any_is_left_alone():
    make = Int8GraphMaker(0)
    x = make.input((1, 8, 8, 2))
    graph = make.build(outputs=[make.conv(make.conv(x, channels=4), channels=2)])
    found = order_for_memory(graph)
    assert found.graph is graph
    # Input and wide map, then wide map and output.
    assert found.peak_bytes == 8 * 8 * (2 + 4)


def test_operators_in_place_need_no_second_map():
    make = Int8GraphMaker(0)
    graph = make.build(outputs=[make.unary("RELU", make.input((1, 8, 8, 2)))])
    assert order_for_memory(graph).peak_bytes == 2 * 8 * 8 * 2
    assert order_for_memory(graph, in_place={"RELU"}).peak_bytes == 8 * 8 * 2


def test_macs_are_products_of_weights_and_activations():
    make = Int8GraphMaker(0)
    x = make.input((1, 8, 6, 4))
    y = make.conv(x, channels=10, kernel=(3, 2), stride=(2, 1))
    y = make.depthwise(y, kernel=(3, 3), padding=Padding.VALID, multiplier=2)
    y = make.transpose_conv(y, channels=5, kernel=(3, 3), stride=(2, 2))
    y = make.unary("RELU", y)
    y = make.fully_connected(make.mean(y), units=7)
    graph = make.build(outputs=[y])
    counts = [operator_macs(graph, index) for index in range(len(graph.operators))]
    assert counts == [
        4 * 6 * 10 * (3 * 2 * 4),
        2 * 4 * 20 * (3 * 3),
        2 * 4 * 20 * (3 * 3 * 5),
        0,
        0,
        5 * 7,
    ]
    assert graph_macs(graph) == sum(counts)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
