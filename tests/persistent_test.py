"""The tail on 32-bit targets: the measured table, and totals of models run on an emulated M3."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.persistent import persistent
from deploy.graph import Activation, Graph, GraphBuilder, Operator
from deploy.passes.dead import drop_dead
from deploy.targets import target
from tests.int8_graphs import Int8GraphMaker
from tests.random_graphs import random_graph
from tests.support import MLPERF_TINY, mlperf_tiny

# Measured on TFLM of 2026-08 with CMSIS-NN, 32-bit; typed in from the table, not from our data.
PARAMETERS = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), (28, 4)),
    "FULLY_CONNECTED": (5, 1),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), (40, 4)),
    **dict.fromkeys(("ADD", "SUB"), (2, 1)),
    "MUL": (1, 1),
    "SOFTMAX": (4, 4),
    "RESHAPE": (36, 4),
    "CONCATENATION": (8, 4),
    "STRIDED_SLICE": (24, 4),
    "MEAN": (1, 1),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), (2, 1)),
    "LEAKY_RELU": (4, 4),
    "TRANSPOSE_CONV": (16, 4),
}
KERNEL_DATA = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), 60),
    "FULLY_CONNECTED": 72,
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), 36),
    "ADD": 60,
    "SUB": 52,
    "MUL": 36,
    "SOFTMAX": 64,
    "RELU": 28,
    "RELU6": 8,
    "LEAKY_RELU": 24,
    "PRELU": 28,
    **dict.fromkeys(("LOGISTIC", "TANH"), 16),
    "HARD_SWISH": 20,
    "QUANTIZE": 32,
    "CONCATENATION": 24,
    "STRIDED_SLICE": 84,
    "PAD": 56,
    "MEAN": 44,
    "TRANSPOSE_CONV": 76,
}
WITHOUT_DATA = {"RESHAPE", "SLICE", "MAXIMUM", "MINIMUM", "RESIZE_BILINEAR"}
WITHOUT_DATA |= {"RESIZE_NEAREST_NEIGHBOR"}
TABLE_KINDS = ("conv", "depthwise", "transpose_conv", "pool", "binary", "concatenation", "slice")
TABLE_KINDS += ("strided_slice", "pad", "unary", "prelu", "resize", "reshape", "quantize")


def up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def table_tail(graph: Graph, scratch_buffers: int) -> tuple[int, int]:
    """Returns (tail while planning, tail) by the measured table."""
    tail = 36 + 44 + 36 + 8 + 8 + 12 * len(graph.tensors) + 32 * len(graph.operators)
    for op in graph.operators:
        size, alignment = PARAMETERS.get(op.opcode, (0, 1))
        tail = up(tail + size, alignment)
    for op in graph.operators:
        assert op.opcode in KERNEL_DATA or op.opcode in WITHOUT_DATA, op.opcode
        if op.opcode in KERNEL_DATA:
            tail = up(tail + KERNEL_DATA[op.opcode], 16)
    for op in graph.operators:
        if op.opcode in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
            channels = graph.tensors[op.outputs[0]].shape[-1]
            tail = up(up(tail + 4 * channels, 16) + 4 * channels, 16)
    planning = up(tail + 4 * scratch_buffers, 4) if scratch_buffers else tail
    tail = planning
    for ends in (graph.inputs, graph.outputs):
        tail = up(tail + 4 * len(ends), 16)
        for _ in ends:
            tail = up(tail + 32 + 12 + (4 + 4 * 1), 4)
    return planning, tail


def random_models() -> list[Graph]:
    return [random_graph(seed, kinds=TABLE_KINDS) for seed in range(100)]


@pytest.mark.parametrize("board", ["mps2an386", "nano33ble"])
def test_tail_is_that_of_the_measured_table(board: str) -> None:
    goal = target(board=board)
    for graph in random_models():
        found = persistent(graph, goal)
        assert (found.planning_bytes, found.size_bytes) == table_tail(graph, len(found.scratch))
        assert sum(size for _, size in found.parts) == found.size_bytes


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_tail_and_arena_of_mlperf_tiny_on_a_cortex_m4(name: str) -> None:
    graph = flatbuffer.read_file(mlperf_tiny(name))
    found = predict_arena(graph, offsets=None, target=target(board="nano33ble"))
    scratch = len(persistent(graph, target(board="nano33ble")).scratch)
    planning, tail = table_tail(graph, scratch)
    assert found.tail_bytes == tail
    tensors, buffers = len(graph.tensors), len(graph.activations()) + scratch
    planner = 12 * (scratch + 12) + 4 * 1 + 24 * (tensors + scratch) + 40 * buffers
    floor = max(found.head_bytes + tail, planning + planner)
    assert 0 <= found.arena_bytes - floor < 16 + 2 * 16


def small_cnn() -> Graph:
    """Five convolutions, a mean and a dense layer, whose totals were measured."""
    relu = Activation.RELU
    make = Int8GraphMaker(0)
    x = make.input((1, 64, 64, 3))
    x = make.conv(x, channels=16, kernel=(3, 3), activation=relu)
    x = make.conv(x, channels=32, kernel=(3, 3), activation=relu)
    x = make.conv(x, channels=8)
    x = make.conv(x, channels=32, kernel=(3, 3), stride=(2, 2), activation=relu)
    x = make.conv(x, channels=64, kernel=(3, 3), stride=(2, 2), activation=relu)
    return make.build(outputs=[make.fully_connected(make.mean(x), units=10)])


def striped_cnn(rows: int) -> Graph:
    """``small_cnn`` with its first three convolutions in strips of output rows."""
    whole = small_cnn()
    make = Int8GraphMaker(0)
    make.graph = GraphBuilder(whole)
    first, second, third, *rest = whole.operators
    make.inputs, source = list(whole.inputs), whole.inputs[0]
    del make.graph.operators[:]

    def convolved(like: Operator, x: int, height: int) -> int:
        _, _, width, channels = make.shape(like.outputs[0])
        operands = (x, *like.inputs[1:])
        quantization = make.quantization(like.outputs[0])
        shape = (1, height, width, channels)
        return make.operator("CONV_2D", operands, shape, quantization, like.options, version=3)

    parts = []
    for top in range(0, 64, rows):
        start, stop = max(0, top - 2), min(64, top + rows + 2)
        x = make.slice(source, (0, start, 0, 0), (1, stop - start, 64, 3))
        x = convolved(second, convolved(first, x, stop - start), stop - start)
        x = make.slice(x, (0, top - start, 0, 0), (1, rows, 64, 32))
        parts.append(convolved(third, x, rows))
    while len(parts) > 10:
        groups = [parts[i : i + 8] for i in range(0, len(parts), 8)]
        parts = [make.concatenation(group) for group in groups]
    joined = make.concatenation(parts)
    for operator in rest:
        inputs = tuple(joined if t == third.outputs[0] else t for t in operator.inputs)
        make.graph.operator(dataclasses.replace(operator, inputs=inputs))
    return drop_dead(make.build(outputs=whole.outputs))


@pytest.mark.parametrize(
    ("graph", "total", "head"),
    [
        (small_cnn(), 199_204, 196_608),
        (striped_cnn(8), 91_684, 81_920),
        (striped_cnn(4), 87_508, 69_632),
    ],
    ids=["whole", "strips of 8", "strips of 4"],
)
def test_totals_measured_on_an_emulated_cortex_m3(graph: Graph, total: int, head: int) -> None:
    goal = target(board="mps2an385", runtime="tflm-2026-08-arm32-recording")
    assert persistent(graph, goal).size_bytes == total - head
    if len(graph.operators) == 7:
        assert predict_arena(graph, offsets=None, target=goal).head_bytes == head


def test_recording_allocator_adds_84_bytes_before_alignment() -> None:
    plain = target(board="mps2an385").runtime
    recording = target(board="mps2an385", runtime="tflm-2026-08-arm32-recording").runtime
    extra = sum(b.size_bytes for b in recording.fixed) - sum(b.size_bytes for b in plain.fixed)
    assert extra == 84
    assert plain.parameters == recording.parameters


def test_enumerations_of_four_bytes_make_a_larger_tail() -> None:
    graph = small_cnn()
    arm = persistent(graph, target(board="mps2an385"))
    xtensa = persistent(graph, target(board="esp32"))
    # One input and one output, whose tensor structure grows from 32 to 40 bytes each.
    assert dict(xtensa.parts)["inputs and outputs"] == dict(arm.parts)["inputs and outputs"] + 8
    assert dict(xtensa.parts)["operator parameters"] > dict(arm.parts)["operator parameters"]
    assert dict(xtensa.parts)["tensors"] == dict(arm.parts)["tensors"] == 12 * len(graph.tensors)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
