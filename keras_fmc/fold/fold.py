"""Folding: batch normalisation and bottlenecks disappear into the weights of their neighbours.

    s · (W x + b) + t          =  (s W) x + (s b + t)       BN into the layer before it
    W (s x + t) + b            =  (W s) x + (b + Σ W t)     BN into the layers after it
    P (W x + b)                =  (P W) x + P b             P of a bottleneck into a linear layer
    W (R c) + b                =  (W R) c + b               R of a bottleneck into every reader

The folded model is what the device runs and what quantisation-aware training should see. Weights
are merged in float64. What cannot be merged exactly stays, as a layer that the device knows: a
lone BN as a depthwise 1×1 convolution, P and R as convolutions, those of stride 2 always: merged
with a neighbour their window would multiply its work. Codes of fewer bits keep their quantiser
between P and R; GF(2) bottlenecks and plain codes stay as they are. The algebra is in
`fold_algebra`; source of the forms for BN: Jacob et al., arXiv 1712.05877, §3.2.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from keras_fmc.canonical.approximate import approximated
from keras_fmc.canonical.form import canonical
from keras_fmc.fold.affine import Affine, read_affine
from keras_fmc.fold.algebra import (
    Kind,
    Linear,
    fold_affine_after,
    fold_affine_before,
    fold_map_after,
    fold_map_before,
    ungrouped,
)
from keras_fmc.fold.graph import WorkGraph, scaling
from keras_fmc.fold.moves import Obstacle, Take, find_giver, find_takers, follow_channels
from keras_fmc.fold.report import Folded, FoldResult, KeepReason, Kept
from keras_fmc.fold.split import split_composites
from keras_fmc.layers.centre import Centre
from keras_fmc.layers.code_quantizer import CodeQuantizer
from keras_fmc.model.layer_graph import LayerGraph, LayerNode
from keras_fmc.model.surgery import rebuild

__all__ = ["FoldResult", "Folded", "KeepReason", "Kept", "fold", "fold_for_device"]

_SANE_SCALES = (1 / 16, 16.0)
"""Median scales of an affine at the model's input that may be merged into trainable weights."""


def fold(model: keras.Model) -> FoldResult:
    """Returns the model with BN and bottlenecks merged into neighbouring layers where exact.

    Inference of the result equals that of `model` up to rounding of the weights; the source model
    is left alone. Layers keep their names. The model is brought into canonical form first
    (`keras_fmc.canonical`): nested models are flattened, 1-D layers become 2-D ones. Separable
    convolutions become a depthwise and a 1×1 convolution, and `Rescaling` and `Normalization` are
    treated as a BN (one at the input stays as a depthwise convolution that is not trained, unless
    its scales are near 1).

    Args:
        model: Sequential, functional or nested, built; channels last.

    Raises:
        BadInputError, UnsupportedModelError: no Keras model, or one whose layers cannot be seen.
    """
    folded = fold_graph(canonical(model).graph)
    return FoldResult(rebuild(folded.graph), folded.folded, folded.kept)


def fold_for_device(source: LayerGraph) -> FoldedGraph:
    """`fold_graph` of what the device runs: activations that it does not have are replaced first
    (`keras_fmc.canonical.approximate`)."""
    return fold_graph(approximated(source))


@dataclass(frozen=True, slots=True)
class FoldedGraph:
    """A folded model as a graph, which `fold` builds.

    Attributes:
        graph: values that are still made keep their ids.
        gone: value of the source that nothing makes any more → the value that holds what it held.
        folded, kept: as of `FoldResult`.
    """

    graph: LayerGraph
    gone: dict[int, int]
    folded: tuple[Folded, ...]
    kept: tuple[Kept, ...]


def fold_graph(source: LayerGraph) -> FoldedGraph:
    """`fold` of a graph in canonical form."""
    graph = WorkGraph(source)
    bottlenecks = split_composites(graph)
    folding = _Folding(graph, set(bottlenecks.restorations))
    folding.affines_into_producers()
    folding.affines_into_readers()
    folding.affines_into_convolutions_of_their_own()
    folding.centres_into_producers()
    for name in bottlenecks.restorations:
        if name in folding.restorations:
            folding.restoration_into_readers(graph.node(name))
    for name in bottlenecks.projections:
        folding.projection_into_producer(graph.node(name))
    for name in bottlenecks.windows:
        folding.keep_window(graph.node(name))
    return FoldedGraph(graph.graph(), graph.gone, tuple(folding.folded), tuple(folding.kept))


class _Folding:
    """The passes over one graph, and their report."""

    def __init__(self, graph: WorkGraph, restorations: set[str]) -> None:
        self.graph = graph
        self.restorations = restorations
        self.folded: list[Folded] = []
        self.kept: list[Kept] = []
        self._unmerged: dict[str, Obstacle] = {}

    def affines_into_producers(self) -> None:
        for node, affine in self._affines():
            giver = find_giver(self.graph, node, constants=bool(np.any(affine.shift)))
            if isinstance(giver, Obstacle) or giver.name in self.restorations:
                continue
            self._merge_after(giver, node, affine)

    def affines_into_readers(self) -> None:
        for node, affine in self._affines():
            obstacle = self._merge_before(node, affine)
            if obstacle is not None:
                self._unmerged[node.name] = obstacle

    def affines_into_convolutions_of_their_own(self) -> None:
        for node, affine in self._affines():
            giver = find_giver(self.graph, node, constants=bool(np.any(affine.shift)))
            if isinstance(giver, LayerNode):
                self._merge_after(giver, node, affine)
                self.restorations.discard(giver.name)
                continue
            obstacle = self._unmerged[node.name]
            rank = len(self.graph.values[node.inputs[0]].shape)
            if rank not in (2, 3, 4):
                self.kept.append(Kept(node.layer_name, KeepReason.AXIS))
                continue
            self._stand_alone(node, affine, rank)
            self.kept.append(
                Kept(node.layer_name, obstacle.reason, obstacle.neighbour, node.layer_name)
            )

    def centres_into_producers(self) -> None:
        """Features less their mean: the same of the weights that make them."""
        for node in [node for node in self.graph.nodes if isinstance(node.operation, Centre)]:
            giver = find_giver(self.graph, node, constants=True)
            if isinstance(giver, Obstacle) or giver.name in self.restorations:
                continue
            linear = self.graph.weighted[giver.layer_name].linear
            if linear.kind is Kind.DEPTHWISE or linear.groups != 1:
                continue
            channels = linear.out_channels
            matrix = np.eye(channels) - np.full((channels, channels), 1 / channels)
            self.graph.change(giver, fold_map_after(linear, Linear(Kind.DENSE, matrix, None)))
            self.graph.bypass(self.graph.node(node.name))
            self.folded.append(Folded(node.layer_name, (giver.layer_name,)))

    def restoration_into_readers(self, node: LayerNode) -> None:
        """Lets every reader that can take R read the code; R stays for the others."""
        (code,), (restored,) = node.inputs, node.outputs
        linear = self.graph.weighted[node.layer_name].linear
        matrix = linear.kernel.reshape(linear.in_channels, linear.out_channels)
        into: list[str] = []
        if restored in self.graph.outputs:
            self._keep(node, Obstacle(KeepReason.MODEL_OUTPUT, ""))
        for reader in self.graph.readers(restored):
            takes = find_takers(
                self.graph, restored, reader, functools.partial(_takes_map, len(matrix))
            )
            if not isinstance(takes, Obstacle) and (
                len({take.node.name for take in takes}) < len(takes)
                or (self._is_short_code(code) and any(t.before or t.after for t in takes))
            ):
                takes = Obstacle(KeepReason.CONCATENATION, takes[0].node.layer_name)
            if isinstance(takes, Obstacle):
                self._keep(node, takes)
                continue
            for take in takes:
                old = self.graph.weighted[take.node.layer_name].linear
                self.graph.change(
                    take.node,
                    fold_map_before(old, take.embedded(matrix), positions=take.positions),
                )
                into.append(take.node.layer_name)
            follow_channels(self.graph, self.graph.rewire(reader, restored, code))
        if into:
            self.folded.append(Folded(node.layer_name, self._in_order(into)))
        if not self.graph.readers(restored) and restored not in self.graph.outputs:
            self.graph.gone[restored] = code
            self.graph.remove(node)

    def _is_short_code(self, value: int) -> bool:
        """Whether a value is a code of few bits, which cannot share its scale with other maps that
        a concatenation joins it to."""
        maker = self.graph.producer(value)
        layer = None if maker is None else maker.operation
        return isinstance(layer, CodeQuantizer) and layer.bits < 8

    def projection_into_producer(self, node: LayerNode) -> None:
        giver = find_giver(self.graph, node, constants=True)
        if isinstance(giver, LayerNode):
            linear = self.graph.weighted[giver.layer_name].linear
            if linear.kind is Kind.DEPTHWISE:
                giver = Obstacle(KeepReason.DEPTHWISE, giver.layer_name)
            elif linear.groups != 1:
                giver = Obstacle(KeepReason.GROUPED, giver.layer_name)
        if isinstance(giver, Obstacle):
            self._keep(node, giver)
            return
        projection = self.graph.weighted[node.layer_name].linear
        self.graph.change(giver, fold_map_after(linear, projection))
        for reader in self.graph.readers(giver.outputs[0]):
            if reader.name != node.name:
                follow_channels(self.graph, reader)
        self.graph.bypass(self.graph.node(node.name))
        self.folded.append(Folded(node.layer_name, (giver.layer_name,)))

    def keep_window(self, node: LayerNode) -> None:
        self._keep(node, Obstacle(KeepReason.WINDOW, ""))

    def _affines(self) -> Iterator[tuple[LayerNode, Affine]]:
        """The affine layers that are left, in execution order, each as it stands by then."""
        for name in [node.name for node in self.graph.nodes]:
            node = self.graph.node(name)
            if node.layer_name not in self.graph.weighted:
                affine = self._read(node)
                if affine is not None:
                    yield node, affine

    def _read(self, node: LayerNode) -> Affine | None:
        if len(node.inputs) != 1:
            return None
        shape = self.graph.values[node.inputs[0]].shape
        affine = read_affine(node, len(shape), shape[-1] if shape else None)
        if isinstance(affine, KeepReason):
            record = Kept(node.layer_name, affine)
            if record not in self.kept:
                self.kept.append(record)
            return None
        return affine

    def _merge_after(self, giver: LayerNode, node: LayerNode, affine: Affine) -> None:
        linear = self.graph.weighted[giver.layer_name].linear
        self.graph.change(giver, fold_affine_after(linear, affine.scale, affine.shift))
        self.graph.bypass(node)
        self.folded.append(Folded(node.layer_name, (giver.layer_name,)))

    def _merge_before(self, node: LayerNode, affine: Affine) -> Obstacle | None:
        """Merges an affine into all its readers, or returns why one of them cannot take it."""
        output = node.outputs[0]
        if output in self.graph.outputs:
            return Obstacle(KeepReason.MODEL_OUTPUT, "")
        if self._is_preprocessing(node, affine):
            return Obstacle(KeepReason.PREPROCESSING, "")
        takes: list[Take] = []
        for reader in self.graph.readers(output):
            more = find_takers(
                self.graph,
                output,
                reader,
                functools.partial(self._takes_affine, affine),
                constants=bool(np.any(affine.shift)),
            )
            if isinstance(more, Obstacle):
                return more
            takes.extend(more)
        for take in takes:
            linear = self.graph.weighted[take.node.layer_name].linear
            scale = np.concatenate([np.ones(take.before), affine.scale, np.ones(take.after)])
            shift = np.concatenate([np.zeros(take.before), affine.shift, np.zeros(take.after)])
            self.graph.change(
                take.node, fold_affine_before(linear, scale, shift, positions=take.positions)
            )
        self.graph.bypass(node)
        into = self._in_order([take.node.layer_name for take in takes])
        self.folded.append(Folded(node.layer_name, into))
        return None

    def _takes_affine(self, affine: Affine, node: LayerNode, linear: Linear) -> KeepReason | None:
        rows, columns = self.graph.spatial(node.inputs[0])
        if np.any(affine.shift) and linear.pads(rows, columns):
            return KeepReason.BORDER
        return None

    def _is_preprocessing(self, node: LayerNode, affine: Affine) -> bool:
        giver = find_giver(self.graph, node, constants=False, anywhere=True)
        at_input = isinstance(giver, Obstacle) and giver.reason is KeepReason.MODEL_INPUT
        low, high = _SANE_SCALES
        return at_input and not low <= float(np.median(np.abs(affine.scale))) <= high

    def _stand_alone(self, node: LayerNode, affine: Affine, rank: int) -> None:
        graph = self.graph
        (source,), (output,) = node.inputs, node.outputs
        policy = node.operation.dtype_policy
        weighted = scaling(affine.scale, affine.shift, dtype=policy, trainable=affine.trainable)
        if rank in (2, 3):
            channels = len(affine.scale)
            shape = graph.values[output].shape[1:]
            rows = shape[0] if rank == 3 else 1
            dtype = graph.values[output].dtype
            names = [graph.free_name(f"{node.name}_{part}") for part in ("map", "scaled", "vector")]
            map_in = graph.new_value(names[0], (None, rows, 1, channels), dtype)
            map_out = graph.new_value(names[1], (None, rows, 1, channels), dtype)
            as_map = layers.Reshape((rows, 1, channels), dtype=policy)
            as_vector = layers.Reshape(shape, dtype=policy)
            graph.insert(node, names[0], as_map, source, map_in)
            graph.replace_call(node, (map_in,), (map_out,))
            graph.insert_after(node, names[2], as_vector, map_out, output)
        else:
            graph.replace_call(node, (source,), (output,))
        graph.weighted[node.layer_name] = weighted

    def _in_order(self, layer_names: list[str]) -> tuple[str, ...]:
        """Layer names without repetition, in execution order."""
        names = dict.fromkeys(node.layer_name for node in self.graph.nodes)
        return tuple(name for name in names if name in layer_names)

    def _keep(self, node: LayerNode, obstacle: Obstacle) -> None:
        record = Kept(node.layer_name, obstacle.reason, obstacle.neighbour, node.layer_name)
        if record not in self.kept:
            self.kept.append(record)


def _takes_map(rank: int, node: LayerNode, linear: Linear) -> KeepReason | None:
    """A dense R suits any layer that mixes channels, grouped ones if it saves multiplications."""
    if linear.kind is Kind.DEPTHWISE:
        return KeepReason.DEPTHWISE
    if linear.groups != 1:
        channels = linear.in_channels
        merged = ungrouped(linear).kernel.size // channels * rank
        if merged > linear.kernel.size + rank * channels:
            return KeepReason.GROUPED
    return None
