"""Every operator of generated C against TFLM's reference kernels, over random shapes."""

from __future__ import annotations

import dataclasses
import re
import sys

import numpy as np
import pytest
from c_draws import DRAWS
from generated import assert_c_is_tflm, equal, in_c, in_tflm, made, merged
from int8_graphs import Int8GraphMaker
from single_operators import NAMES, single_operator

from deploy.backends.c.lowering import lower
from deploy.graph import Graph, Operator, Options, Quantization, Tensor
from deploy.operators import OPERATORS, InC
from deploy.operators.registered import NOT_IN_TFLM
from keras_fmc.errors import UnsupportedModelError

CASES = 10
GROUP = 16
MOVED = {"BROADCAST_TO", "CONCATENATION", "GATHER", "MIRROR_PAD", "PACK", "RESIZE_NEAREST_NEIGHBOR"}
"""Kernels that move values of any width."""
IN_C = {opcode for opcode, row in OPERATORS.items() if row.in_c is not InC.TFLM}


@pytest.mark.parametrize("name", DRAWS)
def test_an_operator_of_any_shape_is_tflms(name: str) -> None:
    """Many cases as one model, so that they compile at once."""
    make = Int8GraphMaker(len(name))
    rng = np.random.default_rng(len(name))
    outputs: list[int] = []
    for _ in range(CASES):
        found = DRAWS[name](make, rng)
        outputs += [found] if isinstance(found, int) else found
    assert_c_is_tflm(make.build(outputs=outputs))


OF_PAIRS = {
    **{kind: kind.capitalize() for kind in ("ADD", "SUB", "MUL", "DIV")},
    "SQUARED_DIFFERENCE": "SquaredDifference",
    **{kind: kind.title().replace("_", "") for kind in ("LESS", "GREATER_EQUAL", "EQUAL")},
}


@pytest.mark.parametrize("name", OF_PAIRS)
def test_every_pair_of_codes_is_tflms(name: str) -> None:
    """At scales whose ratios are short numbers, so that many results lie half between two codes.

    Quotients by zero are among them.
    """
    make, rng = Int8GraphMaker(3), np.random.default_rng(3)
    codes = np.arange(-128, 128, dtype=np.int8)
    pairs = [a.reshape(1, 64, 64, 16).copy() for a in np.meshgrid(codes, codes)]
    x, y = (make.input((1, 64, 64, 16)) for _ in pairs)
    outputs = []
    for ratio in (1.0, 1.5, 0.1, 4.0):
        scale = rng.uniform(0.01, 0.06)
        a, b = (_at(make, rng, t, s) for t, s in ((x, scale), (y, scale * ratio)))
        if name in ("LESS", "GREATER_EQUAL", "EQUAL"):
            options = Options(f"{OF_PAIRS[name]}Options")
            shape = make.shape(a)
            flags = make.operator(name, [a, b], shape, None, options, dtype="bool", version=2)
            operands = [flags, a, make.constant_like(a, (1,))]
            options = Options("SelectV2Options")
            q = make.quantization(a)
            outputs.append(make.operator("SELECT_V2", operands, shape, q, options))
            continue
        unit = {"DIV": 1 / ratio / 90, "ADD": scale, "SUB": scale}.get(name, scale**2 * ratio * 32)
        fields = (("fused_activation_function", 0),) if name != "SQUARED_DIFFERENCE" else ()
        options = Options(f"{OF_PAIRS[name]}Options", fields)
        q = Quantization((float(np.float32(unit)),), (3,))
        outputs.append(make.operator(name, [a, b], make.shape(a), q, options, version=2))
    graph = make.build(outputs=outputs)
    assert equal(in_tflm(graph, [pairs]), in_c(made(graph), [pairs]))


def _at(make: Int8GraphMaker, rng: np.random.Generator, x: int, scale: float) -> int:
    """The codes of an input, taken over by a map of another scale and zero point."""
    view = make.reshape(x, make.shape(x))
    wanted = Quantization((float(np.float32(scale)),), (int(rng.integers(-30, 30)),))
    tensor = make.graph.tensors[view]
    make.graph.tensors[view] = dataclasses.replace(tensor, quantization=wanted)
    return view


def test_halves_of_real_numbers_go_away_from_zero_as_tflms_do() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 8, 8, 4), dtype="float32")
    q, options = Quantization((0.25,), (5,)), Options("QuantizeOptions")
    graph = make.build(outputs=[make.operator("QUANTIZE", [x], (1, 8, 8, 4), q, options)])
    halves = (np.arange(-128, 128, dtype=np.float32) + np.float32(0.5)) * np.float32(0.25)
    samples = [[halves.reshape(1, 8, 8, 4)]]
    assert equal(in_tflm(graph, samples), in_c(made(graph), samples))


def test_vectors_of_the_least_and_the_greatest_length_are_tflms() -> None:
    """Sums of squares of 0 to 4, and above 2^29, where the root is taken of a part."""
    make = Int8GraphMaker(0)
    options, q = Options("L2NormOptions"), Quantization((1 / 128,), (0,))
    samples, outputs = [], []
    for shape in ((1, 5, 1, 4), (1, 1, 1, 40_000)):
        x = make.input(shape)
        point = make.quantization(x).zero_points[0]
        values = np.full(shape, 127 if point < 0 else -128, np.int8)
        if shape[-1] == 4:
            values = np.tri(5, 4, -1, np.int8).reshape(shape) + np.int8(point)
        samples.append(values)
        outputs.append(make.operator("L2_NORMALIZATION", [x], shape, q, options, version=2))
    graph = make.build(outputs=outputs)
    squares = (samples[1].astype(np.int64) - make.quantization(x).zero_points[0]) ** 2
    assert 1 << 29 <= squares.sum() < 1 << 30
    assert equal(in_tflm(graph, [samples]), in_c(made(graph), [samples]))


def test_differences_at_the_end_of_the_range_are_tflms() -> None:
    """LOG_SOFTMAX of vectors with one code more and more below the others, at wide scales."""
    make, rng = Int8GraphMaker(0), np.random.default_rng(0)
    shape = (1, 256, 1, 24)
    codes = np.full(shape, 127, np.int8)
    codes[0, :, 0, 0] = np.arange(-128, 128)
    x = make.input(shape)
    options, q = Options("LogSoftmaxOptions"), Quantization((1 / 16,), (127,))
    outputs = []
    for scale in rng.uniform(0.126, 1, 12):
        operand = _at(make, rng, x, scale)
        outputs.append(make.operator("LOG_SOFTMAX", [operand], shape, q, options))
    graph = make.build(outputs=outputs)
    assert equal(in_tflm(graph, [[codes]]), in_c(made(graph), [[codes]]))


def has_semantics(name: str) -> bool:
    try:
        lower(single_operator(name))
    except UnsupportedModelError:
        return False
    return True


def test_single_operators_are_tflms() -> None:
    graphs = [single_operator(name) for name in NAMES if has_semantics(name)]
    # Every operator of which the table says that generated C runs it.
    assert {op.opcode for graph in graphs for op in graph.operators} == IN_C
    # A bool is no output of a model in C: comparisons are drawn with what they select.
    graphs = [graph for graph in graphs if graph.tensors[graph.outputs[0]].dtype != "bool"]
    for first in range(0, len(graphs), GROUP):
        assert_c_is_tflm(merged(graphs[first : first + GROUP]))


@pytest.mark.parametrize("kind", sorted(set(OPERATORS) - IN_C))
def test_an_operator_without_semantics_is_refused_by_name(kind: str) -> None:
    """Each of the table that the planner knows for TFLM."""
    ends = (Tensor("x", (1,), "int8"), Tensor("y", (1,), "int8"))
    opcode, _, code = kind.partition(" ")
    operator = Operator(opcode, (0,), (1,), custom_code=code)
    with pytest.raises(UnsupportedModelError) as refusal:
        lower(Graph(ends, (operator,), (0,), (1,)))
    assert re.match(rf"{code or opcode} #0 \(y\) has no C semantics", refusal.value.what)
    runs = kind not in NOT_IN_TFLM
    assert refusal.value.remedy == ("--runtime=tflm runs it" if runs else "No runtime has it")


@pytest.mark.parametrize("name", [name for name in NAMES if has_semantics(name)])
def test_int16_is_moved_or_refused_by_name(name: str) -> None:
    graph = single_operator(name)
    wide = [
        dataclasses.replace(entry, dtype="int16")
        if entry.dtype == "int8" and not entry.is_constant
        else entry
        for entry in graph.tensors
    ]
    opcodes = [operator.opcode for operator in graph.operators]
    graph = graph.replace(tensors=tuple(wide))
    if OPERATORS[opcodes[0]].in_c is not InC.KERNEL or opcodes[0] in MOVED:
        lower(graph)
        return
    with pytest.raises(UnsupportedModelError, match=r"^[A-Z0-9_]+ #\d+ \(.*has no C") as refusal:
        lower(graph)
    assert refusal.value.remedy == "--runtime=tflm runs it"


def weights_of(opcode: str) -> Graph:
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 3))
    y = make.conv(x, channels=2) if opcode == "CONV_2D" else make.depthwise(x)
    return make.build(outputs=[y])


@pytest.mark.parametrize("opcode", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_weights_that_are_not_symmetric_are_refused(opcode: str) -> None:
    graph = weights_of(opcode)
    number = graph.operators[0].inputs[1]
    tensors = list(graph.tensors)
    q = tensors[number].quantization
    assert q is not None
    shifted = dataclasses.replace(q, zero_points=(3,) * len(q.zero_points))
    tensors[number] = dataclasses.replace(tensors[number], quantization=shifted)
    with pytest.raises(UnsupportedModelError, match="weights that are not symmetric"):
        lower(graph.replace(tensors=tuple(tensors)))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
