"""Trying a planned model with floats, and the keywords that plans take."""

from __future__ import annotations

import importlib
import inspect
import sys

import numpy as np
import pytest

from deploy import flatbuffer, pipeline
from deploy.graph import Graph
from deploy.predict import predict, run_codes
from deploy.proof.samples import sample_inputs
from deploy.runtime import litert, tflm
from deploy.settings import PlanSettings
from keras_fmc.errors import BadInputError
from tests.int8_graphs import Int8GraphMaker
from tests.stateful_graphs import stateful

PREDICT = importlib.import_module("deploy.predict")
"""The module; the package has the function under its name."""
SHAPES = (6, 6, 3), (4, 4, 2)


def two_ended() -> Graph:
    """Two inputs of unlike shapes, two outputs."""
    make = Int8GraphMaker(5)
    left, right = (make.input((1, *shape)) for shape in SHAPES)
    outputs = [make.conv(left, channels=4), make.conv(right, channels=5)]
    return make.build(outputs=outputs)


def by_hand(content: bytes, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """LiteRT's reference kernels, with the scales that LiteRT reads from the file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    ins, outs = interpreter.get_input_details(), interpreter.get_output_details()
    samples = []
    for i in range(len(arrays[0])):
        sample = []
        for detail, array in zip(ins, arrays, strict=True):
            scale, zero = detail["quantization"]
            codes = np.rint(array[i : i + 1] / np.float32(scale)) + zero
            sample.append(np.clip(codes, -128, 127).astype(np.int8))
        samples.append(sample)
    rows = litert.run(content, samples)
    found = []
    for place, detail in enumerate(outs):
        scale, zero = detail["quantization"]
        codes = np.concatenate([row[place] for row in rows]).astype(np.float32)
        found.append((codes - zero) * np.float32(scale))
    return found


@pytest.mark.long
@pytest.mark.parametrize("wheel", [True, False])
def test_floats_in_and_out_for_many_samples(wheel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not wheel:
        monkeypatch.setattr(tflm, "unavailable_reason", lambda: "none for this platform")
        monkeypatch.setattr(tflm, "run", None)
    elif (reason := tflm.unavailable_reason()) is not None:
        pytest.skip(reason)
    graph = two_ended()
    result = pipeline.plan(flatbuffer.write(graph), arena_bytes="64KB")
    assert result.content is not None
    rng = np.random.default_rng(0)
    shapes = [graph.tensors[index].shape[1:] for index in graph.inputs]
    arrays = [(40 * rng.standard_normal((7, *shape))).astype(np.float32) for shape in shapes]
    expected = by_hand(result.content, arrays)
    found = predict(result, arrays)
    assert isinstance(found, dict)
    for one, other in zip(found.values(), expected, strict=True):
        assert one.dtype == np.float32
        assert len(np.unique(one)) > 10
        np.testing.assert_allclose(one, other, rtol=1e-6)
    names = [graph.tensors[index].name for index in graph.inputs]
    again = predict(result, dict(reversed(list(zip(names, arrays, strict=True)))))
    assert isinstance(again, dict)
    for name, values in found.items():
        np.testing.assert_array_equal(again[name], values)


@pytest.mark.parametrize("progress", [False, True])
def test_no_run_of_many_samples_takes_long(progress: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that takes longer than a broken model may is given up, however many samples it has."""
    lengths: list[int] = []

    def run(content: bytes, samples: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
        lengths.append(len(samples))
        return usual(content, samples)

    usual = litert.run
    monkeypatch.setattr(tflm, "unavailable_reason", lambda: "none for this platform")
    monkeypatch.setattr(litert, "run", run)
    content = flatbuffer.write(two_ended())
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal((150, *shape)).astype(np.float32) for shape in SHAPES]
    found = predict(content, arrays, progress=progress)
    assert lengths == [64, 64, 22]
    assert isinstance(found, dict)
    for one, other in zip(found.values(), by_hand(content, arrays), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    lengths.clear()
    monkeypatch.setattr(PREDICT, "graph_macs", lambda graph: 10**9)
    predict(content, [array[:7] for array in arrays], progress=progress)
    assert lengths == [5, 2]


@pytest.mark.parametrize("progress", [False, True])
def test_samples_of_a_model_that_keeps_state_run_in_one_go(
    progress: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PREDICT, "_SAMPLES_A_STEP", 2)
    graph = stateful(0)
    content = flatbuffer.write(graph)
    if (reason := tflm.unavailable_reason()) is not None:
        pytest.skip(reason)
    given = [sample for sample in sample_inputs(graph) if sample]
    arrays = [np.concatenate(of_input) for of_input in zip(*given, strict=True)]
    samples = [[array[i : i + 1] for array in arrays] for i in range(len(arrays[0]))]
    wanted = tflm.run(content, samples, arena_bytes=tflm.ROOMY_ARENA_BYTES)
    found = run_codes(content, arrays, progress=progress)
    for one, other in zip(found, wanted, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)
    alone = [tflm.run(content, [s], arena_bytes=tflm.ROOMY_ARENA_BYTES)[0] for s in samples]
    assert any(np.any(a[0] != w[0]) for a, w in zip(alone, wanted, strict=True))


def test_samples_that_do_not_fit_the_model_are_refused() -> None:
    content = flatbuffer.write(two_ended())
    left, right = np.zeros((2, 6, 6, 3)), np.zeros((2, 4, 4, 2))
    with pytest.raises(BadInputError, match="have another shape"):
        predict(content, [left, right[:, :3]])
    with pytest.raises(BadInputError, match="differ in their count of samples"):
        predict(content, [left, right[:1]])
    with pytest.raises(BadInputError, match="takes several arrays"):
        predict(content, left)
    with pytest.raises(BadInputError, match="unknown inputs"):
        predict(content, {"nothing": left})


def test_a_result_without_a_model_is_refused() -> None:
    result = pipeline.plan(flatbuffer.write(two_ended()), arena_bytes=16)
    assert not result.report.fits
    with pytest.raises(BadInputError, match="the result holds no model"):
        predict(result, np.zeros((1, 6, 6, 3)))


@pytest.mark.parametrize("function", [pipeline.plan, pipeline.convert])
def test_keywords_show_types_and_defaults(function: object) -> None:
    shown = inspect.signature(function).parameters  # type: ignore[arg-type]
    settings = PlanSettings()
    for name in PlanSettings.__dataclass_fields__:
        assert shown[name].default == getattr(settings, name)
        assert shown[name].kind is inspect.Parameter.KEYWORD_ONLY
    assert not any(p.kind is p.VAR_KEYWORD for p in shown.values())


@pytest.mark.parametrize("function", [pipeline.plan, pipeline.convert])
@pytest.mark.parametrize(
    ("typo", "near"), [("bord", "board"), ("arena_byte", "arena_bytes"), ("efort", "effort")]
)
def test_a_typo_in_a_keyword_names_the_nearest(function: object, typo: str, near: str) -> None:
    with pytest.raises(BadInputError, match=rf"no keyword '{typo}'(?s:.)*nearest is '{near}'"):
        function(b"", **{typo: 1})  # type: ignore[operator]


def test_sizes_are_taken_as_text() -> None:
    settings = PlanSettings(reserve_bytes="1.5KB", arena_bytes="64KB")  # type: ignore[arg-type]
    assert (settings.reserve_bytes, settings.arena_bytes) == (1536, 65536)
    with pytest.raises(BadInputError, match="not a size"):
        PlanSettings(arena_bytes="64 cats")  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
