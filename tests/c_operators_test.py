"""Every operator of generated C against TFLM's reference kernels, over random shapes."""

from __future__ import annotations

import dataclasses
import re
import sys

import numpy as np
import pytest
from c_draws import DRAWS
from generated import assert_c_is_tflm, merged
from int8_graphs import Int8GraphMaker
from single_operators import NAMES, single_operator

from deploy.backends.c.lowering import lower
from deploy.graph import Graph
from deploy.operators import OPERATORS, InC
from keras_fmc.errors import UnsupportedModelError

CASES = 10
GROUP = 16


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


def has_semantics(name: str) -> bool:
    try:
        lower(single_operator(name))
    except UnsupportedModelError:
        return False
    return True


def test_single_operators_are_tflms() -> None:
    graphs = [single_operator(name) for name in NAMES if has_semantics(name)]
    # Every operator of which the table says that generated C runs it.
    in_c = {opcode for opcode, row in OPERATORS.items() if row.in_c is not InC.TFLM}
    assert {op.opcode for graph in graphs for op in graph.operators} == in_c
    for first in range(0, len(graphs), GROUP):
        assert_c_is_tflm(merged(graphs[first : first + GROUP]))


@pytest.mark.parametrize("name", [name for name in NAMES if not has_semantics(name)])
def test_an_operator_without_semantics_is_refused_by_name(name: str) -> None:
    graph = single_operator(name)
    opcodes = "|".join(op.opcode for op in graph.operators)
    with pytest.raises(UnsupportedModelError) as refusal:
        lower(graph)
    assert re.match(rf"({opcodes}) #\d+ \(.*\) has no C semantics", refusal.value.what)
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
