"""Which int8 grid each value of a quantised model lies on."""

from __future__ import annotations

import numpy as np

from keras_fmc.fixed_point import requantize_table
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.layers.other_scale import OtherScale
from keras_fmc.model.custom_layers import values_of
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, consumers, producers
from keras_fmc.model.operations import fixed_range

CODES = np.arange(-128, 128, dtype=np.int64)


class Grids:
    """Looks the rounding layers of a quantised model up, from its values."""

    def __init__(self, graph: LayerGraph) -> None:
        self.graph = graph
        self.makers, self.readers = producers(graph), consumers(graph)

    def before(self, value: int) -> FakeQuant:
        """The grid of a value: of the rounding before it, or of the one before what hands it on."""
        node = self.graph.nodes[self.makers[value]]
        if isinstance(node.operation, GF2Bottleneck):
            return node.operation.quantizer
        if isinstance(node.operation, FakeQuant):
            return node.operation
        return self.before(node.inputs[0])

    def behind(self, value: int) -> FakeQuant:
        """The grid that a value is rounded to, behind the ReLU that fuses if there is one; that of
        an output of the model is the one that its kernel fixes."""
        if not self.readers[value]:
            operation = self.graph.nodes[self.makers[value]].operation
            grid = FakeQuant(fixed_range=fixed_range(operation))
            grid.build(())
            return grid
        reader = self.graph.nodes[self.readers[value][0]]
        operation = reader.operation
        return operation if isinstance(operation, FakeQuant) else self.behind(reader.outputs[0])

    def table(self, node: LayerNode) -> list[int]:
        """The 256 codes that a layer registered as elementwise makes of the codes from -128 on.

        code → round(f(scale · (code - zero)) / output scale) + output zero

        That of another scale is rounded as QUANTIZE does, in fixed point.
        """
        source, target = self.before(node.inputs[0]), self.behind(node.outputs[0])
        if isinstance(node.operation, OtherScale):
            found = requantize_table(
                source.scale, source.zero_point, target.scale, target.zero_point
            )
            return [int(code) for code in found]
        x = float(np.float32(source.scale)) * (CODES - source.zero_point)
        shape = self.graph.values[node.inputs[0]].shape
        levels = values_of(node.operation, shape, x.astype(np.float32)) / float(
            np.float32(target.scale)
        )
        codes = np.nan_to_num(np.rint(levels), nan=0.0, posinf=256.0, neginf=-256.0)
        codes = np.clip(codes, -512, 512).astype(np.int64) + target.zero_point
        return [int(code) for code in np.clip(codes, -128, 127)]
