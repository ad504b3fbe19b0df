"""Which operators of a lowered graph store a map as codes: P, packing, unpacking and R.

    … → P → map → pack → bytes → unpack → map' → R → …

P is what writes the map, R what reads it. Of a bottleneck of bits, P and R reach as far as its
maps of single bits do: from the bit planes to the stored bits, and on to the sum of the restored
planes. Operators are named by the tensors that they write, which strips keep (`strip_family`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from deploy.graph import Graph
from deploy.macs import operator_macs
from deploy.operators.sets import CLIPS, LOOKS_UP, MOVES

_PASSED_UP = CLIPS | MOVES | LOOKS_UP
"""Between P and the map: clips, and what a look-up of bit planes consists of, but for its CAST."""
_PASSED_DOWN = MOVES
_STRIP = re.compile(r"(/again'*)?(\[\d+:\d+\])?(#\d+)?$")


@dataclass(frozen=True, slots=True)
class CodeParts:
    """The parts of one stored map, as names of the tensors that their operators write.

    Attributes:
        merged: R is part of the look-up that unpacks, for some reader at least.
    """

    writing: tuple[str, ...]
    packing: tuple[str, ...]
    unpacking: tuple[str, ...]
    reading: tuple[str, ...]
    merged: bool


def strip_family(name: str) -> str:
    """Returns the map that a strip or a second computation of it belongs to."""
    return _STRIP.sub("", name)


def code_parts(
    graph: Graph, *, tensor: int, stored: int, originals: int, single_bits: Collection[int]
) -> CodeParts:
    """Returns the parts of a map that is stored packed.

    Args:
        tensor: the map; it lives between P and packing.
        stored: its bytes.
        originals: how many tensors the graph had before packing; they come first.
        single_bits: maps of one bit a value.
    """
    producers, readers = graph.producers(), graph.consumers()

    def names(steps: Collection[int]) -> tuple[str, ...]:
        return tuple(graph.tensors[graph.operators[s].outputs[0]].name for s in sorted(steps))

    packing: set[int] = set()
    waiting = [stored]
    while waiting:
        subject = waiting.pop()
        step = producers.get(subject)
        if subject >= originals and step is not None:
            packing.add(step)
            waiting += graph.operators[step].present_inputs

    unpacking: set[int] = set()
    reading: set[int] = set()
    merged = False
    waiting = [stored]
    while waiting:
        subject = waiting.pop()
        for step in readers.get(subject, ()):
            output = graph.operators[step].outputs[0]
            looked_up = graph.operators[producers[subject]].opcode in LOOKS_UP
            if output >= originals or looked_up:
                unpacking.add(step)
            else:
                reading.add(step)
            if output >= originals:
                waiting.append(output)
            elif looked_up:
                merged = True
                waiting += [output] if output in single_bits else []
    reading |= _read_on(graph, reading, single_bits)
    return CodeParts(
        names(_written_by(graph, tensor, single_bits)),
        names(packing),
        names(unpacking),
        names(reading),
        merged,
    )


def _written_by(graph: Graph, tensor: int, single_bits: Collection[int]) -> set[int]:
    producers = graph.producers()
    found: set[int] = set()
    waiting = [tensor]
    while waiting:
        step = producers.get(waiting.pop())
        if step is None or step in found:
            continue
        found.add(step)
        operator = graph.operators[step]
        passes = operator.opcode in _PASSED_UP and not operator_macs(graph, step)
        waiting += [t for t in operator.present_inputs if passes or t in single_bits]
    return found


def _read_on(graph: Graph, first: set[int], single_bits: Collection[int]) -> set[int]:
    readers = graph.consumers()
    found: set[int] = set()
    waiting = sorted(first)
    while waiting:
        operator = graph.operators[waiting.pop()]
        for output in operator.outputs:
            if operator.opcode in _PASSED_DOWN or output in single_bits:
                later = set(readers.get(output, ())) - found
                found |= later
                waiting += sorted(later)
    return found
