"""Maps that may exist for a strip of rows only, such as the int32 indices of a look-up.

A way of cutting is of no interest if all rows of such a map are live together at any time, or
stand in one tensor.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from deploy.backends.tflm.strips.footprint import Footprint
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.schedule import Program
from deploy.graph import Graph

_AGAIN = re.compile(r"/again'*$")
"""What a second computation of a map is called, see ``clones``."""


def tensors_named(network: Network, names: frozenset[str]) -> frozenset[int]:
    """Returns the tensors of these names that have more than one row, computed twice or not."""
    if not names:
        return frozenset()
    tensors = network.graph.tensors
    return frozenset(
        t
        for t, rows in network.rows.items()
        if rows > 1 and (tensors[t].name in names or _AGAIN.sub("", tensors[t].name) in names)
    )


def obstacles(graph: Graph, names: frozenset[str]) -> dict[str, str]:
    """Returns what keeps maps whole however the graph is cut: operator or map -> why."""
    network = Network(graph)
    found: dict[str, str] = {}
    for tensor in sorted(tensors_named(network, names)):
        writer = network.producer.get(tensor)
        if writer is None or tensor in network.outputs:
            found[graph.tensors[tensor].name] = "it is an input or an output of the graph"
            continue
        if writer in network.reasons:
            found[graph.label(writer)] = network.reasons[writer].value
        for reader in network.whole_readers.get(tensor, ()):
            reason = network.reasons.get(reader)
            found[graph.label(reader)] = reason.value if reason else "it reads the map as a whole"
    return found


def is_in_one_tensor(network: Network, program: Program, tensors: frozenset[int]) -> bool:
    """Whether a tensor of the program has all rows of one of these maps."""
    return any(
        value.tensor in tensors
        and value.rows[0] <= 0
        and value.rows[1] >= network.rows[value.tensor]
        for value in program.values
    )


def is_live_at_once(
    network: Network, program: Program, found: Footprint, tensors: frozenset[int]
) -> bool:
    """Whether all rows of one of these maps are live at one step, in strips or not."""
    spans: dict[int, list[_Span]] = {}
    for block, owners in zip(found.blocks, found.owners, strict=True):
        for rows, owner in zip(block, owners, strict=True):
            tensor, own, padding = program.values[owner]
            if tensor not in tensors:
                continue
            if padding is None:
                # Bytes count from the first of the block.
                size, at = network.row_bytes[tensor], found.place[owner][1]
                start, stop = (rows.start - at) // size, -((at - rows.stop) // size)
                own = own[0] + start, own[0] + stop
            same = _viewed(network, tensor, tensors)
            spans.setdefault(same, []).append(_Span(rows.first, rows.until, *own))
    return any(_covers(network.rows[tensor], of_map) for tensor, of_map in spans.items())


class _Span(NamedTuple):
    """Rows [start, stop) that are live during steps [first, until)."""

    first: int
    until: int
    start: int
    stop: int


def _viewed(network: Network, tensor: int, tensors: frozenset[int]) -> int:
    """The map that a RESHAPE shows in another shape: row for row it is the same."""
    writer = network.producer.get(tensor)
    while writer is not None and writer in network.reshapes:
        source = network.graph.operators[writer].inputs[0]
        if source not in tensors or network.rows[source] != network.rows[tensor]:
            break
        tensor, writer = source, network.producer.get(source)
    return tensor


def _covers(rows: int, spans: list[_Span]) -> bool:
    """Whether all rows of a map are live when one of the spans begins."""
    for step in {span.first for span in spans}:
        live = sorted((s.start, s.stop) for s in spans if s.first <= step < s.until)
        reached = 0
        for start, stop in live:
            if start > reached:
                break
            reached = max(reached, stop)
        if reached >= rows:
            return True
    return False
