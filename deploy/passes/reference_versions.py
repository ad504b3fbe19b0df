"""Operator versions that LiteRT's reference kernels know.

The converter numbers an operator by the newest feature it may use. The reference resolver registers
a few operators under their first version alone, although the kernel behind it does int8 as well;
TensorFlow Lite Micro does not look at versions.
"""

from __future__ import annotations

import dataclasses

from deploy.graph import Graph

_HIGHEST = {"DEPTH_TO_SPACE": 1}


def with_reference_versions(graph: Graph) -> Graph:
    """Returns the graph with no operator version above what the reference resolver registers."""
    operators = tuple(
        dataclasses.replace(
            operator,
            version=min(operator.version, _HIGHEST.get(operator.opcode, operator.version)),
        )
        for operator in graph.operators
    )
    return graph.replace(operators=operators)
