"""Around maps that are stored packed, indices and single bits exist for a strip of rows at most."""

from __future__ import annotations

import dataclasses
import re
import sys

import pytest
from code_graphs import code_map, gate_graph, skip_graph
from int8_graphs import Int8GraphMaker

import deploy
from deploy import flatbuffer, ways
from deploy.backends.tflm import prepare
from deploy.backends.tflm.codes import trial
from deploy.backends.tflm.codes.lower import lower_codes
from deploy.backends.tflm.codes.momentary import momentary_maps
from deploy.backends.tflm.strips import choose_strips, obstacles, walks
from deploy.codes.parts import strip_family
from deploy.graph import Activation, Graph, Options
from deploy.lifetimes import tensor_lifetimes
from deploy.report.report import Report
from deploy.runtime import tflm
from deploy.targets import target

_WHEEL = target(board="host")


@pytest.fixture(autouse=True)
def little_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        walks,
        "EFFORT",
        dataclasses.replace(walks.EFFORT, small_work=12_000, small_work_for_the_head=12_000),
    )
    monkeypatch.setattr(trial, "_SMALL_WORK", 4_000)


@pytest.fixture
def packed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan with packed codes wins, whatever it takes."""
    rank = prepare.rank
    for module in (prepare, ways):
        monkeypatch.setattr(module, "rank", lambda p, *rest: (not p.codes, *rank(p, *rest)))


def planned(graph: Graph, **settings: object) -> tuple[Report, Graph]:
    result = deploy.plan(flatbuffer.write(graph), board="nano33ble", **settings)
    assert result.content is not None
    assert result.report.bit_exact
    if tflm.unavailable_reason() is None:
        assert result.report.verified_arena_bytes == result.report.predicted_arena_bytes_wheel
    return result.report, flatbuffer.read(result.content)


def most_rows(graph: Graph, families: set[str], *, axis: int = 1) -> dict[str, tuple[int, int]]:
    """Family -> rows of its tallest tensor, and the most rows of it that tensors of a step have.

    Which rows a tensor has stands in its name, as "[first:stop]".
    """
    tallest: dict[str, int] = {}
    rows_at: dict[tuple[str, int], set[int]] = {}
    for index, (first, last) in tensor_lifetimes(graph).items():
        name = graph.tensors[index].name
        family = strip_family(name.removesuffix("/padded"))
        if family in families:
            height = graph.tensors[index].shape[axis]
            tallest[family] = max(tallest.get(family, 0), height)
            named = re.search(r"\[(\d+):(\d+)\]", name)
            rows = range(*map(int, named.groups())) if named else range(height)
            for step in range(first, last + 1):
                rows_at.setdefault((family, step), set()).update(rows)
    return {
        family: (most, max(len(rows) for (f, _), rows in rows_at.items() if f == family))
        for family, most in tallest.items()
    }


def indices(graph: Graph) -> set[str]:
    return {strip_family(t.name) for t in graph.tensors if t.dtype == "int32" and not t.is_constant}


def gf2_graph() -> tuple[Graph, set[str]]:
    """A bottleneck of bits with 2x2 stride 2; the graph, and the names of its maps of bits."""
    make = Int8GraphMaker(2)

    def moved(opcode: str, x: int, shape: tuple[int, ...]) -> int:
        options = Options(
            {"SPACE_TO_DEPTH": "SpaceToDepthOptions", "DEPTH_TO_SPACE": "DepthToSpaceOptions"}[
                opcode
            ],
            (("block_size", 2),),
        )
        return make.operator(opcode, [x], shape, make.quantization(x), options)

    x = make.conv(make.input((1, 16, 10, 4)), channels=8, kernel=(3, 3))
    code = code_map(make, x, channels=4, bits=6)
    planes = code_map(make, code, channels=24, bits=1, form="threshold")
    blocks = moved("SPACE_TO_DEPTH", planes, (1, 8, 5, 96))
    bits = code_map(make, blocks, channels=40, bits=1, form="threshold")
    wide = code_map(make, bits, channels=96, bits=1, form="threshold")
    restored = moved("DEPTH_TO_SPACE", wide, (1, 16, 10, 24))
    y = make.conv(restored, channels=8, activation=Activation.RELU)
    y = make.conv(y, channels=4, kernel=(3, 3), stride=(2, 2))
    graph = make.build(outputs=[y])
    return graph, {graph.tensors[t].name for t in (planes, blocks, bits, wide, restored)}


def most_live_rows(report: Report, graph: Graph, family: str) -> float:
    """The most rows whose bytes the plan holds at one step; a strip's rows may die one by one."""
    row_bytes = {
        tensor.name: tensor.size_bytes // tensor.shape[1]
        for tensor in graph.tensors
        if strip_family(tensor.name.removesuffix("/padded")) == family
    }
    own = [piece for piece in report.pieces if piece.tensor in row_bytes]
    return max(
        (
            sum(p.size_bytes / row_bytes[p.tensor] for p in own if p.start <= step < p.stop)
            for step in {piece.start for piece in own}
        ),
        default=0,
    )


@pytest.mark.parametrize("bits", [6, 4, 2, 1])
def test_no_index_is_ever_whole(bits, packed_first):
    report, emitted = planned(skip_graph(bits=bits))
    (code,) = report.codes
    families = indices(emitted)
    assert {family.rsplit("_", 1)[1] for family in families} == {"index", "row"}
    if bits == 1:
        readers = {f.removesuffix("index") for f in families if f.endswith("index")}
        families |= {code.name, *(f"{r}map" for r in readers), *(f"{r}looked_up" for r in readers)}
    found = most_rows(emitted, families)
    assert set(found) == families
    for family, (tallest, live) in found.items():
        assert max(tallest, most_live_rows(report, emitted, family)) < 16, family
        # Of single bits a strip's tensor outlives its first rows.
        assert bits == 1 or live < 16, family
    assert any(most_live_rows(report, emitted, family) > 0 for family in families)


def test_no_plane_of_a_bottleneck_of_bits_is_ever_whole(packed_first):
    graph, names = gf2_graph()
    report, emitted = planned(graph)
    (code,) = report.codes
    assert code.packed_bytes == 8 * 5 * 40 // 8 + 8
    families = names | indices(emitted) | {f"{code.name}_unpack_map"}
    found = most_rows(emitted, families)
    assert set(found) == families
    height = {t.name: t.shape[1] for t in graph.tensors if t.name in names}
    for family, (tallest, live) in found.items():
        assert max(tallest, live) < height.get(family, 8), family


def test_a_map_of_bits_that_is_needed_as_a_whole_stays_in_int8():
    make = Int8GraphMaker(5)
    x = make.conv(make.input((1, 12, 12, 4)), channels=16, kernel=(3, 3))
    one = code_map(make, x, channels=32, bits=1)
    y = make.conv(one, channels=48, kernel=(3, 3), activation=Activation.RELU)
    two = code_map(make, y, channels=32, bits=1)
    graph = make.build(outputs=[make.mean(two)])
    report, _ = planned(graph)
    (decision,) = [d for d in report.decisions if d.subject == graph.tensors[two].name]
    assert decision.reason.startswith(
        "stored in int8: it cannot be unpacked strip by strip (MEAN #"
    )
    assert decision.reason.endswith(
        "): it reduces over the rows, and partial results would be rounded)"
    )
    assert graph.tensors[two].name not in {code.name for code in report.codes}


def test_a_map_that_two_readers_need_at_times_apart_is_unpacked_for_each(packed_first):
    graph, name = gate_graph(bits=1)
    report, emitted = planned(graph)
    assert [code.name for code in report.codes] == [name]
    assert {f"{name}_unpack_0_map", f"{name}_unpack_1_map"} <= {
        strip_family(t.name) for t in emitted.tensors
    }


def test_where_no_cut_will_do_the_plan_says_so(packed_first, monkeypatch):
    """Unpacked once for readers that a mean lies between, planes have to wait as a whole."""
    monkeypatch.setattr(trial, "_are_apart", lambda graph, tensor: False)
    graph, name = gate_graph(bits=1)
    report, _ = planned(graph)
    assert report.codes == ()
    (decision,) = [d for d in report.decisions if d.subject == name]
    assert decision.reason == (
        "stored in int8: no way was found to unpack it strip by strip within 1.1x the "
        "multiply-accumulates, and whole its indices are int32"
    )


def test_a_map_too_low_for_strips_does_not_keep_others_from_being_packed(packed_first):
    """Every strip of a 3x3 window on three rows reads them all."""
    make = Int8GraphMaker(5)
    x = make.conv(make.input((1, 12, 12, 4)), channels=8, kernel=(3, 3))
    high = code_map(make, x, channels=32, bits=1)
    y = make.conv(high, channels=8, kernel=(4, 4), stride=(4, 4), activation=Activation.RELU)
    low = [code_map(make, y, channels=32, bits=1)]
    low.append(code_map(make, make.conv(low[0], channels=8, kernel=(3, 3)), channels=32, bits=1))
    graph = make.build(outputs=[make.conv(low[1], channels=4, kernel=(3, 3))])
    report, _ = planned(graph, max_macs=1.5)
    assert [code.name for code in report.codes] == [graph.tensors[high].name]
    subjects = {d.subject for d in report.decisions if "no way was found to unpack" in d.reason}
    assert subjects == {graph.tensors[t].name for t in low}


def test_nor_is_it_where_the_head_alone_counts():
    graph = lower_codes(skip_graph(bits=4, size=12, channels=8, wide=16))
    names = momentary_maps(graph.graph, graph.stored)
    choice = choose_strips(
        graph.graph, target=_WHEEL, minimise="head", never_whole=names, work=9_000, plan_rounds=0
    )
    assert not choice.holds_whole
    for family, (tallest, live) in most_rows(choice.graph, set(names)).items():
        assert max(tallest, live) < 12, family


def test_a_graph_that_cannot_obey_comes_back_whole():
    graph, name = gate_graph(bits=1)
    assert obstacles(graph, frozenset({name})) == {}
    choice = choose_strips(graph, target=_WHEEL, never_whole=frozenset({name}), plan_rounds=0)
    assert choice.holds_whole
    assert len(choice.graph.operators) == len(graph.operators)
    assert not choose_strips(graph, target=_WHEEL, work=900, plan_rounds=0).holds_whole


def test_what_keeps_a_map_whole_is_named():
    graph, _ = gate_graph(bits=4)
    names = {graph.tensors[t].name for t in (*graph.inputs, *graph.outputs)}
    outside = "it is an input or an output of the graph"
    assert obstacles(graph, frozenset(names)) == dict.fromkeys(names, outside)
    step = next(i for i, o in enumerate(graph.operators) if o.opcode == "MEAN")
    wide = graph.tensors[graph.operators[step].inputs[0]].name
    (label,) = obstacles(graph, frozenset({wide}))
    assert label == graph.label(step)


def test_without_strips_the_indices_of_all_rows_are_named_and_counted(packed_first):
    report, emitted = planned(skip_graph(bits=4), strips=False)
    (code,) = report.codes
    (decision,) = [d for d in report.decisions if d.subject == code.name]
    size = 16 * 16 * 16 * 4
    assert decision.reason == (
        "unpacked whole, as strips are off: int32 indices of all its rows exist, "
        f"{size:,} B, and count in the arena"
    )
    whole = [t for t in emitted.tensors if t.dtype == "int32" and t.shape == (1, 16, 16, 16)]
    assert {t.size_bytes for t in whole} == {size}
    assert report.head_bytes >= size


@pytest.mark.parametrize("height", [1, 2])
def test_maps_of_a_single_row_are_cut_by_columns(height, packed_first):
    make = Int8GraphMaker(6)
    x = make.conv(make.input((1, height, 24, 4)), channels=16, kernel=(1, 3))
    code = code_map(make, x, channels=32, bits=2)
    y = make.conv(code, channels=64, kernel=(1, 3), activation=Activation.RELU)
    graph = make.build(outputs=[make.mean(make.binary("ADD", make.conv(y, channels=32), code))])
    report, emitted = planned(graph)
    assert len(report.codes) == 1
    axis, rows = (2, 24) if height == 1 else (1, 2)
    for family, (tallest, live) in most_rows(emitted, indices(emitted), axis=axis).items():
        assert max(tallest, live) < rows, family


def test_a_single_position_is_exempt(packed_first):
    make = Int8GraphMaker(6)
    code = code_map(make, make.input((1, 1, 1, 32)), channels=64, bits=2)
    y = make.conv(code, channels=300, activation=Activation.RELU)
    y = make.binary("ADD", make.conv(y, channels=64), code)
    report, emitted = planned(make.build(outputs=[make.conv(y, channels=4)]))
    assert len(report.codes) == 1
    assert indices(emitted)


def test_momentary_maps_are_indices_and_single_bits():
    graph, names = gf2_graph()
    lowered = lower_codes(graph)
    found = momentary_maps(lowered.graph, lowered.stored)
    assert names <= found
    assert indices(lowered.graph) <= found
    kinds = {t.dtype for t in lowered.graph.tensors if t.name in found}
    assert kinds == {"int8", "int32"}
    bits_of_four = lower_codes(skip_graph(bits=4))
    four = momentary_maps(bits_of_four.graph, bits_of_four.stored)
    assert four == indices(bits_of_four.graph)
    assert len(four) == 2


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
