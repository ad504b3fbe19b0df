"""Finding who can take a folded layer: upwards one producer, downwards every reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from keras import layers

from keras_fmc.fold.algebra import Linear
from keras_fmc.fold.commute import obstacle, passage, resize
from keras_fmc.fold.graph import WorkGraph
from keras_fmc.fold.report import KeepReason
from keras_fmc.model.layer_graph import LayerNode

Accepts = Callable[[LayerNode, Linear], KeepReason | None]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a layer cannot be merged, and the name of the layer in the way."""

    reason: KeepReason
    neighbour: str


@dataclass(frozen=True, slots=True)
class Take:
    """A layer that can take what is folded, and where the channels stand among its own.

    Attributes:
        node: a call of a layer in `WorkGraph.weighted`.
        before, after: channels of other maps that a concatenation puts around them.
        positions: of a dense layer behind a flattened map.
    """

    node: LayerNode
    before: int = 0
    after: int = 0
    positions: int = 1

    def embedded(self, matrix: np.ndarray) -> np.ndarray:
        """Returns the map over all channels of the reader: `matrix` here, the identity around."""
        rank, channels = matrix.shape
        whole = np.zeros((self.before + rank + self.after, self.before + channels + self.after))
        whole[: self.before, : self.before] = np.eye(self.before)
        whole[self.before : self.before + rank, self.before : self.before + channels] = matrix
        whole[self.before + rank :, self.before + channels :] = np.eye(self.after)
        return whole


def find_giver(
    graph: WorkGraph, node: LayerNode, *, constants: bool, anywhere: bool = False
) -> LayerNode | Obstacle:
    """Returns the linear layer before `node` that nothing but `node` reads, or what is in the way.

    Layers that commute with what is folded may lie between.

    Args:
        constants: whether a constant per channel has to cross them, too.
        anywhere: follow readers beside `node` as well; for asking where a map comes from.
    """
    value = node.inputs[0]
    while True:
        if not anywhere and value in graph.outputs:
            return Obstacle(KeepReason.MODEL_OUTPUT, "")
        producer = graph.producer(value)
        if producer is None:
            return Obstacle(KeepReason.MODEL_INPUT, "")
        if not anywhere and graph.sole_reader(value) is None:
            return Obstacle(KeepReason.OTHER_READERS, producer.layer_name)
        weighted = graph.weighted.get(producer.layer_name)
        if weighted is not None:
            if not weighted.is_linear:
                return Obstacle(KeepReason.NONLINEARITY, producer.layer_name)
            if graph.is_shared(producer):
                return Obstacle(KeepReason.SHARED_LAYER, producer.layer_name)
            return producer
        way = passage(graph, producer)
        if way is None or way.positions != 1 or (constants and not way.keeps_constants):
            return Obstacle(obstacle(graph, producer), producer.layer_name)
        value = producer.inputs[0]


def find_takers(
    graph: WorkGraph,
    value: int,
    reader: LayerNode,
    accepts: Accepts,
    *,
    constants: bool = False,
    place: Take | None = None,
) -> list[Take] | Obstacle:
    """Returns the layers into which a map of the channels of `value` can be merged, following one
    reader, or the first thing in the way. All or none: a list covers every path from `reader`.

    Args:
        accepts: why a layer cannot take it, None if it can.
        constants: whether a constant per channel has to cross the layers between.
        place: where the channels stand by now.
    """
    place = place or Take(reader)
    weighted = graph.weighted.get(reader.layer_name)
    if weighted is not None:
        if graph.is_shared(reader):
            return Obstacle(KeepReason.SHARED_LAYER, reader.layer_name)
        reason = accepts(reader, weighted.linear)
        if reason is not None:
            return Obstacle(reason, reader.layer_name)
        return [Take(reader, place.before, place.after, place.positions)]
    moved = _across(graph, value, reader, place, constants)
    if isinstance(moved, Obstacle):
        return moved
    output = reader.outputs[0]
    further = graph.readers(output)
    if output in graph.outputs or not further:
        return Obstacle(KeepReason.MODEL_OUTPUT, reader.layer_name)
    takes: list[Take] = []
    for next_reader in further:
        more = find_takers(graph, output, next_reader, accepts, constants=constants, place=moved)
        if isinstance(more, Obstacle):
            through = isinstance(reader.operation, layers.Concatenate)
            return Obstacle(KeepReason.CONCATENATION, reader.layer_name) if through else more
        takes.extend(more)
    return takes


def follow_channels(graph: WorkGraph, node: LayerNode) -> None:
    """Gives every map from `node` on, down to the next layers with weights, the channels that its
    inputs have now."""
    if node.layer_name in graph.weighted:
        return
    output = node.outputs[0]
    if isinstance(node.operation, layers.Concatenate):
        graph.set_channels(output, sum(graph.channels(value) or 0 for value in node.inputs))
    else:
        resize(graph, node, graph.channels(node.inputs[0]) or 0)
    for reader in graph.readers(output):
        follow_channels(graph, reader)


def _across(
    graph: WorkGraph, value: int, reader: LayerNode, place: Take, constants: bool
) -> Take | Obstacle:
    """Returns where the channels stand behind a layer without weights."""
    if isinstance(reader.operation, layers.Concatenate):
        rank = len(graph.values[value].shape)
        counts = [graph.channels(id_) for id_ in reader.inputs]
        last = reader.operation.axis in (-1, rank - 1)
        if not last or place.positions != 1 or reader.inputs.count(value) != 1 or None in counts:
            return Obstacle(KeepReason.CONCATENATION, reader.layer_name)
        at = reader.inputs.index(value)
        return Take(
            reader,
            place.before + sum(count or 0 for count in counts[:at]),
            place.after + sum(count or 0 for count in counts[at + 1 :]),
        )
    way = passage(graph, reader)
    if way is None or (constants and not way.keeps_constants):
        return Obstacle(obstacle(graph, reader), reader.layer_name)
    return Take(reader, place.before, place.after, place.positions * way.positions)
