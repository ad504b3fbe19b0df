"""Values that are stored sparse, as the dense ones they stand for.

The format is TACO's (Kjolstad et al., "The Tensor Algebra Compiler", 2017) as the TFLite schema
has it: levels are walked from the outermost to the innermost, each along one dimension of the
tensor, or of the blocks that some of its dimensions are cut into. A dense level has every index, a
compressed one those that are listed for the place reached so far. Where a walk ends stands a value;
what no walk reaches is zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Dense:
    """A level with all indices below ``size``."""

    size: int


@dataclass(frozen=True, slots=True)
class Compressed:
    """A level with a list of indices for each place.

    Attributes:
        segments: where the list of each place begins, and at the end the last one's end.
        indices: the lists, one after the other.
    """

    segments: np.ndarray
    indices: np.ndarray


Level = Dense | Compressed


def dense_values(
    values: np.ndarray,
    shape: Sequence[int],
    *,
    order: Sequence[int],
    blocked: Sequence[int],
    levels: Sequence[Level],
) -> np.ndarray:
    """Returns an array of ``shape``.

    Args:
        values: as they are stored.
        order: dimension of each level; those from ``len(shape)`` on are of the blocks.
        blocked: dimension of the tensor that each dimension of the blocks cuts.
        levels: as many as there are dimensions of tensor and blocks.

    Raises:
        ValueError: levels, indices or values do not go together.
    """
    rank = len(shape)
    if sorted(order) != list(range(rank + len(blocked))) or len(levels) != len(order):
        raise ValueError(f"sparse levels along {list(order)} of {rank} dimensions")
    if any(not 0 <= dimension < rank for dimension in blocked):
        raise ValueError(f"blocks of dimensions {list(blocked)} of {rank}")
    limit = math.prod(shape)
    places = np.zeros(1, np.int64)
    walked: dict[int, np.ndarray] = {}
    for dimension, level in zip(order, levels, strict=True):
        counts = _counts(level, places)
        if counts.size and (counts.min() < 0 or counts.sum() > limit):
            raise ValueError(f"sparse values of more than {limit} elements")
        repeated = np.repeat(np.arange(len(places)), counts)
        within = np.arange(len(repeated)) - np.repeat(np.cumsum(counts) - counts, counts)
        walked = {known: index[repeated] for known, index in walked.items()}
        if isinstance(level, Dense):
            places, walked[dimension] = places[repeated] * level.size + within, within
        else:
            places = level.segments[places[repeated]] + within
            walked[dimension] = level.indices[places]
    where = [walked[dimension] for dimension in range(rank)]
    for number, dimension in enumerate(blocked):
        block = levels[list(order).index(rank + number)]
        if not isinstance(block, Dense):
            raise ValueError("blocks that are not dense")
        where[dimension] = where[dimension] * block.size + walked[rank + number]
    if any(index.size and index.min() < 0 for index in where):
        raise ValueError("negative sparse indices")
    made = np.zeros(shape, values.dtype)
    made[tuple(where)] = values[places]
    return made


def _counts(level: Level, places: np.ndarray) -> np.ndarray:
    """How many indices the level has for each place."""
    if isinstance(level, Dense):
        return np.full(len(places), level.size)
    return level.segments[places + 1] - level.segments[places]
