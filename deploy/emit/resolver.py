"""Which Add… function of TFLM's MicroMutableOpResolver registers an operator."""

from __future__ import annotations

from deploy.graph import CUSTOM, Graph
from deploy.operators import OPERATORS
from deploy.operators.custom import own_kernels
from deploy.operators.registered import add_function, int8_variant
from keras_fmc.errors import UnsupportedModelError

ADD_FUNCTIONS = {kind: name for kind in OPERATORS if (name := add_function(kind)) is not None}
"""Kind of operator -> function; custom operators of the user's own are not here."""


def registrations(graph: Graph) -> tuple[str, ...]:
    """Returns the calls that register exactly the operators of a graph, sorted; custom
    operators of the user's own are those of ``own_functions``.

    Raises:
        UnsupportedModelError: TFLM has no kernel for an operator; names it.
    """
    calls = []
    for kind, function in sorted(functions_of(graph).items(), key=lambda item: item[1]):
        variant = int8_variant(kind)
        whole = variant is not None and _is_int8(graph, kind)
        calls.append(f"{function}({variant}())" if whole else f"{function}()")
    return tuple(calls)


def _is_int8(graph: Graph, kind: str) -> bool:
    """Whether all maps and weights of all operators of a kind are int8; biases are wider."""
    return all(
        part.tensors[index].dtype == "int8"
        for part in graph.subgraphs
        for operator in part.operators
        if operator.kind == kind
        for index in (*operator.inputs[:2], *operator.outputs)
        if index >= 0
    )


def functions_of(graph: Graph) -> dict[str, str]:
    """Returns kind -> function of the operators of a graph and the subgraphs that it calls.

    Raises:
        UnsupportedModelError: TFLM has no kernel for an operator; names it.
    """
    functions = {}
    for part in graph.subgraphs:
        for step, operator in enumerate(part.operators):
            if operator.implicit:
                continue
            if operator.kind in ADD_FUNCTIONS:
                functions[operator.kind] = ADD_FUNCTIONS[operator.kind]
            elif operator.opcode != CUSTOM:
                raise UnsupportedModelError(
                    f"TensorFlow Lite Micro has no kernel for {part.label(step)}",
                    remedy="Export the model with other operators",
                )
    return functions


def own_functions(graph: Graph) -> dict[str, str]:
    """Returns the code of each custom operator that TFLM lacks -> the function, to be written by
    the user, that gives its kernel."""
    return {
        code: "Register_" + "".join(c if c.isalnum() else "_" for c in code)
        for code in own_kernels(graph)
    }
