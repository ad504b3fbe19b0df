"""What generated C stores in fewer than eight bits, for the report."""

from __future__ import annotations

from deploy.backends.c.bits import BITS_CONV, C_OPERATORS, PACK, UNPACK, added_name
from deploy.backends.c.build import GeneratedModel
from deploy.graph import Graph
from deploy.macs import operator_macs
from deploy.outcome import StoredCode


def macs_of(graph: Graph, step: int) -> int:
    """Returns the multiply-accumulates of an operator; tables and bits multiply nothing."""
    return 0 if graph.operators[step].opcode in C_OPERATORS else operator_macs(graph, step)


def stored_codes(model: GeneratedModel) -> tuple[StoredCode, ...]:
    """Returns the maps that are held packed: codes, and of a bottleneck of bits the fewest."""
    graph = model.graph
    found = [
        _row(model, operator.inputs[0], operator.outputs[0], operator.integer("bits"))
        for operator in graph.operators
        if operator.opcode == PACK
    ]
    sources = {added_name(t.name, "packed"): i for i, t in enumerate(model.source.tensors)}
    for packed in _fewest_bits(graph):
        found.append(_row(model, sources[graph.tensors[packed].name], packed, 1))
    return tuple(found)


def _fewest_bits(graph: Graph) -> list[int]:
    """Of the maps of bits that are made from each other, the one of the fewest bytes."""
    run_of: dict[int, int] = {}
    best: dict[int, int] = {}
    for operator in graph.operators:
        x = operator.inputs[0] if operator.inputs else -1
        for y in operator.outputs:
            if operator.opcode in C_OPERATORS or x in run_of:
                run_of[y] = run_of.get(x, y)
            if operator.opcode != BITS_CONV:
                continue
            run, size = run_of[y], graph.tensors[y].size_bytes
            if run not in best or size < graph.tensors[best[run]].size_bytes:
                best[run] = y
    return list(best.values())


def _row(model: GeneratedModel, tensor: int, packed: int, bits: int) -> StoredCode:
    graph, source = model.graph, model.source
    entry, bytes_ = source.tensors[tensor], graph.tensors[packed].size_bytes
    steps = [s for s, o in enumerate(graph.operators) if packed in (*o.inputs, *o.outputs)]
    tables = {
        t
        for s in steps
        if graph.operators[s].opcode in C_OPERATORS
        for t in graph.operators[s].inputs
        if graph.tensors[t].is_constant
    }
    held = [
        layout.placed.schedule.lines.get(m, entry.rows) * entry.row_bytes
        for layout in model.layout.regions
        for m, entry in enumerate(model.layout.program.maps)
        if entry.tensor == packed and m in layout.offsets
    ]
    return StoredCode(
        name=entry.name,
        packed=graph.tensors[packed].name,
        bits=bits,
        channels=entry.shape[-1],
        unpacked_bytes=entry.size_bytes,
        packed_bytes=bytes_,
        stored_bytes=max(held, default=0),
        p_macs=operator_macs(source, source.producers()[tensor]),
        pack_macs=0,
        unpack_macs=0,
        r_macs=sum(operator_macs(source, s) for s in source.consumers()[tensor]),
        merged=False,
        table_bytes=sum(graph.tensors[t].size_bytes for t in tables),
        operators=sum(graph.operators[s].opcode in (PACK, UNPACK) for s in steps),
        tail_bytes=0,
    )
