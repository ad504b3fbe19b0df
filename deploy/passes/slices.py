"""Strided slices that skip nothing become slices, which strips can cut and plans place as views.

before: x → STRIDED_SLICE(begin, end, strides 1) → y      after: x → SLICE(begin, size) → y
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deploy.graph import Graph, GraphBuilder, Operator, Options
from deploy.passes.context import Context

_MASKS = ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


@dataclass(frozen=True, slots=True)
class PlainSlices:
    """The pass; see the module."""

    name: ClassVar[str] = "plain_slices"

    def apply(self, graph: Graph, context: Context) -> Graph:
        """Returns the graph with SLICE where a STRIDED_SLICE is one."""
        return plain_slices(graph)


def plain_slices(graph: Graph) -> Graph:
    """Returns the graph with SLICE for every STRIDED_SLICE of int8 maps whose steps are all 1."""
    builder = GraphBuilder(graph)
    changed = False
    for index, operator in enumerate(graph.operators):
        begin = _begin(graph, operator)
        if begin is None:
            continue
        name, shape = (getattr(graph.tensors[operator.outputs[0]], f) for f in ("name", "shape"))
        starts = builder.constant(f"{name}/begin", np.array(begin, np.int32))
        size = builder.constant(f"{name}/size", np.array(shape, np.int32))
        inputs = (operator.inputs[0], starts, size)
        builder.operators[index] = Operator(
            "SLICE", inputs, operator.outputs, Options("SliceOptions"), 2
        )
        changed = True
    return builder.build(like=graph) if changed else graph


def _begin(graph: Graph, operator: Operator) -> tuple[int, ...] | None:
    """Where a slice begins; None for what is no slice of steps of 1."""
    if operator.opcode != "STRIDED_SLICE" or any(operator.integer(mask) for mask in _MASKS):
        return None
    source, *parameters = (graph.tensors[t] for t in operator.inputs[:4])
    if source.dtype != "int8" or not all(p.is_constant for p in parameters):
        return None
    begin, _, steps = (p.array().ravel() for p in parameters)
    if len(begin) != len(source.shape) or (steps != 1).any():
        return None
    skipped = operator.integer("begin_mask")
    return tuple(
        0 if skipped >> axis & 1 else int(b) + (n if b < 0 else 0)
        for axis, (b, n) in enumerate(zip(begin, source.shape, strict=True))
    )
