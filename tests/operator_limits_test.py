"""What the operator table takes: no other inputs, types and options than LiteRT and its schema."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from deploy import flatbuffer
from deploy.backends.tflm.strips.operators import row_operator
from deploy.graph import CUSTOM, Graph, Operator, Options, Quantization
from deploy.memory.plan import AliasReason
from deploy.operators import OPERATORS, InC, Site, check_operators, intervals
from deploy.operators.by_rows import Uncut
from deploy.operators.row import computes
from deploy.operators.sets import KEEPS_CODES, REDUCES, RESHAPES, WEIGHTED
from deploy.proof import replay
from deploy.runtime import tflm
from keras_fmc.errors import UnsupportedModelError
from tests.int8_graphs import Int8GraphMaker
from tests.operator_draws import (
    ImageDrawing,
    draw_operator,
    is_drawn,
    litert_of,
    operator_draw,
    outputs_in_litert,
    sample,
)
from tests.stateful_graphs import STATEFUL

needs_wheel = pytest.mark.skipif(
    tflm.unavailable_reason() is not None, reason=str(tflm.unavailable_reason())
)
DRAWN = sorted(kind for kind in OPERATORS if is_drawn(kind))
BY_ROWS = {kind for kind, row in OPERATORS.items() if row.by_rows is not None}
NARROW = {kind for kind in DRAWN if OPERATORS[kind].interval is not intervals.whole}
PADDED = {"PAD", "PADV2"}
"""Where nothing is padded the zero is not reached."""
SCALE_UNUSED = {"NEG"}
"""The kernel has scales to go by, and looks at none of LiteRT's."""
ZERO_POINT_ALONE = {"PAD"}
"""It needs no scale: without one its zeros are 0."""
NO_INT8_IN_LITERT = {"RSQRT", "ZEROS_LIKE"}
"""They do not run there with the draws of this table."""
SEEDS = range(4)
TYPES = ("int8", "int16", "int32", "float32", "bool")
OTHER_TYPES = {"ARG_MAX", "ARG_MIN", "CAST", "DEQUANTIZE", "QUANTIZE", "SOFTMAX"}
"""Rows that take types for which LiteRT has no kernel; TFLM refuses those when it prepares."""
BIAS_IN_LITERT = {"CONV_2D"}
"""TFLM takes these without a bias, LiteRT does not."""
COUNTS_INPUTS_IN_TFLM = {"DEPTHWISE_CONV_2D"}
"""Its kernel ends with the process where the bias is there as -1; generated C runs it."""
SHARED_OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2D",
    "L2_NORMALIZATION": "L2Norm",
    "L2_POOL_2D": "Pool2D",
    "MAXIMUM": "MaximumMinimum",
    "MAX_POOL_2D": "Pool2D",
    "MEAN": "Reducer",
    "MINIMUM": "MaximumMinimum",
    **dict.fromkeys(("REDUCE_ALL", "REDUCE_ANY", "REDUCE_MAX", "REDUCE_MIN"), "Reducer"),
    **dict.fromkeys(("REDUCE_PROD", "SUM"), "Reducer"),
}
"""Tables of the schema that are not called as the operator is."""
COUNTED_BY_OPTIONS = {
    *("CONCATENATION", "PACK", "SPLIT", "SPLIT_V", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNPACK"),
}
"""Zeros for their parameters are no error by themselves: an axis, a count that has to be right."""


def is_taken(graph: Graph) -> bool:
    """Whether the table takes a graph; whatever else it raises is a defect."""
    try:
        check_operators(graph)
    except UnsupportedModelError:
        return False
    return True


def runs_in_litert(graph: Graph) -> bool:
    """Whether LiteRT prepares a graph, and makes outputs of the types that the file says."""
    try:
        interpreter = litert_of(graph)
    except (RuntimeError, ValueError):
        return False
    made = {d["index"]: np.dtype(d["dtype"]).name for d in interpreter.get_output_details()}
    return all(made[index] == graph.tensors[index].dtype for index in graph.outputs)


def with_operator(graph: Graph, **changes: object) -> Graph:
    """The graph with its operator changed, and outputs of the shapes that the row says then."""
    operator = dataclasses.replace(graph.operators[0], **changes)
    changed = graph.replace(operators=(operator,))
    tensors = list(graph.tensors)
    try:
        shapes = OPERATORS[operator.kind].shapes(Site(changed, 0))
    except UnsupportedModelError:
        return changed
    for index, shape in zip(operator.outputs, shapes, strict=False):
        if shape is not None:
            tensors[index] = dataclasses.replace(tensors[index], shape=shape)
    return changed.replace(tensors=tuple(tensors))


@pytest.mark.parametrize("opcode", DRAWN)
def test_no_more_and_no_fewer_tensors_than_litert_takes(opcode: str) -> None:
    for seed in SEEDS:
        graph = operator_draw(opcode, seed)
        operator = graph.operators[0]
        again = dataclasses.replace(graph.tensors[operator.outputs[0]], name="once more")
        longer = graph.replace(tensors=(*graph.tensors, again))
        for changed in (
            with_operator(graph, inputs=operator.inputs[:-1]),
            with_operator(graph, inputs=(*operator.inputs, operator.inputs[-1])),
            with_operator(longer, outputs=(*operator.outputs, len(graph.tensors))),
        ):
            if opcode in BIAS_IN_LITERT and len(changed.operators[0].inputs) == 2:
                continue
            assert not is_taken(changed) or runs_in_litert(changed), changed.operators[0]


@needs_wheel
@pytest.mark.parametrize("opcode", sorted(WEIGHTED | RESHAPES))
def test_a_bias_and_a_shape_may_be_absent(opcode: str) -> None:
    graph = operator_draw(opcode, 0)
    operator, row = graph.operators[0], OPERATORS[opcode]
    assert row.optional == (row.inputs[1] - 1,)
    inputs = operator.inputs[: row.inputs[0]]
    shorter = with_operator(graph, inputs=inputs)
    absent = with_operator(graph, inputs=(*inputs, -1))
    assert is_taken(shorter)
    assert is_taken(absent)
    assert tflm.fits(flatbuffer.write(shorter), tflm.ROOMY_ARENA_BYTES)
    runs = tflm.fits(flatbuffer.write(absent), tflm.ROOMY_ARENA_BYTES)
    assert runs == (opcode not in COUNTS_INPUTS_IN_TFLM)


def test_only_recurrent_operators_lack_more() -> None:
    lacking = {opcode for opcode, row in OPERATORS.items() if row.optional}
    assert lacking == WEIGHTED | RESHAPES | {"SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM"}


def retyped(graph: Graph, index: int, dtype: str) -> Graph:
    tensor = graph.tensors[index]
    quantization = tensor.quantization or Quantization((0.0625,), (0,))
    changed = dataclasses.replace(
        tensor,
        dtype=dtype,
        quantization=quantization if dtype in ("int8", "int16") else None,
        data=None if tensor.data is None else tensor.array().astype(dtype).tobytes(),
    )
    return graph.replace(tensors=(*graph.tensors[:index], changed, *graph.tensors[index + 1 :]))


@pytest.mark.parametrize("opcode", sorted(set(DRAWN) - OTHER_TYPES))
def test_no_other_types_than_litert_takes(opcode: str) -> None:
    for seed in SEEDS[:2]:
        graph = operator_draw(opcode, seed)
        operator = graph.operators[0]
        for index in (*operator.present_inputs, *operator.outputs[:1]):
            for dtype in (t for t in TYPES if t != graph.tensors[index].dtype):
                changed = retyped(graph, index, dtype)
                assert not is_taken(changed) or runs_in_litert(changed), (index, dtype)


@pytest.mark.parametrize("opcode", DRAWN)
def test_a_type_that_the_operator_was_drawn_with_is_taken(opcode: str) -> None:
    assert all(is_taken(operator_draw(opcode, seed)) for seed in SEEDS)


def tables() -> dict[str, str]:
    """Name without capitals -> tables of options of the schema."""
    unions = (schema.BuiltinOptions, schema.BuiltinOptions2)
    return {name.lower(): name for union in unions for name in vars(union)}


@pytest.mark.parametrize("opcode", sorted(o for o in OPERATORS if not o.startswith(CUSTOM)))
def test_options_are_those_of_the_schema(opcode: str) -> None:
    name = SHARED_OPTIONS.get(opcode, opcode.replace("_", "")).lower()
    assert OPERATORS[opcode].options == tables().get(f"{name}options", "")


@pytest.mark.parametrize("opcode", sorted(o for o in DRAWN if OPERATORS[o].options))
def test_options_are_needed_where_zeros_make_no_sense(opcode: str) -> None:
    row = OPERATORS[opcode]
    zeros = Options(row.options, ())
    graphs = [operator_draw(opcode, seed) for seed in range(8)]
    refused = not any(is_taken(g.replace(operators=(with_(g, options=zeros),))) for g in graphs)
    assert row.needs_options == (refused or opcode in COUNTED_BY_OPTIONS)
    bare = [g.replace(operators=(with_(g, options=None),)) for g in graphs]
    if row.needs_options:
        assert not any(map(is_taken, bare))


def with_(graph: Graph, **changes: object) -> Operator:
    return dataclasses.replace(graph.operators[0], **changes)


def scaled(graph: Graph, index: int) -> Graph:
    """The graph with another scale and zero point of a map."""
    other = dataclasses.replace(graph.tensors[index], quantization=Quantization((0.19,), (5,)))
    return graph.replace(tensors=(*graph.tensors[:index], other, *graph.tensors[index + 1 :]))


def looks_at_scales(graph: Graph, inputs: list[np.ndarray]) -> set[bool | None]:
    """Whether other scales make other outputs, map by map; None where LiteRT refuses them."""
    operator, found = graph.operators[0], set[bool | None]()
    before = outputs_in_litert(graph, inputs)
    for index in dict.fromkeys((*operator.present_inputs, *operator.outputs)):
        if graph.tensors[index].dtype != "int8" or graph.tensors[index].is_constant:
            continue
        try:
            after = outputs_in_litert(scaled(graph, index), inputs)
        except (RuntimeError, ValueError):
            found.add(None)
            continue
        found.add(any((a != b).any() for a, b in zip(before, after, strict=True)))
    return found


@pytest.mark.parametrize("opcode", sorted(set(DRAWN) - set(STATEFUL) - NO_INT8_IN_LITERT))
def test_numbers_need_a_scale_where_it_changes_the_output(opcode: str) -> None:
    found = set[bool | None]()
    for seed in range(8):
        graph = operator_draw(opcode, seed)
        found |= looks_at_scales(graph, sample(graph, seed))
    if True in found:
        assert OPERATORS[opcode].has_scale or opcode in ZERO_POINT_ALONE
    elif None not in found and found:
        assert not OPERATORS[opcode].has_scale or opcode in SCALE_UNUSED


@pytest.mark.parametrize("opcode", sorted(o for o in DRAWN if OPERATORS[o].in_place))
def test_what_runs_in_place_reads_no_other_pixel(opcode: str) -> None:
    """A pixel is the last dimension: what is normalised over it reads all of it first."""
    changes = 0
    for seed in range(8):
        graph = operator_draw(opcode, seed)
        inputs = sample(graph, seed)
        before = outputs_in_litert(graph, inputs)[0]
        if inputs[0].shape != before.shape:
            continue
        places = np.zeros(before.shape, bool)
        places[tuple(n // 2 for n in before.shape[:-1])] = True
        other = np.where(places, -1 - inputs[0], inputs[0]).astype(inputs[0].dtype)
        changed = [other, *inputs[1:]]
        differs = outputs_in_litert(graph, changed)[0] != before
        assert not (differs & ~places).any()
        changes += int(differs.sum())
    assert changes > 0


@pytest.mark.parametrize("opcode", DRAWN)
def test_the_map_is_the_first_input_that_is_computed(opcode: str) -> None:
    for seed in SEEDS:
        graph = operator_draw(opcode, seed)
        inputs = enumerate(graph.operators[0].inputs)
        maps = [p for p, t in inputs if t >= 0 and not graph.tensors[t].is_constant]
        assert maps[:1] in ([], [OPERATORS[opcode].data]) or opcode == "FILL"


@pytest.mark.parametrize("opcode", sorted(o for o in OPERATORS if not o.startswith(CUSTOM)))
def test_what_has_strides_has_a_window(opcode: str) -> None:
    row = OPERATORS[opcode]
    options = getattr(schema, f"{row.options}T")() if row.options else None
    slides = hasattr(options, "strideH") or opcode == "FULLY_CONNECTED"
    assert slides == (row.window is not None)


@pytest.mark.parametrize("opcode", sorted(o for o in DRAWN if o in BY_ROWS))
def test_rows_are_reduced_by_pools_and_reductions_alone(opcode: str) -> None:
    takes_all = 0
    for seed in range(300):
        drawing = ImageDrawing(seed)
        draw_operator(drawing, opcode)
        takes_all += row_operator(drawing.graph(), 0) is Uncut.ROWS_REDUCED
        if takes_all:
            break
    assert (takes_all > 0) == (opcode in REDUCES or opcode.endswith("_POOL_2D"))


@pytest.mark.parametrize("opcode", sorted(REDUCES & BY_ROWS))
def test_a_map_that_loses_its_rows_says_so(opcode: str) -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 6, 5, 4))
    options = Options("ReducerOptions", (("keep_dims", False),))
    inputs = [x, make.integers("axes", (1, 2))]
    y = make.operator(opcode, inputs, (1, 4), make.quantization(x), options)
    assert row_operator(make.build(outputs=[y]), 0) is Uncut.ROWS_REDUCED


def test_what_generated_c_runs_runs_in_strips_but_for_these() -> None:
    in_c = {opcode for opcode, row in OPERATORS.items() if row.in_c is not InC.TFLM}
    assert in_c - BY_ROWS == {
        # They turn rows into something else,
        *("ARG_MAX", "ARG_MIN", "BATCH_MATMUL", "BROADCAST_TO", "FULLY_CONNECTED", "MIRROR_PAD"),
        *("PACK", "TRANSPOSE", "UNPACK"),
        # or nobody has needed them by rows.
        *("EXPAND_DIMS", "RSQRT", "SPLIT_V", "SQUEEZE", "STRIDED_SLICE", "DIV", "SELECT_V2"),
        *("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"),
        *("LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT", "LOG_SOFTMAX", "L2_NORMALIZATION"),
    }
    assert BY_ROWS - in_c == {"NEG", "RELU_0_TO_1", "RELU_N1_TO_1"}
    assert in_c >= {opcode for opcode, row in OPERATORS.items() if row.copies is not computes}


def test_views_are_those_that_the_replay_knows() -> None:
    views = {o: row.view for o, row in OPERATORS.items() if row.view is not None}
    assert views.keys() == replay._COPYING
    renamed = {o for o, reason in views.items() if reason is AliasReason.RESHAPE_VIEW}
    assert renamed == replay._RENAMING


@pytest.mark.parametrize("opcode", sorted(opcode for opcode in OPERATORS if is_drawn(opcode)))
def test_state_is_kept_in_variables(opcode: str) -> None:
    graph = operator_draw(opcode, 0)
    assert OPERATORS[opcode].keeps_state == any(t.is_variable for t in graph.tensors)


def test_which_rows_say_less_than_any_code() -> None:
    narrow = {opcode for opcode, row in OPERATORS.items() if row.interval is not intervals.whole}
    copying = {opcode for opcode, row in OPERATORS.items() if row.copies is not computes}
    fused = {o for o in DRAWN if "FusedActivationFunction" in str(vars(schema).get(o))}
    assert copying - {"SPLIT_V"} <= narrow
    assert KEEPS_CODES | WEIGHTED - {"TRANSPOSE_CONV"} <= narrow
    assert narrow - copying - KEEPS_CODES - WEIGHTED - fused == {
        *("ADD", "AVERAGE_POOL_2D", "GATHER", "MAXIMUM", "MINIMUM", "MUL", "PACK", "PADV2"),
        *("RELU", "RELU6", "RELU_N1_TO_1", "SUB"),
    }


SUMMED = WEIGHTED | {"ADD", "SUB", "MUL"}
"""Whatever a fused activation leaves; what sums reach depends on their weights."""
CLIPPED = {"RELU", "RELU6", "RELU_N1_TO_1"}


@pytest.mark.parametrize("opcode", sorted(NARROW - SUMMED))
def test_the_ends_of_an_interval_are_reached(opcode: str) -> None:
    widest = (-128, 127) if opcode in CLIPPED else (10, 60) if opcode in PADDED else (-20, 30)
    for seed in SEEDS:
        graph = operator_draw(opcode, seed)
        operator = graph.operators[0]
        # Each input has a range of its own, within those before it.
        ends = {t: (widest[0] + 3 * n, widest[1] - 5 * n) for n, t in enumerate(graph.inputs)}
        sources = []
        for index in operator.present_inputs:
            tensor = graph.tensors[index]
            if tensor.dtype == "int8":
                data = tensor.array() if tensor.is_constant else np.array(ends[index])
                sources.append((int(data.min()), int(data.max())))
        made = []
        for end in (0, 1):
            maps = [np.full(graph.tensors[t].shape, ends[t][end], np.int8) for t in graph.inputs]
            made += outputs_in_litert(graph, maps)
        quantization = graph.tensors[graph.outputs[0]].quantization
        low, high = OPERATORS[opcode].interval(operator, quantization, sources)
        found = (min(int(v.min()) for v in made), max(int(v.max()) for v in made))
        pads = graph.tensors[graph.outputs[0]].elements > graph.tensors[graph.inputs[0]].elements
        assert found == (max(low, -128), min(high, 127)) or (opcode in PADDED and not pads), seed


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
