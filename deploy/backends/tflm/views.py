"""Which operators only rename bytes: the zero-copy views of a graph.

A view operator copies each byte of its input onto itself when its output is placed at the right
distance from its input, so the copy costs nothing and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deploy.graph import Graph
from deploy.lifetimes import Step, TensorNumber
from deploy.memory.plan import AliasReason
from deploy.operators import OPERATORS, Site
from deploy.operators.copied import Copied


@dataclass(frozen=True, slots=True)
class View:
    """Operator ``step``: its output stands at input + ``delta`` bytes when it is a view.

    The operator uses input bytes [start, stop) only; output byte j is input byte j + start for
    a slice. For a concatenation ``delta`` is negative: the input stands inside the output.
    """

    step: Step
    source: TensorNumber
    target: TensorNumber
    delta: int
    start: int
    stop: int
    reason: AliasReason


def copies_of(graph: Graph) -> dict[int, tuple[Copied, ...]]:
    """Returns operator -> what it only copies, for those that may be views."""
    found = {}
    for step, operator in enumerate(graph.operators):
        # A profile lists operators that no plan can hold; they hand on nothing.
        row = OPERATORS.get(operator.opcode)
        if row is not None and row.view is not None:
            found[step] = row.copies(Site(graph, step)) or ()
    return found


def views(graph: Graph, copies: Mapping[int, tuple[Copied, ...]]) -> Iterator[View]:
    """Yields the possible views among ``copies_of(graph)`` in execution order."""
    for step, copied in copies.items():
        reason = OPERATORS[graph.operators[step].opcode].view
        assert reason is not None
        for part in copied:
            source = graph.tensors[part.source]
            if not source.in_head or not part.is_run:
                continue
            (first, last), item = part.span, source.size_bytes // max(source.elements, 1)
            delta = (first - part.to) * item
            ends = TensorNumber(part.source), TensorNumber(part.target)
            yield View(Step(step), *ends, delta, first * item, last * item, reason)
