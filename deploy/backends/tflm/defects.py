"""Which function of a kernel library computes an operator, and whether it is known to be wrong.

What a library calls for an operator depends on the operator's shape, so a strip can meet another
function than the whole map does. ``targets/kernels`` says which, for each library and version, and
for which shapes that function is known to do harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.backends.tflm.scratch import OperatorNumbers
from deploy.graph import Graph, Operator
from deploy.targets.records import Defect, Kernels


@dataclass(frozen=True, slots=True)
class DefectiveOperator:
    """An operator whose shape meets a known defect of the kernels."""

    operator_index: int
    defect: Defect


def selected_function(operator: Operator, graph: Graph, kernels: Kernels) -> str | None:
    """Returns the function that computes an operator, or None where the data do not say."""
    return _selected(operator, OperatorNumbers(graph, operator), kernels)


def defects_of(operator: Operator, graph: Graph, kernels: Kernels) -> tuple[Defect, ...]:
    """Returns the known defects that an operator of this shape meets."""
    if operator.opcode not in kernels.selections or not _is_int8(operator, graph):
        return ()
    numbers = OperatorNumbers(graph, operator)
    function = _selected(operator, numbers, kernels)
    return tuple(
        defect
        for defect in kernels.defects
        if defect.function == function and defect.when.evaluate(numbers)
    )


def defective_operators(graph: Graph, kernels: Kernels) -> tuple[DefectiveOperator, ...]:
    """Returns all operators of a graph that meet known defects, in their order."""
    return tuple(
        DefectiveOperator(index, defect)
        for index, operator in enumerate(graph.operators)
        for defect in defects_of(operator, graph, kernels)
    )


def warnings_of(graph: Graph, kernels: Kernels) -> tuple[str, ...]:
    """Returns what a user should know: operator, function, library and version, effect, remedy.

    Operators that meet the same defect stand in one warning, so strips do not multiply it.
    """
    found: dict[str, tuple[Defect, list[int]]] = {}
    for item in defective_operators(graph, kernels):
        found.setdefault(item.defect.name, (item.defect, []))[1].append(item.operator_index)
    return tuple(_warning(graph, kernels, *entry) for entry in found.values())


def _warning(graph: Graph, kernels: Kernels, defect: Defect, operators: list[int]) -> str:
    more = f" (and {len(operators) - 1} more)" if len(operators) > 1 else ""
    library = defect.library or f"{kernels.library} {kernels.version}"
    return (
        f"{graph.label(operators[0])}{more}: {defect.function} of {library} {defect.effect} "
        f"({defect.source}); {defect.remedy}"
    )


def _selected(operator: Operator, numbers: Mapping[str, int], kernels: Kernels) -> str | None:
    for selection in kernels.selections.get(operator.opcode, ()):
        if selection.when is None or selection.when.evaluate(numbers):
            return selection.function
    return None


def _is_int8(operator: Operator, graph: Graph) -> bool:
    """Whether it runs in the library's int8 functions, which the selections are of."""
    return all(graph.tensors[t].dtype == "int8" for t in operator.outputs)
