"""Float32 maps: whole models, and QUANTIZE and DEQUANTIZE at the ends of int8 ones."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import deploy
from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.cli import main
from deploy.graph import Graph, GraphBuilder, Operator, Options, Quantization
from deploy.proof.samples import sample_inputs
from deploy.runtime import tflm
from deploy.supported import check_supported
from deploy.targets import target
from keras_fmc.errors import UnsupportedModelError
from tests.int8_graphs import Int8GraphMaker
from tests.random_graphs import random_graph
from tests.single_operators import NAMES, single_operator

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)
HOST = target(board="host")
NOT_FLOAT = {
    "CAST and the rest of unpacking": "its codes are integers",
    "DEQUANTIZE": "reads codes",
    "QUANTIZE": "reads codes or floats, and writes codes",
}
"""Operators that have no form of float32 maps alone."""


def as_float(graph: Graph) -> Graph:
    """Returns the graph with every quantised tensor, weights and biases included, as float32."""
    tensors = []
    for tensor in graph.tensors:
        if tensor.quantization is not None:
            data = None if tensor.data is None else tensor.array().astype("float32").tobytes()
            tensor = replace(tensor, dtype="float32", quantization=None, data=data)
        tensors.append(tensor)
    return graph.replace(tensors=tuple(tensors))


def runs(graph: Graph) -> bool:
    """Whether the wheel has a kernel for it."""
    try:
        tflm.allocations(flatbuffer.write(graph), tflm.ROOMY_ARENA_BYTES, isolated=True)
    except UnsupportedModelError:
        return False
    return True


@needs_wheel
@pytest.mark.parametrize("name", sorted(set(NAMES) - NOT_FLOAT.keys()))
def test_the_wheel_needs_what_is_predicted_of_float_maps(name: str) -> None:
    graph = as_float(single_operator(name))
    if not runs(graph):
        pytest.skip("the runtime has no float32 kernel for it")
    check_supported(graph)
    predicted = predict_arena(graph, offsets=None, target=HOST).arena_bytes
    content = flatbuffer.write(graph)
    assert tflm.fits(content, predicted)
    assert not tflm.fits(content, predicted - 16)


def with_float_ends(graph: Graph) -> Graph:
    """Returns the graph with QUANTIZE before each input and DEQUANTIZE behind each output."""
    builder = GraphBuilder(graph)
    before, behind, inputs, outputs = [], [], [], []
    for index in graph.inputs:
        tensor = graph.tensors[index]
        floats = replace(tensor, name=f"{tensor.name}/float", dtype="float32", quantization=None)
        inputs.append(builder.tensor(floats))
        options = Options("QuantizeOptions")
        before.append(Operator("QUANTIZE", (inputs[-1],), (index,), options))
    for index in dict.fromkeys(graph.outputs):
        tensor = graph.tensors[index]
        floats = replace(tensor, name=f"{tensor.name}/float", dtype="float32", quantization=None)
        outputs.append(builder.tensor(floats))
        options = Options("DequantizeOptions")
        behind.append(Operator("DEQUANTIZE", (index,), (outputs[-1],), options, 2))
    builder.operators = [*before, *builder.operators, *behind]
    return builder.build(like=graph, inputs=tuple(inputs), outputs=tuple(outputs))


@pytest.mark.long
@needs_wheel
@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_random_graphs_with_float_ends_are_planned_exactly(seed: int) -> None:
    graph = with_float_ends(random_graph(seed, operators=(3, 12)))
    content = flatbuffer.write(graph)
    report = deploy.plan(content, board="host", arena_bytes=1 << 20, strips=seed == 4).report
    assert report.bit_exact
    assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel


@pytest.mark.long
@needs_wheel
def test_a_float_end_is_told_what_int8_would_save() -> None:
    make = Int8GraphMaker(0)
    graph = with_float_ends(make.build(outputs=[make.unary("RELU", make.input((1, 8, 8, 2)))]))
    report = deploy.plan(flatbuffer.write(graph), board="host", arena_bytes=1 << 20).report
    # The float image and its codes: 8 * 8 * 2 * (4 + 1), as int8 8 * 8 * 2 * (1 + 1).
    told = [warning for warning in report.warnings if "are float32" in warning]
    assert len(told) == 1
    assert "up to 640 B" in told[0]
    assert "would be 256 B" in told[0]


@needs_wheel
def test_commands_do_not_send_anybody_in_a_circle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What fmc convert tells to do with a .tflite works, and what that tells needs Keras."""
    make = Int8GraphMaker(0)
    graph = with_float_ends(make.build(outputs=[make.unary("RELU", make.input((1, 8, 8, 2)))]))
    path = tmp_path / "ends.tflite"
    path.write_bytes(flatbuffer.write(graph))
    assert main(["convert", str(path)]) == 2
    assert "Use `fmc profile` or `fmc plan`" in capsys.readouterr().err
    assert main(["plan", str(path), "--strips=false", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "Convert the Keras model with int8 inputs and outputs: fmc convert MODEL.keras" in told
    assert main(["profile", str(path)]) == 0


@needs_wheel
@pytest.mark.parametrize("board", ["nano33ble", "corstone300", "esp32s3"])
def test_a_float_model_is_planned_for_every_library(board: str) -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 12, 10, 3))
    x = make.pool(make.conv(x, channels=8, kernel=(3, 3)))
    x = make.depthwise(make.transpose_conv(x, channels=6))
    x = make.unary("SOFTMAX", make.fully_connected(make.mean(x), units=5))
    graph = as_float(make.build(outputs=[x]))
    report = deploy.plan(flatbuffer.write(graph), board=board, arena_bytes=1 << 20).report
    assert report.bit_exact
    assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel
    # Kernels of float32 ask for no buffers but for the indices of MEAN: 4 of 4 bytes, 2 of 4.
    assert report.scratch_bytes == 4 * 4 + 4 * 2
    assert not report.regions


def test_float_samples_span_what_their_quantize_tells_apart() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 50), dtype="float32")
    scale = Quantization((0.5,), (-28,))
    codes = make.operator("QUANTIZE", [x], (1, 50), scale, Options("QuantizeOptions"))
    samples = sample_inputs(make.build(outputs=[codes]))
    drawn = np.concatenate([values.ravel() for (values,) in samples])
    # (-128 + 28) / 2 and (127 + 28) / 2
    assert (drawn.min(), drawn.max()) == (-50.0, 77.5)
    assert all(values.dtype == np.float32 for (values,) in samples)
    assert len(np.unique(drawn)) > 500
    plain = Int8GraphMaker(0)
    y = plain.input((1, 50), dtype="float32")
    free = sample_inputs(plain.build(outputs=[plain.operator("TANH", [y], (1, 50), None)]))
    assert max(float(values.max()) for (values,) in free) == 1.0


def test_hybrid_weights_and_float16_are_refused_with_what_they_are() -> None:
    graph = as_float(single_operator("CONV_2D"))
    weights = graph.operators[0].inputs[1]
    tensors = list(graph.tensors)
    tensors[weights] = single_operator("CONV_2D").tensors[weights]
    with pytest.raises(UnsupportedModelError, match=r"CONV_2D #0 .* is hybrid: int8 weights"):
        check_supported(graph.replace(tensors=tuple(tensors)))
    halves = [replace(t, dtype="float16") if t.data is None else t for t in graph.tensors]
    with pytest.raises(UnsupportedModelError, match=r"is float16, for which .* no kernels"):
        check_supported(graph.replace(tensors=tuple(halves)))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
