"""Layers that a channel-wise constant or a map of channels can be moved across."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras import layers

from keras_fmc.fold.graph import WorkGraph
from keras_fmc.fold.report import KeepReason
from keras_fmc.model.layer_graph import LayerNode
from keras_fmc.model.operations import Moves, is_activation, row_of

_MAX_POOLING = (layers.MaxPooling2D, layers.GlobalMaxPooling2D)
_ADDITIONS = ("Add", "Subtract", "Average")


@dataclass(frozen=True, slots=True)
class Passage:
    """How channels get through a layer.

    Attributes:
        keeps_constants: a constant per channel comes out as it went in.
        positions: places of a map that the layer spreads over its output features, 1 where the
            channels stay channels.
    """

    keeps_constants: bool = True
    positions: int = 1


def passage(graph: WorkGraph, node: LayerNode) -> Passage | None:
    """Returns how a map of channels moves across a call, None if it does not.

    The layers are linear, without weights at inference, and treat all channels alike.
    """
    layer = node.operation
    if len(node.inputs) != 1 or getattr(layer, "data_format", None) == "channels_first":
        return None
    row = row_of(layer)
    moves = Moves.NOTHING if row is None else row.moves
    if moves in (Moves.ALL, Moves.MAPS):
        return Passage(keeps_constants=moves is Moves.ALL)
    if moves is Moves.SPREAD:
        source = graph.values[node.inputs[0]].shape[1:]
        target = graph.values[node.outputs[0]].shape[1:]
        if None in source or None in target:
            return None
        positions = math.prod(size or 0 for size in source[:-1])
        if len(target) == 1 and positions * (source[-1] or 0) == target[0]:
            return Passage(positions=positions)
        return Passage() if target[-1] == source[-1] else None
    return None


def obstacle(graph: WorkGraph, node: LayerNode) -> KeepReason:
    """Returns what is in the way at a call that nothing can be merged into or moved across."""
    layer = node.operation
    weighted = graph.weighted.get(node.layer_name)
    if isinstance(layer, _MAX_POOLING):
        return KeepReason.MAX_POOLING
    if (
        isinstance(layer, layers.PReLU)
        or is_activation(layer)
        or (weighted is not None and not weighted.is_linear)
    ):
        return KeepReason.NONLINEARITY
    if isinstance(layer, layers.Concatenate):
        return KeepReason.CONCATENATION
    if type(layer).__name__ in _ADDITIONS:
        return KeepReason.ADDITION
    return KeepReason.OPERATION


def resize(graph: WorkGraph, node: LayerNode, channels: int) -> None:
    """Lets the call of a passage, and its output, follow an input whose channels have changed."""
    layer = node.operation
    output = node.outputs[0]
    target = graph.values[output].shape[1:]
    if isinstance(layer, (layers.Flatten, layers.Reshape)) and len(target) == 1:
        source = graph.values[node.inputs[0]].shape[1:]
        graph.set_channels(output, math.prod(size or 0 for size in source))
    else:
        graph.set_channels(output, channels)
    if isinstance(layer, layers.Reshape):
        target = graph.values[output].shape[1:]
        graph.replace_operation(node, layers.Reshape(target, dtype=layer.dtype_policy))
