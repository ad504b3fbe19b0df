"""What stored codes cost in a plan: multiply-accumulates, tables, operators, tail."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from deploy.backends.tflm.persistent import persistent
from deploy.codes.parts import strip_family
from deploy.graph import Graph
from deploy.macs import operator_macs
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES, round_up
from deploy.operators.sets import LOOKS_UP
from deploy.outcome import StoredCode, StoredCodes
from deploy.passes.dead import subgraph
from deploy.report.occupancy import Box, live_bytes
from deploy.targets import Target

_ALIGNMENT = HEIGHT_ALIGNMENT_BYTES
"""Of tensors, in the runtime."""


def stored_codes(
    graph: Graph, stored: Sequence[StoredCodes], occupied: Sequence[Box], target: Target
) -> tuple[StoredCode, ...]:
    """Returns the rows of the report for the maps that a plan stores packed.

    Args:
        graph: as it is planned, strips and all.
        occupied: what the plan holds.
    """
    families = [strip_family(graph.result_of(o)) for o in graph.operators]
    rows = []
    for item in stored:
        groups = {
            name: [i for i, family in enumerate(families) if family in set(members)]
            for name, members in (
                ("P", item.parts.writing),
                ("pack", item.parts.packing),
                ("unpack", item.parts.unpacking),
                ("R", item.parts.reading),
            )
        }
        macs = {name: sum(operator_macs(graph, i) for i in steps) for name, steps in groups.items()}
        added = [*groups["pack"], *groups["unpack"]]
        tables = _tables(graph, [*groups["P"], *added])
        own = [box for box in occupied if strip_family(box.name) == item.packed]
        rows.append(
            StoredCode(
                name=item.name,
                packed=item.packed,
                bits=item.bits,
                channels=item.channels,
                unpacked_bytes=item.unpacked_bytes,
                packed_bytes=round_up(item.packed_bytes, _ALIGNMENT),
                stored_bytes=round_up(
                    max(live_bytes(own, len(graph.operators)), default=0), _ALIGNMENT
                ),
                p_macs=macs["P"],
                pack_macs=macs["pack"],
                unpack_macs=macs["unpack"],
                r_macs=macs["R"],
                merged=item.parts.merged,
                table_bytes=sum(graph.tensors[t].size_bytes for t in tables),
                operators=sum(not graph.operators[i].implicit for i in added),
                tail_bytes=_tail_bytes(graph, added, target),
            )
        )
    return tuple(rows)


def _tables(graph: Graph, operators: Collection[int]) -> set[int]:
    return {
        graph.operators[i].inputs[0] for i in operators if graph.operators[i].opcode in LOOKS_UP
    }


def _tail_bytes(graph: Graph, operators: Collection[int], target: Target) -> int:
    """What operators and the tensors that they write add to the tail."""
    without = _without(graph, operators)
    written = {t for i in operators for t in graph.operators[i].outputs}
    kept = {t for o in without.operators for t in o.present_inputs}
    names = {without.tensors[t].name for t in kept}
    still_there = sum(graph.tensors[t].name in names for t in written)
    added = persistent(graph, target).size_bytes - persistent(without, target).size_bytes
    return added + still_there * target.runtime.eval_tensor.size_bytes


def _without(graph: Graph, dropped: Collection[int]) -> Graph:
    """The other operators with their tensors; it could not run, but has a tail."""
    gone = set(dropped)
    operators = [o for i, o in enumerate(graph.operators) if i not in gone]
    used = {*graph.inputs, *graph.outputs}
    for operator in operators:
        used.update((*operator.present_inputs, *operator.outputs))
    return subgraph(graph, operators, sorted(used))
