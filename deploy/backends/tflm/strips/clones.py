"""Variants of a graph that let maps die earlier: the same outputs out of other operators.

A map that a skip connection reads late stays live through everything in between. Where it is
cheap to compute, a *clone* computes it again for the late reader.

    before: x → CONV_2D → y → ... → ADD      after: x → CONV_2D → y → ... → ADD
                           ↘_________↗               ↘ CONV_2D → y/again ___↗

A 1x1 convolution with strides reads one pixel of many. *Thinned*, these are picked out at once, by
a pooling of single pixels, and the map need not wait for the convolution.

    before: y → CONV_2D (strides)            after: y → MAX_POOL_2D (strides) → y/thin → CONV_2D
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from deploy.graph import Graph, GraphBuilder, Operator, Options, Padding

Clone = tuple[int, int]
"""(operator to compute again, operator that reads the second result), or (operator, THINNED)."""

THINNED = -1


def cloneable(graph: Graph, max_macs: int, macs: list[int]) -> list[Clone]:
    """Returns the clones that cost at most ``max_macs`` and could shorten a lifetime."""
    found = []
    readers = graph.consumers()
    for index, operator in enumerate(graph.operators):
        if reads_few_pixels(graph, operator):
            found.append((index, THINNED))
        if len(operator.outputs) != 1 or macs[index] > max_macs or not graph.is_pure(operator):
            continue
        steps = readers.get(operator.outputs[0], ())
        # The first reader takes the original.
        found += [(index, step) for step in steps[1:]]
    return found


def with_clones(graph: Graph, clones: Iterable[Clone]) -> tuple[Graph, tuple[int, ...]]:
    """Returns the graph with its clones, and an order in which the operators can run.

    The operators that are added come last, in the order of the sorted clones, so that indices of
    the others stay what they were.
    """
    builder = GraphBuilder(graph)
    before: dict[int, list[int]] = {}
    names = {tensor.name for tensor in graph.tensors}
    readers = graph.consumers()
    for index, reader in sorted(clones):
        operator = builder.operators[index]
        if reader == THINNED:
            old = operator.inputs[0]
            thin = thinning(builder, operator, name=_free(names, builder.tensors[old].name, "thin"))
            # As soon as the map is there, so that it can end with its other readers; a map that
            # is computed again is there for this one alone.
            first = min(readers[old]) if old in readers else index
            before.setdefault(first, []).append(builder.operator(thin))
            builder.operators[index] = _dense(operator, thin.outputs[0])
            continue
        old = operator.outputs[0]
        name = _free(names, graph.tensors[old].name, "again")
        new = builder.tensor(replace(graph.tensors[old], name=name))
        before.setdefault(reader, []).append(builder.operator(replace(operator, outputs=(new,))))
        reading = builder.operators[reader]
        builder.operators[reader] = replace(
            reading, inputs=tuple(new if t == old else t for t in reading.inputs)
        )
    order: list[int] = []
    for index in range(len(graph.operators)):
        order += [*before.get(index, ()), index]
    return builder.build(like=graph), tuple(order)


def thinning(builder: GraphBuilder, operator: Operator, *, name: str) -> Operator:
    """The pooling that picks what a 1x1 convolution with strides reads; makes its output tensor."""
    source = builder.tensors[operator.inputs[0]]
    made = builder.tensors[operator.outputs[0]]
    shape = (*made.shape[:-1], source.shape[-1])
    output = builder.tensor(replace(source, name=name, shape=shape, shape_signature=None))
    fields = (
        ("padding", int(Padding.VALID)),
        ("stride_w", operator.integer("stride_w")),
        ("stride_h", operator.integer("stride_h")),
        ("filter_width", 1),
        ("filter_height", 1),
        ("fused_activation_function", 0),
    )
    options = Options("Pool2DOptions", fields)
    return Operator("MAX_POOL_2D", (operator.inputs[0],), (output,), options, version=2)


def _dense(operator: Operator, source: int) -> Operator:
    """The convolution of what ``thinning`` picked."""
    assert operator.options is not None
    options = operator.options.replace(stride_w=1, stride_h=1)
    return replace(operator, inputs=(source, *operator.inputs[1:]), options=options)


def reads_few_pixels(graph: Graph, operator: Operator) -> bool:
    """Whether an operator is a 1x1 convolution with strides, so that it can be thinned."""
    if operator.opcode != "CONV_2D" or operator.custom_code:
        return False
    source, weights = graph.tensors[operator.inputs[0]], graph.tensors[operator.inputs[1]]
    return (
        source.dtype == "int8"
        and not source.is_constant
        and weights.shape[1:3] == (1, 1)
        and operator.integer("stride_h") * operator.integer("stride_w") > 1
    )


def _free(names: set[str], name: str, suffix: str) -> str:
    name = f"{name}/{suffix}"
    while name in names:
        name += "'"
    names.add(name)
    return name
