"""Operators from bytes to bytes whose arithmetic is floating point: what a runtime makes of each.

The table is what TensorFlow Lite Micro's own kernel (elsewhere LiteRT's) makes of the 256 values,
so that nothing is rounded otherwise.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from deploy import flatbuffer
from deploy.backends.c.fixed_point import zero_point
from deploy.backends.c.lowering import Lowering
from deploy.backends.c.operators.elementwise import look_up
from deploy.backends.c.operators.registry import lowers
from deploy.graph import Graph
from deploy.runtime import litert, tflm

_SIDE = 16
_ARENA_BYTES = 1 << 16


@lowers("ABS", "ELU")
def measured(lowering: Lowering, step: int) -> None:
    """A table of what the operator does to each int8 value."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    lowering.require_int8(step, x, y)
    look_up(lowering, step, table_of(lowering.graph, step))


@lowers("RSQRT")
def rsqrt(lowering: Lowering, step: int) -> None:
    """RSQRT; what is below zero, for which the kernel ends the run, counts as zero."""
    operator = lowering.graph.operators[step]
    x, y = operator.inputs[0], operator.outputs[0]
    lowering.require_int8(step, x, y)
    look_up(lowering, step, table_of(lowering.graph, step, least=zero_point(lowering.tensor(x))))


def table_of(graph: Graph, step: int, *, least: int = -128) -> np.ndarray:
    """Returns what an operator of one input makes of -128 … 127, or of ``least`` below that."""
    operator = graph.operators[step]
    shape = (1, _SIDE, _SIDE, 1)
    ends = [
        dataclasses.replace(graph.tensors[t], shape=shape, shape_signature=None)
        for t in (operator.inputs[0], operator.outputs[0])
    ]
    alone = Graph(
        tuple(ends), (dataclasses.replace(operator, inputs=(0,), outputs=(1,)),), (0,), (1,)
    )
    values = np.maximum(np.arange(-128, 128), least).astype(np.int8).reshape(shape)
    content = flatbuffer.write(alone)
    if tflm.unavailable_reason() is None:
        ((found,),) = tflm.run(content, [[values]], arena_bytes=_ARENA_BYTES)
    else:
        ((found,),) = litert.run(content, [[values]])
    return found.ravel()
