"""Ways of cutting that shorten lives: strips that run ahead, thinned maps, copies, sums apart."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from deploy.backends.tflm.strips.choose import cut
from deploy.backends.tflm.strips.clones import THINNED, cloneable, with_clones
from deploy.backends.tflm.strips.cuts import Cuts, normalised
from deploy.backends.tflm.strips.footprint import Footprint, footprint
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.schedule import Program, Run, schedule
from deploy.flatbuffer import write
from deploy.graph import Graph, Padding
from deploy.macs import graph_macs
from deploy.runtime import litert
from tests.int8_graphs import Int8GraphMaker

_IN_PLACE = ("ADD",)


def _forked() -> Graph:
    """x (16x16x2) → 0: y (16x16x4), read by 1: 3x3, stride 2 and 2: 1x1, stride 2; 3: their sum."""
    make = Int8GraphMaker(3)
    y = make.conv(make.input((1, 16, 16, 2)), channels=4, kernel=(3, 3))
    a = make.conv(y, channels=6, kernel=(3, 3), stride=(2, 2))
    b = make.conv(y, channels=6, kernel=(1, 1), stride=(2, 2))
    return make.build(outputs=[make.binary("ADD", a, b)])


def _outputs(graph: Graph) -> np.ndarray:
    generator = np.random.default_rng(8)
    shape = graph.tensors[graph.inputs[0]].shape
    samples = [[generator.integers(-128, 128, shape).astype(np.int8)] for _ in range(2)]
    return np.stack([outputs[0] for outputs in litert.run(write(graph), samples)])


def _programmed(graph: Graph, cuts: Cuts) -> tuple[Program, Footprint]:
    network = Network(graph)
    cuts = normalised(network, cuts)
    program = schedule(network, cuts)
    found = footprint(network, cuts, program, _IN_PLACE)
    assert found is not None
    assert np.array_equal(_outputs(cut(graph, cuts)), _outputs(graph))
    return program, found


def _order(program: Program) -> list[int]:
    return [step.operator for step in program.steps if isinstance(step, Run)]


def test_strips_that_run_ahead_let_their_map_die_strip_by_strip():
    graph = _forked()
    cuts = Cuts(ends={0: (), 1: (4, 8), 2: ()}, padded=frozenset({0, 1}))
    waiting, late = _programmed(graph, cuts)
    ahead, early = _programmed(graph, cuts.replace(when_ready=frozenset({2})))
    # Without, operator 2 is asked for its rows only when 1 is done, and y is whole by then.
    assert _order(waiting) == [0, 1, 0, 1, 2, 3]
    # Of the 9 rows that the first strip of 1 needs come rows 0 to 4 of operator 2.
    assert _order(ahead) == [0, 2, 1, 0, 2, 1, 3]
    y = 16 * 16 * 4
    assert max(late.load(len(waiting.steps))) >= y + 2 * 8 * 8 * 6 - 1
    assert max(early.load(len(ahead.steps))) < y + 2 * 8 * 8 * 6 - 1


def test_an_operator_that_is_asked_for_all_rows_runs_along_with_what_it_reads():
    graph = _forked()
    # Operator 1 has no strips of its own; the whole sum asks for all of it at once.
    cuts = Cuts(ends={0: (8, 16), 1: (), 2: ()}, padded=frozenset({0, 1}))
    waiting, _ = _programmed(graph, cuts)
    along, _ = _programmed(graph, cuts.replace(when_ready=frozenset({1, 2})))
    assert _order(waiting) == [0, 0, 1, 2, 3]
    # Of the first 8 rows, row 7 alone is for the next strip.
    assert _order(along) == [0, 1, 2, 0, 1, 2, 3]


def test_strips_run_ahead_from_the_last_row_too():
    graph = _forked()
    cuts = Cuts(
        ends={0: (), 1: (4, 8), 2: ()},
        padded=frozenset({0, 1}),
        upwards=frozenset({1}),
        when_ready=frozenset({2}),
    )
    program, _ = _programmed(graph, cuts)
    assert _order(program) == [0, 2, 1, 0, 2, 1, 3]
    first = next(s for s in program.steps if isinstance(s, Run) and s.operator == 1)
    assert program.values[first.outputs[0]].rows == (4, 8)


def test_a_strided_1x1_convolution_may_read_a_thinned_map():
    graph = _forked()
    assert (2, THINNED) in cloneable(graph, 0, [0] * 4)
    assert (1, THINNED) not in cloneable(graph, 0, [0] * 4)
    thinned, order = with_clones(graph, {(2, THINNED)})
    # The pooling comes last among the operators, and runs before the first reader of y.
    assert order == (0, 4, 1, 2, 3)
    pooling = thinned.operators[4]
    assert pooling.opcode == "MAX_POOL_2D"
    assert thinned.tensors[pooling.outputs[0]].shape == (1, 8, 8, 4)
    in_order = thinned.replace(operators=tuple(thinned.operators[o] for o in order))
    assert graph_macs(in_order) == graph_macs(graph)
    assert np.array_equal(_outputs(in_order), _outputs(graph))


@pytest.mark.parametrize("size", [(7, 9), (8, 6), (1, 11)])
@pytest.mark.parametrize("padding", [Padding.SAME, Padding.VALID])
@pytest.mark.parametrize("stride", [(2, 2), (3, 2), (1, 3)])
def test_thinning_changes_no_byte(size, padding, stride):
    make = Int8GraphMaker(5)
    x = make.input((1, *size, 5))
    graph = make.build(
        outputs=[make.conv(x, channels=3, kernel=(1, 1), stride=stride, padding=padding)]
    )
    thinned, order = with_clones(graph, {(0, THINNED)})
    in_order = thinned.replace(operators=tuple(thinned.operators[o] for o in order))
    assert [operator.opcode for operator in in_order.operators] == ["MAX_POOL_2D", "CONV_2D"]
    assert np.array_equal(_outputs(in_order), _outputs(graph))


def test_a_map_computed_again_can_be_thinned_as_well():
    graph = _forked()
    changed, order = with_clones(graph, {(0, 2), (2, THINNED)})
    in_order = changed.replace(operators=tuple(changed.operators[o] for o in order))
    assert np.array_equal(_outputs(in_order), _outputs(graph))


def test_strips_of_one_row_are_copied_whole():
    make = Int8GraphMaker(7)
    y = make.conv(make.input((1, 16, 16, 2)), channels=4, kernel=(3, 3))
    graph = make.build(outputs=[make.conv(y, channels=4, kernel=(3, 3))])
    rows = tuple(range(1, 17))
    every = frozenset({0, 1})
    stays = Cuts(ends={0: rows, 1: rows}, padded=every)
    _, kept = _programmed(graph, stays)
    program, moved = _programmed(graph, stays.replace(copied=frozenset({0})))
    row = 16 * 4

    def heights(found: Footprint) -> dict[int, int]:
        tensors: dict[int, int] = {}
        for block, owners in zip(found.blocks, found.owners, strict=True):
            for owner in owners:
                tensor = program.values[owner].tensor if found is moved else -1
                top = max(r.stop for r in block)
                tensors[tensor] = max(tensors.get(tensor, 0), top)
        return tensors

    # Kept in one place, y takes the room of all its rows; moved along, that of few.
    assert heights(kept)[-1] == 16 * row
    assert heights(moved)[y] <= 4 * row
    assert moved.copies


def test_an_output_apart_takes_no_inputs_place():
    graph = _forked()
    ends = {0: (), 1: (), 2: (), 3: (4, 8)}
    program, together = _programmed(graph, Cuts(ends=ends))
    sums = {s.outputs[0] for s in program.steps if isinstance(s, Run) and s.operator == 3}
    assert len(sums) == 2
    assert sums <= together.in_place_of.keys()
    _, apart = _programmed(graph, Cuts(ends=ends, own_place=frozenset({3})))
    assert not sums & apart.in_place_of.keys()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
