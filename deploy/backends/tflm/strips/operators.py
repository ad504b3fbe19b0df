"""Which operators of a graph can run strip by strip, and what they are given for a strip."""

from __future__ import annotations

from deploy.graph import Graph
from deploy.operators import OPERATORS
from deploy.operators.by_rows import RowOperator, RowSite, Uncut, row_axis

_SLICED = frozenset({"int8", "int16", "int32"})
"""Types that SLICE, CONCATENATION and PAD of the runtime all take."""


def row_operator(graph: Graph, index: int) -> RowOperator | Uncut:
    """Describes how operator ``index`` can be cut, or says why it cannot."""
    operator = graph.operators[index]
    row = OPERATORS.get(operator.opcode)
    if row is None or row.by_rows is None or operator.custom_code:
        return Uncut.OPERATOR
    if not operator.outputs:
        return Uncut.CONTROL
    axes = {row_axis(graph.tensors[t].shape) for t in operator.outputs}
    rows = {graph.tensors[t].shape[1:3] for t in operator.outputs}
    if len(axes) != 1 or (len(operator.outputs) > 1 and len(rows) != 1):
        return Uncut.CONTROL
    axis = axes.pop()
    if isinstance(axis, Uncut):
        reduces = row.by_rows.reduces and axis is not Uncut.BATCH
        had_rows = isinstance(row_axis(graph.tensors[operator.inputs[0]].shape), int)
        return Uncut.ROWS_REDUCED if reduces and had_rows else axis
    found = row.by_rows.rows(RowSite(graph, index, axis))
    if isinstance(found, RowOperator):
        rowwise = [*(operator.inputs[i] for i in found.row_inputs), *operator.outputs]
        if any(graph.tensors[t].dtype not in _SLICED for t in rowwise):
            return Uncut.TYPE
    return found


def same_paddings(graph: Graph, index: int) -> list[tuple[int, int]]:
    """(before, after) of every dimension that SAME padding of a convolution puts around a map."""
    operator = graph.operators[index]
    window = OPERATORS[operator.opcode].window
    assert window is not None
    _, height, width, _ = graph.tensors[operator.inputs[0]].shape
    return [(0, 0), *window(graph, operator).paddings(height, width), (0, 0)]
