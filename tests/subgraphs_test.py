"""Resource variables, and subgraphs that IF, WHILE and CALL_ONCE call: planned, predicted, run."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

import deploy
from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.backends.tflm.embed import embed, embedded_offsets
from deploy.graph import Graph, Operator
from deploy.passes import run_passes
from deploy.passes.order import order_for_memory
from deploy.proof.evidence import collect
from deploy.proof.samples import RESET, sample_inputs
from deploy.runtime import tflm
from deploy.supported import check_supported
from deploy.targets import target
from keras_fmc.errors import BadInputError, UnsupportedModelError, VerificationError
from tests.subgraphs import branching, renamed, streaming
from tests.support import shared_path

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)
HOST = target(board="host")
GRAPHS = [
    ("constant", 0),
    ("constant", 2),
    ("computed", 0),
    ("computed", 2),
    ("IF", 0),
    ("IF", 2),
    ("WHILE", 1),
]


def made(kind: str, seed: int) -> Graph:
    if kind in ("IF", "WHILE"):
        return branching(seed, kind)
    return streaming(seed, computed=kind == "computed")


@pytest.mark.parametrize(("kind", "seed"), GRAPHS)
def test_all_subgraphs_are_read_and_written(kind: str, seed: int) -> None:
    graph = made(kind, seed)
    content = flatbuffer.write(graph)
    read = flatbuffer.read(content)
    assert [len(part.tensors) for part in read.subgraphs] == [
        len(part.tensors) for part in graph.subgraphs
    ]
    for part, other in zip(read.subgraphs, graph.subgraphs, strict=True):
        assert [(op.kind, op.inputs, op.outputs, op.called) for op in part.operators] == [
            (op.kind, op.inputs, op.outputs, op.called) for op in other.operators
        ]
    assert read.variables == graph.variables
    assert flatbuffer.write(read) == content
    check_supported(read)


@needs_wheel
@pytest.mark.parametrize(("kind", "seed"), GRAPHS)
def test_the_wheel_needs_what_is_predicted(kind: str, seed: int) -> None:
    graph = made(kind, seed)
    content = flatbuffer.write(graph)
    measured = tflm.allocations(content, tflm.ROOMY_ARENA_BYTES, isolated=True)
    predicted = predict_arena(graph, offsets=None, target=HOST)
    assert (predicted.head_bytes, predicted.tail_bytes) == (
        measured.head_bytes,
        measured.tail_bytes,
    )
    inputs = sample_inputs(graph)[-2:]
    found = tflm.smallest_arena(content, guess=predicted.arena_bytes, inputs=inputs)
    assert found == predicted.arena_bytes


@needs_wheel
@pytest.mark.parametrize("strips", [False, True])
@pytest.mark.parametrize(("kind", "seed"), [("constant", 1), ("computed", 2), ("IF", 0)])
def test_they_are_planned_exactly(kind: str, seed: int, strips: bool) -> None:
    graph = made(kind, seed)
    report = deploy.plan(
        flatbuffer.write(graph), board="nano33ble", arena_bytes=1 << 20, strips=strips
    ).report
    assert report.bit_exact
    assert report.verified
    assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel
    assert report.arena_bytes <= report.baseline.arena_bytes
    told = [d for d in report.decisions if d.subject.startswith("subgraph ")]
    assert len(told) == {"constant": 0, "computed": 1, "IF": 2}[kind]


@needs_wheel
def test_a_loop_is_planned_exactly() -> None:
    report = deploy.plan(
        flatbuffer.write(branching(1, "WHILE")), arena_bytes=1 << 20, strips=False
    ).report
    assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel


def test_the_plan_leaves_the_other_subgraphs_to_the_runtime() -> None:
    graph = branching(0, "IF")
    offsets = tuple(range(0, 16 * len(graph.tensors), 16))
    entry = np.frombuffer(dict(embed(graph, offsets).metadata)["OfflineMemoryAllocation"], np.int32)
    others = sum(len(part.tensors) for part in graph.others)
    assert entry[2] == len(graph.tensors) + others
    assert (entry[3 + len(graph.tensors) :] == -1).all()
    assert embedded_offsets(embed(graph, offsets)) == offsets


@needs_wheel
def test_samples_run_in_sequence_and_again_after_a_reset() -> None:
    graph = streaming(0)
    samples = sample_inputs(graph)
    at = samples.index(RESET)
    content = flatbuffer.write(graph)
    outputs = tflm.run(content, samples, arena_bytes=1 << 20, isolated=True)
    assert len(outputs) == len(samples) - 1
    # The same inputs meet another state: that of the last calls, and that of a reset.
    assert any(
        a.tobytes() != b.tobytes()
        for before, after in zip(outputs[at - 3 : at], outputs[at:], strict=True)
        for a, b in zip(before, after, strict=True)
    )


@needs_wheel
def test_another_first_value_is_another_model() -> None:
    graph = streaming(0)
    tensor = next(t for t in graph.others[0].tensors if t.is_constant)
    other = renamed(graph, tensor.name, data=bytes(len(tensor.data)))
    with pytest.raises(VerificationError, match="differs from the source model's on input 0"):
        collect(flatbuffer.write(other), flatbuffer.write(graph), graph=graph, predicted_bytes=4096)


def test_what_reads_and_writes_a_variable_keeps_its_order() -> None:
    for seed in range(6):
        graph = run_passes(streaming(seed))
        steps = [
            (operator.opcode, operator.inputs[0])
            for operator in order_for_memory(graph).graph.operators
            if operator.opcode in ("READ_VARIABLE", "ASSIGN_VARIABLE")
        ]
        for handle in {handle for _, handle in steps}:
            assert [opcode for opcode, of in steps if of == handle] == [
                "READ_VARIABLE",
                "ASSIGN_VARIABLE",
            ]


def test_what_need_not_depend_on_a_read_still_waits_for_it() -> None:
    graph = streaming(0)
    handle = graph.operators[1].outputs[0]
    index = next(i for i, op in enumerate(graph.operators) if op.opcode == "ASSIGN_VARIABLE")
    early = dataclasses.replace(graph.operators[index], inputs=(handle, graph.inputs[0]))
    operators = (*graph.operators[:index], early, *graph.operators[index + 1 :])
    before = graph.replace(operators=operators).predecessors()
    assert {0, 2} <= before[index]
    assert before[1] == set()
    assert not graph.is_pure(graph.operators[2])
    assert graph.is_pure(graph.operators[3])


def test_what_does_not_fit_together_is_refused() -> None:
    graph = streaming(0)
    with pytest.raises(UnsupportedModelError, match=r"READ_VARIABLE #2 .* does not match variable"):
        check_supported(renamed(graph, "old 0", shape=(1, 9, 1, 6)))
    without = tuple(op for op in graph.operators if op.opcode != "ASSIGN_VARIABLE")
    with pytest.raises(UnsupportedModelError, match="expected an ASSIGN_VARIABLE of it"):
        check_supported(graph.replace(operators=without, others=()))
    call = dataclasses.replace(
        graph.operators[0], options=graph.operators[0].options.replace(init_subgraph_index=7)
    )
    broken = flatbuffer.write(graph.replace(operators=(call, *graph.operators[1:])))
    with pytest.raises(BadInputError, match=r"CALL_ONCE #0 .* a subgraph that the file lacks"):
        flatbuffer.read(broken)
    (part,) = graph.others
    again = Operator("CALL_ONCE", (), (), graph.operators[0].options)
    loop = graph.replace(others=(part.replace(operators=(*part.operators, again)),))
    with pytest.raises(UnsupportedModelError, match="calls the subgraph that it is part of"):
        flatbuffer.read(flatbuffer.write(loop))


@needs_wheel
@pytest.mark.parametrize("name", ["mww_okay_nabu_v2", "tflm_audio_preprocessor_int8"])
def test_public_models_with_state_are_planned_exactly(name: str) -> None:
    path = shared_path(f"models/public/{name}.tflite")
    report = deploy.plan(path, board="nano33ble", arena_bytes=1 << 30, strips=False).report
    assert report.bit_exact
    assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel
    assert report.arena_bytes <= report.baseline.arena_bytes
    assert "after a reset" in report.verified_reason


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
