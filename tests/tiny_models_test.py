"""The stand-ins have the operators, shapes and memory of the models that they stand for."""

from __future__ import annotations

import sys

import pytest
from support import MLPERF_TINY, shared_path
from tiny_models import MAKERS, stand_in

from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.graph import Graph
from deploy.macs import graph_macs
from deploy.targets import target

HEADS = {
    "ad01_int8": 768,
    "kws_ref_model": 16_000,
    "pretrainedResnet_quant": 49_152,
    "vww_96_int8": 73_728,
}
"""Of TFLM's own plan, with its reference kernels."""


def shapes(graph: Graph) -> list[tuple[object, ...]]:
    return [
        (
            operator.opcode,
            *(graph.tensors[t].shape for t in (*operator.present_inputs, *operator.outputs)),
            *(operator.integer(name) for name in ("stride_h", "stride_w", "padding")),
            operator.integer("fused_activation_function"),
        )
        for operator in graph.operators
    ]


def test_there_is_one_for_each() -> None:
    assert set(MAKERS) == set(MLPERF_TINY) == set(HEADS)


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_the_head_is_the_known_one(name: str) -> None:
    graph = flatbuffer.read_file(stand_in(name))
    assert predict_arena(graph, offsets=None, target=target(board="host")).head_bytes == HEADS[name]


@pytest.mark.parametrize("name", MLPERF_TINY)
@pytest.mark.parametrize("board", ["host", "nano33ble"])
def test_memory_and_operators_are_those_of_the_model(name: str, board: str) -> None:
    real = flatbuffer.read_file(shared_path(f"models/mlperf_tiny/{name}.tflite"))
    mine = flatbuffer.read_file(stand_in(name))
    assert shapes(mine) == shapes(real)
    assert graph_macs(mine) == graph_macs(real)
    goal = target(board=board)
    ours, theirs = (predict_arena(g, offsets=None, target=goal) for g in (mine, real))
    assert (ours.head_bytes, ours.scratch_bytes) == (theirs.head_bytes, theirs.scratch_bytes)
    assert abs(ours.arena_bytes - theirs.arena_bytes) <= 256


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
