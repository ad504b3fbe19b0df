"""Operators and types that TensorFlow Lite Micro lacks, by others that compute exactly the same."""

from __future__ import annotations

from deploy.graph import Graph
from deploy.passes.dense import without_sparse
from deploy.passes.halves import without_halves
from deploy.passes.selects import without_int32_selects, without_selects
from deploy.passes.tiles import without_tiles


def with_stand_ins(graph: Graph, source: str = "model") -> Graph:
    """Returns the graph with what TensorFlow Lite Micro runs; the graph itself where it needs none.

    TILE becomes RESIZE_NEAREST_NEIGHBOR, SELECT becomes SELECT_V2, that of int32 arithmetic,
    constants that are stored sparse become dense and those of float16 float32; in all subgraphs.

    Raises:
        UnsupportedModelError: a TILE for which nothing can stand.
    """
    parts = [_stand_in(part, source) for part in graph.subgraphs]
    if all(new is old for new, old in zip(parts, graph.subgraphs, strict=True)):
        return graph
    main, *others = parts
    return main.replace(others=tuple(others))


def _stand_in(part: Graph, source: str) -> Graph:
    # Dense before wide: sparse weights of float16 are made dense first in the file, too.
    part = without_halves(without_sparse(without_tiles(part, source)))
    return without_int32_selects(without_selects(part))
