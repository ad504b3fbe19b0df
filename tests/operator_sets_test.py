"""The sets of the operator table: every member does in LiteRT what its set says of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from deploy.graph import Graph
from deploy.operators import OPERATORS, sets
from tests.operator_draws import operator_draw, outputs_in_litert

SEEDS = range(12)


def drawn(opcode: str, seeds: range = SEEDS) -> Iterator[tuple[Graph, list[np.ndarray]]]:
    """Graphs of one operator that is not fused with an activation, with inputs for them."""
    for seed in seeds:
        graph = operator_draw(opcode, seed)
        if graph.operators[0].option("fused_activation_function", 0):
            continue
        rng = np.random.default_rng(seed)
        tensors = (graph.tensors[t] for t in graph.inputs)
        yield graph, [rng.integers(-100, 101, t.shape).astype(t.dtype) for t in tensors]


@pytest.mark.parametrize("opcode", sorted(sets.BYTEWISE))
def test_an_output_value_comes_of_the_values_at_its_place(opcode: str) -> None:
    changed = 0
    for graph, inputs in drawn(opcode):
        before = outputs_in_litert(graph, inputs)[0]
        for number, values in enumerate(inputs):
            place = tuple(n // 2 for n in values.shape)
            mask = np.zeros(values.shape, bool)
            mask[place] = True
            for code in (-128, 0, 127):
                other = [*inputs]
                other[number] = np.where(mask, np.array(code, values.dtype), values)
                differs = outputs_in_litert(graph, other)[0] != before
                assert not (differs & ~np.broadcast_to(mask, before.shape)).any()
                changed += int(differs.sum())
    assert changed > 0


@pytest.mark.parametrize("opcode", sorted(sets.CLIPS))
def test_what_clips_keeps_the_order_of_values(opcode: str) -> None:
    """In its first operand; a product with a negative number would turn it over."""
    for graph, inputs in drawn(opcode):
        rows = []
        for code in range(-128, 128, 17):
            first = np.full_like(inputs[0], code)
            rows.append(outputs_in_litert(graph, [first, *inputs[1:]])[0].astype(int))
        steps = np.diff(np.stack(rows), axis=0)
        assert (steps >= 0).all()
        if inputs[0].dtype == np.int8:
            assert steps.max() <= 18


@pytest.mark.parametrize("opcode", sorted(sets.KEEPS_CODES))
def test_codes_are_those_of_the_map(opcode: str) -> None:
    for graph, inputs in drawn(opcode):
        operator = graph.operators[0]
        source, made = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
        assert source.quantization is not None
        assert source.quantization == made.quantization
        known = {*inputs[0].ravel().tolist(), *source.quantization.zero_points}
        assert {*outputs_in_litert(graph, inputs)[0].ravel().tolist()} <= known


@pytest.mark.parametrize("opcode", sorted(sets.LOOKS_UP))
def test_rows_of_a_table_are_looked_up(opcode: str) -> None:
    for graph, inputs in drawn(opcode):
        operator = graph.operators[0]
        if operator.integer("batch_dims"):
            continue
        numbers = graph.tensors[operator.inputs[1]].array()
        wanted = np.take(inputs[0], numbers, axis=operator.integer("axis"))
        assert np.array_equal(outputs_in_litert(graph, inputs)[0], wanted)


@pytest.mark.parametrize("opcode", sorted(sets.CHANNELS_ALIKE))
def test_channels_are_treated_alike(opcode: str) -> None:
    tried = 0
    for graph, inputs in drawn(opcode):
        values = inputs[0]
        before = outputs_in_litert(graph, inputs)[0]
        if not values.ndim or values.shape[-1:] != before.shape[-1:] or values.shape[-1] < 2:
            continue
        if opcode in sets.REDUCES and -1 in {a - values.ndim * (a >= 0) for a in axes(graph)}:
            continue
        order = np.roll(np.arange(values.shape[-1]), 1)
        after = outputs_in_litert(graph, [values[..., order]])[0]
        assert np.array_equal(after, before[..., order])
        zero = np.zeros_like(values)
        # Zero stays zero, and the values of two maps add up, to within a rounding.
        assert not outputs_in_litert(graph, [zero])[0].any()
        halves = outputs_in_litert(graph, [values // 2])[0].astype(int)
        rest = outputs_in_litert(graph, [values - values // 2])[0].astype(int)
        assert np.abs(halves + rest - before).max() <= 2
        tried += 1
    assert tried > 0


def axes(graph: Graph) -> list[int]:
    return [int(a) for a in graph.tensors[graph.operators[0].inputs[1]].array().ravel()]


@pytest.mark.parametrize("opcode", sorted(sets.ONE_SCALE))
def test_several_maps_get_one_scale_or_values_are_rounded_again(opcode: str) -> None:
    assert opcode not in sets.KEEPS_CODES
    if OPERATORS[opcode].inputs[1] > 1 and opcode != "RESIZE_BILINEAR":
        # Its kernel has no scales to go by: what it writes are codes of its inputs.
        for graph, inputs in drawn(opcode):
            known = {code for values in inputs for code in values.ravel().tolist()}
            assert {*outputs_in_litert(graph, inputs)[0].ravel().tolist()} <= known
        return
    found = [set(outputs_in_litert(g, i)[0].ravel()) - set(i[0].ravel()) for g, i in drawn(opcode)]
    assert any(found)


@pytest.mark.parametrize("opcode", sorted(sets.WEIGHTED))
def test_weights_sum_over_channels_or_within_each(opcode: str) -> None:
    assert OPERATORS[opcode].data == (2 if opcode not in sets.SUMS_WINDOWS else 0)
    seen: list[set[int]] = []
    for graph, inputs in drawn(opcode, range(40)):
        operator = graph.operators[0]
        depth = inputs[0].shape[-1]
        weights = graph.tensors[operator.inputs[1]]
        base = outputs_in_litert(graph, [np.zeros_like(inputs[0])])[0]
        for channel in range(depth):
            probe = np.zeros_like(inputs[0])
            probe[..., channel] = 100
            differs = outputs_in_litert(graph, [probe])[0] != base
            touched = set(np.flatnonzero(differs.reshape(-1, base.shape[-1]).any(axis=0)).tolist())
            multiple = base.shape[-1] // depth
            own = set(range(channel * multiple, (channel + 1) * multiple))
            if opcode not in sets.MIXES_CHANNELS:
                assert touched <= own
            elif depth > 1 and weights.shape[-1] == depth:
                seen.append(touched - own)
    assert any(seen) or opcode not in sets.MIXES_CHANNELS


def test_sets_by_column() -> None:
    assert {*sets.SUMS_WINDOWS, "TRANSPOSE_CONV"} == sets.WEIGHTED
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"} == sets.SUMS_WINDOWS
    assert {"CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"} == sets.MIXES_CHANNELS
    assert {"RESHAPE"} == sets.RESHAPES
    assert {"CONCATENATION"} == sets.JOINS
    assert {"MEAN"} == sets.REDUCES & sets.CHANNELS_ALIKE
    assert {"QUANTIZE", "DEQUANTIZE"} == sets.CHANGES_TYPE
    every = [value for value in vars(sets).values() if isinstance(value, frozenset)]
    assert len(every) == 14
    assert frozenset().union(*every) <= OPERATORS.keys()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
