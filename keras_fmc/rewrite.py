"""Putting bottlenecks into a model, and training them alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_fmc.choose.plan import BottleneckSpec, CompressionPlan, SkippedMap
from keras_fmc.errors import BadInputError
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.layers.projection import ProjectionBottleneck
from keras_fmc.model.calibration import calibration_arrays
from keras_fmc.model.nonnegative import negative_values
from keras_fmc.model.surgery import LayerGraph, LayerNode, rebuild, sublayers
from keras_fmc.names import layer_name
from keras_fmc.qat.float_model import trace_float
from keras_fmc.start.bottleneck_start import (
    INITIALIZERS,
    make_bottleneck,
    needs_data,
    start_bottleneck,
)
from keras_fmc.start.initialize import Batches, in_batches

_BATCH = 32
_HELD_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class InsertedBottleneck:
    """A bottleneck in the new model.

    Attributes:
        spec: what the plan asked for.
        layer: name of the layer, a `ProjectionBottleneck`, `GF2Bottleneck` or `CodeQuantizer`.
        energy_kept: share of the map's energy over the calibration data that is kept (of a PCA
            start with 8 bits, before the code is rounded); None without calibration data.
    """

    spec: BottleneckSpec
    layer: str
    energy_kept: float | None


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """A model with bottlenecks.

    Attributes:
        model: a new functional model, not compiled; nested models are flattened.
        inserted: in the order in which the maps are made.
        skipped: the other maps that are stored, each with its reason.
    """

    model: keras.Model
    inserted: tuple[InsertedBottleneck, ...]
    skipped: tuple[SkippedMap, ...]


def insert_bottlenecks(
    model: keras.Model,
    plan: CompressionPlan,
    *,
    calibration: Any = None,
    initializer: str = "pca",
    seed: int = 0,
) -> RewriteResult:
    """Returns a model in which every map of the plan passes through a bottleneck.

    The bottleneck stands right behind the last layer of the map, after batch normalisation and
    activation, so that everything that reads the map reads the same restored map: the next layer,
    a skip connection, a concatenation. Before pooling it stands where the plan has it (see
    `keras_fmc.choose.ceiling`).

    Bottlenecks are set one after the other from the inputs on, so that each one is fitted to what
    the earlier ones leave. Calibration also sets the ranges of codes; without it, training sets
    those of projections.

    How each kind starts: 8-bit projections as `keras_fmc.start.initialize` says; those of fewer
    bits as `keras_fmc.start.code_start`, from principal directions or from channels, whichever
    keeps more; of stride 2 as `keras_fmc.start.window_start`; GF(2) as
    `keras_fmc.start.gf2_start`. A plain code has a range and nothing to start
    (`keras_fmc.start.code_range`).

    With k = C and float codes the new model computes what `model` does, to float precision.

    Args:
        model: the model for which the plan was made. It is left alone.
        plan: of `choose_bottlenecks`.
        calibration: some hundred samples, preprocessed as in training: float array of shape
            (samples, *input shape), or a list or dict of them for several inputs. GF(2) and plain
            codes need it.
        initializer: "pca" (needs calibration), "random" as in the paper (Glorot uniform; GF(2):
            random hyperplanes), or "identity", which keeps the first k channels (GF(2): the most
            significant planes).
        seed: of the random start.

    Raises:
        BadInputError: the plan is for another model, or this one comes from `keras_fmc.quantize`;
            an unsigned code is asked for a map that can be negative, an unknown initializer, or
            calibration data missing, of wrong shape or dtype, empty, or with NaN.
        UnsupportedModelError: a subclassed model.
    """
    if initializer not in INITIALIZERS:
        raise BadInputError("initializer", " or ".join(INITIALIZERS), repr(initializer))
    graph = trace_float(model, purpose="insertion of bottlenecks")
    arrays = None
    wanted = initializer == "pca" or any(needs_data(spec) for spec in plan.bottlenecks)
    if calibration is not None or wanted:
        arrays = calibration_arrays(model, calibration)
    sites = _sites(graph, plan)
    taken = {node.layer_name for node in graph.nodes}
    layers = {id_: _make_layer(spec, taken, seed) for id_, spec in sites.items()}

    def call(node: LayerNode, layer: Any, inputs: tuple[Any, ...]) -> list[Any]:
        outputs = keras.tree.flatten(node.replay(layer, inputs))
        return [
            layers[id_](output) if id_ in layers else output
            for id_, output in zip(node.outputs, outputs, strict=True)
        ]

    rewritten = rebuild(graph, call=call)
    rng = np.random.default_rng(seed)
    inserted = []
    for id_, spec in sites.items():
        batches = None
        if arrays is not None:
            batches = _activations(rewritten, layers[id_].input, arrays)
        energy_kept = start_bottleneck(
            layers[id_], initializer, batches, channels=spec.shape[-1], rng=rng
        )
        inserted.append(InsertedBottleneck(spec, layers[id_].name, energy_kept))
    return RewriteResult(rewritten, tuple(inserted), plan.skipped)


def freeze_base(model: keras.Model) -> keras.Model:
    """Makes the bottlenecks the only part of `model` that trains, and returns it.

    Every other layer stops training; batch normalisation then uses and keeps its moving
    statistics. Plain codes have no weights and train nothing. Compile the model afterwards.
    `model.trainable = True` undoes it.

    Source: Price & Tanner, arXiv 2210.15170, train the projections with the base frozen.

    Raises:
        BadInputError: the model has no bottleneck.
    """
    if not _holds_bottleneck(model):
        raise BadInputError(
            f"model {model.name!r} has no bottleneck to train",
            remedy="Insert some with keras_fmc.insert_bottlenecks(model, plan)",
        )
    _freeze(model)
    return model


def _holds_bottleneck(layer: keras.Layer) -> bool:
    return isinstance(layer, _TRAINED) or any(
        isinstance(child, _TRAINED) for child in sublayers(layer)
    )


_TRAINED = (ProjectionBottleneck, GF2Bottleneck)


def _freeze(layer: keras.Layer) -> None:
    """Freezes all but the bottlenecks in `layer`.

    What holds a bottleneck stays trainable itself, as a frozen parent hides the weights inside.
    """
    layer.trainable = _holds_bottleneck(layer)
    if not layer.trainable or isinstance(layer, _TRAINED):
        return
    children = sublayers(layer, recursive=False)
    inside = {id(weight) for child in children for weight in child.weights}
    for weight in layer.weights:
        if id(weight) not in inside:
            weight.trainable = False
    for child in children:
        _freeze(child)


def _sites(graph: LayerGraph, plan: CompressionPlan) -> dict[int, BottleneckSpec]:
    """Value id → bottleneck, in the order of production."""
    ids = {value.name: id_ for id_, value in enumerate(graph.values)}
    negative = negative_values(graph)
    sites = {}
    for spec in plan.bottlenecks:
        id_ = ids.get(spec.name)
        shape = None if id_ is None else graph.values[id_].shape[1:]
        if id_ is None or id_ in graph.inputs or shape != spec.shape:
            raise BadInputError(
                f"the plan is not for model {graph.name!r}: map {spec.name!r}",
                f"shape {spec.shape}",
                "no such map" if shape is None else f"shape {shape}",
                "Make a plan for this model with choose_bottlenecks",
            )
        if id_ in negative and needs_data(spec) and not spec.signed:
            raise BadInputError(
                f"unsigned {spec.kind.value} bottleneck for map {spec.name!r}, which can be "
                "negative",
                expected="a map behind a ReLU",
                remedy="Put a ReLU behind the layer that makes it, or ask for a signed code with "
                "signed=True; choose_bottlenecks does so by itself",
            )
        sites[id_] = spec
    return dict(sorted(sites.items()))


def _make_layer(spec: BottleneckSpec, taken: set[str], seed: int) -> keras.Layer:
    name = layer_name(f"{spec.name}_bottleneck", taken)
    return make_bottleneck(spec, name=name, seed=seed)


def _activations(
    model: keras.Model, tensor: keras.KerasTensor, arrays: Sequence[np.ndarray]
) -> Batches:
    """Returns what yields the values of `tensor` for the samples in `arrays`, batch by batch.

    They are computed once if they can be held in memory, otherwise each time.
    """
    probe = keras.Model(list(model.inputs), tensor)

    def run() -> Iterator[np.ndarray]:
        for batch in in_batches(arrays, _BATCH):
            yield keras.ops.convert_to_numpy(probe(batch, training=False))

    if len(arrays[0]) * math.prod(tensor.shape[1:]) * 4 > _HELD_BYTES:
        return run
    held = list(run())
    return lambda: held
