"""Codes below eight bits in generated C: packed in the loops, and bits that stay bits."""

from __future__ import annotations

import sys
from pathlib import Path

import emulator
import numpy as np
import pytest
from code_graphs import bit_planes, code_map, gate_graph, gf2_graph, random_code_graph
from generated import assert_c_is_tflm, equal, in_c, in_tflm, made, merged, random_samples
from int8_graphs import Int8GraphMaker

from deploy.backends.c.bits import BITS_CONV, BITS_OF, PACK, UNPACK, VALUES_OF_BITS, with_bits
from deploy.backends.c.build import GeneratedModel, generated, lay_out
from deploy.backends.c.lowering import lower
from deploy.backends.c.packing import candidates, packed_bytes, with_packed
from deploy.graph import Activation, Graph
from deploy.passes import run_passes


def packed(graph: Graph, *, every: bool = True) -> GeneratedModel:
    """The C of a graph with all its codes packed, or none."""
    graph = run_passes(graph)
    coded = with_packed(graph, candidates(graph, graph) if every else ())
    return generated(graph, coded, lay_out(lower(coded), fed=None), model_name="model")


def opcodes(graph: Graph) -> list[str]:
    return [operator.opcode for operator in graph.operators]


def test_codes_of_any_graph_are_tflms_when_all_are_packed() -> None:
    seen = set()
    for seed in range(8):
        graph, _ = random_code_graph(seed)
        found = candidates(graph, graph)
        seen |= {m.bits for m in found}
        model = packed(graph)
        samples = random_samples(graph)
        assert equal(in_tflm(graph, samples), in_c(model, samples))
        assert opcodes(model.graph).count(PACK) == len(found)
    assert seen == {1, 2, 4, 6}


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
def test_a_row_is_packed_without_gaps(bits: int) -> None:
    """Only the end of a row may leave bits unused, not each position."""
    make = Int8GraphMaker(0)
    x = code_map(make, make.input((1, 4, 7, 2)), channels=3, bits=bits)
    graph = make.build(outputs=[make.conv(x, channels=2, kernel=(3, 3))])
    (entry,) = candidates(graph, graph)
    assert packed_bytes(graph, entry) == 4 * -(-7 * 3 * bits // 8)
    samples = random_samples(graph)
    assert equal(in_tflm(graph, samples), in_c(packed(graph), samples))


def test_codes_are_packed_where_that_makes_the_arena_smaller() -> None:
    graph, _ = gate_graph(bits=4)
    chosen = assert_c_is_tflm(graph)
    assert UNPACK in opcodes(chosen.graph)
    assert chosen.static_bytes < packed(graph, every=False).static_bytes
    # Here rows of codes last only as long as they are read: nothing would be saved.
    make = Int8GraphMaker(0)
    x = code_map(make, make.input((1, 8, 8, 4)), channels=4, bits=4)
    straight = assert_c_is_tflm(make.build(outputs=[make.conv(x, channels=4)]))
    assert opcodes(straight.graph) == ["CONV_2D", "CONV_2D"]


def test_readers_in_a_row_share_what_they_unpack() -> None:
    make = Int8GraphMaker(0)
    x = code_map(make, make.input((1, 8, 8, 4)), channels=4, bits=2)
    y = make.binary("ADD", make.conv(x, channels=4), make.conv(x, channels=4))
    y = make.binary("ADD", make.conv(y, channels=4, kernel=(3, 3)), x)
    graph = make.build(outputs=[y])
    assert opcodes(packed(graph).graph).count(UNPACK) == 2


GF2 = {
    "8 bits": {"bits": 8},
    "stored bits that fill no byte": {"bits": 8, "stored": 5},
    "hidden": {"bits": 8, "hidden": 9},
    "windows": {"bits": 8, "stored": 16, "window": 2},
    "windows of whole maps": {"bits": 8, "stored": 16, "window": 2, "pad": False},
}


@pytest.mark.parametrize("name", GF2)
def test_a_bottleneck_of_bits_stays_bits(name: str) -> None:
    graphs = [gf2_graph(seed, **GF2[name]) for seed in range(2)]
    for graph in graphs:
        found = opcodes(with_bits(graph))
        assert found.count(BITS_OF) == found.count(VALUES_OF_BITS) == 1
        assert found.count(BITS_CONV) == 2 + 2 * ("hidden" in GF2[name])
        assert UNPACK not in found
    model = assert_c_is_tflm(merged(graphs))
    assert "fmc_bits.c" in model.files


def test_bits_that_something_else_reads_are_unpacked_for_it() -> None:
    make = Int8GraphMaker(3)
    x = make.conv(make.input((1, 5, 6, 3)), channels=4, activation=Activation.RELU)
    planes = bit_planes(make, x, 8)
    stored = code_map(make, planes, channels=10, bits=1, form="threshold")
    y = make.conv(stored, channels=7, kernel=(3, 3))
    z = make.conv(stored, channels=7)
    graph = make.build(outputs=[make.binary("ADD", y, z), make.conv(planes, channels=3)])
    found = opcodes(with_bits(graph))
    assert found.count(UNPACK) == 2
    assert found.count(BITS_CONV) == 1
    assert_c_is_tflm(graph)


def test_sums_that_do_not_fit_are_left_to_the_usual_convolution() -> None:
    """A window of 300 bits of weight 127 could reach 38,100, and 16 bits with a sign 32,767."""
    make = Int8GraphMaker(3)
    x = make.conv(make.input((1, 3, 3, 3)), channels=40, activation=Activation.RELU)
    planes = bit_planes(make, x, 8)
    graph = make.build(
        outputs=[
            make.conv(code_map(make, planes, channels=4, bits=1, form="threshold"), channels=2)
        ]
    )
    weights = next(t for t in graph.tensors if t.shape == (4, 1, 1, 320))
    full = np.full(weights.shape, 127, np.int8).tobytes()
    tensors = tuple(
        t if t is not weights else type(t)(t.name, t.shape, t.dtype, t.quantization, full)
        for t in graph.tensors
    )
    graph = graph.replace(tensors=tensors)
    assert BITS_CONV not in opcodes(with_bits(graph))
    assert_c_is_tflm(graph)


def test_what_codes_cost_on_a_core(tmp_path: Path) -> None:
    """4 bits: at most 1% of a model of two convolutions. Bits: a quarter of what operators take."""
    lacking = emulator.missing()
    if lacking is not None:
        pytest.skip(lacking)

    def instructions(model: GeneratedModel, folder: str) -> int:
        samples = random_samples(model.source, 1)
        wanted = in_tflm(model.source, samples)
        ran = emulator.run_on(emulator.M4, model, samples, wanted, tmp_path / folder)
        assert ran.equal == 1
        return ran.instructions

    make = Int8GraphMaker(0)
    x = make.conv(make.input((1, 16, 16, 16)), channels=32, kernel=(3, 3))
    x = code_map(make, x, channels=16, bits=4)
    graph = make.build(outputs=[make.conv(x, channels=32, kernel=(3, 3))])
    plain = instructions(packed(graph, every=False), "plain")
    assert plain < instructions(packed(graph), "packed") <= 1.01 * plain
    graph = gf2_graph(1, stored=32)
    operators = generated(graph, graph, lay_out(lower(graph), fed=None), model_name="model")
    assert instructions(made(graph), "bits") <= instructions(operators, "operators") / 4


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
