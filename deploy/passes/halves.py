"""Weights of float16, which TensorFlow Lite Micro cannot read, as the float32 that they widen to.

The converter stores them so and has DEQUANTIZE widen them at run time, for which there is no kernel
of float16. Every float16 is a float32, so the values stay what they are; they take twice the flash.

    before: constant float16 → DEQUANTIZE → w → CONV_2D      after: constant w → CONV_2D
"""

from __future__ import annotations

import dataclasses

import numpy as np

from deploy.graph import Graph


def without_halves(graph: Graph) -> Graph:
    """Returns the graph with constants of float32; the graph itself where there are none of
    float16 to widen."""
    tensors = list(graph.tensors)
    kept = []
    for operator in graph.operators:
        source = tensors[operator.inputs[0]] if operator.present_inputs else None
        if (
            operator.opcode == "DEQUANTIZE"
            and source is not None
            and source.dtype == "float16"
            and source.is_constant
            and operator.outputs
            and operator.outputs[0] not in graph.outputs
        ):
            made = operator.outputs[0]
            wide = source.array().astype(np.float32).tobytes()
            tensors[made] = dataclasses.replace(tensors[made], data=wide)
        else:
            kept.append(operator)
    if len(kept) == len(graph.operators):
        return graph
    return graph.replace(tensors=tuple(tensors), operators=tuple(kept))
