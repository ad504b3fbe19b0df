"""A start of GF(2) bottlenecks from data: rotated PCA of the bit planes, and least squares.

P has to cut the planes into k bits that tell as much as they can. The identity keeps the most
significant planes, which is hard to beat while most planes can be kept. At fewer bits it is far
from good, and a linear code is better: with D the diagonal of √2^i for a plane of significance i
and μ the mean of the planes z,

    bit_j = [vⱼ · D (z - μ) > 0]

where V = (v₁ … v_k) spans the k leading principal directions of D (z - μ), rotated such that the
signs lose least (iterative quantisation: Gong & Lazebnik, "Iterative quantization: a procrustean
approach to learning binary codes", CVPR 2011). R is the ridge regression of the planes on the
stored bits. Of the candidates, the start is the one that restores the calibration data best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

import keras
import numpy as np

from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.model.patches import patches, scattered
from keras_fmc.start.code_range import code_range
from keras_fmc.start.initialize import energy_kept

Batches = Callable[[], Iterable[np.ndarray]]

_SAMPLES = 20_000
_ROTATIONS = 30
_RIDGE = 1e-3
_SIGMAS = 2.0
"""Sums of P are scaled to ±1/2 at one standard deviation: two of them lie within ±1."""
_SMALLEST_DEVIATION = 0.01
"""Directions that hardly vary, such as those of dead channels, are scaled no further."""


class GF2Start(Enum):
    """What P and R of a bottleneck were set to."""

    IDENTITY = "the most significant planes, put back"
    IDENTITY_REGRESSED = "the most significant planes, regressed"
    ROTATED_PCA = "rotated principal directions, regressed"
    GIVEN = "left as they were"


@dataclass(frozen=True, slots=True)
class GF2StartResult:
    """The start that was chosen.

    Attributes:
        start: of the candidates.
        energy_kept: 1 - E‖x - y‖² / E‖x‖² over the data, below 0 where y adds energy.
        others: (start, energy_kept) of the candidates that were not taken.
    """

    start: GF2Start
    energy_kept: float
    others: tuple[tuple[GF2Start, float], ...] = ()


def start_from_data(
    layer: GF2Bottleneck, batches: Batches, *, refit: bool = True, seed: int = 0
) -> GF2StartResult:
    """Sets range, P and R of a built bottleneck from activations, and says how well it restores.

    A layer with hidden binary layers has one candidate, the identity.

    Args:
        batches: returns the calibration activations, arrays of shape (n, H, W, C), anew at each
            call; they are gone over several times.
        refit: whether P and R are set. Otherwise only the range is, for starts that are to stay
            random or the identity.
        seed: of the sample of positions and of the first rotation.

    Raises:
        BadInputError: negative activations and the layer is not signed.
    """
    layer.quantizer.set_range(*code_range(batches, bits=layer.bits, signed=layer.signed))
    if not refit:
        return GF2StartResult(GF2Start.GIVEN, layer_energy_kept(layer, batches))
    layer.set_start("identity")
    candidates = [(layer_energy_kept(layer, batches), GF2Start.IDENTITY, _weights(layer))]
    if not layer.hidden:
        _regress(layer, batches)
        candidates.append(
            (layer_energy_kept(layer, batches), GF2Start.IDENTITY_REGRESSED, _weights(layer))
        )
        for weight, value in zip(
            layer.compression[0], _rotated_pca(layer, batches, seed), strict=True
        ):
            weight.assign(value)
        _regress(layer, batches)
        candidates.append(
            (layer_energy_kept(layer, batches), GF2Start.ROTATED_PCA, _weights(layer))
        )
    best = max(range(len(candidates)), key=lambda i: (candidates[i][0], -i))
    energy, start, values = candidates[best]
    for weight, value in zip(layer.trainable_weights, values, strict=True):
        weight.assign(value)
    others = tuple((c[1], c[0]) for i, c in enumerate(candidates) if i != best)
    return GF2StartResult(start, energy, others)


def rotated_principal_directions(z: np.ndarray, rank: int, rng: np.random.Generator) -> np.ndarray:
    """Returns V (D×k): the leading principal directions of centred z (n×D), rotated for signs.

    Columns beyond D are random directions of the whole space.
    """
    _, vectors = np.linalg.eigh(z.T @ z / len(z))
    basis = vectors[:, ::-1][:, :rank]
    scores = z @ basis
    rotation = np.linalg.qr(rng.normal(size=(basis.shape[1], basis.shape[1])))[0]
    for _ in range(_ROTATIONS):
        signs = np.where(scores @ rotation > 0, 1.0, -1.0)
        left, _, right = np.linalg.svd(signs.T @ scores)
        rotation = (left @ right).T
    directions = basis @ rotation
    more = rng.normal(size=(z.shape[1], max(0, rank - z.shape[1])))
    return np.concatenate([directions, more / np.sqrt(z.shape[1])], axis=1)


def _rotated_pca(
    layer: GF2Bottleneck, batches: Batches, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of P."""
    rng = np.random.default_rng(seed)
    window, _, planes, rank = layer.compression[0][0].shape
    chosen = []
    total = sum(len(batch) for batch in batches())
    for batch in batches():
        seen = patches(_planes(layer, batch), window, layer.strides)
        rows = seen.reshape(-1, window * window * planes)
        share = min(len(rows), -(-_SAMPLES * len(batch) // total))
        chosen.append(rows[rng.permutation(len(rows))[:share]])
    z = np.concatenate(chosen).astype(np.float64)
    weights = np.tile(np.sqrt(2.0 ** np.arange(layer.bits)), z.shape[1] // layer.bits)
    mean = z.mean(axis=0)
    directions = rotated_principal_directions((z - mean) * weights, rank, rng)
    normals = weights[:, None] * directions
    deviation = np.maximum(((z - mean) @ normals).std(axis=0), _SMALLEST_DEVIATION)
    normals /= _SIGMAS * deviation
    return normals.reshape(window, window, planes, rank), 0.5 - mean @ normals


def _regress(layer: GF2Bottleneck, batches: Batches) -> None:
    """Sets R to the ridge regression of the planes on the stored bits, one constant a plane."""
    kernel, bias = layer.restoration[0]
    window, _, rank, planes = kernel.shape
    size = window * window * rank + 1
    moment, target, rows = np.zeros((size, size)), np.zeros((size, planes)), 0
    for batch in batches():
        stored = keras.ops.convert_to_numpy(layer.encode(batch))
        seen = scattered(stored, window, layer.strides, batch.shape[1:3])
        design = np.concatenate(
            [seen.reshape(-1, size - 1), np.ones((seen[..., 0].size // window**2, 1))], axis=1
        ).astype(np.float32)
        moment += design.T @ design
        target += design.T @ _planes(layer, batch).reshape(-1, planes).astype(np.float32)
        rows += len(design)
    solution = np.linalg.solve(moment / rows + _RIDGE * np.eye(size), target / rows)
    kernel.assign(solution[:-1].reshape(kernel.shape))
    bias.assign(solution[-1])


def layer_energy_kept(layer: keras.Layer, batches: Batches) -> float:
    """Returns 1 - E‖x - y‖² / E‖x‖² over the data for y = layer(x)."""
    return energy_kept((x, keras.ops.convert_to_numpy(layer(x))) for x in batches())


def _weights(layer: GF2Bottleneck) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(weight) for weight in layer.trainable_weights]


def _planes(layer: GF2Bottleneck, batch: np.ndarray) -> np.ndarray:
    """Bit planes of a batch, (n, H, W, C·B) zeros and ones."""
    values = keras.ops.convert_to_numpy(layer.quantizer(batch)).astype(np.float64)
    codes = np.rint(values / layer.quantizer.scale).astype(np.int64)
    codes += layer.quantizer.levels_below_zero
    planes = codes[..., None] >> np.arange(layer.bits) & 1
    return planes.reshape(*codes.shape[:-1], -1)
