"""Memory plans for tests of what is made of plans, without the planner under test elsewhere."""

from __future__ import annotations

from graph_maker import GraphMaker

from deploy.backends.tflm.layout import analyse, memory_plan
from deploy.graph import Graph
from deploy.memory.plan import MemoryPlan
from deploy.memory.problem import Placement, Problem

IN_PLACE = ("RELU", "HARD_SWISH", "ADD", "SOFTMAX")


def planned(graph: Graph, *, in_place: tuple[str, ...] = IN_PLACE) -> MemoryPlan:
    """Returns a plan by first fit, in the better of two orders of the blocks."""
    layout = analyse(graph, in_place=in_place)
    count = len(layout.problem.blocks)
    orders = (range(count), range(count - 1, -1, -1))
    placements = [_first_fit(layout.problem, list(order)) for order in orders]
    return memory_plan(layout, min(placements, key=lambda p: p.height_bytes))


def striped_graph(*, strips: int = 3, rows: int = 2, row_bytes: int = 32) -> Graph:
    """A map that is consumed strip by strip while another grows into its rows, and a RELU.

    Bytes: ``strips * rows * row_bytes`` for each of the two maps; CONCATENATION takes at most 10.
    """
    maker = GraphMaker()
    source = maker.tensor(1, strips * rows, row_bytes // 8, 8, hint="model/input")
    parts = [
        maker.unary(maker.rows(source, first, first + rows), "TANH")
        for first in range(0, strips * rows, rows)
    ]
    while len(parts) > 1:
        parts = [_join(maker, parts[i : i + 8]) for i in range(0, len(parts), 8)]
    return maker.build((source,), (maker.unary(parts[0], "RELU"),))


def _join(maker: GraphMaker, parts: list[int]) -> int:
    return parts[0] if len(parts) == 1 else maker.concat(*parts)


def _first_fit(problem: Problem, order: list[int]) -> Placement:
    placed: dict[int, int] = {}
    for index in order:
        offset = 0
        while any(_collide(problem, index, offset, j, at) for j, at in placed.items()):
            offset += 16
        placed[index] = offset
    offsets = tuple(placed[index] for index in range(len(problem.blocks)))
    height = problem.height_of(offsets)
    return Placement(offsets, height, height, False, "first fit")


def _collide(problem: Problem, a: int, a_at: int, b: int, b_at: int) -> bool:
    return any(
        p.start < q.stop
        and q.start < p.stop
        and a_at + p.offset < b_at + q.end
        and b_at + q.offset < a_at + p.end
        for p in problem.blocks[a].pieces
        for q in problem.blocks[b].pieces
    )
