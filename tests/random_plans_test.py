"""All of fmc plan, files and all: small cases, a few random graphs, and the models of MLPerf Tiny.

``make random-plans`` runs as many random graphs as one wants.
"""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from deploy import flatbuffer, pipeline
from deploy.backends.tflm.strips import walks
from deploy.runtime import tflm
from tests.plan_cases import CASES
from tests.random_plans import BOARDS, KINDS, outcome, runs
from tests.support import MLPERF_TINY, mlperf_tiny, shared_path
from tests.table_graphs import DRAWN, table_graph
from tests.wild_graphs import wild_graph

pytestmark = pytest.mark.skipif(tflm.unavailable_reason() is not None, reason="needs tflite_micro")

KERNELS = ("reference", "cmsis-nn-scalar", "cmsis-nn-dsp", "cmsis-nn-mve", "esp-nn-generic")
RUN = (
    *("alias_conv_8_2_0", "alias_dw_8_2_0", "alias_fc_8_2_0", "alias_max_8_2_0"),
    *("alias_mlp_64_64_64", "logits_softmax", "out_RELU_relu", "out_RELU_conv", "odd_69x70x7"),
    *("flat_49x10", "relu6_concat_keras", "codes_refused", "c10b_in", "bool_input"),
)


@pytest.fixture(autouse=True)
def little_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "usual_work", lambda *_, **__: 3000)


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", CASES)
def test_cases(name: str, board: str) -> None:
    graph = CASES[name]()
    assert runs(graph)
    assert outcome(graph, board) == "0"


@pytest.mark.parametrize("name", RUN)
def test_files_of_the_cases(name: str) -> None:
    graph = flatbuffer.read_file(shared_path(f"cases/tflite/{name}.tflite"))
    assert [outcome(graph, board) for board in ("host", "nano33ble")] == ["0", "0"]


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("kind", KINDS)
def test_random_graphs(kind: str, board: str) -> None:
    graphs = [graph for seed in range(1000, 1003) if runs(graph := KINDS[kind](seed))]
    assert len(graphs) >= 2
    for graph in graphs:
        assert outcome(graph, board) == "0"


def test_wild_graphs_are_wild() -> None:
    seen: Counter[str] = Counter()
    for seed in range(150):
        graph = wild_graph(seed)
        read = {t for operator in graph.operators for t in operator.inputs}
        maps = [graph.tensors[t] for t in graph.activations()]
        blocks = [op.integer("block_size") for op in graph.operators if op.option("block_size")]
        seen["output that is read"] += bool(read & set(graph.outputs))
        seen["outputs"] += len(graph.outputs) > 1
        seen["odd channels"] += any(t.shape[-1] % 2 and t.shape[-1] > 1 for t in maps)
        seen["batches"] += any(t.shape[0] > 1 for t in maps)
        seen["blocks of 3"] += 3 in blocks
        seen["one row"] += any(len(t.shape) == 4 and t.shape[1] == 1 < t.shape[2] for t in maps)
        seen["one column"] += any(len(t.shape) == 4 and t.shape[2] == 1 < t.shape[1] for t in maps)
        seen["large factors"] += any(
            op.opcode.startswith("RESIZE")
            and graph.tensors[op.outputs[0]].shape[1] >= 5 * graph.tensors[op.inputs[0]].shape[1]
            for op in graph.operators
        )
        seen["uint8"] += any(t.dtype == "uint8" for t in maps)
        seen["TFLM runs it"] += runs(graph)
    assert min(seen.values()) >= 8, seen
    assert seen["TFLM runs it"] > 100
    assert len(seen) == 10


def test_table_graphs_draw_what_the_table_holds() -> None:
    seen: Counter[str] = Counter()
    for seed in range(300):
        graph = table_graph(seed)
        if not runs(graph):
            continue
        seen["TFLM runs it"] += 1
        seen.update({operator.opcode for operator in graph.operators})
        read = {t for operator in graph.operators for t in operator.inputs}
        seen["output that is read"] += bool(read & set(graph.outputs))
        seen.update({f"rank {len(graph.tensors[t].shape)}" for t in graph.activations()})
        for operator in graph.operators:
            shape = graph.tensors[operator.inputs[0]].shape
            if operator.opcode == "CONCATENATION":
                seen["ten parts"] += len(operator.inputs) == 10
                seen[f"axis {operator.integer('axis') % len(shape)} joined"] += 1
            if operator.opcode == "TRANSPOSE_CONV":
                stride = operator.integer("stride_h")
                seen["odd strides"] += stride == 3
                made = graph.tensors[operator.outputs[0]].shape[1]
                seen["rows left over"] += bool(made % stride)
            if operator.opcode == "CONV_2D":
                weights = graph.tensors[operator.inputs[1]].shape
                seen["groups"] += weights[3] < shape[3]
    wanted = {*DRAWN, "output that is read", "ten parts", "odd strides", "rows left over", "groups"}
    wanted |= {f"rank {n}" for n in (1, 2, 3, 4, 5)} | {f"axis {n} joined" for n in range(4)}
    assert not wanted - {what for what, count in seen.items() if count}
    assert seen["TFLM runs it"] > 250


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", MLPERF_TINY)
def test_mlperf_tiny_with_every_kernel_library(name: str, kernels: str, tmp_path) -> None:
    path = mlperf_tiny(name)
    board = {"reference": "host", "esp-nn-generic": "esp32s3"}.get(kernels, "nano33ble")
    result = pipeline.plan(path, out=tmp_path, board=board, kernels=kernels, reserve_bytes=0)
    assert result.exit_code == 0
    assert result.report.arena_bytes <= result.report.baseline.arena_bytes
    assert {"model.tflite", "arena_plan.c", "report.json"} <= set(result.files)
    assert not [d for d in result.report.decisions if "defect" in d.reason]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
