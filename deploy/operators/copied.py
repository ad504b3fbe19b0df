"""Values that an operator hands on without changing them, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """Elements that go from one tensor to another, counted from the first of each.

    target[to + Σ i · to_strides] = source[start + Σ i · strides] for all i below ``extents``.
    """

    source: int
    target: int
    extents: Numbers
    start: int
    strides: Numbers
    to: int
    to_strides: Numbers

    @property
    def is_run(self) -> bool:
        """Whether neighbours stay neighbours: what is copied is one run in both tensors."""
        steps = [(n, a, b) for n, a, b in zip(*self._grid, strict=True) if n != 1]
        wanted = natural_strides([n for n, _, _ in steps])
        return all(a == b == w for (_, a, b), w in zip(steps, wanted, strict=True))

    @property
    def span(self) -> tuple[int, int]:
        """[first, last) elements of the source that are read."""
        reach = [(n - 1) * stride for n, stride in zip(self.extents, self.strides, strict=True)]
        first = self.start + sum(r for r in reach if r < 0)
        return first, self.start + sum(r for r in reach if r > 0) + 1

    @property
    def _grid(self) -> tuple[Numbers, Numbers, Numbers]:
        return self.extents, self.strides, self.to_strides


def natural_strides(shape: Sequence[int]) -> Numbers:
    """Elements from one index of each dimension to the next."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))
