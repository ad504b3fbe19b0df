"""Permissions to share memory that must not be given: to batches, and past another input."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
from graph_maker import GraphMaker

from deploy import flatbuffer
from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.layout import analyse
from deploy.backends.tflm.overlap import overlap_distance
from deploy.backends.tflm.place import place
from deploy.graph import Graph, Options, Padding
from deploy.memory.plan import AliasReason
from deploy.runtime import tflm
from deploy.targets import kernels
from tests.int8_graphs import Int8GraphMaker

LIBRARIES = ("reference", "cmsis-nn-scalar", "cmsis-nn-dsp", "cmsis-nn-mve")
needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)


def same_in_tflm(graph: Graph, offsets: tuple[int, ...]) -> bool:
    plain, planned = flatbuffer.write(graph), flatbuffer.write(embed(graph, offsets))
    samples = tflm.random_inputs(plain, samples=3)
    runs = [tflm.run(c, samples, arena_bytes=1 << 20, isolated=True) for c in (plain, planned)]
    return all(
        np.array_equal(a, b) for x, y in zip(*runs, strict=True) for a, b in zip(x, y, strict=True)
    )


def batched(seed: int, batch: int) -> Graph:
    """One operator with a window, over a batch."""
    make, generator = Int8GraphMaker(seed), random.Random(seed)
    x = make.input((batch, generator.randint(3, 6), generator.randint(3, 6), 4))
    window = {"kernel": (3, 3), "padding": generator.choice((Padding.SAME, Padding.VALID))}
    match seed % 4:
        case 0:
            y = make.conv(x, channels=generator.choice((2, 4, 8)), **window)
        case 1:
            y = make.depthwise(x, **window)
        case _:
            kind = ("AVERAGE_POOL_2D", "MAX_POOL_2D")[seed % 2]
            y = make.pool(x, kind=kind, stride=(1, 1), **window)
    graph = make.build(outputs=[y])
    # The makers draw single images.
    output = graph.tensors[y]
    shape = (batch, *output.shape[1:])
    tensors = [*graph.tensors]
    tensors[y] = type(output)(output.name, shape, output.dtype, output.quantization)
    return graph.replace(tensors=tuple(tensors))


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("seed", range(8))
def test_outputs_of_batches_never_grow_into_their_inputs(seed: int, name: str) -> None:
    for batch in (2, 3):
        graph = batched(seed, batch)
        assert overlap_distance(graph.operators[0], graph, kernels(name)) is None
    single = batched(seed, 1)
    known = single.operators[0].opcode in kernels(name).overlap
    assert (overlap_distance(single.operators[0], single, kernels(name)) is not None) == known


@needs_wheel
def test_the_distance_of_one_image_is_wrong_for_two() -> None:
    """Why batches never overlap: a permission for the first image destroys the second."""
    wrong = 0
    for seed in range(8):
        single, double = batched(seed, 1), batched(seed, 2)
        distance = overlap_distance(single.operators[0], single, kernels("reference"))
        assert distance is not None
        offsets = [-1] * len(double.tensors)
        distance = -(-distance // 16) * 16
        offsets[double.outputs[0]], offsets[double.inputs[0]] = max(0, -distance), max(0, distance)
        wrong += not same_in_tflm(double, tuple(offsets))
    assert wrong >= 1


@needs_wheel
@pytest.mark.parametrize("seed", range(8))
def test_plans_of_batches_compute_the_same(seed: int) -> None:
    graph = batched(seed, 2)
    found = place(graph, kernels("reference"), overlap=True)
    assert all(t.alias_reason is not AliasReason.OVERLAP for t in found.tensors)
    assert same_in_tflm(graph, found.offsets)


def two_windows(first: tuple[int, int], second: tuple[int, int], *, behind: bool) -> Graph:
    """ADD of two windows of rows of one map, which overlap; ``behind`` an operator or an input."""
    maker = GraphMaker()
    source = maker.tensor(1, 6, 4, 4)
    x = maker.unary(source, "TANH") if behind else source
    total = maker.add(maker.rows(x, *first), maker.rows(x, *second))
    return maker.build((source,), (maker.unary(total, "TANH"),))


@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize("shift", [-3, -2, -1, 1, 2, 3])
def test_no_output_stands_on_one_input_where_another_begins_elsewhere(
    shift: int, behind: bool
) -> None:
    first = (1, 4) if shift < 0 else (0, 3)
    first = (3, 6) if shift == -3 else (2, 5) if shift == -2 else first
    graph = two_windows(first, (first[0] + shift, first[1] + shift), behind=behind)
    layout = analyse(graph, in_place=("ADD",))
    reasons = [a.reason for a in layout.aliases]
    assert reasons.count(AliasReason.SLICE_VIEW) == 2
    # Windows of three rows that are three rows apart share nothing.
    assert (AliasReason.IN_PLACE in reasons) == (abs(shift) == 3)
    found = place(graph, kernels("reference"))
    (total,) = (t for t in found.tensors if t.name.startswith("add"))
    assert (total.alias_reason is AliasReason.IN_PLACE) == (abs(shift) == 3)
    if tflm.unavailable_reason() is None:
        assert same_in_tflm(graph, found.offsets)


def test_a_part_that_cannot_be_a_view_leaves_the_others_as_they_are() -> None:
    make = GraphMaker()
    x = make.tensor(1, 2, 2, 4)
    left, right = make.unary(x, "ABS"), make.unary(x, "ABS")
    # The first part stands inside already, and cannot stand at the end as well.
    whole = make.concat(left, right, left)
    last = make.unary(whole)
    graph = make.build((x,), (last,))
    found = analyse(graph, in_place={"RELU"}).aliases
    assert {(a.tensor, a.of, a.reason) for a in found} == {
        (left, whole, AliasReason.CONCATENATION_VIEW),
        (right, whole, AliasReason.CONCATENATION_VIEW),
        (last, whole, AliasReason.IN_PLACE),
    }


@pytest.mark.parametrize("wide_first", [True, False])
def test_an_output_takes_the_place_of_an_input_of_its_size_only(wide_first: bool) -> None:
    """A broadcast operand is read again for every row."""
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 8))
    narrow = make.pool(x, kernel=(4, 4), stride=(4, 4))
    wide = make.unary("TANH", x)
    made = make.binary("MUL", *((wide, narrow) if wide_first else (narrow, wide)))
    graph = make.build(outputs=[made])
    found = analyse(graph, in_place={"MUL"}).aliases
    assert [(a.tensor, a.of) for a in found] == [(made, wide)]
    only = make.build(outputs=[make.binary("MUL", narrow, make.constant_like(x, (1, 4, 4, 8)))])
    assert all(a.of != narrow for a in analyse(only, in_place={"MUL"}).aliases)


@needs_wheel
def test_a_strided_slice_that_drops_a_dimension_is_a_view() -> None:
    make = Int8GraphMaker(0)
    x = make.unary("TANH", make.input((1, 3, 16)))
    options = Options("StridedSliceOptions", (("shrink_axis_mask", 0b010),))
    bounds = [make.integers("bound", v) for v in ((0, 1, 0), (1, 2, 16), (1, 1, 1))]
    y = make.operator("STRIDED_SLICE", [x, *bounds], (1, 16), make.quantization(x), options)
    graph = make.build(outputs=[make.unary("TANH", y)])
    views = [a for a in analyse(graph).aliases if a.reason is AliasReason.SLICE_VIEW]
    assert [(a.tensor, a.of) for a in views] == [(y, x)]
    memory = place(graph, kernels("reference"))
    assert memory.offsets[y] - memory.offsets[x] == 16
    assert same_in_tflm(graph, memory.offsets)


def test_both_inputs_at_one_address_may_be_overwritten() -> None:
    graph = two_windows((1, 4), (1, 4), behind=True)
    reasons = [a.reason for a in analyse(graph, in_place=("ADD",)).aliases]
    assert AliasReason.IN_PLACE in reasons


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
