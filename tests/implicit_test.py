"""Views without an operator: what the file holds, what is read again, and what runs."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest

import deploy
from deploy import flatbuffer
from deploy.backends.tflm.embed import embedded_offsets, without_plan
from deploy.backends.tflm.place import place
from deploy.backends.tflm.standing import without_view_operators
from deploy.graph import Graph
from deploy.implicit import METADATA_NAME, as_written, explicit
from deploy.proof.replay import verify_plan
from deploy.proof.samples import sample_inputs
from deploy.runtime import litert, tflm
from deploy.targets import kernels
from keras_fmc.errors import BadInputError, UnsupportedModelError, VerificationError
from tests.int8_graphs import Int8GraphMaker
from tests.wild_graphs import wild_graph

needs_wheel = pytest.mark.skipif(tflm.unavailable_reason() is not None, reason="needs tflite_micro")


def views_graph() -> Graph:
    """Two slices of rows of a map, one by a mask, joined again, reshaped and read."""
    make = Int8GraphMaker(3)
    x = make.conv(make.input((1, 8, 6, 4)), channels=8, kernel=(3, 3))
    top = make.slice(x, (0, 0, 0, 0), (1, 3, 6, 8))
    rest = make.strided_slice(x, (0, 3, 0, 0), (1, 8, 6, 8), (1, 1, 1, 1))
    joined = make.concatenation([top, rest], axis=1)
    flat = make.reshape(joined, (1, 8 * 6 * 8))
    return make.build(outputs=[make.fully_connected(flat, units=5)])


def placed(graph: Graph) -> tuple[Graph, tuple[int, ...], Graph, tuple[int, ...]]:
    """The graph with its offsets, and the same with implicit views."""
    plan = place(graph, kernels("reference"))
    marked, moved = without_view_operators(graph, plan, kernels("reference"))
    assert moved.head_bytes <= plan.head_bytes
    return graph, plan.offsets, marked, moved.offsets


def implicit(graph: Graph) -> list[str]:
    return [operator.opcode for operator in graph.operators if operator.implicit]


def test_the_file_holds_neither_views_nor_what_only_they_read() -> None:
    graph, _, marked, _ = placed(views_graph())
    assert implicit(marked) == ["SLICE", "SLICE", "CONCATENATION", "RESHAPE"]
    written = as_written(marked).graph
    kinds = [operator.opcode for operator in written.operators]
    assert kinds == ["CONV_2D", "FULLY_CONNECTED"]
    read = {t for operator in written.operators for t in operator.present_inputs}
    assert all(i in read for i, tensor in enumerate(written.tensors) if tensor.is_constant)
    # The values are those of the graph with all its operators.
    samples = sample_inputs(graph)
    outputs = [litert.run(flatbuffer.write(g), samples) for g in (graph, explicit(marked))]
    np.testing.assert_array_equal(np.array(outputs[0]), np.array(outputs[1]))


def test_reading_gives_back_what_was_written() -> None:
    _, _, marked, _ = placed(views_graph())
    content = flatbuffer.write(marked)
    again = flatbuffer.read(content)
    assert again == marked
    assert flatbuffer.write(again) == content
    plain = without_plan(again)
    assert implicit(plain) == []
    assert METADATA_NAME.encode() not in flatbuffer.write(plain)


def test_litert_gets_the_operators_that_it_needs() -> None:
    graph, _, marked, _ = placed(views_graph())
    content, samples = flatbuffer.write(marked), sample_inputs(graph)
    wanted = litert.run(flatbuffer.write(graph), samples)
    np.testing.assert_array_equal(np.array(litert.run(content, samples)), np.array(wanted))


def test_a_view_whose_bytes_stand_elsewhere_is_refused() -> None:
    _, _, marked, offsets = placed(views_graph())
    step = next(i for i, operator in enumerate(marked.operators) if operator.implicit)
    output = marked.operators[step].outputs[0]
    head = max(offsets) + 4096
    verify_plan(marked, offsets, head_bytes=head, in_place=kernels("reference").in_place)
    wrong = [head - 2048 if t == output else offset for t, offset in enumerate(offsets)]
    with pytest.raises(VerificationError, match="has no operator in the file"):
        verify_plan(marked, wrong, head_bytes=head, in_place=kernels("reference").in_place)


def test_what_the_user_reads_is_written_by_an_operator() -> None:
    make = Int8GraphMaker(4)
    x = make.conv(make.input((1, 4, 4, 3)), channels=4)
    _, _, marked, _ = placed(make.build(outputs=[make.reshape(x, (1, 64))]))
    assert implicit(marked) == []


@needs_wheel
@pytest.mark.parametrize(
    ("seed", "strips"), [*((s, False) for s in range(7)), (1, True), (4, True), (None, True)]
)
def test_plans_are_exact_and_never_larger_without_operators(seed: int | None, strips: bool) -> None:
    graph = views_graph() if seed is None else wild_graph(seed)
    content = flatbuffer.write(graph)
    try:
        tflm.run(content, sample_inputs(graph)[:1], arena_bytes=2**22, isolated=True)
    except (UnsupportedModelError, VerificationError):
        pytest.skip("TensorFlow Lite Micro refuses the graph as it is")
    settings = {"strips": strips, "effort": "quick"}
    bare = deploy.plan(content, **settings)
    full = deploy.plan(content, view_operators=True, **settings)
    # Both were measured in the wheel, or they would not be here.
    assert bare.report.verified
    assert bare.report.arena_bytes <= full.report.arena_bytes
    assert bare.report.verified_arena_bytes == bare.report.predicted_arena_bytes_wheel
    assert not any(operator.implicit for operator in full.report.operators)
    if seed is None:
        assert bare.report.arena_bytes < full.report.arena_bytes
        again = deploy.plan(bare.content or b"", **settings)
        assert again.report.arena_bytes <= bare.report.arena_bytes


def test_a_damaged_entry_is_bad_input_or_another_sound_graph() -> None:
    _, _, marked, _ = placed(views_graph())
    file = as_written(marked).graph
    (data,) = (d for n, d in flatbuffer_entries(marked) if n == METADATA_NAME)
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(300):
        words = list(struct.unpack(f"<{len(data) // 4}i", data))
        place_ = int(rng.integers(len(words)))
        words[place_] = int(rng.choice([-(2**31), -2, -1, 0, 1, 2, 3, 7, 64, 2**31 - 1]))
        cut = int(rng.integers(len(data))) if rng.random() < 0.2 else len(data)
        entry = struct.pack(f"<{len(words)}i", *words)[:cut]
        content = flatbuffer.write(file.replace(metadata=((METADATA_NAME, entry),)))
        try:
            graph = flatbuffer.read(content)
        except BadInputError:
            refused += 1
            continue
        for operator in graph.operators:
            assert all(-1 <= t < len(graph.tensors) for t in operator.inputs)
    assert refused > 100


def flatbuffer_entries(graph: Graph) -> tuple[tuple[str, bytes], ...]:
    from deploy.implicit import with_entry

    return with_entry(graph).metadata


def test_offsets_are_those_of_the_file() -> None:
    from deploy.backends.tflm.embed import embed

    _, _, marked, offsets = placed(views_graph())
    again = flatbuffer.read(flatbuffer.write(embed(marked, offsets)))
    assert embedded_offsets(again) == tuple(offsets)
    count = len(as_written(marked).tensors)
    entry = next(d for n, d in again.metadata if n == "OfflineMemoryAllocation")
    assert struct.unpack_from("<i", entry, 8)[0] == count < len(marked.tensors)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
