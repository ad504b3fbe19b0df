"""Views that need no operator, as the plan puts their bytes where they are read.

TFLM places kernels' buffers itself, and takes a tensor that nobody writes for live from the first
operator on. So a view without an operator keeps such buffers out of its bytes in all operators
before it as well; where the head would grow by that, the view keeps its operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deploy import flatbuffer
from deploy.backends.tflm.overlap import overlap_distances
from deploy.backends.tflm.settle import run_time, settled
from deploy.backends.tflm.views import copies_of, views
from deploy.graph import Graph
from deploy.implicit import as_written, can_be_implicit
from deploy.memory.plan import MemoryPlan
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES
from deploy.operators.sets import JOINS
from deploy.targets import Kernels


def without_view_operators(
    graph: Graph,
    plan: MemoryPlan,
    kernels: Kernels,
    *,
    alignment: int = HEIGHT_ALIGNMENT_BYTES,
) -> tuple[Graph, MemoryPlan]:
    """Returns the graph with as many implicit views as cost no byte of the head, and its plan.

    The graph is as it is when its file is read again: constants that only implicit views have
    stand behind all other tensors.

    Raises:
        VerificationError: the replay found the plan wrong (a defect, never the user's fault).
    """
    marked = with_implicit_views(graph, plan.offsets, kernels, alignment=alignment)
    if marked is graph:
        return graph, plan
    kept = as_written(marked).tensors
    again = flatbuffer.read(flatbuffer.write(marked))
    number = {old: new for new, old in enumerate(kept)}
    offsets = [plan.offsets[tensor] for tensor in kept]
    moved = replace(
        plan,
        tensors=tuple(replace(tensor, index=number[tensor.index]) for tensor in plan.tensors),
        offsets=(*offsets, *[-1] * (len(again.tensors) - len(kept))),
    )
    distances = overlap_distances(again, kernels)
    return again, settled(again, moved, kernels, overlaps=distances, alignment=alignment)


def with_implicit_views(
    graph: Graph,
    offsets: Sequence[int],
    kernels: Kernels,
    *,
    alignment: int = HEIGHT_ALIGNMENT_BYTES,
) -> Graph:
    """Returns the graph with as many implicit views as cost no byte of the head.

    ``offsets`` are those of its tensors.
    """
    candidates = _standing(graph, offsets)

    def reach(marked: Graph) -> int:
        return run_time(marked, offsets, kernels, alignment=alignment)[0].reach_bytes

    before = reach(graph)

    def fits(steps: Sequence[int]) -> bool:
        return reach(_marked(graph, steps)) <= before

    chosen: list[int] = []
    groups = [candidates] if candidates else []
    while groups:
        group = groups.pop()
        if fits([*chosen, *group]):
            chosen += group
        elif len(group) > 1:
            middle = len(group) // 2
            groups += [group[middle:], group[:middle]]
    return _marked(graph, chosen) if chosen else graph


def _standing(graph: Graph, offsets: Sequence[int]) -> list[int]:
    """Views whose bytes all stand where they have to; results that the user reads are none."""
    distances: dict[int, dict[int, set[int]]] = {}
    for view in views(graph, copies_of(graph)):
        sources = distances.setdefault(view.step, {})
        sources.setdefault(view.source, set()).add(view.delta)
    found = []
    for step, sources in distances.items():
        operator = graph.operators[step]
        output = operator.outputs[0]
        joined = operator.inputs if operator.opcode in JOINS else operator.inputs[:1]
        if (
            can_be_implicit(graph, operator)
            and output not in graph.outputs
            and set(joined) == set(sources)
            and all(graph.tensors[t].in_head for t in (output, *sources))
            and all(
                {offsets[output] - offsets[source]} == deltas for source, deltas in sources.items()
            )
        ):
            found.append(step)
    return found


def _marked(graph: Graph, steps: Sequence[int]) -> Graph:
    chosen = set(steps)
    return graph.replace(
        operators=tuple(
            replace(operator, implicit=step in chosen)
            for step, operator in enumerate(graph.operators)
        )
    )
