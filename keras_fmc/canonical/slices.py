"""What `x[…]` picks, axis by axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Slicing:
    """A slice of a tensor without its batch axis.

    Attributes:
        starts, stops: for each axis; every `strides`-th of [start, stop) is picked.
        strides: at least 1.
        shape: what the result is reshaped to, where axes are dropped or added; None as it is.
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    strides: tuple[int, ...]
    shape: tuple[int, ...] | None


def slicing(key: Any, shape: Sequence[int | None]) -> Slicing | None:
    """Returns what a key picks of a tensor of that shape, batch first; None for what is no slice:
    arrays of indices, steps backwards, strides over channels, anything of the batch but all."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if None in shape[1:] or sum(item is Ellipsis for item in keys) > 1:
        return None
    given = sum(item is not Ellipsis and item is not None for item in keys)
    if given > len(shape):
        return None
    rest = [slice(None)] * (len(shape) - given)
    if Ellipsis in [item for item in keys if item is Ellipsis]:
        place = next(index for index, item in enumerate(keys) if item is Ellipsis)
        keys[place : place + 1] = rest
    else:
        keys += rest
    if not isinstance(keys[0], slice) or keys[0] != slice(None):
        return None
    starts: list[int] = []
    stops: list[int] = []
    strides: list[int] = []
    result: list[int] = []
    axis = 1
    reshaped = False
    for item in keys[1:]:
        if item is None:
            result.append(1)
            reshaped = True
            continue
        size = shape[axis] or 0
        if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            start = int(item) % size
            picked = (start, start + 1, 1)
            reshaped = True
        elif isinstance(item, slice):
            start, stop, stride = item.indices(size)
            if stride < 1 or stop <= start:
                return None
            picked = (start, stop, stride)
            result.append(-(-(stop - start) // stride))
        else:
            return None
        if picked[2] != 1 and (axis > 2 or len(shape) != 4):
            return None
        for values, value in zip((starts, stops, strides), picked, strict=True):
            values.append(value)
        axis += 1
    return Slicing(tuple(starts), tuple(stops), tuple(strides), tuple(result) if reshaped else None)
