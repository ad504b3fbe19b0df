"""The predicted arena is the smallest in which the wheel allocates the model, to 16 bytes."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.place import place
from deploy.emit.resolver import ADD_FUNCTIONS
from deploy.graph import CUSTOM, Graph
from deploy.outcome import ArenaPrediction
from deploy.runtime import tflm
from deploy.targets import kernels, target
from keras_fmc.errors import UnsupportedModelError
from tests.custom_graphs import DRAWS
from tests.int8_graphs import Int8GraphMaker
from tests.operator_draws import is_drawn
from tests.random_graphs import random_graph
from tests.single_operators import NAMES, single_operator
from tests.stateful_graphs import STATEFUL
from tests.support import MLPERF_TINY, mlperf_tiny

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)
HOST = target(board="host")


def check(graph: Graph, offsets: tuple[int, ...] | None = None) -> ArenaPrediction:
    """Asserts that the prediction is exact: it fits, 16 bytes less do not."""
    predicted = predict_arena(graph, offsets=offsets, target=HOST)
    content = flatbuffer.write(graph if offsets is None else embed(graph, offsets))
    measured = tflm.allocations(content, tflm.ROOMY_ARENA_BYTES)
    assert predicted.head_bytes == measured.head_bytes
    assert predicted.tail_bytes == measured.tail_bytes
    assert sum(size for _, size in predicted.breakdown) == predicted.tail_bytes
    assert tflm.fits(content, predicted.arena_bytes)
    assert not tflm.fits(content, predicted.arena_bytes - 16)
    return predicted


@needs_wheel
@pytest.mark.parametrize("name", MLPERF_TINY)
def test_mlperf_tiny(name: str) -> None:
    path = mlperf_tiny(name)
    graph = flatbuffer.read_file(path)
    predicted = predict_arena(graph, offsets=None, target=HOST)
    assert predicted.arena_bytes == tflm.smallest_arena(path.read_bytes(), guess=100)
    check(graph)


@needs_wheel
@pytest.mark.parametrize("name", NAMES)
def test_each_operator(name: str) -> None:
    check(single_operator(name))


CALLED = {"ASSIGN_VARIABLE", "CALL_ONCE", "IF", "READ_VARIABLE", "VAR_HANDLE", "WHILE"}


def test_every_opcode_with_data_is_tested() -> None:
    tested = {op.kind for name in NAMES for op in single_operator(name).operators}
    # Those are in state_test, tflm_operators_test and subgraphs_test, against the wheel as well.
    tested |= STATEFUL.keys() | {kind for kind in ADD_FUNCTIONS if is_drawn(kind)}
    tested |= {f"{CUSTOM} {code}" for code in DRAWS} | CALLED
    # In circular_buffer_test.
    tested.add(f"{CUSTOM} CIRCULAR_BUFFER")
    assert kernels("reference").rules.keys() <= tested


@needs_wheel
def test_200_random_graphs() -> None:
    for seed in range(200):
        check(random_graph(seed))


@needs_wheel
def test_200_random_graphs_with_an_offline_plan() -> None:
    for seed in range(200):
        graph = random_graph(1000 + seed, operators=(1, 20))
        rng = np.random.default_rng(seed)
        check(
            graph,
            tuple(
                int(rng.integers(0, 800)) * 4 if not t.is_constant and rng.integers(4) else -1
                for t in graph.tensors
            ),
        )


@needs_wheel
def test_plans_of_the_planner() -> None:
    for seed in range(40):
        graph = random_graph(seed)
        check(graph, place(graph, HOST.kernels, rounds=2).offsets)


@needs_wheel
def test_temporaries_of_a_wide_convolution_decide() -> None:
    # The weights twice and the bias once, with 500 scales each, are more than the planner needs.
    make = Int8GraphMaker(0)
    x = make.input((1, 1, 1, 2))
    predicted = check(make.build(outputs=[make.conv(x, channels=500)]))
    before_ends = predicted.tail_bytes - dict(predicted.breakdown)["inputs and outputs"]
    temporaries = 3 * (4 + 4 * 500)
    assert predicted.arena_bytes > before_ends + temporaries
    assert predicted.arena_bytes == predicted.allocation_bytes


@needs_wheel
def test_the_planner_decides_where_tensors_are_many_and_small() -> None:
    graph = flatbuffer.read_file(mlperf_tiny("ad01_int8"))
    predicted = check(graph)
    assert predicted.head_bytes + predicted.tail_bytes == 3984
    assert predicted.arena_bytes == predicted.allocation_bytes == 4640


def test_an_unknown_operator_is_named() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 2))
    graph = make.build(outputs=[make.operator("TILE", [x], (1, 4, 4, 2), make.quantization(x))])
    with pytest.raises(UnsupportedModelError, match=r"memory of TILE #0 \(tile_1\) is not known"):
        predict_arena(graph, offsets=None, target=HOST)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
