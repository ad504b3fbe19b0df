"""Operators and types that TensorFlow Lite Micro lacks, by others that compute exactly the same."""

from __future__ import annotations

import dataclasses

from deploy.graph import Graph, Options
from deploy.passes.halves import without_halves
from deploy.passes.tiles import without_tiles


def with_stand_ins(graph: Graph, source: str = "model") -> Graph:
    """Returns the graph with what TensorFlow Lite Micro runs; the graph itself where it needs none.

    TILE becomes RESIZE_NEAREST_NEIGHBOR, SELECT becomes SELECT_V2, constants of float16 become
    float32; in all subgraphs.

    Raises:
        UnsupportedModelError: a TILE for which nothing can stand.
    """
    parts = [without_selects(without_halves(without_tiles(p, source))) for p in graph.subgraphs]
    if all(new is old for new, old in zip(parts, graph.subgraphs, strict=True)):
        return graph
    main, *others = parts
    return main.replace(others=tuple(others))


def without_selects(graph: Graph) -> Graph:
    """Returns the graph with SELECT_V2 for each SELECT whose condition has the shape of what it
    selects from, or one value: they differ where it has one for each first index."""
    operators = list(graph.operators)
    for index, operator in enumerate(operators):
        if operator.opcode != "SELECT" or len(operator.present_inputs) != 3:
            continue
        condition, *values = (graph.tensors[i] for i in operator.inputs)
        if all(condition.shape == v.shape or not condition.shape for v in values):
            operators[index] = dataclasses.replace(
                operator, opcode="SELECT_V2", options=Options("SelectV2Options"), version=1
            )
    return (
        graph if operators == list(graph.operators) else graph.replace(operators=tuple(operators))
    )
