"""What TensorFlow Lite Micro registers is known to table, kernels and resolver; what each operator
keeps is what the wheel allocates."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

import deploy
from deploy import flatbuffer
from deploy.backends.tflm.arena import predict_arena
from deploy.emit.resolver import ADD_FUNCTIONS
from deploy.graph import CUSTOM, Graph, Operator, Tensor
from deploy.operators import OPERATORS, check_operators
from deploy.operators.custom import TFLM_CUSTOMS
from deploy.runtime import tflm
from deploy.runtime.isolation import CrashedError
from deploy.targets import kernels, target
from keras_fmc.errors import UnsupportedModelError
from tests.custom_graphs import DRAWS, custom_graph
from tests.operator_draws import REFUSED_TYPES, floats, is_drawn, operator_draw

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)
HOST = target(board="host")
SEEDS = range(4)
NOT_IN_TFLM = {"REDUCE_ANY", "REDUCE_PROD", "RELU_0_TO_1", "RELU_N1_TO_1"}
"""Rows of operators that the converter makes and TensorFlow Lite Micro has no kernels of."""


_NOT_FOUND = ("Didn't find op", "Failed to get registration")


def registered(operator: Operator) -> bool:
    """Whether the wheel finds a kernel: it looks before it reads anything else of an operator."""
    ends = (Tensor("x", (1,), "float32"), Tensor("y", (1,), "float32"))
    graph = Graph(ends, (operator,), (0,), (1,))
    try:
        tflm.allocations(flatbuffer.write(graph), 1 << 16, isolated=True)
    except CrashedError:
        return True
    except UnsupportedModelError as error:
        return not any(said in str(error.received) for said in _NOT_FOUND)
    return True


@needs_wheel
def test_every_builtin_that_tflm_registers_is_known() -> None:
    codes = {k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    codes -= {CUSTOM, "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}
    found = {code for code in codes if registered(Operator(code, (0,), (1,)))}
    ours = {kind for kind in ADD_FUNCTIONS if not kind.startswith(CUSTOM)}
    assert found == ours
    assert {k for k in OPERATORS if not k.startswith(CUSTOM)} - NOT_IN_TFLM == found


@needs_wheel
def test_every_custom_operator_that_is_known_is_registered() -> None:
    for code in (*TFLM_CUSTOMS, "TFLM_DECODE"):
        assert registered(Operator(CUSTOM, (0,), (1,), custom_code=code)), code
    assert not registered(Operator(CUSTOM, (0,), (1,), custom_code="MaxUnpooling"))


def test_what_the_resolver_registers_every_library_knows() -> None:
    assert {f"{CUSTOM} {code}" for code in TFLM_CUSTOMS} == {
        kind for kind in OPERATORS if kind.startswith(CUSTOM)
    }
    assert set(ADD_FUNCTIONS) == set(OPERATORS) - NOT_IN_TFLM
    for name in ("reference", "cmsis-nn-dsp", "esp-nn-esp32s3"):
        assert set(ADD_FUNCTIONS) <= set(kernels(name).rules)


def assert_predicted(graph: Graph) -> None:
    content = flatbuffer.write(graph)
    measured = tflm.allocations(content, 1 << 20, isolated=True)
    predicted = predict_arena(graph, offsets=None, target=HOST)
    assert (predicted.head_bytes, predicted.tail_bytes) == (
        measured.head_bytes,
        measured.tail_bytes,
    )
    size = predicted.arena_bytes
    assert tflm.fits(content, size)
    assert not tflm.fits(content, size - 16)


@needs_wheel
@pytest.mark.parametrize(
    "kind", sorted(k for k in ADD_FUNCTIONS if is_drawn(k) and k not in REFUSED_TYPES)
)
def test_one_operator_needs_what_is_predicted(kind: str) -> None:
    tried = 0
    for seed in SEEDS:
        graph = operator_draw(kind, seed)
        for candidate in (graph, floats(graph)):
            try:
                tflm.allocations(flatbuffer.write(candidate), 1 << 20, isolated=True)
            except (UnsupportedModelError, CrashedError):
                # Not a type of this kernel; one of the two is.
                continue
            assert_predicted(candidate)
            tried += 1
    assert tried >= len(SEEDS)


@needs_wheel
@pytest.mark.parametrize("code", DRAWS)
def test_one_custom_operator_needs_what_is_predicted(code: str) -> None:
    for seed in SEEDS:
        graph = custom_graph(code, seed)
        check_operators(graph)
        assert_predicted(graph)


@needs_wheel
@pytest.mark.parametrize("code", ["SignalFramer", "SignalRfft", "TFLite_Detection_PostProcess"])
def test_a_custom_operator_is_planned_and_run(code: str) -> None:
    content = flatbuffer.write(custom_graph(code, 1))
    report = deploy.plan(content, board="nano33ble", strips=False).report
    assert report.bit_exact
    assert report.verified_arena_bytes == report.predicted_arena_bytes_wheel


def test_custom_operators_with_other_types_are_refused() -> None:
    graph = custom_graph("SignalWindow", 0)
    tensors = (dataclasses.replace(graph.tensors[0], dtype="int8"), *graph.tensors[1:])
    with pytest.raises(UnsupportedModelError, match=r"SignalWindow #0 .* expected int16"):
        check_operators(graph.replace(tensors=tensors))


def test_a_custom_operator_that_the_user_names_is_planned_and_not_verified(tmp_path: Path) -> None:
    graph = operator_draw("RELU", 0)
    own = dataclasses.replace(graph.operators[0], opcode=CUSTOM, custom_code="Mine", options=None)
    content = flatbuffer.write(graph.replace(operators=(own,)))
    with pytest.raises(UnsupportedModelError, match="--custom Mine"):
        deploy.plan(content)
    report = deploy.plan(content, customs=("Mine",), out=tmp_path).report
    assert report.fits
    assert not report.verified
    assert report.bit_exact is None
    assert "Mine are the firmware's own" in report.verified_reason
    assert any("count as nothing" in warning for warning in report.warnings)
    assert "Mine are the firmware's own" in deploy.verify(tmp_path)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
