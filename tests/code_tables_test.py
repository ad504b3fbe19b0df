"""Look-ups in place of small chains: found where they are right, and equal bit for bit."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from deploy import flatbuffer
from deploy.backends.tflm.codes.pack import pack_map
from deploy.backends.tflm.codes.tables import (
    chain_between,
    find_chains,
    table_of,
    use_table,
    use_tables,
)
from deploy.graph import Activation, Graph, Padding
from deploy.runtime import litert, tflm
from tests.code_graphs import code_map
from tests.int8_graphs import Int8GraphMaker


def _assert_same(before: Graph, after: Graph) -> None:
    inputs = tflm.random_inputs(flatbuffer.write(before), samples=2)
    wanted = tflm.run(flatbuffer.write(before), inputs, arena_bytes=1 << 21)
    content = flatbuffer.write(after)
    for run in (tflm.run(content, inputs, arena_bytes=1 << 21), litert.run(content, inputs)):
        for one, other in zip(wanted, run, strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)


def _opcodes(graph: Graph) -> list[str]:
    return [operator.opcode for operator in graph.operators]


def _planes(make: Int8GraphMaker, x: int, *, alike: bool = True) -> int:
    """Two 1×1 depthwise convolutions of one map and their difference."""
    channels = make.shape(x)[3]
    parts = []
    for _ in range(2):
        y = make.depthwise(x, kernel=(1, 1), multiplier=3, padding=Padding.VALID)
        operator = make.graph.operators[-1]
        if alike:
            for place in operator.inputs[1:]:
                tensor = make.graph.tensors[place]
                values = tensor.array().reshape(-1, channels * 3).copy()
                values[:, 3:] = np.tile(values[:, :3], channels - 1)
                scales = tensor.quantization.scales
                make.graph.tensors[place] = dataclasses.replace(
                    tensor,
                    data=values.tobytes(),
                    quantization=dataclasses.replace(
                        tensor.quantization, scales=tuple(scales[:3]) * channels
                    ),
                )
        parts.append(y)
    return make.binary("SUB", *parts)


def test_sums_of_one_byte_become_a_table():
    make = Int8GraphMaker(1)
    x = make.conv(make.input((1, 5, 7, 4)), channels=4)
    difference = _planes(make, x)
    graph = make.build(outputs=[make.conv(difference, channels=2, kernel=(3, 3))])
    (chain,) = find_chains(graph)
    assert (chain.source, chain.output, len(chain.operators)) == (x, difference, 3)
    tabled = use_tables(graph)
    assert _opcodes(tabled) == ["CONV_2D", "CAST", "ADD", "GATHER", "RESHAPE", "CONV_2D"]
    gather = tabled.operators[3]
    assert tabled.tensors[gather.inputs[0]].shape == (256, 3)
    _assert_same(graph, tabled)


def test_channels_that_are_treated_differently_have_no_table():
    make = Int8GraphMaker(1)
    x = make.conv(make.input((1, 5, 7, 4)), channels=4)
    graph = make.build(outputs=[make.conv(_planes(make, x, alike=False), channels=2)])
    (chain,) = find_chains(graph)
    assert table_of(graph, chain) is None
    assert use_table(graph, chain) == graph
    assert use_tables(graph) == graph


@pytest.mark.parametrize(("bits", "channels"), [(4, 2), (2, 4), (1, 8)])
def test_one_byte_a_position_gives_the_products_of_r(bits, channels):
    make = Int8GraphMaker(bits)
    code = code_map(make, make.input((1, 6, 5, 4)), channels=channels, bits=bits)
    restored = make.conv(code, channels=24, activation=Activation.RELU)
    graph = make.build(outputs=[make.conv(restored, channels=3, kernel=(3, 3))])
    packed = pack_map(graph, code, bits)
    merged = use_tables(packed)
    assert _opcodes(merged) == ["CONV_2D"] * 2 + ["CAST", "ADD", "GATHER", "RESHAPE", "CONV_2D"]
    assert merged.tensors[merged.operators[-3].inputs[0]].shape == (256, 24)
    _assert_same(graph, merged)


def test_several_bytes_a_position_are_unpacked_before_r():
    make = Int8GraphMaker(4)
    code = code_map(make, make.input((1, 6, 5, 4)), channels=4, bits=4)
    graph = make.build(outputs=[make.conv(code, channels=24)])
    packed = pack_map(graph, code, 4)
    assert use_tables(packed) == packed


def test_a_window_wider_than_a_pixel_is_left_alone():
    make = Int8GraphMaker(4)
    code = code_map(make, make.input((1, 6, 5, 4)), channels=2, bits=4)
    graph = make.build(outputs=[make.conv(code, channels=24, kernel=(3, 3))])
    packed = pack_map(graph, code, 4)
    assert use_tables(packed) == packed
    strided = Int8GraphMaker(4)
    code = code_map(strided, strided.input((1, 6, 6, 4)), channels=2, bits=4)
    graph = strided.build(outputs=[strided.conv(code, channels=24, stride=(2, 2))])
    packed = pack_map(graph, code, 4)
    assert use_tables(packed) == packed
    single = Int8GraphMaker(4)
    code = code_map(single, single.input((1, 1, 1, 4)), channels=2, bits=4)
    graph = single.build(outputs=[single.conv(code, channels=24, stride=(2, 2))])
    packed = pack_map(graph, code, 4)
    assert use_tables(packed) == packed


def test_constants_of_all_codes_alike_are_absorbed():
    make = Int8GraphMaker(4)
    code = code_map(make, make.input((1, 6, 5, 4)), channels=8, bits=4)
    centre = make.graph.constant(
        "centre", np.array(-120, np.int8), quantization=make.quantization(code)
    )
    centred = make.operator("SUB", [code, centre], make.shape(code), make.quantization(code))
    graph = make.build(outputs=[make.conv(centred, channels=3, kernel=(3, 3))])
    merged = use_tables(pack_map(graph, code, 4))
    assert _opcodes(merged) == ["CONV_2D"] * 2 + ["CAST", "ADD", "GATHER", "RESHAPE", "CONV_2D"]
    _assert_same(graph, merged)


def test_constants_of_each_channel_are_not():
    make = Int8GraphMaker(4)
    code = code_map(make, make.input((1, 6, 5, 4)), channels=8, bits=4)
    values = make.constant_like(code, (1, 1, 1, 8))
    summed = make.operator("ADD", [code, values], make.shape(code), make.quantization(code))
    graph = make.build(outputs=[make.conv(summed, channels=3)])
    packed = pack_map(graph, code, 4)
    assert use_tables(packed) == packed


def test_what_is_read_twice_stays():
    make = Int8GraphMaker(4)
    code = code_map(make, make.input((1, 6, 5, 4)), channels=2, bits=4)
    one, two = make.conv(code, channels=8), make.conv(code, channels=8, kernel=(3, 3))
    graph = make.build(outputs=[one, two])
    packed = pack_map(graph, code, 4)
    stored = next(i for i, t in enumerate(packed.tensors) if t.name.endswith("_packed"))
    assert chain_between(packed, stored, one) is None
    assert use_tables(packed) == packed
    # Unpacked for each reader, the first R is a table of its own.
    each = pack_map(graph, code, 4, shared=False)
    merged = use_tables(each)
    assert _opcodes(merged).count("CONV_2D") == _opcodes(each).count("CONV_2D") - 1
    _assert_same(graph, merged)


def test_a_table_that_is_too_large_is_not_made():
    make = Int8GraphMaker(4)
    code = code_map(make, make.input((1, 6, 5, 4)), channels=2, bits=4)
    graph = make.build(outputs=[make.conv(code, channels=65), make.conv(code, channels=64)])
    each = pack_map(graph, code, 4, shared=False)
    merged = use_tables(each)
    tables = [
        merged.tensors[op.inputs[0]].shape for op in merged.operators if op.opcode == "GATHER"
    ]
    assert tables == [(256, 2), (256, 64)]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
