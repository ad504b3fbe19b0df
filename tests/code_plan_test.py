"""Plans of models with codes: packed where the arena gets smaller, charged, bit for bit equal."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from code_graphs import code_map, skip_graph
from int8_graphs import Int8GraphMaker

import deploy
from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.codes import trial
from deploy.backends.tflm.codes.lower import lower_codes, stored_code_maps
from deploy.backends.tflm.codes.tables import use_tables
from deploy.backends.tflm.embed import embed
from deploy.backends.tflm.place import place
from deploy.backends.tflm.strips import walks
from deploy.backends.tflm.strips.choose import cut
from deploy.backends.tflm.strips.cuts import Cuts, Halo, region_of
from deploy.codes.parts import strip_family
from deploy.graph import Activation, Graph, Options
from deploy.passes import run_passes
from deploy.report.charge import stored_codes
from deploy.report.report import Report
from deploy.runtime import tflm
from deploy.targets import target


@pytest.fixture
def little_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "EFFORT", dataclasses.replace(walks.EFFORT, small_work=40_000))
    monkeypatch.setattr(trial, "_SMALL_WORK", 4_000)


def planned(graph: Graph, **settings: object) -> tuple[Report, Graph]:
    settings = {"strips": False, "board": "nano33ble", **settings}
    result = deploy.plan(flatbuffer.write(graph), **settings)
    assert result.content is not None
    assert result.report.bit_exact
    if tflm.unavailable_reason() is None:
        assert result.report.verified
        assert result.report.verified_arena_bytes == result.report.predicted_arena_bytes_wheel
    return result.report, flatbuffer.read(result.content)


def unpacked(graph: Graph, monkeypatch: pytest.MonkeyPatch, **settings: object) -> Report:
    """The plan of the same model when nobody knows that it holds codes."""
    with monkeypatch.context() as patch:
        patch.setattr("deploy.backends.tflm.prepare.stored_code_maps", lambda graph: ())
        return planned(graph, **settings)[0]


@pytest.mark.parametrize(("bits", "channels"), [(4, 32), (2, 32), (1, 32), (4, 27)])
def test_a_map_behind_wide_maps_is_stored_packed(bits, channels, monkeypatch):
    graph = skip_graph(bits=bits, channels=channels)
    report, emitted = planned(graph)
    plain = unpacked(graph, monkeypatch)
    assert plain.codes == ()
    assert report.arena_bytes < plain.arena_bytes
    (code,) = report.codes
    positions = 16 * 16
    stored = positions * -(-bits * channels // 8)
    assert stored % 16 == 0
    assert (code.bits, code.channels) == (bits, channels)
    assert code.unpacked_bytes == positions * channels
    assert code.packed_bytes == code.stored_bytes == stored
    (tensor,) = [t for t in report.tensors if t.name == code.packed]
    assert tensor.size_bytes == stored
    assert {p.size_bytes for p in report.pieces if p.tensor == code.packed} == {stored}
    # Nothing of the map in int8 lives on while the wide maps do.
    middle = next(t for t in report.tensors if t.shape[-1] == 64)
    alive = sorted(t.size_bytes for t in report.tensors if t.first <= middle.last <= t.last)
    assert alive == [stored, positions * 64, positions * 64]
    assert len({t.name for t in emitted.tensors}) == len(emitted.tensors)


def test_the_last_bytes_of_a_map_are_rounded_up():
    report, _ = planned(skip_graph(bits=4, size=15, channels=26, wide=48))
    (code,) = report.codes
    (tensor,) = [t for t in report.tensors if t.name == code.packed]
    assert tensor.size_bytes == 15 * 15 * 26 * 4 // 8 == 2925
    assert code.packed_bytes == code.stored_bytes == 2928


def test_what_packing_costs_is_charged(monkeypatch):
    graph = skip_graph(bits=4)
    report, emitted = planned(graph)
    plain = unpacked(graph, monkeypatch)
    (code,) = report.codes
    assert code.p_macs == 16 * 16 * 16 * 32
    assert code.pack_macs == 16 * 16 * 32 * (32 // 2)
    assert code.unpack_macs == 0
    assert code.r_macs == 16 * 16 * 3 * 3 * 32 * 64
    assert report.macs - plain.macs == code.pack_macs
    # Both readers look up one table; CAST, ADD, GATHER for each, a RESHAPE that is a view without
    # an operator, and one convolution.
    assert code.table_bytes == 256 * 2
    assert code.operators == 2 * 3 + 1 == report.written_operators - plain.written_operators
    assert len(report.operators) - len(plain.operators) == 2 * 4 + 1
    assert abs(code.tail_bytes - (report.tail_bytes - plain.tail_bytes)) <= 16
    tables = {o.inputs[0] for o in emitted.operators if o.opcode == "GATHER"}
    assert sum(emitted.tensors[t].size_bytes for t in tables) == code.table_bytes


def test_six_bits_are_charged_for_all_convolutions():
    lowered = lower_codes(skip_graph(bits=6), shared=False)
    (code,) = stored_codes(lowered.graph, lowered.stored, (), target(board="nano33ble"))
    # 32 codes and four quotients of every fourth; 24 bytes of them. A byte unpacks into 2 parts.
    assert code.pack_macs == 16 * 16 * (32 * (32 + 8 * 4) + (32 + 8 * 4) * 24)
    assert code.unpack_macs == 2 * 16 * 16 * (2 * 24) * 32
    assert code.operators == 2 + 2 * 5
    assert code.table_bytes == 256 * 2


def test_p_and_r_of_bits_reach_from_plane_to_plane():
    make = Int8GraphMaker(3)
    x = make.conv(make.input((1, 12, 12, 4)), channels=4, activation=Activation.RELU)
    code = code_map(make, x, channels=8, bits=6)
    planes = code_map(make, code, channels=48, bits=1, form="threshold")
    bits = code_map(make, planes, channels=32, bits=1, form="threshold")
    restored = code_map(make, bits, channels=48, bits=1, form="threshold")
    y = make.conv(restored, channels=8)
    graph = make.build(outputs=[make.conv(y, channels=4)])
    name = graph.tensors[bits].name
    (stored,) = lower_codes(graph).stored
    assert stored.name == name
    names = [graph.tensors[t].name for t in (planes, bits, restored, y)]
    assert stored.parts.writing == tuple(names[:2])
    assert stored.parts.reading == tuple(names[2:])
    assert stored.parts.packing == (f"{name}_packed",)
    assert [n.removeprefix(f"{name}_unpack_") for n in stored.parts.unpacking] == [
        *("index", "row", "looked_up", "map"),
    ]
    assert not stored.parts.merged


def test_products_of_r_out_of_a_table_are_said_to_be():
    make = Int8GraphMaker(4)
    code = code_map(make, make.input((1, 6, 5, 4)), channels=2, bits=4)
    restored = make.conv(code, channels=24, activation=Activation.RELU)
    graph = make.build(outputs=[make.conv(restored, channels=3, kernel=(3, 3))])
    (stored,) = lower_codes(graph).stored
    assert stored.parts.merged
    assert stored.parts.reading == ()
    assert stored.parts.unpacking[-1] == graph.tensors[restored].name
    assert len(stored.parts.unpacking) == 4


def test_a_plan_that_saves_head_but_loses_arena_is_not_chosen(monkeypatch):
    graph = skip_graph(bits=4, size=8, channels=16, wide=32)
    report, _ = planned(graph)
    assert report.codes == ()
    assert report.arena_bytes == unpacked(graph, monkeypatch).arena_bytes
    (decision,) = [d for d in report.decisions if "stored in int8" in d.reason]
    assert decision.subject == graph.tensors[stored_code_maps(graph)[0].tensor].name
    # Whoever asks for the head gets the plan that was not chosen, and its price.
    head, _ = planned(graph, minimise="head")
    assert head.codes[0].packed_bytes == 8 * 8 * 8
    assert head.head_bytes < report.head_bytes
    assert head.arena_bytes > report.arena_bytes
    assert decision.reason == (
        f"stored in int8: packed into 512 B the best plan has an arena of {head.arena_bytes:,} B "
        f"and a head of {head.head_bytes:,} B, unpacked {report.arena_bytes:,} B and "
        f"{report.head_bytes:,} B"
    )


def test_packing_counts_against_the_limit_of_multiply_accumulates():
    make = Int8GraphMaker(1)
    code = code_map(make, make.input((1, 16, 16, 4)), channels=32, bits=2)
    y = make.conv(code, channels=96, activation=Activation.RELU)
    y = make.binary("ADD", make.conv(y, channels=32), code)
    graph = make.build(outputs=[make.mean(y)])
    macs = 4 * 32 + 2 * 32 * 96
    ratio = (macs + 32 * 8) / macs
    report, _ = planned(graph, max_macs=ratio + 1e-6)
    assert report.codes[0].packed_bytes == 16 * 16 * 8
    assert report.macs_ratio == pytest.approx(ratio)
    limited, _ = planned(graph, max_macs=ratio - 1e-6)
    assert limited.codes == ()
    assert limited.macs_ratio == 1
    (reason,) = [d.reason for d in limited.decisions]
    assert reason == (
        f"stored in int8: packed, the model takes {ratio:.3f}x its multiply-accumulates, above the "
        f"limit of {ratio - 1e-6:g}x"
    )


def test_a_model_without_products_counts_as_itself():
    make = Int8GraphMaker(0)
    x = make.input((1, 8, 7, 1))
    codes = make.unpack_codes(make.pool(x, kind="MAX_POOL_2D"))
    skip = make.slice(make.prelu(x), (0, 0, 0, 0), (1, 2, 3, 1))
    graph = make.build(outputs=[make.resize(codes, (3, 3)), skip])
    assert stored_code_maps(use_tables(graph))
    report, _ = planned(graph)
    assert (report.macs, report.macs_ratio) == (0, 1.0)


def test_only_maps_that_stand_in_the_way_are_packed():
    """The second code is small and late: its operators would cost more than its bytes."""
    make = Int8GraphMaker(1)
    x = make.conv(make.input((1, 16, 16, 4)), channels=16, kernel=(3, 3))
    code = code_map(make, x, channels=32, bits=2)
    y = make.conv(code, channels=64, kernel=(3, 3), activation=Activation.RELU)
    y = make.conv(y, channels=64, kernel=(3, 3), activation=Activation.RELU)
    y = make.binary("ADD", make.conv(y, channels=32, kernel=(3, 3)), code)
    late = code_map(make, y, channels=16, bits=4, kernel=(2, 2), stride=(2, 2))
    graph = make.build(outputs=[make.mean(make.conv(late, channels=8))])
    assert [m.tensor for m in stored_code_maps(graph)] == [code, late]
    report, _ = planned(graph)
    assert [c.name for c in report.codes] == [graph.tensors[code].name]


def gated_graph() -> Graph:
    """Codes that wait for a gate, and take most multiply-accumulates of the model."""
    make = Int8GraphMaker(5)
    x = make.conv(make.input((1, 32, 32, 4)), channels=48, kernel=(3, 3))
    code = code_map(make, x, channels=48, bits=1, kernel=(3, 3))
    few = make.conv(code, channels=8, kernel=(3, 3), stride=(2, 2), activation=Activation.RELU)
    gate = make.conv(make.mean(few, keep_dims=True), channels=48)
    y = make.conv(make.binary("MUL", code, gate), channels=4, kernel=(3, 3), stride=(2, 2))
    return make.build(outputs=[y])


def test_more_macs_or_effort_never_give_a_larger_arena_with_codes(little_effort):
    settings = [(1.0, "quick"), (1.1, "quick"), (1.1, "normal")]
    reports = [
        planned(gated_graph(), strips=True, max_macs=max_macs, effort=effort)[0]
        for max_macs, effort in settings
    ]
    arenas = [report.arena_bytes for report in reports]
    assert arenas == sorted(arenas, reverse=True)
    # Packed, the model takes more products than 1.0 allows.
    assert not reports[0].codes
    assert reports[-1].codes


def test_strips_and_packing_go_together(little_effort, monkeypatch):
    # Nobody computes the codes twice here: they take most multiply-accumulates of the model.
    graph = gated_graph()
    report, _ = planned(graph, strips=True)
    plain = unpacked(graph, monkeypatch, strips=True)
    (code,) = report.codes
    assert report.arena_bytes < plain.arena_bytes
    assert report.regions
    # A row of it may stand twice, where a strip copies what the next one reads.
    assert code.packed_bytes == 32 * 32 * 6
    assert code.stored_bytes in (32 * 32 * 6, (32 + 1) * 32 * 6)
    assert max(p.macs_ratio for p in report.frontier) <= 1.1
    assert [p.arena_bytes for p in report.frontier if p.chosen] == [report.arena_bytes]


def _stride_2(make: Int8GraphMaker, x: int, *, channels: int) -> int:
    """Bits of every 2x2 block, as SPACE_TO_DEPTH gives them."""
    _, height, width, depth = make.shape(x)
    options = Options("SpaceToDepthOptions", (("block_size", 2),))
    out = (1, height // 2, width // 2, 4 * depth)
    blocks = make.operator("SPACE_TO_DEPTH", [x], out, make.quantization(x), options)
    return code_map(make, blocks, channels=channels, bits=1, form="threshold")


def _back(make: Int8GraphMaker, x: int) -> int:
    _, height, width, depth = make.shape(x)
    options = Options("DepthToSpaceOptions", (("block_size", 2),))
    out = (1, 2 * height, 2 * width, depth // 4)
    return make.operator("DEPTH_TO_SPACE", [x], out, make.quantization(x), options)


@pytest.mark.parametrize("halo", list(Halo))
@pytest.mark.parametrize("bits", [6, 4, 2, 1, "2x2"])
def test_indices_and_planes_exist_for_a_strip_only(bits, halo):
    make = Int8GraphMaker(2)
    x = make.conv(make.input((1, 16, 9 if bits != "2x2" else 10, 4)), channels=8, kernel=(3, 3))
    if bits == "2x2":
        code = _stride_2(make, x, channels=20)
        y = _back(make, code_map(make, code, channels=32, bits=1, form="threshold"))
    else:
        y = code = code_map(make, x, channels=7, bits=bits)
    y = make.conv(y, channels=6, kernel=(3, 3), activation=Activation.RELU)
    graph = make.build(outputs=[make.conv(y, channels=4, kernel=(3, 3), stride=(2, 2))])
    name = graph.tensors[code].name
    width = {"2x2": 1}.get(bits, bits)
    packed = lower_codes(graph, maps={name: width})
    stored = packed.stored[0].packed
    producers = packed.graph.producers()
    step = producers[next(i for i, t in enumerate(packed.graph.tensors) if t.name == stored)]
    ends: dict[int, tuple[int, ...]] = {}
    chosen = Cuts()
    last = len(packed.graph.operators) - 1
    for first, stop, rows in ((0, step, (2, 4, 6, 8)), (step + 1, last, (3, 6, 8))):
        if bits != "2x2" and stop == step:
            rows = tuple(2 * r for r in rows)
        part = region_of(range(first, stop + 1), rows, halo)
        ends |= dict(part.ends)
        chosen = chosen.replace(
            ends=ends,
            recomputed=chosen.recomputed | part.recomputed,
            copied=chosen.copied | part.copied,
        )
    striped = cut(packed.graph, chosen)
    kernels = target(board="host").kernels
    plan = place(striped, kernels, rounds=2)
    for tensor in (striped.tensors[i] for i in striped.activations()):
        whole = packed.graph.tensors
        family = next((t for t in whole if t.name == strip_family(tensor.name)), None)
        assert family is not None
        inside = family.name.startswith((f"{name}_unpack", f"{name}_pack_")) or family.name == name
        if inside:
            assert tensor.shape[1] < family.shape[1], tensor.name
    content = flatbuffer.write(embed(striped, plan.offsets))
    inputs = tflm.random_inputs(content, samples=3)
    arena = predict_arena(striped, offsets=plan.offsets, target=target(board="host")).arena_bytes
    wanted = tflm.run(flatbuffer.write(graph), inputs, arena_bytes=1 << 20)
    for one, other in zip(wanted, tflm.run(content, inputs, arena_bytes=arena), strict=True):
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize(("begin", "size"), [((0, 0), (15, 15)), ((1, 2), (13, 9))])
def test_slices_that_crop_a_restored_map_are_cut(begin, size):
    """The converter writes STRIDED_SLICE where odd maps were padded to even ones."""
    make = Int8GraphMaker(2)
    x = make.conv(make.input((1, 16, 16, 4)), channels=8, kernel=(3, 3))
    first = (0, *begin, 0)
    end = tuple(b + n for b, n in zip(first, (1, *size, 8), strict=True))
    x = make.strided_slice(x, first, end, (1, 1, 1, 1))
    graph = make.build(outputs=[make.conv(x, channels=4, kernel=(3, 3))])
    sliced = run_passes(graph)
    assert [o.opcode for o in sliced.operators] == ["CONV_2D", "SLICE", "CONV_2D"]
    striped = cut(sliced, region_of(range(3), (4, 8, size[0]), Halo.RECOMPUTED))
    assert [o.opcode for o in striped.operators].count("CONV_2D") == 6
    inputs = tflm.random_inputs(flatbuffer.write(graph), samples=2)
    wanted = tflm.run(flatbuffer.write(graph), inputs, arena_bytes=1 << 20)
    for found in (sliced, striped):
        runs = tflm.run(flatbuffer.write(found), inputs, arena_bytes=1 << 20)
        for one, other in zip(wanted, runs, strict=True):
            np.testing.assert_array_equal(one[0], other[0])


def test_slices_that_skip_rows_stay():
    make = Int8GraphMaker(2)
    x = make.conv(make.input((1, 16, 16, 4)), channels=8)
    x = make.strided_slice(x, (0, 0, 0, 0), (1, 16, 16, 8), (1, 2, 1, 1))
    graph = make.build(outputs=[make.conv(x, channels=4)])
    assert run_passes(graph).operators[1].opcode == "STRIDED_SLICE"


def test_a_model_that_uses_the_names_of_packing():
    graph = skip_graph(bits=2)
    name = graph.tensors[stored_code_maps(graph)[0].tensor].name
    tensors = [
        t if t.name != graph.tensors[graph.outputs[0]].name else _named(t, f"{name}_packed")
        for t in graph.tensors
    ]
    report, emitted = planned(graph.replace(tensors=tuple(tensors)))
    (code,) = report.codes
    assert code.packed == f"{name}_packed_2"
    assert code.stored_bytes == 16 * 16 * 8
    assert emitted.tensors[emitted.outputs[0]].name == f"{name}_packed"


def _named(tensor, name):
    return dataclasses.replace(tensor, name=name)


def test_a_code_that_can_leave_its_levels_is_never_packed():
    """One level too many, planted where the clip was."""
    graph = skip_graph(bits=2)
    (found,) = stored_code_maps(graph)
    producer = graph.operators[graph.producers()[found.tensor]]
    scale = graph.tensors[found.tensor].quantization.scales[0]
    wrong = graph.tensors[found.tensor].quantization
    wrong = type(wrong)((float(np.float32(scale / 3)),), wrong.zero_points, wrong.axis)
    tensors = list(graph.tensors)
    tensors[found.tensor] = dataclasses.replace(tensors[found.tensor], quantization=wrong)
    changed = graph.replace(tensors=tuple(tensors))
    assert producer.opcode == "CONV_2D"
    assert [m.bits for m in stored_code_maps(changed)] == [4]
    report, _ = planned(changed)
    assert [c.bits for c in report.codes] in ([], [4])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
