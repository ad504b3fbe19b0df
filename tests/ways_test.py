"""What is left out of a plan where a part of it is wrong, and when there is no plan at all."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import pytest

import deploy
from deploy import flatbuffer, ways
from deploy.backends.tflm import prepare
from deploy.backends.tflm.strips import layout, walks
from deploy.backends.tflm.strips.diagonal import Diagonals
from deploy.graph import Graph
from deploy.runtime import tflm
from deploy.settings import PlanSettings
from keras_fmc.errors import UnsupportedModelError, VerificationError
from tests.code_graphs import skip_graph
from tests.int8_graphs import Int8GraphMaker

pytestmark = pytest.mark.skipif(tflm.unavailable_reason() is not None, reason="needs tflite_micro")


@pytest.fixture(autouse=True)
def little_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "usual_work", lambda *_, **__: 3000)


def big_maps() -> Graph:
    """16,384 and 8,192 bytes that strips can do without; outputs grow into inputs."""
    make = Int8GraphMaker(1)
    x = make.conv(make.input((1, 32, 32, 3)), channels=16, kernel=(3, 3))
    x = make.conv(x, channels=8, kernel=(3, 3))
    return make.build(outputs=[make.mean(x)])


def plan(graph: Graph, **settings: Any) -> deploy.Result:
    return deploy.plan(flatbuffer.write(graph), **settings)


def defects(result: deploy.Result) -> dict[str, str]:
    return {d.subject: d.reason for d in result.report.decisions if "defect" in d.reason}


def test_a_sound_plan_leaves_nothing_out() -> None:
    assert defects(plan(big_maps())) == {}


def test_outputs_that_grow_too_far_leave_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Diagonals.distance
    apart = plan(big_maps(), overlap=False, view_operators=True).report.arena_bytes

    def near(*arguments: Any) -> int | None:
        distance = real(*arguments)
        return None if distance is None else distance - 16

    monkeypatch.setattr(Diagonals, "distance", near)
    result = plan(big_maps())
    assert list(defects(result)) == ["outputs that grow into their inputs"]
    assert "overwrites its input" in defects(result)["outputs that grow into their inputs"]
    assert "report this defect" in defects(result)["outputs that grow into their inputs"]
    assert result.report.regions
    assert result.report.arena_bytes == apart


def test_wrong_strips_leave_the_graph_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any, **__: Any) -> None:
        raise VerificationError("rows of a strip are garbage")

    monkeypatch.setattr(layout, "settled", wrong)
    result = plan(big_maps())
    assert list(defects(result)) == ["outputs that grow into their inputs", "strips"]
    assert not result.report.regions
    whole = plan(big_maps(), strips=False, view_operators=True)
    assert result.report.arena_bytes == whole.report.arena_bytes


@pytest.mark.parametrize("error", [VerificationError, UnsupportedModelError])
def test_codes_that_cannot_be_packed_stay_int8(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def wrong(*_: Any, **__: Any) -> None:
        raise error("a map can leave the levels of its code")

    graph = skip_graph(bits=4)
    assert prepare.has_codes(graph, PlanSettings())
    monkeypatch.setattr(prepare, "best_lowering", wrong)
    result = plan(graph)
    assert list(defects(result)) == ["codes packed into bytes"]
    assert "can leave the levels" in defects(result)["codes packed into bytes"]


def test_only_where_all_is_wrong_is_there_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(memory: Any, sizes: Any) -> None:
        tried.append(memory.engine)
        raise VerificationError("the plan is wrong")

    monkeypatch.setattr(ways, "check_plan", refuse)
    with pytest.raises(VerificationError, match="the plan is wrong"):
        plan(big_maps())
    # With overlap, with strips, whole, and as TFLM does it by itself.
    assert len(tried) == 4
    assert tried[-1] == "TFLM's own planner"


@pytest.mark.parametrize("settings", [{}, {"arena_bytes": 100_000}, {"strips": False}])
def test_what_the_run_contradicts_does_not_leave(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    real = ways.predict_arena

    def optimistic(*arguments: Any, **keywords: Any) -> Any:
        arena = real(*arguments, **keywords)
        return dataclasses.replace(arena, arena_bytes=arena.arena_bytes - 16)

    monkeypatch.setattr(ways, "check_plan", lambda *_: None)
    monkeypatch.setattr(ways, "predict_arena", optimistic)
    with pytest.raises(VerificationError, match="predicted for the wheel"):
        plan(big_maps(), **settings)


def test_ways_go_from_the_most_to_the_least() -> None:
    def names(**settings: Any) -> list[str]:
        return [way.adds for way in ways.ways(skip_graph(bits=4), PlanSettings(**settings))]

    codes, grow, strips, whole = names()
    assert "codes" in codes
    assert "grow" in grow
    assert strips == "strips"
    assert names(overlap=False) == [codes, strips, whole]
    assert names(strips=False) == [codes, whole]
    assert names(strips=False, overlap=True) == [codes, grow, whole]


def test_the_c_proof_is_checked_without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = ways.check_plan

    def check(memory: Any, sizes: Any) -> Any:
        seen.append(sizes.arena_bytes)
        return real(memory, sizes)

    monkeypatch.setattr(ways, "check_plan", check)
    result = plan(big_maps(), strips=False)
    assert seen == [result.report.arena_bytes]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
