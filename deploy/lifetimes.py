"""When a tensor lives. Everybody asks here, but for the replay, which is there to doubt it.

Steps are operators, counted from 0. Graph inputs are there from step 0 on. Graph outputs are read
once more, by the user, at the step after the last operator, whoever else reads them before; so no
operator may take an output's bytes, not even the last one.
"""

from __future__ import annotations

from typing import NewType

from deploy.graph import Graph

Step = NewType("Step", int)
"""The number of an operator in the order of execution; that of the user comes last."""

TensorNumber = NewType("TensorNumber", int)
"""The place of a tensor among ``Graph.tensors``."""


def user_step(operators: int) -> Step:
    """The step at which the user reads the outputs of so many operators."""
    return Step(operators)


def reading_steps(graph: Graph) -> dict[TensorNumber, tuple[Step, ...]]:
    """Returns tensor -> steps at which it is read, ascending, that of the user included."""
    readers = {
        TensorNumber(tensor): tuple(map(Step, steps)) for tensor, steps in graph.consumers().items()
    }
    end = user_step(len(graph.operators))
    outputs = map(TensorNumber, graph.outputs)
    return readers | {tensor: (*readers.get(tensor, ()), end) for tensor in outputs}


def tensor_lifetimes(graph: Graph) -> dict[TensorNumber, tuple[Step, Step]]:
    """Returns tensor -> (first, last) operator at which it is alive, both inclusive.

    Graph inputs count from operator 0, graph outputs to the last operator, as TFLM counts. What
    nobody reads lives while it is written. Constants are left out.
    """
    last_operator = Step(max(len(graph.operators) - 1, 0))
    writers, readers = graph.producers(), reading_steps(graph)
    spans = {}
    for tensor in map(TensorNumber, graph.activations()):
        first = Step(0 if tensor in graph.inputs else writers.get(tensor, 0))
        last = max((first, *readers.get(tensor, ())))
        spans[tensor] = (first, min(last, last_operator))
    return spans
