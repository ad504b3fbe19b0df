"""The check that codes of few bits leave the converter with the levels that they were trained with.

A clip that the converter drops or widens would not fail by itself: the map would just be stored in
eight bits, with other values than in training. So every code of the QAT model has to be found in
the int8 graph as a map whose values are proved to lie on its levels (`deploy.codes.levels`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.codes.levels import find_code_maps
from deploy.graph import Graph
from keras_fmc.errors import UnsupportedModelError

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class ExpectedCode:
    """A map of codes of the QAT model.

    Attributes:
        layer: name of the layer that makes it.
        bits: of a code.
        shape: (H, W, channels).
        scale: real value of a step; None where it is no part of training (signs, bits of GF(2)).
    """

    layer: str
    bits: int
    shape: tuple[int, ...]
    scale: float | None


def expected_codes(model: keras.Model) -> tuple[ExpectedCode, ...]:
    """Returns the maps of codes below eight bits of a QAT model, in the order of its layers."""
    from keras_fmc.layers.code_quantizer import CodeQuantizer
    from keras_fmc.layers.gf2 import GF2Bottleneck
    from keras_fmc.model.layer_graph import consumers, trace

    graph = trace(model)
    readers = consumers(graph)
    found = []
    for node in graph.nodes:
        layer = node.operation
        output = node.outputs[0]
        shape = tuple(size or 0 for size in graph.values[output].shape[1:])
        # What leaves the model is read as it is, and only maps (H, W, C) are stored packed.
        if len(shape) != 3 or not readers[output]:
            continue
        if isinstance(layer, GF2Bottleneck):
            rows, columns, channels = (size or 0 for size in graph.values[node.inputs[0]].shape[1:])
            stored = layer.stored_shape((rows, columns, channels))
            found.append(ExpectedCode(node.name, 1, stored, None))
        elif isinstance(layer, CodeQuantizer) and layer.bits < 8:
            scale = None if layer.is_sign else layer.scale
            found.append(ExpectedCode(node.name, layer.bits, shape, scale))
    return tuple(found)


def check_codes(graph: Graph, expected: tuple[ExpectedCode, ...]) -> None:
    """Checks that every expected code is a map of the graph that stays on its levels.

    Raises:
        UnsupportedModelError: one is not; names its layer.
    """
    wanted = Counter((code.bits, code.shape) for code in expected)
    for code in expected:
        found = [
            item
            for item in find_code_maps(graph)
            if item.bits <= code.bits
            and graph.tensors[item.tensor].shape[1:] == code.shape
            and (code.scale is None or _has_scale(graph, item.tensor, code.scale))
        ]
        if not found or (code.scale is None and len(found) < wanted[code.bits, code.shape]):
            raise UnsupportedModelError(
                f"no map of the converted model stays on the {2**code.bits} levels of layer "
                f"{code.layer!r}",
                expected=f"int8 codes {'x'.join(map(str, code.shape))} of {code.bits} bits",
                remedy="Report this model: the converter dropped or moved a clip",
            )


def _has_scale(graph: Graph, tensor: int, scale: float) -> bool:
    quantization = graph.tensors[tensor].quantization
    return quantization is not None and abs(quantization.scales[0] - scale) <= 1e-5 * scale
