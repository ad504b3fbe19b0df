"""When a tensor lives. Everybody asks here, but for the replay, which is there to doubt it.

Steps are operators, counted from 0. Graph inputs are there from step 0 on. Graph outputs are read
once more, by the user, at the step after the last operator, whoever else reads them before; so no
operator may take an output's bytes, not even the last one.
"""

from __future__ import annotations

from deploy.graph import Graph


def user_step(operators: int) -> int:
    """The step at which the user reads the outputs of so many operators."""
    return operators


def reading_steps(graph: Graph) -> dict[int, tuple[int, ...]]:
    """Returns tensor -> steps at which it is read, ascending, that of the user included."""
    readers = graph.consumers()
    end = user_step(len(graph.operators))
    return readers | {tensor: (*readers.get(tensor, ()), end) for tensor in graph.outputs}


def tensor_lifetimes(graph: Graph) -> dict[int, tuple[int, int]]:
    """Returns tensor -> (first, last) operator at which it is alive, both inclusive.

    Graph inputs count from operator 0, graph outputs to the last operator, as TFLM counts. What
    nobody reads lives while it is written. Constants are left out.
    """
    last_operator = max(len(graph.operators) - 1, 0)
    writers, readers = graph.producers(), reading_steps(graph)
    spans = {}
    for tensor in graph.activations():
        first = 0 if tensor in graph.inputs else writers.get(tensor, 0)
        last = max((first, *readers.get(tensor, ())))
        spans[tensor] = (first, min(last, last_operator))
    return spans
