"""Maps of int16: the tail of their kernels in the wheel, scratch, and libraries that nobody
measured."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace

import pytest

import deploy
from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.scratch import scratch_requests
from deploy.graph import Graph, Quantization
from deploy.runtime import tflm
from deploy.targets import target
from keras_fmc.errors import UnsupportedModelError
from tests import cmsis_nn_oracle as oracle
from tests.int8_graphs import Int8GraphMaker
from tests.single_operators import single_operator

_WEIGHTED = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}
"""Opcode -> position of the bias, which is int64 beside maps of int16."""
_NAMES = (
    *("SOFTMAX", "MEAN", "MEAN over channels", "SUM", "TRANSPOSE_CONV", "CONV_2D"),
    *("DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D", "ADD", "MUL"),
    *("LOGISTIC", "TANH", "LEAKY_RELU", "CONCATENATION", "SLICE", "PAD", "RESHAPE", "QUANTIZE"),
)


def as_int16(graph: Graph) -> Graph:
    """Returns the graph with maps of int16 and zero points 0; weights stay int8."""
    biases = {
        op.inputs[_WEIGHTED[op.opcode]]
        for op in graph.operators
        if op.opcode in _WEIGHTED and _WEIGHTED[op.opcode] < len(op.inputs)
    }
    weights = {op.inputs[1] for op in graph.operators if op.opcode in _WEIGHTED}
    fixed = {
        t
        for op in graph.operators
        if op.opcode in ("SOFTMAX", "LOGISTIC", "TANH")
        for t in op.outputs
    }
    tensors = []
    for index, tensor in enumerate(graph.tensors):
        if index in biases:
            data = tensor.array().astype("int64").tobytes()
            tensor = replace(tensor, dtype="int64", data=data)
        elif tensor.dtype == "int8" and index not in weights:
            scales = (2.0**-15,) if index in fixed else tensor.quantization.scales
            data = None if tensor.data is None else tensor.array().astype("int16").tobytes()
            quantization = Quantization(scales, (0,) * len(scales))
            tensor = replace(tensor, dtype="int16", quantization=quantization, data=data)
        tensors.append(tensor)
    return graph.replace(tensors=tuple(tensors))


def classifier() -> Graph:
    make = Int8GraphMaker(1)
    x = make.fully_connected(make.input((1, 20)), units=10)
    return as_int16(make.build(outputs=[make.unary("SOFTMAX", x)]))


@pytest.mark.skipif(tflm.unavailable_reason() is not None, reason="needs tflite_micro")
@pytest.mark.parametrize("name", _NAMES)
def test_the_wheel_needs_what_is_predicted(name: str) -> None:
    graph = as_int16(single_operator(name))
    predicted = predict_arena(graph, offsets=None, target=target(board="host")).arena_bytes
    content = flatbuffer.write(graph)
    assert tflm.allocates(content, predicted)
    assert not tflm.allocates(content, predicted - 16)


def test_softmax_keeps_two_tables() -> None:
    made = single_operator("SOFTMAX")
    tails = [
        predict_arena(graph, offsets=None, target=target(board="host")).tail_bytes
        for graph in (made, as_int16(made))
    ]
    # 513 values of int16 each, aligned to 16 bytes.
    assert tails[1] - tails[0] == 2 * 1040


@pytest.mark.skipif(tflm.unavailable_reason() is not None, reason="needs tflite_micro")
def test_a_plan_says_what_its_own_run_needed() -> None:
    report = deploy.plan(flatbuffer.write(classifier()), arena_bytes=100_000).report
    assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel == report.arena_bytes


def test_libraries_with_kernels_of_their_own_refuse_it_by_name() -> None:
    name = r"SOFTMAX #1|FULLY_CONNECTED #0"
    with pytest.raises(UnsupportedModelError, match=rf"({name}).*with maps of int16"):
        deploy.plan(flatbuffer.write(classifier()), board="esp32")


@pytest.mark.skipif(oracle.binding() is None, reason="executorch is not installed")
@pytest.mark.parametrize(("backend", "board"), [("DSP", "nano33ble"), ("MVE", "corstone300")])
def test_scratch_of_int16_is_what_cmsis_nn_says(backend: str, board: str) -> None:
    module, kernels = oracle.binding(), target(board=board).kernels
    where, width = getattr(module.Backend, backend), module.DataType.A16W8
    for kernel, depth, size in itertools.product(((1, 1), (3, 3), (2, 5)), (1, 3, 16), (6, 9)):
        make = Int8GraphMaker(0)
        x = make.input((1, size, size, depth))
        y = make.conv(x, channels=5, kernel=kernel)
        graph = as_int16(make.build(outputs=[y]))
        asked = module.convolve_wrapper_buffer_size(
            where,
            width,
            input_nhwc=[1, size, size, depth],
            filter_nhwc=[5, *kernel, depth],
            output_nhwc=[1, size, size, 5],
            padding_hw=[(k - 1) // 2 for k in kernel],
            stride_hw=[1, 1],
            dilation_hw=[1, 1],
        )
        assert [r.size_bytes for r in scratch_requests(graph, kernels)] == [asked]
        pool = as_int16(make.build(outputs=[make.pool(x)]))
        requests = scratch_requests(pool.replace(operators=pool.operators[-1:]), kernels)
        wanted = module.avgpool_buffer_size(where, width, size, depth)
        assert [r.size_bytes for r in requests] == ([wanted] if wanted else [])


@pytest.mark.skipif(tflm.unavailable_reason() is not None, reason="needs tflite_micro")
@pytest.mark.parametrize("board", ["nano33ble", "corstone300"])
def test_int16_is_planned_for_cortex_m(board: str) -> None:
    make = Int8GraphMaker(0)
    x = make.conv(make.input((1, 8, 8, 3)), channels=8, kernel=(3, 3))
    x = make.conv(make.depthwise(x), channels=4)
    report = deploy.plan(
        flatbuffer.write(as_int16(make.build(outputs=[make.mean(x)]))), board=board, strips=False
    ).report
    assert report.bit_exact
    assert report.scratch_bytes > 0


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
