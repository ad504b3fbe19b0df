"""Every column of the operator table, operator by operator, against LiteRT and NumPy.

Shapes, products, intervals and checks have their tests in ``operators_test``.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace

import numpy as np
import pytest

from deploy.backends.c.operators import KERNELS
from deploy.backends.tflm.strips.choose import cut
from deploy.backends.tflm.strips.cuts import Cuts, normalised
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.operators import row_operator
from deploy.graph import Graph, Options
from deploy.operators import OPERATORS, InC, Site
from deploy.operators.by_rows import RowOperator, Uncut
from deploy.operators.row import computes
from deploy.operators.window import MovesOver, Window, window_positions
from tests.int8_graphs import Int8GraphMaker
from tests.operator_draws import (
    ImageDrawing,
    draw_operator,
    is_drawn,
    operator_draw,
    outputs_in_litert,
    sample,
)

SEEDS = range(6)
BY_ROWS = sorted(opcode for opcode, row in OPERATORS.items() if row.by_rows is not None)
WHOLE = sorted(set(OPERATORS) - set(BY_ROWS))
COPYING = sorted(opcode for opcode, row in OPERATORS.items() if row.copies is not computes)
WINDOWED = sorted(opcode for opcode, row in OPERATORS.items() if row.window is not None)
DRAWN_ELSEWHERE = {"GATHER", "QUANTIZE"}
"""Drawn here with types or tables that strips leave alone; ``strips_exact_test`` cuts them."""


def drawn(opcode: str, seed: int) -> Graph:
    drawing = ImageDrawing(seed)
    draw_operator(drawing, opcode)
    return drawing.graph()


@pytest.mark.parametrize("opcode", BY_ROWS)
def test_strips_make_what_the_whole_makes(opcode: str) -> None:
    cuts_tried, reasons = 0, set()
    for seed in range(400):
        graph = drawn(opcode, seed)
        found = row_operator(graph, 0)
        if not isinstance(found, RowOperator):
            reasons.add(found)
            continue
        generator, rows = random.Random(seed), found.rule.out_rows
        ends = sorted({rows, *generator.sample(range(1, rows), generator.randint(1, rows - 1))})
        padded = frozenset({0} if seed % 2 else ())
        cuts = normalised(Network(graph), Cuts(ends={0: tuple(ends)}, padded=padded))
        strips, inputs = cut(graph, cuts), sample(graph, seed)
        assert sum(o.opcode == opcode for o in strips.operators) >= len(ends), seed
        for a, b in zip(*(outputs_in_litert(g, inputs) for g in (graph, strips)), strict=True):
            assert np.array_equal(a, b), seed
        cuts_tried += 1
        if cuts_tried == len(SEEDS):
            break
    if opcode in DRAWN_ELSEWHERE or reasons == {Uncut.TYPE}:
        return
    assert cuts_tried > 0, reasons


@pytest.mark.parametrize("opcode", WHOLE)
def test_what_has_no_row_rule_stays_whole(opcode: str) -> None:
    graph = operator_draw(opcode, 0) if is_drawn(opcode) else bare(opcode)
    assert row_operator(graph, 0) is Uncut.OPERATOR


def bare(kind: str) -> Graph:
    """One operator with a map to read and one to write; it could not run."""
    make = Int8GraphMaker(0)
    opcode, _, code = kind.partition(" ")
    x = make.input((1, 6, 5, 4))
    y = make.operator(opcode, [x], make.shape(x), make.quantization(x))
    graph = make.build(outputs=[y])
    return graph.replace(operators=(replace(graph.operators[0], custom_code=code),))


@pytest.mark.parametrize("opcode", COPYING)
def test_what_is_copied_goes_where_the_row_says(opcode: str) -> None:
    for seed in SEEDS:
        graph = operator_draw(opcode, seed)
        inputs = sample(graph, seed)
        values = dict(zip(graph.inputs, inputs, strict=True))
        made = {t: np.full(graph.tensors[t].elements, -7, np.int16) for t in graph.outputs}
        parts = OPERATORS[opcode].copies(Site(graph, 0))
        assert parts, seed
        for part in parts:
            source = values[part.source].ravel()
            low, high = part.span
            read = []
            for place in np.ndindex(part.extents):
                start = part.start + int(np.dot(place, part.strides))
                made[part.target][part.to + int(np.dot(place, part.to_strides))] = source[start]
                read.append(start)
            assert (min(read), max(read) + 1) == (low, high), seed
            if part.is_run:
                run_of = slice(part.to, part.to + high - low)
                assert np.array_equal(made[part.target][run_of], source[low:high]), seed
        for tensor, found in zip(graph.outputs, outputs_in_litert(graph, inputs), strict=True):
            assert np.array_equal(made[tensor], found.ravel()), seed


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_only_rows_in_their_order_run_as_strips(axis: int) -> None:
    make = Int8GraphMaker(0)
    x = make.input((1, 6, 5, 4))
    options = Options("ReverseV2Options", ())
    inputs = [x, make.integers("axis", (axis,))]
    y = make.operator("REVERSE_V2", inputs, make.shape(x), make.quantization(x), options)
    found = row_operator(make.build(outputs=[y]), 0)
    assert isinstance(found, RowOperator) if axis != 1 else found is Uncut.ROWS_MOVED


def touched(window: Window, position: int, size: int, count: int, axis: int) -> set[int]:
    """Places among ``count`` that a window ties to ``position``, by its definition."""
    stride, dilation = window.strides[axis], window.dilations[axis]
    kernel = range(window.kernel[axis])
    if window.over is MovesOver.OUTPUT:
        before = window.paddings(count, count)[axis][0]
        places = {position * stride - before + k * dilation for k in kernel}
        return places & set(range(count))
    before = window.paddings(size, size)[axis][0]
    return {
        place
        for place in range(count)
        if position in {place * stride - before + k * dilation for k in kernel}
    }


@pytest.mark.parametrize("opcode", WINDOWED)
def test_a_pixel_changes_what_its_windows_hold(opcode: str) -> None:
    changes = 0
    for seed in SEEDS:
        graph = operator_draw(opcode, seed)
        operator, row = graph.operators[0], OPERATORS[opcode]
        window = row.window(graph, operator)  # type: ignore[misc]
        source = graph.tensors[operator.inputs[row.data]]
        made = graph.tensors[operator.outputs[0]]
        if window.over is MovesOver.RUN:
            assert made.elements == source.elements // window.depth * made.shape[-1]
            continue
        if window.over is MovesOver.INPUT:
            extents = zip(source.shape[1:3], window.extents, window.strides, strict=True)
            positions = [window_positions(n, k, s, same=window.same) for n, k, s in extents]
            assert tuple(positions) == made.shape[1:3]
        base = np.zeros(source.shape, source.dtype)
        before = outputs_in_litert(graph, [base])[0]
        for r in range(source.shape[1]):
            for c in range(source.shape[2]):
                probe = base.copy()
                probe[0, r, c] = 100
                differs = (outputs_in_litert(graph, [probe])[0] != before).any(axis=(0, 3))
                places = {(int(a), int(b)) for a, b in np.argwhere(differs)}
                rows = touched(window, r, source.shape[1], made.shape[1], 0)
                columns = touched(window, c, source.shape[2], made.shape[2], 1)
                assert places <= {(a, b) for a in rows for b in columns}, seed
                changes += len(places)
            if changes > 200 * (seed + 1):
                break
    assert changes > 0 or window.over is MovesOver.RUN


def test_every_row_that_has_a_kernel_in_c_is_lowered_by_one() -> None:
    assert set(KERNELS) == {o for o, row in OPERATORS.items() if row.in_c is InC.KERNEL}
    for opcode, row in OPERATORS.items():
        copies = row.copies is not computes
        assert copies or row.in_c not in (InC.COPY, InC.RENAMED), opcode
        assert (row.in_c is InC.RENAMED) == row.same_bytes, opcode
        assert row.view is None or copies, opcode


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
