"""Codes of few bits: which maps a row program holds packed.

    producer → map → readers        producer → map → PACK → bytes → UNPACK → map' → readers

Only the bytes have to stand, or to wait in a line buffer; map and map' last for the rows that the
loops on both sides work on. Packing costs a few instructions a value, so a map is packed only
where the arena gets smaller.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeVar

from deploy.backends.c.bits import C_OPERATORS, PACK, UNPACK, added_name, unpacked_copy
from deploy.codes.levels import CodeMap, find_code_maps
from deploy.graph import Graph, GraphBuilder, Operator, Options, Quantization, Tensor

_MOST_SINGLES = 8
T = TypeVar("T")


def candidates(source: Graph, graph: Graph) -> tuple[CodeMap, ...]:
    """Returns the maps that ``graph``, which was made of ``source``, may hold packed.

    Those that would not get smaller are left out, those that are bits already are not there.
    """
    made = {t for op in graph.operators if op.opcode not in C_OPERATORS for t in op.outputs} & set(
        graph.consumers()
    )
    return tuple(m for m in find_code_maps(source) if m.tensor in made and _saving(source, m) > 0)


def with_packed(graph: Graph, maps: Iterable[CodeMap]) -> Graph:
    """Returns the graph with these maps packed; readers in a row share what they unpack."""
    builder = GraphBuilder(graph)
    chosen = {m.tensor: m for m in maps}
    packed = {t: builder.tensor(_packed(graph, m)) for t, m in chosen.items()}
    unpacked: dict[int, tuple[int, int]] = {}
    operators: list[Operator] = []
    for step, operator in enumerate(graph.operators):
        inputs = list(operator.inputs)
        for place, x in enumerate(operator.inputs):
            if x not in chosen:
                continue
            if x not in unpacked or unpacked[x][1] < step - 1:
                again = builder.tensor(unpacked_copy(graph.tensors[x]))
                operators.append(_operator(UNPACK, packed[x], again, chosen[x]))
                unpacked[x] = again, step
            unpacked[x] = unpacked[x][0], step
            inputs[place] = unpacked[x][0]
        operators.append(dataclasses.replace(operator, inputs=tuple(inputs)))
        for y in operator.outputs:
            if y in chosen:
                operators.append(_operator(PACK, y, packed[y], chosen[y]))
    return builder.build(like=graph).replace(operators=tuple(operators))


def best_packing(
    graph: Graph,
    maps: tuple[CodeMap, ...],
    lay_out: Callable[[Graph], tuple[int, T]],
    *,
    quick: bool = False,
) -> tuple[Graph, T]:
    """Returns the graph with the maps packed that make it smallest, and what was laid out.

    Tried are none, all and, unless ``quick``, all but one after the other, and one after the other
    more.

    Args:
        lay_out: graph -> its static bytes, and anything that goes with them.
    """
    best_bytes, best = lay_out(graph)
    chosen: tuple[CodeMap, ...] = ()
    best_graph = graph
    if not maps:
        return graph, best
    singles = 0 if quick else _MOST_SINGLES
    order = sorted(maps, key=lambda m: (-_saving(graph, m), m.tensor))[:singles]
    tries: list[Callable[[], tuple[CodeMap, ...]]] = [lambda: maps]
    for m in order[::-1]:
        tries.append(lambda m=m: tuple(c for c in chosen if c != m))  # type: ignore[misc]
    for m in order:
        tries.append(lambda m=m: tuple(c for c in maps if c in chosen or c == m))  # type: ignore[misc]
    seen: set[tuple[CodeMap, ...]] = {()}
    for attempt in tries:
        wanted = attempt()
        if wanted in seen:
            continue
        seen.add(wanted)
        candidate = with_packed(graph, wanted)
        size, found = lay_out(candidate)
        if (size, len(wanted)) < (best_bytes, len(chosen)):
            best_bytes, best, best_graph, chosen = size, found, candidate, wanted
    return best_graph, best


def packed_bytes(graph: Graph, entry: CodeMap) -> int:
    """Returns the bytes of a map once it is packed, each row for itself."""
    *_, size = _rows(graph.tensors[entry.tensor])
    rows = graph.tensors[entry.tensor].size_bytes // size
    return rows * -(-size * entry.bits // 8)


def _saving(graph: Graph, entry: CodeMap) -> int:
    return graph.tensors[entry.tensor].size_bytes - packed_bytes(graph, entry)


def _rows(tensor: Tensor) -> tuple[int, int, int]:
    """(height, width, values of a row) of a packed map; a single row lies on its side."""
    _, height, width, channels = tensor.shape
    return (height, 1, width * channels) if height > 1 else (1, width, channels)


def _packed(graph: Graph, entry: CodeMap) -> Tensor:
    tensor = graph.tensors[entry.tensor]
    height, width, values = _rows(tensor)
    shape = (1, height, width, -(-values * entry.bits // 8))
    return Tensor(added_name(tensor.name, "packed"), shape, "int8", Quantization((1.0,), (0,)))


def _operator(opcode: str, x: int, y: int, entry: CodeMap) -> Operator:
    fields = (("bits", entry.bits), ("low", entry.interval[0]))
    return Operator(opcode, (x,), (y,), Options("COptions", fields))
