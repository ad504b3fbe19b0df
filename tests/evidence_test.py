"""Every output of every sample is compared when a planned model runs beside its source."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from deploy import flatbuffer
from deploy.graph import Graph
from deploy.proof import samples as drawing
from deploy.proof.evidence import collect
from deploy.proof.samples import RANDOM_SAMPLES, sample_inputs
from deploy.proof.source import SourceRun, run_source
from deploy.runtime import litert, tflm
from keras_fmc.errors import VerificationError
from tests.int8_graphs import Int8GraphMaker

SAMPLES = 17
"""Five extremes and twelve at random, as the report says."""


def two_outputs() -> Graph:
    make = Int8GraphMaker(2)
    x, y = make.input((1, 4, 4, 2)), make.input((1, 3))
    return make.build(outputs=[make.unary("RELU", x), make.unary("TANH", y)])


@functools.cache
def a_run() -> SourceRun:
    graph = two_outputs()
    return run_source(flatbuffer.write(graph), graph)


def wrong_at(
    sample: int, output: int, element: int
) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]]]:
    rng = np.random.default_rng(0)
    right = [
        [rng.integers(-9, 9, (1, 4, 4, 2)).astype(np.int8), rng.integers(-9, 9, (1, 3), np.int8)]
        for _ in range(SAMPLES)
    ]
    wrong = [[array.copy() for array in arrays] for arrays in right]
    wrong[sample][output].flat[element] ^= 1
    return right, wrong


@pytest.mark.parametrize("runtime", ["tflm", "litert"])
@pytest.mark.parametrize("sample", range(SAMPLES))
def test_a_byte_that_differs_in_any_sample_is_noticed(
    sample: int, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = two_outputs()
    output = sample % 2
    right, wrong = wrong_at(sample, output, -1)
    source = dataclasses.replace(a_run(), outputs=right)
    answers = [wrong, right]

    def run(content: bytes, samples: Sequence[object], **options: object) -> object:
        assert len(samples) == SAMPLES
        # The source repeats itself, its samples in reverse: it is not what differs.
        return answers.pop(0) if content == b"planned" else right[::-1]

    monkeypatch.setattr(tflm, "run", run)
    monkeypatch.setattr(litert, "run", run)
    monkeypatch.setattr(tflm, "smallest_arena", lambda content, guess, **_: guess)
    reason = "no wheel" if runtime == "litert" else None
    monkeypatch.setattr(tflm, "unavailable_reason", lambda: reason)
    name = graph.tensors[graph.outputs[output]].name
    with pytest.raises(VerificationError, match=rf"{name} .* on input {sample}; .* 1 of"):
        collect(b"planned", source, graph=graph, predicted_bytes=1024)
    found = collect(b"planned", source, graph=graph, predicted_bytes=1024)
    assert (found.samples, found.bit_exact, found.verified) == (SAMPLES, True, reason is None)


def test_a_sample_that_is_missing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, source = two_outputs(), a_run()
    right, _ = wrong_at(0, 0, 0)
    monkeypatch.setattr(tflm, "run", lambda content, samples, **options: right[:-1])
    monkeypatch.setattr(tflm, "smallest_arena", lambda content, guess, **_: guess)
    monkeypatch.setattr(tflm, "unavailable_reason", lambda: None)
    with pytest.raises(ValueError, match="zip"):
        collect(
            b"planned",
            dataclasses.replace(source, outputs=right),
            graph=graph,
            predicted_bytes=1024,
        )


def test_samples_are_extremes_and_random_ones_of_every_input() -> None:
    graph = two_outputs()
    samples = sample_inputs(graph)
    assert len(samples) == SAMPLES == 5 + RANDOM_SAMPLES
    for position, tensor in enumerate(graph.tensors[i] for i in graph.inputs):
        arrays = [sample[position] for sample in samples]
        assert {(a.shape, a.dtype) for a in arrays} == {(tensor.shape, np.dtype(np.int8))}
        assert (arrays[0] == -128).all()
        assert (arrays[1] == 127).all()
        assert tensor.quantization is not None
        assert (arrays[2] == tensor.quantization.zero_points[0]).all()
        assert {*arrays[3].flat, *arrays[4].flat} == {-128, 127}
        assert len({a.tobytes() for a in arrays}) >= SAMPLES - 2
    assert np.array_equal(samples[-1][0], sample_inputs(graph)[-1][0])


@pytest.mark.skipif(tflm.unavailable_reason() is not None, reason="needs the tflite_micro wheel")
def test_models_that_agree_on_most_inputs_are_told_apart() -> None:
    """A ceiling of 126 changes one value of 256: no sample but some holds it."""
    make = Int8GraphMaker(3)
    x = make.input((1, 2))
    one = make.build(outputs=[make.binary("MINIMUM", x, ceiling(make, x, 127))])
    make = Int8GraphMaker(3)
    x = make.input((1, 2))
    other = make.build(outputs=[make.binary("MINIMUM", x, ceiling(make, x, 126))])
    contents = [flatbuffer.write(graph) for graph in (one, other)]
    assert collect(contents[0], contents[0], graph=one, predicted_bytes=2048).verified
    with pytest.raises(VerificationError, match="on input 1;"):
        collect(contents[1], contents[0], graph=one, predicted_bytes=2048)


def ceiling(make: Int8GraphMaker, x: int, value: int) -> int:
    array = np.full((1, 2), value, np.int8)
    return make.graph.constant("ceiling", array, quantization=make.quantization(x))


def test_samples_are_not_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = two_outputs()
    before = sample_inputs(graph)
    monkeypatch.setattr(drawing, "_SEED", 1)
    assert not np.array_equal(before[-1][0], sample_inputs(graph)[-1][0])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
