"""Weights that are stored sparse, for which TensorFlow Lite Micro has no kernels, as dense ones.

Pruned models store the values that are not zero, and have DENSIFY put the zeros back at run time,
or kernels of TensorFlow Lite that skip them. The dense weights are the same values; they take the
flash that the pruning saved.

    before: sparse constant → DENSIFY → w → CONV_2D        after: constant w → CONV_2D
"""

from __future__ import annotations

import dataclasses

from deploy.graph import Graph


def without_sparse(graph: Graph) -> Graph:
    """Returns the graph with dense constants; the graph itself where none is stored sparse."""
    if not any(tensor.stored_sparse for tensor in graph.tensors):
        return graph
    tensors = [dataclasses.replace(tensor, stored_sparse=False) for tensor in graph.tensors]
    kept = []
    for operator in graph.operators:
        source = tensors[operator.inputs[0]] if operator.present_inputs else None
        made = operator.outputs[0] if operator.outputs else -1
        if (
            operator.opcode == "DENSIFY"
            and source is not None
            and source.is_constant
            and made not in graph.outputs
        ):
            tensors[made] = dataclasses.replace(tensors[made], data=source.data)
        else:
            kept.append(operator)
    return graph.replace(tensors=tuple(tensors), operators=tuple(kept))
