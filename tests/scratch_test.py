"""Scratch of the kernel libraries against CMSIS-NN's own functions and TFLM's reference kernels."""

from __future__ import annotations

import json
import sys

import pytest

from deploy.backends.tflm.scratch import ScratchRequest, scratch_requests
from deploy.graph import Graph
from deploy.targets import kernels
from keras_fmc.errors import UnsupportedModelError
from tests import cmsis_nn_oracle as oracle
from tests.int8_graphs import Int8GraphMaker
from tests.window_graphs import graph_of

LIBRARIES = {"SCALAR": "cmsis-nn-scalar", "DSP": "cmsis-nn-dsp", "MVE": "cmsis-nn-mve"}


def sizes(graph: Graph, library: str) -> list[int]:
    return [request.size_bytes for request in scratch_requests(graph, kernels(library))]


def expected_requests(case: oracle.Case, answer: list[int]) -> list[int]:
    """TFLM asks for no buffer of size 0, except in TRANSPOSE_CONV."""
    return answer if case["op"] == "TRANSPOSE_CONV" else [size for size in answer if size]


def test_formulas_agree_with_recorded_answers_of_cmsis_nn() -> None:
    recorded = json.loads(oracle.DATA.read_text())
    assert len(recorded["rows"]) > 500
    for row in recorded["rows"]:
        graph = graph_of(row)
        for backend, answer in zip(recorded["backends"], row["sizes"], strict=True):
            found = sizes(graph, LIBRARIES[backend])
            assert found == expected_requests(row, answer), (row, backend)


@pytest.mark.skipif(oracle.binding() is None, reason="executorch is not installed")
@pytest.mark.parametrize("backend", oracle.BACKENDS)
def test_formulas_agree_with_cmsis_nn_over_the_whole_grid(backend: str) -> None:
    for case in oracle.grid():
        expected = expected_requests(case, oracle.ask(case, backend))
        assert sizes(graph_of(case), LIBRARIES[backend]) == expected, case


@pytest.mark.skipif(oracle.binding() is None, reason="executorch is not installed")
@pytest.mark.parametrize("backend", oracle.BACKENDS)
def test_formulas_agree_with_cmsis_nn_for_groups_batches_and_uneven_windows(backend: str) -> None:
    for case in oracle.drawn(1500, seed=1):
        expected = expected_requests(case, oracle.ask(case, backend))
        assert sizes(graph_of(case), LIBRARIES[backend]) == expected, case


def test_formulas_agree_with_recorded_answers_of_esp_nn() -> None:
    recorded = json.loads((oracle.DATA.parent / "esp_nn_scratch.json").read_text())
    assert len(recorded["rows"]) > 200
    for row in recorded["rows"]:
        for library, answer in zip(recorded["kernels"], row["sizes"], strict=True):
            assert sum(sizes(graph_of(row), library)) == answer, (row, library)


def window(op: str, kernel: int) -> oracle.Case:
    case = {"op": op, "kernel": (kernel, kernel), "stride": (1, 1), "dilation": (1, 1)}
    return {**case, "extent": (12, 12), "depth": 16, "same": True, "channels": 16, "multiplier": 1}


@pytest.mark.parametrize(
    ("op", "kernel", "dsp", "mve"),
    [
        # Measured on emulated Cortex-M4 and Cortex-M55.
        ("CONV_2D", 3, 576, 576),
        ("DEPTHWISE_CONV_2D", 3, 0, 4 * 124 * 3 * 3),
        ("DEPTHWISE_CONV_2D", 5, 16 * 5 * 5 * 2, 4 * 124 * 5 * 5),
        ("AVERAGE_POOL_2D", 3, 16 * 4, 0),
        ("CONV_2D", 1, 0, 0),
    ],
)
def test_sizes_measured_on_cores(op: str, kernel: int, dsp: int, mve: int) -> None:
    graph = graph_of(window(op, kernel))
    assert sizes(graph, "cmsis-nn-dsp") == ([dsp] if dsp else [])
    assert sizes(graph, "cmsis-nn-mve") == ([mve] if mve else [])


def test_reference_kernels_ask_in_the_order_of_the_operators() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 2))
    x = make.conv(x, channels=3)
    x = make.transpose_conv(x, channels=5)
    graph = make.build(outputs=[make.mean(x)])
    assert scratch_requests(graph, kernels("reference")) == (
        ScratchRequest(1, 8 * 8 * 5 * 4),
        ScratchRequest(2, 5 * 4),
        ScratchRequest(2, 4 * 4),
        ScratchRequest(2, 2 * 4),
    )


def test_dense_layer_of_several_rows_fakes_scales_of_a_convolution() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 3, 8))
    y = make.fully_connected(x, units=10)
    flat = make.build(outputs=[y])
    make.graph.tensors[y] = make.graph.tensors[y].__class__(
        "rows", (1, 3, 10), "int8", make.quantization(y)
    )
    rows = make.build(outputs=[y])
    assert sizes(flat, "cmsis-nn-dsp") == []
    assert sizes(rows, "cmsis-nn-dsp") == [10 * 2 * 4]


def test_softmax_of_esp_nn_keeps_a_row_of_exponentials() -> None:
    make = Int8GraphMaker(0)
    graph = make.build(outputs=[make.unary("SOFTMAX", make.input((1, 10)))])
    assert sizes(graph, "esp-nn-generic") == [4 * 10]
    assert sizes(graph, "reference") == []


def test_an_unknown_operator_is_named() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 4, 4, 2))
    graph = make.build(outputs=[make.operator("TILE", [x], (1, 4, 4, 2), make.quantization(x))])
    with pytest.raises(UnsupportedModelError, match=r"TILE #0 .* for the cmsis-nn-mve kernels"):
        scratch_requests(graph, kernels("cmsis-nn-mve"))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
