"""Which maps of a packed graph are to exist for a strip of rows only.

The int32 indices of a look-up take four bytes for each that is stored, the planes of a code eight
times theirs. Were they ever whole, storing a map in bits would be of little use.
"""

from __future__ import annotations

from collections.abc import Iterable

from deploy.codes.levels import code_bits, value_intervals
from deploy.codes.parts import CodeParts
from deploy.graph import Graph
from deploy.outcome import StoredCodes


def momentary_maps(graph: Graph, stored: Iterable[StoredCodes]) -> frozenset[str]:
    """Returns the names of the int32 indices and of the maps of single bits around stored maps.

    Args:
        graph: lowered, not yet in strips.
        stored: the maps that it stores packed.
    """
    written = {name for item in stored for name in _names(item.parts)}
    intervals = value_intervals(graph)
    return frozenset(
        tensor.name
        for index, tensor in enumerate(graph.tensors)
        if tensor.name in written
        and (
            tensor.dtype == "int32" or (tensor.dtype == "int8" and code_bits(intervals[index]) == 1)
        )
    )


def index_bytes(graph: Graph, item: StoredCodes) -> int:
    """Returns the bytes of the largest tensor of int32 indices around a map, if it is whole."""
    names = set(_names(item.parts))
    return max(
        (t.size_bytes for t in graph.tensors if t.dtype == "int32" and t.name in names), default=0
    )


def _names(parts: CodeParts) -> tuple[str, ...]:
    return (*parts.writing, *parts.packing, *parts.unpacking, *parts.reading)
