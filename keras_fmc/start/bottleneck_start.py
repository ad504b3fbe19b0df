"""Making the bottleneck that a plan asks for, and setting it from data."""

from __future__ import annotations

import keras
import numpy as np

from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec
from keras_fmc.layers.code_quantizer import CodeForm, CodeQuantizer
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.layers.projection import ProjectionBottleneck
from keras_fmc.start.code_range import code_range
from keras_fmc.start.code_start import CodeStart, code_start
from keras_fmc.start.gf2_start import layer_energy_kept, start_from_data
from keras_fmc.start.initialize import (
    Batches,
    Start,
    given_start,
    identity_start,
    pca_start,
    random_start,
    second_moment,
)
from keras_fmc.start.window_start import identity_window, random_window, window_start

INITIALIZERS = ("pca", "random", "identity")


def make_bottleneck(spec: BottleneckSpec, *, name: str, seed: int) -> keras.Layer:
    """Returns the layer that a plan asks for, not built."""
    if spec.kind is BottleneckKind.PLAIN:
        form = CodeForm.FREE if spec.signed else CodeForm.UNSIGNED
        return CodeQuantizer(spec.bits or 8, form=form, dtype="float32", name=name)
    if spec.kind is BottleneckKind.GF2:
        return GF2Bottleneck(
            spec.rank,
            bits=spec.bits or 8,
            kernel_size=spec.kernel_size,
            strides=spec.strides,
            hidden=spec.hidden,
            signed=spec.signed,
            momentum=None,
            seed=seed,
            # Bits are exact in float32 only, whatever the policy of the model.
            dtype="float32",
            name=name,
        )
    return ProjectionBottleneck(
        spec.rank,
        bits=spec.bits,
        strides=spec.strides,
        kernel_size=spec.kernel_size,
        name=name,
    )


def needs_data(spec: BottleneckSpec) -> bool:
    """Whether a bottleneck has ranges that only calibration data can set."""
    return spec.kind is not BottleneckKind.PROJECTION


def start_bottleneck(
    layer: keras.Layer,
    initializer: str,
    batches: Batches | None,
    *,
    channels: int,
    rng: np.random.Generator,
) -> float | None:
    """Sets the weights and ranges of a built bottleneck, and returns the energy that it keeps.

    Args:
        initializer: one of `INITIALIZERS`.
        batches: returns the values of the map anew at each call; None leaves ranges to training,
            which only projections can do (`needs_data`), and returns None.
        channels: C of the map.
    """
    if isinstance(layer, ProjectionBottleneck):
        return _start_projection(layer, initializer, batches, channels, rng)
    if batches is None:
        return None
    if isinstance(layer, GF2Bottleneck):
        layer.set_start("random" if initializer == "random" else "identity")
        refit = initializer == "pca"
        return start_from_data(layer, batches, refit=refit, seed=layer.seed).energy_kept
    assert isinstance(layer, CodeQuantizer)
    signed = layer.form is CodeForm.FREE
    layer.set_range(*code_range(batches, bits=layer.bits, signed=signed))
    return layer_energy_kept(layer, batches)


def _start_projection(
    layer: ProjectionBottleneck,
    initializer: str,
    batches: Batches | None,
    channels: int,
    rng: np.random.Generator,
) -> float | None:
    rank, window = layer.rank, layer.kernel_size
    strided = layer.strides > 1
    given = None
    if initializer == "random":
        given = (
            random_window(channels, rank, window, rng)
            if strided
            else random_start(channels, rank, rng)
        )
    elif initializer == "identity" or batches is None:
        given = (
            identity_window(channels, rank, window) if strided else identity_start(channels, rank)
        )
    if batches is None:
        assert given is not None
        layer.projection.assign(given[0])
        layer.restoration.assign(given[1])
        return None
    start: Start | CodeStart
    if strided:
        start = window_start(
            batches,
            *(given or (None, None)),
            rank=rank,
            window=window,
            strides=layer.strides,
            bits=layer.bits,
            rng=rng,
        )
    elif layer.bits in (8, None):
        start = given_start(batches, *given) if given else pca_start(batches, rank)
    else:
        start = _code_start(batches, given, rank, layer.bits or 8, int(rng.integers(2**31)))
    layer.projection.assign(start.projection)
    layer.restoration.assign(start.restoration)
    if layer.quantizer is not None:
        layer.quantizer.set_range(*start.code_range)
    return layer_energy_kept(layer, batches) if given and layer.bits else start.energy_kept


def _code_start(
    batches: Batches,
    given: tuple[np.ndarray, np.ndarray] | None,
    rank: int,
    bits: int,
    seed: int,
) -> CodeStart | Start:
    """The start of a code of few bits; a given R is scaled as P is, and stays what it is."""
    if given is None:
        # Rectified channels themselves may suit few levels better than directions do.
        energies = np.diag(second_moment(batches()))
        largest = np.sort(np.argsort(-energies, kind="stable")[:rank])
        selection = np.eye(len(energies))[:, largest]
        starts = [
            code_start(batches, directions, bits=bits, seed=seed)
            for directions in (pca_start(batches, rank).projection, selection)
        ]
        return max(starts, key=lambda start: start.energy_kept)
    projection, restoration = given
    start = code_start(batches, projection, bits=bits, refit=False, seed=seed)
    norms = np.maximum(np.linalg.norm(projection, axis=0), 1e-12)
    signs = np.sign((start.projection * projection).sum(axis=0))
    gain = signs * np.linalg.norm(start.projection, axis=0) / norms
    return Start(
        start.projection,
        (restoration / gain[:, None]).astype(np.float32),
        start.code_range,
        start.energy_kept,
    )
