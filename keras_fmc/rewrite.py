"""Putting bottlenecks into a model, and training them alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_fmc.calibration import calibration_arrays
from keras_fmc.errors import BadInputError
from keras_fmc.initialize import (
    Batches,
    given_start,
    identity_start,
    in_batches,
    pca_start,
    random_start,
)
from keras_fmc.layers.projection import ProjectionBottleneck
from keras_fmc.plan import BottleneckSpec, CompressionPlan, SkippedMap
from keras_fmc.surgery import LayerGraph, LayerNode, rebuild, sublayers, trace

_INITIALIZERS = ("pca", "random", "identity")
_BATCH = 32
_HELD_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class InsertedBottleneck:
    """A bottleneck in the new model.

    Attributes:
        spec: what the plan asked for.
        layer: name of the `ProjectionBottleneck`.
        energy_kept: share of the map's energy over the calibration data that P and R keep, before
            the code is rounded; None without calibration data.
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
    `keras_fmc.ceiling`).

    Bottlenecks are set one after the other from the inputs on, so that each one is fitted to what
    the earlier ones leave. Calibration also sets the ranges of int8 codes; without it, training
    does.

    With k = C and float codes the new model computes what `model` does, to float precision.

    Args:
        model: the model for which the plan was made. It is left alone.
        plan: of `choose_bottlenecks`.
        calibration: some hundred samples, preprocessed as in training: float array of shape
            (samples, *input shape), or a list or dict of them for several inputs.
        initializer: "pca" (needs calibration), "random" as in the paper (Glorot uniform), or
            "identity", which keeps the first k channels.
        seed: of the random start.

    Raises:
        BadInputError: the plan is for another model, an unknown initializer, or calibration data
            of wrong shape or dtype, empty, or with NaN.
        UnsupportedModelError: a subclassed model.
    """
    if initializer not in _INITIALIZERS:
        raise BadInputError("initializer", " or ".join(_INITIALIZERS), repr(initializer))
    graph = trace(model)
    arrays = None
    if calibration is not None or initializer == "pca":
        arrays = calibration_arrays(model, calibration)
    sites = _sites(graph, plan)
    taken = {node.layer_name for node in graph.nodes}
    layers = {id_: _make_layer(spec, taken) for id_, spec in sites.items()}

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
        energy_kept = _initialize(rewritten, layers[id_], initializer, arrays, rng)
        inserted.append(InsertedBottleneck(spec, layers[id_].name, energy_kept))
    return RewriteResult(rewritten, tuple(inserted), plan.skipped)


def freeze_base(model: keras.Model) -> keras.Model:
    """Makes the bottlenecks the only part of `model` that trains, and returns it.

    Every other layer stops training; batch normalisation then uses and keeps its moving
    statistics. Compile the model afterwards. `model.trainable = True` undoes it.

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
    return isinstance(layer, ProjectionBottleneck) or any(
        isinstance(child, ProjectionBottleneck) for child in sublayers(layer)
    )


def _freeze(layer: keras.Layer) -> None:
    """Freezes all but the bottlenecks in `layer`.

    What holds a bottleneck stays trainable itself, as a frozen parent hides the weights inside.
    """
    layer.trainable = _holds_bottleneck(layer)
    if not layer.trainable or isinstance(layer, ProjectionBottleneck):
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
        sites[id_] = spec
    return dict(sorted(sites.items()))


def _make_layer(spec: BottleneckSpec, taken: set[str]) -> ProjectionBottleneck:
    name = f"{spec.name.replace(':', '_')}_bottleneck"
    while name in taken:
        name += "_"
    taken.add(name)
    return ProjectionBottleneck(spec.rank, bits=spec.bits, name=name)


def _initialize(
    model: keras.Model,
    layer: ProjectionBottleneck,
    initializer: str,
    arrays: Sequence[np.ndarray] | None,
    rng: np.random.Generator,
) -> float | None:
    """Sets P, R and the code range of one bottleneck; returns the energy it keeps."""
    channels = layer.input.shape[-1]
    if initializer == "random":
        given = random_start(channels, layer.rank, rng)
    else:
        given = identity_start(channels, layer.rank)
    if arrays is None:
        layer.projection.assign(given[0])
        layer.restoration.assign(given[1])
        return None
    batches = _activations(model, layer.input, arrays)
    start = pca_start(batches, layer.rank) if initializer == "pca" else given_start(batches, *given)
    layer.projection.assign(start.projection)
    layer.restoration.assign(start.restoration)
    if layer.quantizer is not None:
        layer.quantizer.set_range(*start.code_range)
    return start.energy_kept


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
