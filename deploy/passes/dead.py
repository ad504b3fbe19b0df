"""Drops operators whose results nobody needs, and tensors that no operator uses.

TFLM gives memory to every tensor of the file, used or not, and its offline plan needs an entry
for each of them.

    before: x → CONV_2D → y (output)      after: x → CONV_2D → y (output)
              ↘ RELU → z (read by none)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from deploy.graph import Graph, Operator, Signature
from deploy.passes.context import Context


@dataclass(frozen=True, slots=True)
class DropDead:
    """The pass; see the module."""

    name: ClassVar[str] = "drop_dead"

    def apply(self, graph: Graph, context: Context) -> Graph:
        """Returns the graph without what nobody reads."""
        return drop_dead(graph)


def drop_dead(graph: Graph) -> Graph:
    """Returns the graph without dead operators and tensors; inputs and outputs stay in order."""
    return drop_dead_tensors(graph)[0]


def drop_dead_tensors(graph: Graph) -> tuple[Graph, dict[int, int]]:
    """Returns the same graph, and where its tensors went: old index -> new index."""
    needed = set(graph.outputs)
    operators = []
    for operator in reversed(graph.operators):
        # Operators without outputs act on something else than tensors.
        if not operator.outputs or needed.intersection(operator.outputs):
            needed.update(operator.present_inputs)
            operators.append(operator)
    operators.reverse()
    used = needed | set(graph.inputs)
    for operator in operators:
        used.update(operator.outputs)
    for signature in graph.signatures:
        used.update(tensor for _, tensor in (*signature.inputs, *signature.outputs))
    kept = sorted(used)
    moved = {old: new for new, old in enumerate(kept)}
    if len(kept) == len(graph.tensors) and len(operators) == len(graph.operators):
        return graph, moved
    return subgraph(graph, operators, kept), moved


def subgraph(graph: Graph, operators: Sequence[Operator], tensors: Sequence[int]) -> Graph:
    """Returns a graph of some operators and tensors; inputs and outputs are among these."""
    index = {old: new for new, old in enumerate(tensors)} | {-1: -1}
    return graph.replace(
        tensors=tuple(graph.tensors[t] for t in tensors),
        operators=tuple(
            replace(
                operator,
                inputs=tuple(index[t] for t in operator.inputs),
                outputs=tuple(index[t] for t in operator.outputs),
            )
            for operator in operators
        ),
        inputs=tuple(index[t] for t in graph.inputs),
        outputs=tuple(index[t] for t in graph.outputs),
        signatures=tuple(
            Signature(
                s.key,
                tuple((name, index[t]) for name, t in s.inputs),
                tuple((name, index[t]) for name, t in s.outputs),
            )
            for s in graph.signatures
        ),
    )
