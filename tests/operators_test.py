"""The operator table: every row against LiteRT's own shapes, and what each refuses."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy import flatbuffer
from deploy.graph import Graph, Quantization
from deploy.macs import graph_macs
from deploy.operators import OPERATORS, check_operators
from deploy.operators.intervals import whole
from deploy.runtime import litert
from deploy.supported import check_supported
from keras_fmc.errors import UnsupportedModelError
from tests.int8_graphs import Int8GraphMaker
from tests.operator_draws import is_drawn, litert_of, operator_draw
from tests.random_graphs import random_graph
from tests.single_operators import NAMES, single_operator
from tests.stateful_graphs import STATEFUL

SEEDS = range(8)
KERNELS = Path(__file__).parent.parent / "deploy" / "targets" / "kernels"
DRAWN = sorted(kind for kind in OPERATORS if is_drawn(kind))
TAKES_THE_FILES_SHAPE = {"SLICE"}
"""LiteRT refuses these itself where the file says another shape."""


def litert_shapes(graph: Graph) -> list[tuple[int, ...]]:
    """Shapes of the outputs as LiteRT works them out, whatever the file says."""
    interpreter = litert_of(graph)
    details = {d["index"]: d for d in interpreter.get_output_details()}
    if any(0 in details[index]["shape"] for index in graph.outputs):
        interpreter.invoke()
        details = {d["index"]: d for d in interpreter.get_output_details()}
    return [tuple(int(n) for n in details[index]["shape"]) for index in graph.outputs]


@pytest.mark.parametrize("opcode", DRAWN)
def test_shapes_are_those_of_litert(opcode: str) -> None:
    for seed in SEEDS:
        graph = operator_draw(opcode, seed)
        check_operators(graph)
        wrong = with_output(graph, shape=(7,) * len(graph.tensors[graph.outputs[0]].shape))
        for file in (graph,) if opcode in TAKES_THE_FILES_SHAPE else (graph, wrong):
            found = litert_shapes(file)
            assert found == [graph.tensors[i].shape for i in graph.outputs], seed


@pytest.mark.parametrize("opcode", DRAWN)
def test_another_shape_in_the_file_is_refused(opcode: str) -> None:
    for seed in SEEDS:
        graph = operator_draw(opcode, seed)
        shape = graph.tensors[graph.outputs[0]].shape
        wrong = with_output(graph, shape=(*shape[:-1], shape[-1] + 1) if shape else (2,))
        with pytest.raises(UnsupportedModelError, match=rf"{opcode} #0 \(y0\) in model makes y0"):
            check_operators(wrong)


@pytest.mark.parametrize("opcode", DRAWN)
def test_a_missing_input_is_refused(opcode: str) -> None:
    graph = operator_draw(opcode, 0)
    operator = graph.operators[0]
    absent = dataclasses.replace(operator, inputs=(-1, *operator.inputs[1:]))
    for wrong, message in (
        (dataclasses.replace(operator, inputs=()), "has a wrong number of inputs"),
        (dataclasses.replace(operator, outputs=()), "has a wrong number of outputs"),
        (absent, "has no input 0"),
    ):
        with pytest.raises(UnsupportedModelError, match=rf"{opcode} #0 .* {message}"):
            check_operators(graph.replace(operators=(wrong,)))


@pytest.mark.parametrize("opcode", sorted(o for o in DRAWN if OPERATORS[o].options))
def test_options_of_another_operator_are_refused(opcode: str) -> None:
    graph = operator_draw(opcode, 0)
    operator = graph.operators[0]
    assert operator.options is not None
    other = dataclasses.replace(operator.options, kind="LSTMOptions")
    wrong = dataclasses.replace(operator, options=other)
    with pytest.raises(UnsupportedModelError, match="options of another operator"):
        check_operators(graph.replace(operators=(wrong,)))


def counted(graph: Graph) -> int:
    """Products of one operator, counted one by one over a map of ones."""
    operator = graph.operators[0]
    shapes = [graph.tensors[i].shape if i >= 0 else () for i in operator.inputs]
    out = graph.tensors[operator.outputs[0]].shape
    if operator.opcode == "TRANSPOSE_CONV":
        _, rows, columns, depth = shapes[2]
        channels, height, width, _ = shapes[1]
        return sum(1 for _ in np.ndindex(rows, columns, depth, channels, height, width))
    if operator.opcode == "SVDF":
        (_, depth), (filters, _), (_, memory) = shapes[0], shapes[1], shapes[2]
        return sum(depth + memory for _ in np.ndindex(shapes[0][0], filters))
    if operator.opcode == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        gates = 4
        return sum(shapes[0][-1] + out[-1] for _ in np.ndindex(gates, *out))
    if operator.opcode == "BATCH_MATMUL":
        depth = shapes[0][-2] if operator.option("adj_x") else shapes[0][-1]
        return sum(depth for _ in np.ndindex(*out))
    if operator.opcode == "DEPTHWISE_CONV_2D":
        _, height, width, _ = shapes[1]
        return sum(height * width for _ in np.ndindex(*out))
    window = shapes[1][1:]
    return sum(int(np.prod(window)) for _ in np.ndindex(*out))


@pytest.mark.parametrize("opcode", DRAWN)
def test_products_are_counted(opcode: str) -> None:
    has_products = OPERATORS[opcode].weights is not None
    has_products |= opcode in ("BATCH_MATMUL", *STATEFUL)
    for seed in SEEDS:
        graph = operator_draw(opcode, seed)
        assert graph_macs(graph) == (counted(graph) if has_products else 0)


def test_what_a_kernel_library_does_in_place_a_row_allows() -> None:
    allowed = {o for o, row in OPERATORS.items() if row.in_place or row.same_bytes}
    known = [json.loads(path.read_text()).get("in_place", []) for path in KERNELS.glob("*.json")]
    assert any(known)
    assert set().union(*known) <= allowed


@pytest.mark.parametrize("opcode", sorted(o for o, row in OPERATORS.items() if row.same_bytes))
def test_the_same_bytes_are_those_of_the_input(opcode: str) -> None:
    for seed in SEEDS:
        graph = operator_draw(opcode, seed)
        values = np.random.default_rng(seed).integers(-128, 128, graph.tensors[0].shape)
        ((found,),) = litert.run(flatbuffer.write(graph), [[values.astype(np.int8)]])
        assert found.tobytes() == values.astype(np.int8).tobytes()


@pytest.mark.parametrize(
    "opcode", sorted(o for o, row in OPERATORS.items() if row.interval is not whole)
)
def test_outputs_stay_within_their_interval(opcode: str) -> None:
    for seed in SEEDS:
        graph = operator_draw(opcode, seed)
        rng = np.random.default_rng(seed)
        tensors = [graph.tensors[i] for i in graph.inputs]
        sample = [rng.integers(-20, 31, t.shape).astype(t.dtype) for t in tensors]
        (found,) = litert.run(flatbuffer.write(graph), [sample])
        operator = graph.operators[0]
        sources = []
        for tensor in (graph.tensors[i] for i in operator.inputs):
            if tensor.dtype == "int8":
                data = tensor.array() if tensor.is_constant else np.array([-20, 30])
                sources.append((int(data.min()), int(data.max())))
        for index, values in zip(graph.outputs, found, strict=True):
            quantization = graph.tensors[index].quantization
            low, high = OPERATORS[opcode].interval(operator, quantization, sources)
            assert max(low, -128) <= values.min() <= values.max() <= min(high, 127), seed


def with_output(graph: Graph, **changes: object) -> Graph:
    tensors = list(graph.tensors)
    tensors[graph.outputs[0]] = dataclasses.replace(tensors[graph.outputs[0]], **changes)
    return graph.replace(tensors=tuple(tensors))


def test_every_operator_whose_memory_is_known_has_a_row() -> None:
    assert set(json.loads((KERNELS / "reference.json").read_text())["operators"]) <= set(OPERATORS)
    for name in NAMES:
        check_operators(single_operator(name))


@pytest.mark.parametrize("seed", range(40))
def test_sound_graphs_pass(seed: int) -> None:
    check_supported(random_graph(seed))


def conv_graph(**fields: object) -> Graph:
    make = Int8GraphMaker(1)
    x = make.conv(make.input((1, 9, 8, 3)), channels=4, kernel=(3, 3))
    graph = make.build(outputs=[x])
    operator = graph.operators[0]
    assert operator.options is not None
    changed = dataclasses.replace(operator, options=operator.options.replace(**fields))
    return graph.replace(operators=(changed,))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stride_h": 0}, "wrong stride_h; expected 1 or more; received 0"),
        ({"stride_w": -1}, "wrong stride_w"),
        ({"dilation_h_factor": 0}, "wrong dilation_h_factor"),
        ({"padding": 7}, "wrong padding; expected 0 to 1; received 7"),
        ({"fused_activation_function": 4}, "wrong fused_activation_function; expected 0 to 3"),
        ({"padding": 1, "dilation_w_factor": 9}, r"the window, 19, or more; received \(1, 9, 8"),
        ({"stride_h": 2}, r"expected \(1, 5, 8, 4\); received \(1, 9, 8, 4\)"),
    ],
)
def test_wrong_options_of_a_convolution_are_refused(
    fields: dict[str, object], message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=r"CONV_2D #0 .*" + message):
        check_operators(conv_graph(**fields))


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        (Quantization((float("nan"),), (0,)), "wrong scale; expected finite and above 0"),
        (Quantization((float("inf"),), (0,)), "wrong scale"),
        (Quantization((0.0,), (0,)), "wrong scale"),
        (Quantization((-0.1,), (0,)), "wrong scale"),
        (Quantization((0.1,), (300,)), "wrong zero point; expected -128 to 127; received 300"),
        (Quantization((0.1,), ()), "scales and zero points that do not match"),
        (Quantization((0.1, 0.1), (0, 0)), "scales that do not match its channels"),
        (Quantization((0.1,) * 4, (0,) * 4, 3), "wrong number of scales"),
        (None, "wrong number of scales"),
    ],
)
def test_wrong_scales_are_refused(quantization: Quantization | None, message: str) -> None:
    graph = with_output(conv_graph(), quantization=quantization)
    with pytest.raises(UnsupportedModelError, match=message):
        check_operators(graph)


def test_scales_along_another_dimension_are_refused() -> None:
    graph = conv_graph()
    weights = graph.operators[0].inputs[1]
    tensors = list(graph.tensors)
    three = Quantization((0.1,) * 3, (0,) * 3, 3)
    tensors[weights] = dataclasses.replace(tensors[weights], quantization=three)
    with pytest.raises(UnsupportedModelError, match="along another dimension"):
        check_operators(graph.replace(tensors=tuple(tensors)))


def changed_constant(opcode: str, position: int, values: object, seed: int = 0) -> Graph:
    graph = operator_draw(opcode, seed)
    index = graph.operators[0].inputs[position]
    array = np.array(values, graph.tensors[index].dtype)
    tensors = list(graph.tensors)
    tensors[index] = dataclasses.replace(tensors[index], shape=array.shape, data=array.tobytes())
    return graph.replace(tensors=tuple(tensors))


@pytest.mark.parametrize(
    ("opcode", "position", "values", "message"),
    [
        ("SLICE", 1, [99] * 4, "cannot take input 1|leaves its input"),
        ("SLICE", 2, [1], "cannot take input 2"),
        ("STRIDED_SLICE", 3, [0], "wrong stride|cannot take input 3"),
        ("TRANSPOSE", 1, [0, 0], "cannot take input 1"),
        ("GATHER", 1, [-1], "places 0 to"),
        ("GATHER_ND", 1, [[77]], "places 0 to"),
        ("EMBEDDING_LOOKUP", 0, [5], "places 0 to"),
        ("MEAN", 1, [4], "has an axis that its input lacks"),
        ("ARG_MAX", 1, -5, "has an axis that its input lacks"),
        ("SPLIT", 0, 9, "has an axis that its input lacks"),
        ("SPLIT_V", 1, [97], "parts of|cannot take input 1"),
        ("PAD", 1, [[-1, 0]], "cannot take input 1"),
        ("MIRROR_PAD", 1, [[9, 9]] * 4, "at most|cannot take input 1"),
        ("RESHAPE", 1, [-1, -1], "has a wrong shape"),
        ("RESHAPE", 1, [7, 7, 7], "the elements of"),
        ("RESIZE_BILINEAR", 1, [0, 3], "1 or more; received"),
        ("BROADCAST_TO", 1, [1, 0], "what broadcasts to"),
        ("SPACE_TO_BATCH_ND", 1, [0, 1], "has wrong blocks"),
        ("BATCH_TO_SPACE_ND", 1, [97, 1], "a batch that 97 divides"),
    ],
)
def test_wrong_constants_are_refused(
    opcode: str, position: int, values: object, message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"{opcode} #0 .*({message})"):
        check_operators(changed_constant(opcode, position, values))


def test_a_map_that_no_microcontroller_holds_is_refused_without_a_look_at_it() -> None:
    make = Int8GraphMaker(0)
    x = make.unary("RELU", make.input((1, 2**31 - 1, 2**31 - 1, 4)))
    with pytest.raises(UnsupportedModelError, match="too large for any microcontroller"):
        check_supported(make.build(outputs=[x]))


def test_shapes_of_an_open_batch_have_a_remedy() -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 9, 8, 3))
    graph = make.build(outputs=[make.conv(x, channels=4)])
    wrong = with_output(graph, shape=(2, 9, 8, 4), shape_signature=(-1, 9, 8, 4))
    with pytest.raises(UnsupportedModelError, match="batch_size=1"):
        check_operators(wrong)


def test_an_operator_without_a_row_is_refused_by_name() -> None:
    graph = conv_graph()
    unknown = dataclasses.replace(graph.operators[0], opcode="MATRIX_DIAG")
    with pytest.raises(UnsupportedModelError, match="no kernel for MATRIX_DIAG #0"):
        check_operators(graph.replace(operators=(unknown,)))


@pytest.mark.parametrize("kind", ["input", "constant"])
def test_an_output_that_no_operator_writes_is_refused(kind: str) -> None:
    graph = conv_graph()
    output = graph.inputs[0] if kind == "input" else graph.operators[0].inputs[1]
    article = "an input" if kind == "input" else "a constant"
    with pytest.raises(UnsupportedModelError, match=f"is {article}: no operator writes it"):
        check_supported(graph.replace(outputs=(output,)))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
