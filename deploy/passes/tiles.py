"""TILE, for which TensorFlow Lite Micro has no kernel, as the nearest-neighbour resize it equals.

A dimension of n that is tiled m times is a dimension of 1 before it that is repeated m times: with
it as the height of an image whose width and channels are all that stands inside, repeating is a
resize to a whole multiple.

    before: x (1, 4, 5, 6) → TILE (1, 1, 3, 1) → y (1, 4, 15, 6)
    after:  x → RESHAPE (1, 4, 1, 30) → RESIZE_NEAREST_NEIGHBOR (12, 1) → RESHAPE → y
"""

from __future__ import annotations

import math

import numpy as np

from deploy.graph import Graph, GraphBuilder, Operator, Options, Tensor
from deploy.operators.row import DAMAGED
from keras_fmc.errors import UnsupportedModelError

_TYPES = ("int8", "int16", "float32")
"""That the kernel of RESIZE_NEAREST_NEIGHBOR takes."""


def without_tiles(graph: Graph, source: str = "model") -> Graph:
    """Returns the graph with resizes for every TILE; the graph itself where it has none.

    Raises:
        UnsupportedModelError: a TILE that no resize equals: of another type, by multiples that are
            computed, or by so many that the runtime's arithmetic of floats would miss a row.
    """
    if not any(operator.opcode == "TILE" for operator in graph.operators):
        return graph
    builder = GraphBuilder(graph)
    builder.operators = []
    for index, operator in enumerate(graph.operators):
        if operator.opcode == "TILE":
            _Tile(builder, graph, index, source).rewrite()
        else:
            builder.operator(operator)
    return builder.build(like=graph)


class _Tile:
    def __init__(self, builder: GraphBuilder, graph: Graph, index: int, source: str) -> None:
        self.builder, self.graph, self.index, self.source = builder, graph, index, source
        self.operator = graph.operators[index]

    def rewrite(self) -> None:
        if len(self.operator.inputs) != 2 or len(self.operator.outputs) != 1:
            raise self._refused("has a wrong number of inputs or outputs")
        x, repeats = (self.graph.tensors[i] for i in self.operator.inputs)
        if x.dtype not in _TYPES:
            raise self._refused(f"repeats {x.dtype}", " or ".join(_TYPES))
        if repeats.data is None:
            raise self._refused("repeats as often as another operator says", "constant multiples")
        multiples = [int(m) for m in repeats.array().ravel()]
        made = self.graph.tensors[self.operator.outputs[0]]
        wanted = tuple(n * m for n, m in zip(x.shape, multiples, strict=False))
        if len(multiples) != len(x.shape) or min(multiples) < 1 or made.shape != wanted:
            raise self._refused("makes another shape than its multiples say", wanted, made.shape)
        value, shape = self.operator.inputs[0], list(x.shape)
        # Inner dimensions first: what is repeated together with an outer one is whole by then.
        for axis in reversed([a for a, m in enumerate(multiples) if m > 1]):
            outer, inner = math.prod(shape[:axis]), math.prod(shape[axis:])
            shape[axis] *= multiples[axis]
            value = self._repeat(value, outer, inner, multiples[axis])
        self._reshape(value, made.shape, self.operator.outputs[0])

    def _repeat(self, value: int, outer: int, inner: int, count: int) -> int:
        rows = np.arange(outer * count)
        scale = np.float32(outer) / np.float32(outer * count)
        read = np.minimum(np.floor(rows.astype(np.float32) * scale), outer - 1)
        if not np.array_equal(read.astype(int), rows // count):
            raise self._refused(f"repeats {outer} rows {count} times, which rounds to other rows")
        image = self._reshape(value, (1, outer, 1, inner), None)
        size = self.builder.constant(self._name("size"), np.array([outer * count, 1], np.int32))
        resized = self._tensor("repeated", (1, outer * count, 1, inner))
        fields = (("align_corners", False), ("half_pixel_centers", False))
        options = Options("ResizeNearestNeighborOptions", fields)
        self.builder.operator(
            Operator("RESIZE_NEAREST_NEIGHBOR", (image, size), (resized,), options, 2)
        )
        return resized

    def _reshape(self, value: int, shape: tuple[int, ...], output: int | None) -> int:
        wanted = self.builder.constant(self._name("shape"), np.array(shape, np.int32))
        made = self._tensor("rows", shape) if output is None else output
        options = Options("ReshapeOptions", (("new_shape", tuple(shape)),))
        self.builder.operator(Operator("RESHAPE", (value, wanted), (made,), options))
        return made

    def _tensor(self, what: str, shape: tuple[int, ...]) -> int:
        like = self.graph.tensors[self.operator.outputs[0]]
        return self.builder.tensor(Tensor(self._name(what), shape, like.dtype, like.quantization))

    def _name(self, what: str) -> str:
        made = self.graph.result_of(self.operator)
        return f"{made}/{what} {len(self.builder.tensors)}"

    def _refused(
        self, what: str, expected: object = None, received: object = None
    ) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"{self.graph.label(self.index)} in {self.source} {what}: TensorFlow Lite Micro has no "
            "kernel for TILE, and RESIZE_NEAREST_NEIGHBOR cannot stand for it",
            expected=expected,
            received=received,
            remedy=DAMAGED if expected is None else "Export the model without tiling",
        )
