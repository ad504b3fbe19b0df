"""Which operators only rename bytes: the zero-copy views of a graph.

A view operator copies each byte of its input onto itself when its output is placed at the right
distance from its input, so the copy costs nothing and changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from deploy.graph import Graph, Operator
from deploy.memory.plan import AliasReason
from deploy.operators import OPERATORS

VIEWS = frozenset(
    {
        *(opcode for opcode, row in OPERATORS.items() if row.same_bytes),
        *("SLICE", "STRIDED_SLICE", "CONCATENATION"),
    }
)
"""Operators that may be views."""


@dataclass(frozen=True, slots=True)
class View:
    """Operator ``step``: its output stands at input + ``delta`` bytes when it is a view.

    The operator uses input bytes [start, stop) only; output byte j is input byte j + start for
    a slice. For a concatenation ``delta`` is negative: the input stands inside the output.
    """

    step: int
    source: int
    target: int
    delta: int
    start: int
    stop: int
    reason: AliasReason


def views(graph: Graph) -> Iterator[View]:
    """Yields the possible views in execution order."""
    for step, operator in enumerate(graph.operators):
        row = OPERATORS.get(operator.opcode)
        # A profile lists operators that no plan can hold; they hand on nothing.
        if row is not None and row.same_bytes:
            source, target = operator.inputs[0], operator.outputs[0]
            if not graph.tensors[source].is_constant:
                size = graph.tensors[source].size_bytes
                yield View(step, source, target, 0, 0, size, AliasReason.RESHAPE_VIEW)
        elif operator.opcode in ("SLICE", "STRIDED_SLICE"):
            window = slice_window(graph, operator)
            source, target = operator.inputs[0], operator.outputs[0]
            if window is not None and not graph.tensors[source].is_constant:
                start = _contiguous_start(graph, source, window)
                if start is not None:
                    stop = start + graph.tensors[target].size_bytes
                    yield View(step, source, target, start, start, stop, AliasReason.SLICE_VIEW)
        elif operator.opcode == "CONCATENATION":
            yield from _concatenation(graph, step, operator)


def slice_window(graph: Graph, operator: Operator) -> tuple[tuple[int, int], ...] | None:
    """Returns [begin, end) for each dimension, or None if it is not a plain constant window."""
    source = graph.tensors[operator.inputs[0]]
    target = graph.tensors[operator.outputs[0]]
    rank = len(source.shape)
    arguments = [graph.tensors[i] for i in operator.inputs[1:]]
    if len(target.shape) != rank or any(not t.is_constant for t in arguments):
        return None
    begins = [int(v) for v in arguments[0].array().ravel()]
    if operator.opcode == "STRIDED_SLICE":
        masks = ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
        if any(operator.integer(mask) for mask in masks):
            return None
        if any(int(v) != 1 for v in arguments[2].array().ravel()):
            return None
        mask = operator.integer("begin_mask")
        begins = [
            0 if mask >> axis & 1 else begin + size * (begin < 0)
            for axis, (begin, size) in enumerate(zip(begins, source.shape, strict=True))
        ]
    window = tuple((b, b + n) for b, n in zip(begins, target.shape, strict=True))
    if any(b < 0 or e > n for (b, e), n in zip(window, source.shape, strict=True)):
        return None
    return window


def window_bytes(graph: Graph, source: int, window: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """Returns the byte range [start, stop) of the source that covers the window."""
    tensor = graph.tensors[source]
    first = last = 0
    for (begin, end), size in zip(window, tensor.shape, strict=True):
        first = first * size + begin
        last = last * size + end - 1
    item = tensor.size_bytes // max(tensor.elements, 1)
    return first * item, (last + 1) * item


def _contiguous_start(graph: Graph, source: int, window: tuple[tuple[int, int], ...]) -> int | None:
    start, stop = window_bytes(graph, source, window)
    tensor = graph.tensors[source]
    item = tensor.size_bytes // max(tensor.elements, 1)
    wanted = math.prod(end - begin for begin, end in window) * item
    return start if stop - start == wanted else None


def _concatenation(graph: Graph, step: int, operator: Operator) -> Iterator[View]:
    target = operator.outputs[0]
    shape = graph.tensors[target].shape
    axis = operator.integer("axis") % max(len(shape), 1)
    if any(n != 1 for n in shape[:axis]) or operator.integer("fused_activation_function"):
        return
    offset = 0
    for source in operator.inputs:
        size = graph.tensors[source].size_bytes
        if not graph.tensors[source].is_constant:
            yield View(step, source, target, -offset, 0, size, AliasReason.CONCATENATION_VIEW)
        offset += size
