"""Computing a map twice instead of keeping it: one operator becomes two with the same inputs.

A map that a skip connection reads late stays live through everything in between. Where it is
cheap to compute, a *clone* computes it again for the late reader.

    before: x → CONV_2D → y → ... → ADD      after: x → CONV_2D → y → ... → ADD
                           ↘_________↗               ↘ CONV_2D → y/again ___↗
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from deploy.graph import Graph, GraphBuilder

Clone = tuple[int, int]
"""(operator to compute again, operator that reads the second result)."""


def cloneable(graph: Graph, max_macs: int, macs: list[int]) -> list[Clone]:
    """Returns the clones that cost at most ``max_macs`` and could shorten a lifetime."""
    found = []
    readers = graph.consumers()
    for index, operator in enumerate(graph.operators):
        if len(operator.outputs) != 1 or macs[index] > max_macs:
            continue
        steps = readers.get(operator.outputs[0], ())
        # The first reader takes the original.
        found += [(index, step) for step in steps[1:]]
    return found


def with_clones(graph: Graph, clones: Iterable[Clone]) -> tuple[Graph, tuple[int, ...]]:
    """Returns the graph with its clones, and an order in which the operators can run.

    Clones come last among the operators, so that indices of the others stay what they were.
    """
    builder = GraphBuilder(graph)
    before: dict[int, list[int]] = {}
    names = {tensor.name for tensor in graph.tensors}
    for index, reader in sorted(clones):
        operator = graph.operators[index]
        old = operator.outputs[0]
        name = f"{graph.tensors[old].name}/again"
        while name in names:
            name += "'"
        names.add(name)
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
