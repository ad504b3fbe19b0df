"""Plans that models bring: the baseline, a candidate, and never a way to a larger arena."""

from __future__ import annotations

import sys

import pytest

import deploy
from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.embed import embed, embedded_offsets, without_plan
from deploy.backends.tflm.given import given_plan
from deploy.backends.tflm.layout import analyse
from deploy.backends.tflm.online import simulate
from deploy.backends.tflm.place import place
from deploy.graph import Graph
from deploy.memory.plan import AliasReason
from deploy.memory.planner import plan as packed
from deploy.runtime import tflm
from deploy.targets import kernels, target
from keras_fmc.errors import BadInputError, VerificationError
from tests.int8_graphs import Int8GraphMaker
from tests.support import shared_path

_HOST = kernels("reference")
_NEEDS_TFLM = pytest.mark.skipif(tflm.unavailable_reason() is not None, reason="needs tflite_micro")


def rows_of_a_map() -> tuple[Graph, int, list[int]]:
    """A map (1, 8, 4, 8), its two halves by SLICE, a RELU of each: 256 bytes and 128 each."""
    make = Int8GraphMaker(1)
    x = make.input((1, 8, 4, 8))
    halves = [make.slice(x, (0, first, 0, 0), (1, 4, 4, 8)) for first in (0, 4)]
    outputs = [make.unary("LOGISTIC", half) for half in halves]
    return make.build(outputs=outputs), x, halves


def offsets_of(graph: Graph, places: dict[int, int]) -> tuple[int, ...]:
    return tuple(places.get(t, -1) for t in range(len(graph.tensors)))


def test_tensors_that_stand_as_views_are_aliases() -> None:
    graph, x, halves = rows_of_a_map()
    places = {x: 0, halves[0]: 0, halves[1]: 4 * 4 * 8}
    places |= {graph.outputs[0]: 256, graph.outputs[1]: 256 + 128}
    plan = given_plan(graph, _HOST, offsets=offsets_of(graph, places))
    assert plan.head_bytes == 256 + 2 * 128
    found = {t.index: t.alias_reason for t in plan.tensors if t.alias_of}
    assert found == dict.fromkeys(halves, AliasReason.SLICE_VIEW)
    assert plan.engine == "the plan inside the model"


def test_tensors_that_share_bytes_for_no_reason_are_refused() -> None:
    graph, x, halves = rows_of_a_map()
    # The second half stands 16 bytes beside its rows.
    places = {x: 0, halves[0]: 0, halves[1]: 4 * 4 * 8 - 16}
    places |= {graph.outputs[0]: 256, graph.outputs[1]: 256 + 128}
    with pytest.raises(VerificationError, match="SLICE"):
        given_plan(graph, _HOST, offsets=offsets_of(graph, places))


def test_without_a_plan_it_is_what_the_runtime_does() -> None:
    graph, _, _ = rows_of_a_map()
    plan = given_plan(graph, _HOST, offsets=None)
    online = simulate(graph)
    assert plan.head_bytes == online.head_bytes == 256 + 2 * 128
    assert all(plan.offsets[t] == online.offsets[t] for t in graph.activations())
    assert not [t for t in plan.tensors if t.alias_of]


def test_an_alias_is_a_constraint() -> None:
    """Rows 6 to 9 of 16 stay where they are as a view, and split what is free around them."""
    row = 4 * 4
    make = Int8GraphMaker(2)
    x = make.input((1, 16, 4, 4))
    part = make.slice(x, (0, 6, 0, 0), (1, 4, 4, 4))
    wide = make.conv(part, channels=12)
    graph = make.build(outputs=[make.binary("SUB", make.conv(wide, channels=4), part)])
    views = analyse(graph, in_place=_HOST.in_place)
    assert next(alias.reason for alias in views.aliases) is AliasReason.SLICE_VIEW
    # 12 rows of the wide map stand neither below row 6 nor between rows 10 and 16.
    assert packed(views.problem).height_bytes == (10 + 12) * row
    plan = place(graph, _HOST)
    assert plan.head_bytes == (4 + 12 + 4) * row
    assert plan.proven_optimal
    assert not [t for t in plan.tensors if t.alias_reason is AliasReason.SLICE_VIEW]


@_NEEDS_TFLM
def test_the_own_plan_is_the_baseline_and_no_plan_is_larger() -> None:
    graph, x, halves = rows_of_a_map()
    places = {x: 0, halves[0]: 0, halves[1]: 4 * 4 * 8}
    places |= {graph.outputs[0]: 320, graph.outputs[1]: 320 + 128}
    content = flatbuffer.write(embed(graph, offsets_of(graph, places)))
    with_own = deploy.plan(content, strips=False).report
    without = deploy.plan(flatbuffer.write(graph), strips=False).report
    # 64 bytes of it are of no use; TFLM by itself leaves none.
    assert with_own.baseline.head_bytes == 320 + 2 * 128
    assert without.baseline.head_bytes == 256 + 2 * 128
    assert with_own.baseline.verified_arena_bytes == tflm.smallest_arena(content)
    assert with_own.arena_bytes <= with_own.baseline.arena_bytes


@_NEEDS_TFLM
def test_a_better_plan_than_ours_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy.backends.tflm import prepare

    real = prepare.place

    def wasteful(graph: Graph, library: object, **options: object) -> object:
        plan = real(graph, library, **options)
        moved = tuple(o + 4096 if o >= 0 else o for o in plan.offsets)
        return given_plan(graph, _HOST, offsets=moved, overlap=False)

    monkeypatch.setattr(prepare, "place", wasteful)
    graph, _, _ = rows_of_a_map()
    report = deploy.plan(flatbuffer.write(graph), strips=False).report
    assert report.arena_bytes == report.baseline.arena_bytes
    assert report.engine == "TFLM's own planner"
    assert any("smaller than the best plan" in d.reason for d in report.decisions)


@pytest.mark.parametrize("count", [-1, 0, 3, 2**30])
def test_a_damaged_plan_is_named(count: int) -> None:
    graph, _, _ = rows_of_a_map()
    planned = embed(graph, (-1,) * len(graph.tensors))
    assert embedded_offsets(planned) == (-1,) * len(graph.tensors)
    ((name, data),) = planned.metadata
    data = data[:8] + count.to_bytes(4, "little", signed=True) + data[12:]
    with pytest.raises(BadInputError, match="one for each tensor"):
        embedded_offsets(graph.replace(metadata=((name, data),)))
    with pytest.raises(BadInputError, match="one for each tensor"):
        embedded_offsets(graph.replace(metadata=((name, data[:7]),)))
    assert embedded_offsets(without_plan(planned)) is None


def test_the_person_sensor_of_google_comes_out_smaller() -> None:
    """A network that its makers tiled by hand, with a plan of their own: 257,808 bytes."""
    graph = flatbuffer.read_file(shared_path("models/public/cfu_hps_model_2022_01_05_74ops.tflite"))
    wheel = target(board="host")
    own = embedded_offsets(graph)
    assert predict_arena(graph, offsets=own, target=wheel).arena_bytes == 257_808
    explained = given_plan(graph, wheel.kernels, offsets=own)
    assert predict_arena(graph, offsets=explained.offsets, target=wheel).arena_bytes == 257_808
    # Slices as views, concatenations as copies: 244,512 with all views, 237,552 with none.
    plan = place(graph, wheel.kernels)
    assert plan.head_bytes == plan.lower_bound_bytes == 229_872
    assert {t.alias_reason for t in plan.tensors} >= {AliasReason.SLICE_VIEW}
    assert AliasReason.CONCATENATION_VIEW not in {t.alias_reason for t in plan.tensors}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
