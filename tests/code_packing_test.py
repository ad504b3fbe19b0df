"""Packing: the bytes are those of NumPy, and the packed graph computes what it did, bit for bit."""

from __future__ import annotations

import sys
from fractions import Fraction

import gf2_reference as reference
import numpy as np
import pytest

from deploy import flatbuffer
from deploy.backends.tflm.codes.lower import (
    THRESHOLD_SCALE,
    lower_codes,
    pack_codes,
    stored_code_maps,
)
from deploy.backends.tflm.codes.pack import pack_map, pack_maps, packed_name, stored_bytes
from deploy.backends.tflm.place import place
from deploy.codes.layout import CodeLayout, Stage
from deploy.graph import Activation, Graph
from deploy.runtime import litert, tflm
from deploy.targets import target
from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layers.bit_planes import ONE
from tests.code_graphs import FORMS, code_map, random_code_graph
from tests.int8_graphs import Int8GraphMaker

BITS = (6, 4, 2, 1)


def _apply(stage: Stage, codes: np.ndarray) -> np.ndarray:
    """A stage in exact arithmetic; a sum that lies near the middle of two integers is an error."""
    sums = codes @ stage.weights.T + stage.bias
    out = np.zeros(sums.shape, np.int64)
    for channel, gain in enumerate(stage.gain):
        for index, value in np.ndenumerate(sums[..., channel]):
            exact = Fraction(int(value)) * Fraction(float(gain))
            assert abs(exact - round(exact)) < Fraction(1, 2)
            out[(*index, channel)] = round(exact)
    return out


@pytest.mark.parametrize("bits", BITS)
def test_layouts_are_those_of_the_reference(bits):
    rng = np.random.default_rng(bits)
    for channels in range(1, 18):
        layout = CodeLayout(bits, channels)
        codes = rng.integers(0, 2**bits, (64, channels))
        codes[: 2**bits] = np.arange(2**bits)[:, None]
        packed = codes
        for stage in layout.packing():
            assert np.abs(stage.weights).max() <= 128
            packed = _apply(stage, packed)
        stored = packed + layout.stored_zero_point
        assert stored.min() >= -128
        assert stored.max() <= 127
        byte = stored.astype(np.int8).view(np.uint8) ^ (0 if bits == 1 else 128)
        np.testing.assert_array_equal(byte, reference.pack(codes, bits))
        assert layout.stored_channels == -(-channels * bits // 8)

        looked_up = layout.table()[stored + 128].reshape(64, -1)
        last = layout.unpacking()
        back = looked_up[:, :channels] if last is None else _apply(last, looked_up)
        np.testing.assert_array_equal(back, codes)


@pytest.mark.parametrize(
    ("bits", "channels", "stored", "spare", "next_full"),
    [
        (4, 6, 3, 0, 6), (4, 5, 3, 4, 6), (2, 4, 1, 0, 4), (2, 5, 2, 6, 8), (1, 8, 1, 0, 8),
        (1, 9, 2, 7, 16), (6, 4, 3, 0, 4), (6, 5, 4, 2, 8), (6, 3, 3, 6, 4),
    ],
)  # fmt: skip
def test_bytes_of_a_position(bits, channels, stored, spare, next_full):
    layout = CodeLayout(bits, channels)
    assert (layout.stored_channels, layout.spare_bits, layout.next_full) == (
        stored, spare, next_full,
    )  # fmt: skip
    assert 8 * stored == bits * channels + spare


def _codes_graph(
    bits: int, form: str, channels: int, seed: int, readers: int = 2
) -> tuple[Graph, int]:
    make = Int8GraphMaker(seed)
    x = make.input((1, 7, 6, 4))
    code = code_map(make, x, channels=channels, bits=bits, form=form, kernel=(3, 3))
    y = make.conv(code, channels=4, kernel=(3, 3))
    if readers == 2:
        y = make.binary("ADD", y, make.conv(code, channels=4))
    return make.build(outputs=[y]), code


def _run_both(graph: Graph, inputs) -> list[list[np.ndarray]]:
    content = flatbuffer.write(graph)
    micro = tflm.run(content, inputs, arena_bytes=1 << 21)
    for one, other in zip(micro, litert.run(content, inputs), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    return micro


def _assert_same(before: Graph, after: Graph, samples: int = 2) -> list[list[np.ndarray]]:
    inputs = tflm.random_inputs(flatbuffer.write(before), samples=samples)
    wanted = _run_both(before, inputs)
    for one, other in zip(wanted, _run_both(after, inputs), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    return wanted


def _with_output(graph: Graph, name: str) -> Graph:
    index = next(i for i, tensor in enumerate(graph.tensors) if tensor.name == name)
    return graph.replace(outputs=(*graph.outputs, index))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bits", BITS)
def test_packed_models_agree_and_store_the_bytes(bits, form):
    seen: set[int] = set()
    for channels in (1, 3, 4, 7, 8, 16, 17):
        graph, code = _codes_graph(bits, form, channels, seed=channels)
        packed = pack_map(graph, code, bits, shared=channels % 2 == 0)
        _assert_same(graph, packed)

        subject = graph.tensors[code]
        inputs = tflm.random_inputs(flatbuffer.write(graph), samples=2, seed=channels)
        shown = _run_both(graph.replace(outputs=(*graph.outputs, code)), inputs)
        bytes_ = _run_both(_with_output(packed, packed_name(subject.name)), inputs)
        first = {"unit": -128, "minimum": -128}.get(form, 128 - 2**bits)
        for sample, stored in zip(shown, bytes_, strict=True):
            codes = sample[-1].astype(int) - first
            seen.update(np.unique(codes).tolist())
            as_bytes = stored[-1].view(np.uint8) ^ (0 if bits == 1 else 128)
            np.testing.assert_array_equal(as_bytes, reference.pack(codes, bits))
    assert seen <= set(range(2**bits))
    assert len(seen) >= min(2**bits, 32)


@pytest.mark.parametrize("seed", range(24))
def test_random_graphs_keep_their_outputs(seed):
    graph, maps = random_code_graph(seed)
    before = (graph.tensors, graph.operators)
    found = {item.tensor: item.bits for item in stored_code_maps(graph)}
    smaller = {
        t: b for t, b in maps.items() if stored_bytes(graph, t, b) < graph.tensors[t].size_bytes
    }
    if 1 not in maps.values():
        assert found == smaller
    _assert_same(graph, pack_maps(graph, maps.items()))
    lowered = lower_codes(graph)
    _assert_same(graph, lowered.graph)
    assert (graph.tensors, graph.operators) == before
    for item in lowered.stored:
        tensor = next(t for t in lowered.graph.tensors if t.name == item.packed)
        positions = tensor.shape[1] * tensor.shape[2]
        assert tensor.size_bytes == item.packed_bytes
        assert item.packed_bytes == positions * -(-item.channels * item.bits // 8)
        assert item.unpacked_bytes == positions * item.channels


@pytest.mark.parametrize(("bits", "channels"), [(4, 6), (2, 12), (1, 24), (6, 8)])
def test_the_plan_stores_exactly_the_bits(bits, channels):
    graph, code = _codes_graph(bits, "unit", channels, seed=1)
    packed = pack_map(graph, code, bits)
    plan = place(packed, target(board="host").kernels, rounds=2)
    index = next(i for i, t in enumerate(packed.tensors) if t.name.endswith("_packed"))
    planned = next(p for p in plan.tensors if p.index == index)
    exact = bits * channels * 7 * 6 // 8
    assert 8 * exact == bits * channels * 7 * 6
    assert packed.tensors[index].size_bytes == exact
    assert planned.size_bytes == exact
    taken = {p.size_bytes for p in plan.pieces if p.tensor == packed.tensors[index].name}
    assert taken == {exact}
    assert planned.offset % 16 == 0


def test_operators_of_each_width():
    wanted = {
        4: ["CONV_2D", "CONV_2D", "CAST", "ADD", "GATHER", "RESHAPE", "CONV_2D"],
        6: ["CONV_2D", "CONV_2D", "CONV_2D", "CAST", "ADD", "GATHER", "RESHAPE", "CONV_2D",
            "CONV_2D"],
    }  # fmt: skip
    for bits, codes in wanted.items():
        graph, code = _codes_graph(bits, "unit", 8, seed=1, readers=1)
        packed = pack_map(graph, code, bits)
        assert [operator.opcode for operator in packed.operators] == codes
    graph, code = _codes_graph(4, "unit", 7, seed=1, readers=1)
    assert "SLICE" in [operator.opcode for operator in pack_map(graph, code, 4).operators]


def test_readers_that_are_far_apart_unpack_for_themselves():
    graph, code = _codes_graph(4, "unit", 8, seed=1)
    shared, each = pack_map(graph, code, 4), pack_map(graph, code, 4, shared=False)
    assert [op.opcode for op in shared.operators].count("GATHER") == 1
    assert [op.opcode for op in each.operators].count("GATHER") == 2
    readers = [i for i, op in enumerate(each.operators) if op.opcode == "CONV_2D"][2:]
    for reader in readers:
        assert each.operators[reader - 1].opcode == "RESHAPE"
        assert each.operators[reader].inputs[0] == each.operators[reader - 1].outputs[0]


def test_only_the_fewest_bytes_of_a_run_of_bits_are_stored():
    """A 6-bit code, its 8 · 6 bit planes, 32 bits: as in a GF(2) bottleneck, 4 bytes of 6."""
    make = Int8GraphMaker(3)
    x = make.input((1, 6, 6, 4))
    code = code_map(make, x, channels=8, bits=6)
    planes = code_map(make, code, channels=48, bits=1, form="threshold")
    bits = code_map(make, planes, channels=32, bits=1, form="threshold")
    restored = code_map(make, bits, channels=48, bits=1, form="threshold")
    graph = make.build(outputs=[make.conv(restored, channels=8)])
    assert [item.tensor for item in stored_code_maps(graph)] == [bits]
    _assert_same(graph, lower_codes(graph).graph)


def test_of_equally_many_bytes_the_simpler_code_is_stored():
    make = Int8GraphMaker(3)
    code = code_map(make, make.input((1, 6, 6, 4)), channels=8, bits=6)
    bits = code_map(make, code, channels=48, bits=1, form="threshold")
    graph = make.build(outputs=[make.conv(bits, channels=8)])
    assert stored_bytes(graph, code, 6) == stored_bytes(graph, bits, 1) == 6 * 6 * 6
    assert [item.tensor for item in stored_code_maps(graph)] == [bits]


def test_codes_that_follow_each_other_are_all_stored():
    make = Int8GraphMaker(3)
    x = make.input((1, 6, 6, 4))
    one = code_map(make, x, channels=8, bits=4)
    two = code_map(make, one, channels=8, bits=4, kernel=(3, 3))
    graph = make.build(outputs=[make.conv(two, channels=8)])
    assert [item.tensor for item in stored_code_maps(graph)] == [one, two]


@pytest.mark.parametrize("form", ["unsigned", "unit"])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_plain_bits_that_follow_each_other_are_all_stored(form, kernel):
    """A convolution of the model lies between them; each is charged for its own."""
    make = Int8GraphMaker(3)
    x = make.input((1, 6, 6, 4))
    one = code_map(make, x, channels=16, bits=1, form=form)
    two = code_map(make, one, channels=16, bits=1, form=form, kernel=kernel)
    after = code_map(make, two, channels=8, bits=4, kernel=kernel)
    graph = make.build(outputs=[make.conv(after, channels=8)])
    assert [(m.tensor, m.bits) for m in stored_code_maps(graph)] == [(one, 1), (two, 1), (after, 4)]
    lowered = lower_codes(graph)
    _assert_same(graph, lowered.graph)
    first, second, third = (graph.tensors[t].name for t in (one, two, after))
    assert [item.parts.writing for item in lowered.stored] == [(first,), (second,), (third,)]
    # Also where the map before it stays in int8.
    (alone,) = lower_codes(graph, maps={second: 1}).stored
    assert alone.parts.writing == (second,)
    assert alone.parts.reading == (third,)


def test_a_threshold_is_what_the_layer_calls_one():
    assert THRESHOLD_SCALE == ONE


def test_a_graph_without_codes_comes_back_as_it_is():
    make = Int8GraphMaker(0)
    x = make.input((1, 6, 6, 4))
    graph = make.build(
        outputs=[make.conv(make.conv(x, channels=8, activation=Activation.RELU6), channels=4)]
    )
    lowered = lower_codes(graph)
    assert lowered.graph == graph
    assert lowered.stored == ()


def test_maps_can_be_named():
    graph, code = _codes_graph(2, "unit", 8, seed=1)
    name = graph.tensors[code].name
    assert pack_codes(graph, maps={name: 4}) == pack_map(graph, code, 4)
    lowered = lower_codes(graph, maps={name: 4})
    assert [(item.name, item.bits) for item in lowered.stored] == [(name, 4)]
    assert lower_codes(graph, maps={}).stored == ()
    with pytest.raises(BadInputError, match="not in the model; received nothing_of_the_kind"):
        pack_codes(graph, maps={"nothing_of_the_kind": 4})


def _one_level_too_many() -> tuple[Graph, int]:
    """17 levels."""
    make = Int8GraphMaker(1)
    x = make.conv(make.input((1, 4, 4, 4)), channels=4)
    ceiling = make.graph.constant(
        "ceiling", np.array(-128 + 16, np.int8), quantization=make.quantization(x)
    )
    code = make.operator("MINIMUM", [x, ceiling], make.shape(x), make.quantization(x))
    return make.build(outputs=[make.conv(code, channels=2)]), code


def test_a_map_that_can_leave_its_levels_is_refused():
    graph, code = _codes_graph(4, "unit", 8, seed=1)
    name = graph.tensors[code].name
    with pytest.raises(
        UnsupportedModelError,
        match=rf"tensor {name} can leave the 4 levels of a 2-bit code.*values -128 to -113",
    ):
        pack_map(graph, code, 2)
    with pytest.raises(UnsupportedModelError, match=r"16 levels of a 4-bit.*values -128 to -112"):
        pack_map(*_one_level_too_many(), 4)
    whole = graph.operators[1].outputs[0]
    with pytest.raises(UnsupportedModelError, match=r"values -128 to 127"):
        pack_map(graph, whole, 4)


def test_partly_filled_bytes_are_refused_on_request():
    graph, code = _codes_graph(4, "unit", 7, seed=1)
    with pytest.raises(BadInputError, match=r"such as 8; received 7 channels of 4 bits") as error:
        pack_map(graph, code, 4, padding=False)
    assert "Use k = 8, or allow 4 spare bits a position" in str(error.value)


def test_maps_outside_the_graph_are_refused():
    graph = _codes_graph(4, "unit", 8, seed=1)[0]
    cases = {
        graph.inputs[0]: "is written by no operator",
        graph.outputs[0]: "is an output of the graph",
        graph.operators[0].inputs[2]: r"is int32 of shape \(8,\)",
    }
    for tensor, message in cases.items():
        with pytest.raises(UnsupportedModelError, match=message):
            pack_map(graph, tensor, 4)


@pytest.mark.parametrize("bits", [3, 8, 0])
def test_other_widths_are_refused(bits):
    graph, code = _codes_graph(4, "unit", 8, seed=1)
    with pytest.raises(BadInputError, match="bits of 6, 4, 2 or 1"):
        pack_map(graph, code, bits)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
