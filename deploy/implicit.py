"""Views without an operator: bytes that stand already where somebody reads them.

A SLICE, a CONCATENATION or a RESHAPE of a planned model that copies every byte onto itself costs
time and persistent memory for nothing. TensorFlow Lite Micro needs no operator there: a tensor
that nobody writes stands where the offline plan says, like any other. Such an operator is
``implicit``: the graph has it, the file has not. An entry of the file's metadata says what it was,
so that the graph that is read again is whole:

    int32 little endian [version, count, then for each: position among the operators, kind,
    output, start, number of inputs, inputs ...]

``start`` is the first element that a SLICE takes, and the axis of a CONCATENATION. Tensors are
numbered as in the file. LiteRT ignores offline plans, so it needs the operators: ``explicit``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from deploy.graph import Graph, GraphBuilder, Operator, Options, Signature
from deploy.memory.plan import AliasReason
from deploy.operators import OPERATORS, Site

METADATA_NAME = "keras_fmc.views"
_VERSION = 1
_SLICE, _CONCATENATION, _RESHAPE = range(3)
_KINDS = {
    AliasReason.SLICE_VIEW: _SLICE,
    AliasReason.CONCATENATION_VIEW: _CONCATENATION,
    AliasReason.RESHAPE_VIEW: _RESHAPE,
}


@dataclass(frozen=True, slots=True)
class Written:
    """What a file holds of a graph.

    Attributes:
        graph: without implicit operators, and without the constants that only they read.
        operators: for each operator of it, its number in the whole graph.
        tensors: the same for its tensors; in the order of the whole graph.
    """

    graph: Graph
    operators: tuple[int, ...]
    tensors: tuple[int, ...]


def can_be_implicit(graph: Graph, operator: Operator) -> bool:
    """Whether the file can say of an operator what it was."""
    kind = _kind(operator)
    if kind != _SLICE:
        return kind is not None
    source, output = (graph.tensors[t] for t in (operator.inputs[0], operator.outputs[0]))
    return len(source.shape) == len(output.shape)


def explicit(graph: Graph) -> Graph:
    """Returns the graph with an operator in the file for every view."""
    operators = (replace(op, implicit=False) if op.implicit else op for op in graph.operators)
    return graph.replace(operators=tuple(operators))


def as_written(graph: Graph) -> Written:
    """Returns what the file will hold of a graph."""
    if not any(operator.implicit for operator in graph.operators):
        return Written(graph, tuple(range(len(graph.operators))), tuple(range(len(graph.tensors))))
    steps = tuple(i for i, operator in enumerate(graph.operators) if not operator.implicit)
    read = {t for i in steps for t in graph.operators[i].present_inputs}
    read.update(graph.inputs, graph.outputs)
    unread = {t for op in graph.operators if op.implicit for t in op.present_inputs} - read
    kept = tuple(
        i for i, tensor in enumerate(graph.tensors) if i not in unread or not tensor.is_constant
    )
    number = {old: new for new, old in enumerate(kept)} | {-1: -1}

    def moved(tensors: Sequence[int]) -> tuple[int, ...]:
        return tuple(number[t] for t in tensors)

    def pairs(ends: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
        return tuple((name, number[t]) for name, t in ends)

    operators = (graph.operators[i] for i in steps)
    written = graph.replace(
        tensors=tuple(graph.tensors[t] for t in kept),
        operators=tuple(
            replace(op, inputs=moved(op.inputs), outputs=moved(op.outputs)) for op in operators
        ),
        inputs=moved(graph.inputs),
        outputs=moved(graph.outputs),
        signatures=tuple(
            Signature(s.key, pairs(s.inputs), pairs(s.outputs)) for s in graph.signatures
        ),
    )
    return Written(written, steps, kept)


def with_entry(graph: Graph) -> Graph:
    """Returns the graph that is written to a file, with the entry for what is not."""
    written = as_written(graph)
    if written.graph is graph:
        return graph
    number = {old: new for new, old in enumerate(written.tensors)}
    entry: list[int] = []
    for position, operator in enumerate(graph.operators):
        if operator.implicit:
            kind = _kind(operator)
            assert kind is not None
            sources = operator.inputs if kind == _CONCATENATION else operator.inputs[:1]
            entry += (position, kind, number[operator.outputs[0]])
            entry += (_start(graph, position, kind), len(sources), *(number[t] for t in sources))
    count = sum(operator.implicit for operator in graph.operators)
    data = struct.pack(f"<{2 + len(entry)}i", _VERSION, count, *entry)
    return written.graph.replace(metadata=(*written.graph.metadata, (METADATA_NAME, data)))


def _kind(operator: Operator) -> int | None:
    row = OPERATORS.get(operator.kind)
    return None if row is None or row.view is None else _KINDS[row.view]


def _start(graph: Graph, position: int, kind: int) -> int:
    operator = graph.operators[position]
    if kind == _CONCATENATION:
        return operator.integer("axis") % max(len(graph.tensors[operator.inputs[0]].shape), 1)
    if kind == _RESHAPE:
        return 0
    (copied,) = OPERATORS[operator.kind].copies(Site(graph, position)) or ()
    return copied.start


def restored(graph: Graph) -> Graph:
    """Returns a graph as it was before it was written, its implicit operators in their places.

    Constants that say where to slice are new ones, behind all other tensors.

    Raises:
        ValueError, struct.error: the entry is damaged.
    """
    entries = [data for name, data in graph.metadata if name == METADATA_NAME]
    if not entries:
        return graph
    views = {view.position: view for view in _views(entries[0])}
    builder = GraphBuilder(graph)
    constants: dict[tuple[int, ...], int] = {}

    def constant(values: Sequence[int]) -> int:
        key = tuple(values)
        if key not in constants:
            name = f"view/{'x'.join(map(str, key))}"
            constants[key] = builder.constant(name, np.array(key, np.int32))
        return constants[key]

    written = iter(graph.operators)
    produced = {t for operator in graph.operators for t in operator.outputs} | set(graph.inputs)
    builder.operators = []
    for position in range(len(graph.operators) + len(views)):
        if position not in views:
            operator = next(written, None)
            if operator is None:
                raise ValueError(f"views behind all {len(graph.operators)} operators")
            builder.operator(operator)
            continue
        view = views[position]
        numbers = (view.output, *view.inputs)
        used = [graph.tensors[t] for t in numbers if 0 <= t < len(graph.tensors)]
        if len(used) != len(numbers) or view.output in produced or used[0].is_constant:
            raise ValueError(f"view {position} of tensor {view.output} is none")
        produced.add(view.output)
        builder.operator(_operator(graph, view, constant))
    metadata = tuple(m for m in graph.metadata if m[0] != METADATA_NAME)
    return builder.build(like=graph, metadata=metadata)


class _View(NamedTuple):
    position: int
    kind: int
    output: int
    start: int
    inputs: tuple[int, ...]


def _operator(graph: Graph, view: _View, constant: Callable[[Sequence[int]], int]) -> Operator:
    _, kind, output, start, inputs = view
    shape = graph.tensors[output].shape
    if kind == _CONCATENATION:
        fields = (("axis", start), ("fused_activation_function", 0))
        options = Options("ConcatenationOptions", fields)
        return Operator("CONCATENATION", inputs, (output,), options, version=2, implicit=True)
    if len(inputs) != 1:
        raise ValueError(f"a view of tensor {output} has {len(inputs)} inputs")
    source = graph.tensors[inputs[0]]
    if kind == _RESHAPE:
        if source.size_bytes != graph.tensors[output].size_bytes:
            raise ValueError(f"tensor {output} is another size than what it is a view of")
        options = Options("ReshapeOptions", (("new_shape", shape),))
        operands = (*inputs, constant(shape))
        return Operator("RESHAPE", operands, (output,), options, implicit=True)
    if kind != _SLICE or len(shape) != len(source.shape) or not 0 <= start < source.elements:
        raise ValueError(f"a view of tensor {output} cannot be")
    begin = tuple(int(n) for n in np.unravel_index(start, source.shape))
    if any(b + n > size for b, n, size in zip(begin, shape, source.shape, strict=True)):
        raise ValueError(f"a view of tensor {output} leaves its source")
    window = (*inputs, constant(begin), constant(shape))
    return Operator("SLICE", window, (output,), Options("SliceOptions"), version=2, implicit=True)


def _views(data: bytes) -> Iterator[_View]:
    """Yields the views of an entry, in the order of positions."""
    version, count = struct.unpack_from("<2i", data)
    if version != _VERSION or not 0 <= count <= len(data) // 24:
        raise ValueError(f"{count} views of version {version} in {len(data)} bytes")
    at, last = 8, -1
    for _ in range(count):
        position, kind, output, start, inputs = struct.unpack_from("<5i", data, at)
        if position <= last or not 1 <= inputs <= len(data) // 4:
            raise ValueError(f"a view of {inputs} inputs at {position}, behind {last}")
        sources = struct.unpack_from(f"<{inputs}i", data, at + 20)
        at, last = at + 20 + 4 * inputs, position
        yield _View(position, kind, output, start, sources)
