"""Lifetimes against sizes worked out by hand, and against the replay on labels."""

from __future__ import annotations

import sys

import pytest
from graph_maker import GraphMaker
from hypothesis import given, settings
from hypothesis import strategies as st
from support import MLPERF_TINY, mlperf_tiny

from deploy import flatbuffer
from deploy.backends.tflm.layout import Layout, analyse, memory_plan
from deploy.graph import Graph
from deploy.lifetimes import tensor_lifetimes
from deploy.memory.plan import AliasReason
from deploy.memory.problem import Placement, Problem, round_up
from deploy.proof.replay import verify_plan
from keras_fmc.errors import VerificationError

IN_PLACE = ("RELU", "ADD")


def first_fit(problem: Problem) -> Placement:
    """The plainest planner: blocks in order, each at the lowest multiple of 16 that is free."""
    placed: list[tuple[int, object]] = []
    for block in problem.blocks:
        offset = 0
        while any(
            p.start < q.stop
            and q.start < p.stop
            and offset + p.offset < other + q.end
            and other + q.offset < offset + p.end
            for other, earlier in placed
            for p in block.pieces
            for q in earlier.pieces
        ):
            offset += 16
        placed.append((offset, block))
    offsets = tuple(offset for offset, _ in placed)
    height = problem.height_of(offsets)
    return Placement(offsets, height, height, False, "first fit")


def plan_and_check(graph: Graph, layout: Layout) -> int:
    plan = memory_plan(layout, first_fit(layout.problem))
    verify_plan(graph, plan.offsets, head_bytes=plan.head_bytes, in_place=IN_PLACE)
    return plan.head_bytes


def live_bytes(layout: Layout, step: int) -> int:
    return sum(
        p.size_bytes
        for block in layout.problem.blocks
        for p in block.pieces
        if p.start <= step < p.stop
    )


def test_rows_of_a_map_die_and_are_born_strip_by_strip() -> None:
    maker = GraphMaker()
    row = 4 * 8
    source = maker.tensor(1, 6, 4, 8)
    strips = []
    for first in (0, 2, 4):
        strips.append(maker.unary(maker.rows(source, first, first + 2), "HARD_SWISH"))
    graph = maker.build((source,), (maker.concat(*strips),))
    layout = analyse(graph)
    assert [len(b.pieces) for b in layout.problem.blocks] == [3, 3]
    before, after = layout.problem.blocks
    # Operators: slice, hard swish three times, then the concatenation.
    assert [(p.offset, p.size_bytes, p.start, p.stop) for p in before.pieces] == [
        (0 * row, 2 * row, 0, 2),
        (2 * row, 2 * row, 0, 4),
        (4 * row, 2 * row, 0, 6),
    ]
    assert [(p.offset, p.size_bytes, p.start, p.stop) for p in after.pieces] == [
        (0 * row, 2 * row, 1, 7),
        (2 * row, 2 * row, 3, 7),
        (4 * row, 2 * row, 5, 7),
    ]
    assert [live_bytes(layout, step) for step in range(7)] == [
        6 * row,
        6 * row + 2 * row,
        4 * row + 2 * row,
        4 * row + 4 * row,
        2 * row + 4 * row,
        2 * row + 6 * row,
        6 * row,
    ]
    # The output grows into the rows that the input has given up: 8 rows where first fit takes 12.
    assert plan_and_check(graph, layout) == 12 * row
    plan = memory_plan(layout, Placement((2 * row, 0), 8 * row, 8 * row, True, "by hand"))
    verify_plan(graph, plan.offsets, head_bytes=8 * row)
    tight = memory_plan(layout, Placement((row, 0), 7 * row, 7 * row, True, "by hand"))
    with pytest.raises(VerificationError, match=r"HARD_SWISH #\d .* overwrites its input"):
        verify_plan(graph, tight.offsets, head_bytes=7 * row)


@pytest.mark.parametrize("moved", [0, 16, 32, 48, -16])
def test_a_copy_stays_where_it_is_or_goes_where_it_reads_nothing(moved: int) -> None:
    """The first two of four rows of 16 bytes, copied to where they stand or `moved` from there."""
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 4)
    graph = maker.build((source,), (maker.unary(maker.rows(source, 0, 2), "HARD_SWISH"),))
    copy, result = graph.operators[0].outputs[0], graph.operators[1].outputs[0]
    offsets = [-1] * len(graph.tensors)
    offsets[source], offsets[copy], offsets[result] = 16, 16 + moved, 96
    if moved in (16, -16):
        with pytest.raises(VerificationError, match=r"SLICE #0 .* copies between ranges that ov"):
            verify_plan(graph, offsets, head_bytes=128)
    else:
        verify_plan(graph, offsets, head_bytes=128)


def test_a_halo_keeps_its_rows_until_the_last_strip_that_reads_them() -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 4)
    upper = maker.unary(maker.rows(source, 0, 3), "HARD_SWISH")
    lower = maker.unary(maker.rows(source, 1, 4), "HARD_SWISH")
    graph = maker.build((source,), (upper, lower))
    pieces = analyse(graph).problem.blocks[0].pieces
    assert [(p.offset, p.size_bytes, p.stop) for p in pieces] == [(0, 16, 2), (16, 48, 4)]


def test_a_strip_that_would_have_to_stand_twice_is_copied() -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 2, 4, 4)
    swish = maker.unary(source, "HARD_SWISH")
    graph = maker.build((source,), (maker.concat(swish, swish),))
    layout = analyse(graph)
    reasons = [a.reason for a in layout.aliases]
    assert AliasReason.IN_PLACE not in reasons
    assert plan_and_check(graph, layout) == 2 * 2 * 16 + 2 * 16


def test_in_place_hands_the_bytes_over_only_when_nobody_reads_them_later() -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 4)
    swish = maker.unary(source, "HARD_SWISH")
    dead = maker.build((source,), (maker.unary(swish),))
    assert [a.reason for a in analyse(dead, in_place=IN_PLACE).aliases] == [AliasReason.IN_PLACE]
    assert plan_and_check(dead, analyse(dead, in_place=IN_PLACE)) == 2 * 64

    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 4)
    swish = maker.unary(source, "HARD_SWISH")
    relu = maker.unary(swish)
    alive = maker.build((source,), (maker.unary(maker.add(swish, relu), "HARD_SWISH"),))
    aliases = analyse(alive, in_place=IN_PLACE).aliases
    assert [(alive.tensors[a.tensor].name, alive.tensors[a.of].name) for a in aliases] == [
        ("add_4", "hard_swish_2")
    ]
    assert plan_and_check(alive, analyse(alive, in_place=IN_PLACE)) == 2 * 64


def test_the_last_operator_does_not_overwrite_an_output_that_is_a_view() -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 4)
    swish = maker.unary(source, "HARD_SWISH")
    part = maker.rows(swish, 0, 1)
    graph = maker.build((source,), (part, maker.unary(swish)))
    layout = analyse(graph, in_place=IN_PLACE)
    assert [a.reason for a in layout.aliases] == [AliasReason.SLICE_VIEW]
    assert plan_and_check(graph, layout) == 2 * 64


def test_a_column_slice_is_no_view() -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 4)
    part = maker.slice(source, (0, 0, 1, 0), (1, 4, 2, 4))
    graph = maker.build((source,), (part,))
    assert analyse(graph).aliases == ()
    row = maker.tensor(1, 1, 4, 4)
    along = maker.slice(row, (0, 0, 1, 0), (1, 1, 2, 4))
    graph = maker.build((source, row), (part, along))
    assert [a.reason for a in analyse(graph).aliases] == [AliasReason.SLICE_VIEW]


def test_scratch_keeps_clear_of_dead_rows_that_the_runtime_believes_live() -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 4)
    upper = maker.unary(maker.rows(source, 0, 2), "HARD_SWISH")
    lower = maker.unary(maker.rows(source, 2, 4), "HARD_SWISH")
    graph = maker.build((source,), (upper, lower))
    layout = analyse(graph, scratch=[(3, 20)])
    scratch = layout.problem.blocks[-1]
    assert scratch.scratch
    assert [(p.size_bytes, p.start, p.stop) for p in scratch.pieces] == [(32, 3, 4)]
    reservations = [p for p in layout.problem.blocks[0].pieces if p.reserved]
    # At operator 3 the runtime still counts the whole source, because its last reader is 2 .. 3.
    assert all((p.start, p.stop) == (3, 4) for p in reservations)
    assert sum(p.size_bytes for p in reservations) == 32


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_real_models_replay(name: str) -> None:
    graph = flatbuffer.read_file(mlperf_tiny(name))
    in_place = (*IN_PLACE, "SOFTMAX")
    layout = analyse(graph, in_place=in_place)
    plan = memory_plan(layout, first_fit(layout.problem))
    verify_plan(graph, plan.offsets, head_bytes=plan.head_bytes, in_place=in_place)
    assert {t.index for t in plan.tensors} == set(tensor_lifetimes(graph))


@st.composite
def striped_graphs(draw: st.DrawFn) -> Graph:
    """Chains of elementwise operators, cut into strips at random, with skips and halos."""
    maker = GraphMaker()
    rows = draw(st.integers(2, 6))
    source = maker.tensor(1, rows, 2, 8)
    values, outputs = [source], []
    for _ in range(draw(st.integers(1, 9))):
        value = draw(st.sampled_from(values))
        height = maker.shape(value)[1]
        match draw(st.sampled_from(("relu", "swish", "rows", "add", "concat", "cut", "flat"))):
            case "relu":
                values.append(maker.unary(value))
            case "swish":
                values.append(maker.unary(value, "HARD_SWISH"))
            case "rows":
                first = draw(st.integers(0, height - 1))
                values.append(maker.rows(value, first, draw(st.integers(first + 1, height))))
            case "add":
                same = [v for v in values if maker.shape(v) == maker.shape(value)]
                values.append(maker.add(value, draw(st.sampled_from(same))))
            case "concat":
                values.append(maker.concat(value, draw(st.sampled_from(values))))
            case "cut":
                cut = draw(st.integers(0, height - 1))
                parts = [maker.rows(value, cut, height)]
                if cut:
                    parts.insert(0, maker.rows(value, 0, cut))
                values.append(maker.concat(*(maker.unary(p, "HARD_SWISH") for p in parts)))
            case "flat":
                values.append(maker.reshape(value, 1, height, 4, 4))
                values.append(maker.reshape(values[-1], 1, height, 2, 8))
        if maker.shape(values[-1])[1] > 24:
            values.pop()
        values = [v for v in values if maker.shape(v)[2:] == (2, 8)]
        outputs = [values[-1]]
    outputs = [v for v in outputs if v != source] or [maker.unary(source)]
    return maker.build((source,), tuple(outputs))


@settings(max_examples=400, derandomize=True, deadline=None)
@given(striped_graphs())
def test_any_packing_of_the_blocks_replays(graph: Graph) -> None:
    layout = analyse(graph, in_place=IN_PLACE)
    plan = memory_plan(layout, first_fit(layout.problem))
    verify_plan(graph, plan.offsets, head_bytes=plan.head_bytes, in_place=IN_PLACE)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(striped_graphs(), st.data())
def test_the_replay_refuses_a_plan_whose_blocks_collide(graph: Graph, data: st.DataObject) -> None:
    layout = analyse(graph, in_place=IN_PLACE)
    blocks = layout.problem.blocks
    placement = first_fit(layout.problem)
    pairs = [
        (a, b, p, q)
        for a in range(len(blocks))
        for b in range(a)
        for p in blocks[a].pieces
        for q in blocks[b].pieces
        # The last step of a value is a read, so the replay must notice a writer before it.
        if p.start < q.start < p.stop
    ]
    if not pairs:
        return
    a, b, p, q = data.draw(st.sampled_from(pairs))
    offsets = list(placement.offsets)
    # Piece q of block b is written onto piece p of block a while p is alive.
    offsets[b] = offsets[a] + p.offset - q.offset
    if offsets[b] < 0:
        return
    height = round_up(layout.problem.height_of(tuple(offsets)), 16) + 16
    plan = memory_plan(layout, Placement(tuple(offsets), height, height, False, "mutant"))
    with pytest.raises(VerificationError):
        verify_plan(graph, plan.offsets, head_bytes=plan.head_bytes, in_place=IN_PLACE)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
