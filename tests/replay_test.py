"""The replay refuses what it should: distances, scratch, bounds, each one byte off."""

from __future__ import annotations

import sys

import pytest
from graph_maker import GraphMaker
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.backends.tflm.overlap import overlap_distance
from deploy.graph import Graph
from deploy.proof.replay import ScratchUse, verify_plan
from deploy.targets import kernels
from keras_fmc.errors import VerificationError
from tests.int8_graphs import Int8GraphMaker


def one_conv(*, channels: int = 8, kernel: int = 3) -> Graph:
    make = Int8GraphMaker(1)
    x = make.input((1, 6, 5, 4))
    return make.build(outputs=[make.conv(x, channels=channels, kernel=(kernel, kernel))])


def offsets_of(graph: Graph, places: dict[int, int]) -> list[int]:
    return [places.get(index, -1) for index in range(len(graph.tensors))]


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("channels", [1, 4, 8])
def test_an_output_may_grow_as_far_as_the_kernel_allows_and_no_byte_further(
    kernel: int, channels: int
) -> None:
    graph = one_conv(kernel=kernel, channels=channels)
    distance = overlap_distance(graph.operators[0], graph, kernels("reference"))
    assert distance is not None
    (source,), (made,) = graph.inputs, graph.outputs
    size = max(graph.tensors[t].size_bytes for t in (source, made)) + abs(distance) + 64

    def check(actual: int, **rules: object) -> None:
        start = max(0, -actual)
        places = offsets_of(graph, {made: start, source: start + actual})
        verify_plan(graph, places, head_bytes=2 * size, **rules)  # type: ignore[arg-type]

    for more in (0, 1, 16):
        check(distance + more, overlaps={0: distance})
    for fewer in (1, 2, 16):
        if -graph.tensors[source].size_bytes < distance - fewer:
            with pytest.raises(VerificationError, match=r"CONV_2D #0 .* overwrites its input"):
                check(distance - fewer, overlaps={0: distance})
    # The permission is that operator's, and no operator has one by itself.
    for rules in ({}, {"overlaps": {1: distance}}, {"in_place": ["RELU"]}):
        with pytest.raises(VerificationError, match=r"CONV_2D #0 .* overwrites its input"):
            check(distance, **rules)


def test_in_place_is_the_very_address_and_the_opcodes_that_are_named() -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 4)
    graph = maker.build((source,), (maker.unary(source),))
    places = {source: 16, graph.outputs[0]: 16}
    verify_plan(graph, offsets_of(graph, places), head_bytes=96, in_place=["RELU"])
    for shift in (-16, -1, 1, 16):
        moved = offsets_of(graph, {**places, graph.outputs[0]: 16 + shift})
        with pytest.raises(VerificationError, match="overwrites its input"):
            verify_plan(graph, moved, head_bytes=96, in_place=["RELU"])
    with pytest.raises(VerificationError, match="overwrites its input"):
        verify_plan(graph, offsets_of(graph, places), head_bytes=96, in_place=["ADD"])


def test_a_copy_is_where_its_source_is_or_apart_from_it() -> None:
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 4)
    made = maker.rows(source, 1, 4)
    graph = maker.build((source,), (made,))
    for offset in (16 + 16, 16 + 64):
        verify_plan(graph, offsets_of(graph, {source: 16, made: offset}), head_bytes=160)
    for offset in (17, 24, 31, 33, 48, 79):
        with pytest.raises(VerificationError, match=r"SLICE #0 .* ranges that overlap"):
            verify_plan(graph, offsets_of(graph, {source: 16, made: offset}), head_bytes=160)


def test_inputs_stand_apart_though_nobody_reads_one_of_them() -> None:
    maker = GraphMaker()
    first, second = maker.tensor(1, 4, 4, 4), maker.tensor(1, 4, 4, 4)
    made = maker.unary(second)
    graph = maker.build((first, second), (made,))
    verify_plan(graph, offsets_of(graph, {first: 0, second: 64, made: 128}), head_bytes=192)
    with pytest.raises(VerificationError, match="the graph's inputs reads tensor"):
        verify_plan(graph, offsets_of(graph, {first: 1, second: 64, made: 128}), head_bytes=192)


def waiting() -> tuple[Graph, dict[int, int]]:
    """A map that waits while another operator runs: 0 waits at 64 bytes, 1 runs at 0 and 128."""
    maker = GraphMaker()
    source = maker.tensor(1, 4, 4, 4)
    waits = maker.unary(source, "TANH")
    runs = maker.unary(source, "TANH")
    graph = maker.build((source,), (maker.add(waits, runs),))
    return graph, {source: 0, waits: 64, runs: 128, graph.outputs[0]: 192}


@settings(max_examples=150, derandomize=True, deadline=None)
@given(step=st.integers(0, 2), offset=st.integers(0, 300), size=st.integers(1, 80))
def test_scratch_lies_where_nothing_is_needed(step: int, offset: int, size: int) -> None:
    graph, places = waiting()
    # Needed during operator 0: its input, its output; 1: also what waits; 2: the sum's three.
    needed = ({0, 64}, {0, 64, 128}, {64, 128, 192})[step]
    hit = any(offset < at + 64 and at < offset + size for at in needed)
    use = ScratchUse(step, offset, size)
    if hit:
        with pytest.raises(VerificationError, match=r"scratch of|reads tensor"):
            verify_plan(graph, offsets_of(graph, places), head_bytes=400, scratch=[use])
    else:
        verify_plan(graph, offsets_of(graph, places), head_bytes=400, scratch=[use])


@pytest.mark.parametrize("number", range(3))
def test_every_buffer_of_an_operator_counts(number: int) -> None:
    graph, places = waiting()
    uses = [ScratchUse(1, 192 + 16 * i, 16) for i in range(3)]
    verify_plan(graph, offsets_of(graph, places), head_bytes=400, scratch=uses)
    uses[number] = ScratchUse(1, 112, 16)
    with pytest.raises(VerificationError, match=r"ADD #2 .* reads tensor tanh_2"):
        verify_plan(graph, offsets_of(graph, places), head_bytes=400, scratch=uses)


def test_a_byte_beyond_the_head_is_refused() -> None:
    graph, places = waiting()
    verify_plan(graph, offsets_of(graph, places), head_bytes=256)
    with pytest.raises(VerificationError, match=r"stands outside the arena"):
        verify_plan(graph, offsets_of(graph, places), head_bytes=255)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
