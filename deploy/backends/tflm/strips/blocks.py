"""Values that stand at fixed distances from each other, and what their bytes hold when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from deploy.backends.tflm.strips.network import ValueNumber

_COOL = 0.4
"""Where no more than this part of the largest load is live, nothing is gained by growing."""


class LiveRows(NamedTuple):
    """Bytes [start, stop) of a block that hold one value during steps [first, until)."""

    start: int
    stop: int
    first: int
    until: int

    def moved(self, shift: int) -> LiveRows:
        if not shift:
            return self
        return LiveRows(self.start + shift, self.stop + shift, self.first, self.until)


def load_of(spans: Iterable[LiveRows], steps: int) -> list[int]:
    """Bytes that are live in each step."""
    change = [0] * (steps + 1)
    for start, stop, first, until in spans:
        change[first] += stop - start
        change[until] -= stop - start
    return list(accumulate(change[:-1]))


class Growth(NamedTuple):
    """An output that may grow into the values ``owners``, which its operator reads.

    The first byte that is read is ``at`` bytes from where the first owner naturally stands; the
    output has to start ``distance`` bytes before it.
    """

    output: ValueNumber
    owners: tuple[ValueNumber, ...]
    at: int
    distance: int


class Blocks:
    """Union-find over values, with distances.

    A value *naturally* stands where its rows stand in their map, ``starts[value]`` bytes from
    row 0; ``shift`` tells by how much more. Values of one block move together.

    Attributes:
        live: value -> what its bytes hold when, from its map's row 0.
        taken: output -> values in whose bytes its operator may write while it reads them last.
    """

    def __init__(
        self, starts: Mapping[ValueNumber, int], live: dict[ValueNumber, list[LiveRows]]
    ) -> None:
        self.starts = starts
        self.live = live
        self.root = {value: value for value in live}
        self.members = {value: [value] for value in live}
        self.shift = dict.fromkeys(live, 0)
        self.taken: dict[ValueNumber, tuple[ValueNumber, ...]] = {}

    def position(self, value: ValueNumber) -> int:
        """Where a value stands, up to a number that its block shares."""
        return self.starts[value] + self.shift[value]

    def unite(self, a: ValueNumber, b: ValueNumber) -> None:
        """Makes one block of two; distances are those of the shifts."""
        a, b = self.root[a], self.root[b]
        if a == b:
            return
        if len(self.members[a]) < len(self.members[b]):
            a, b = b, a
        for member in self.members[b]:
            self.root[member] = a
        self.members[a] += self.members[b]
        self.members[b] = self.members[a]

    def each(self) -> list[list[ValueNumber]]:
        """The members of every block."""
        return [self.members[root] for root in sorted(set(self.root.values()))]

    def conflict(self, members: Sequence[ValueNumber]) -> bool:
        """Whether two of the values would be in the same place at the same time."""
        spans = [
            (start + shift, stop + shift, first, until, member)
            for member, shift in [(m, self.shift[m]) for m in members]
            for start, stop, first, until in self.live[member]
        ]
        spans.sort()
        taken = self.taken
        open_spans: list[tuple[int, int, int, int, ValueNumber]] = []
        for span in spans:
            begin, _, first, until, member = span
            open_spans = [other for other in open_spans if other[1] > begin]
            for _, _, other_first, other_until, other in open_spans:
                if (
                    other_first < until
                    and first < other_until
                    # The operator that computes one may write where it reads the other last.
                    and not (other_until == first + 1 and other in taken.get(member, ()))
                    and not (until == other_first + 1 and member in taken.get(other, ()))
                ):
                    return True
            open_spans.append(span)
        return False

    def end_early(self, output: ValueNumber, *, step: int) -> None:
        """What an output takes over is gone, byte by byte, when its operator begins."""
        spans = self.live[output]
        low = min(r.start for r in spans) + self.shift[output]
        high = max(r.stop for r in spans) + self.shift[output]
        for owner in self.taken[output]:
            shift = self.shift[owner]
            parts: list[LiveRows] = []
            for r in self.live[owner]:
                start, stop = max(r.start, low - shift), min(r.stop, high - shift)
                if r.until != step + 1 or start >= stop:
                    parts.append(r)
                    continue
                if r.start < start:
                    parts.append(r._replace(stop=start))
                if r.first < step:
                    parts.append(r._replace(start=start, stop=stop, until=step))
                if stop < r.stop:
                    parts.append(r._replace(start=stop))
            self.live[owner] = parts

    def grow(
        self, growths: Sequence[Growth], written: Mapping[ValueNumber, int], steps: int
    ) -> set[ValueNumber]:
        """Lets outputs grow into their inputs, all strips of a map alike; returns those that do.

        Where the most bytes are live comes first. Maps that grow into each other stand in one
        block, which climbs with every one of them; it must not become larger than what was live.

        Args:
            written: value -> the step that computes it.
        """
        together: dict[tuple[ValueNumber, ValueNumber], list[Growth]] = {}
        for growth in growths:
            pair = self.root[growth.output], self.root[growth.owners[0]]
            together.setdefault(pair, []).append(growth)
        if not together:
            return set()
        load = self.load(steps)
        peaks = {
            pair: max(load[written[growth.output]] for growth in strips)
            for pair, strips in together.items()
        }
        grown: set[ValueNumber] = set()
        enough = max(load) * _COOL
        for pair in sorted(together, key=lambda pair: (-peaks[pair], pair)):
            strips = together[pair]
            if peaks[pair] <= enough:
                break
            if self._share_bytes(strips) and self._grow_block(strips, limit=peaks[pair]):
                grown.update(growth.output for growth in strips)
                for growth in strips:
                    self.end_early(growth.output, step=written[growth.output])
        return grown

    def load(self, steps: int) -> list[int]:
        """Bytes that are live in each step."""
        return load_of((span for spans in self.live.values() for span in spans), steps)

    def bound(self, steps: int) -> int:
        """No placement is smaller: the largest load, and the largest block."""
        return max(*self.load(steps), *(self._extent(members) for members in self.each()))

    def _share_bytes(self, strips: Sequence[Growth]) -> bool:
        """Whether any output would have a byte in common with what it is computed from."""
        return any(
            -self._size(growth.owners) < growth.distance < self._size((growth.output,))
            for growth in strips
        )

    def _size(self, values: Sequence[ValueNumber]) -> int:
        """Bytes from the first to the last of values that stand as they do in their map."""
        spans = [r for value in values for r in self.live[value]]
        if not spans:
            return 0
        return max([r.stop for r in spans]) - min([r.start for r in spans])

    def _grow_block(self, strips: Sequence[Growth], *, limit: int) -> bool:
        root, into = self.root[strips[0].output], self.root[strips[0].owners[0]]
        if root == into or any(self._torn(growth) for growth in strips):
            return False
        # How much lower the output's block has to stand than it naturally would.
        lower = max(
            self.position(g.output) + g.distance - self.position(g.owners[0]) - g.at for g in strips
        )
        moved = tuple(self.members[root])
        members = (*moved, *self.members[into])
        for value in moved:
            self.shift[value] -= lower
        for growth in strips:
            self.taken[growth.output] = growth.owners
        if self._extent(members) > limit or self.conflict(members):
            for value in moved:
                self.shift[value] += lower
            for growth in strips:
                del self.taken[growth.output]
            return False
        self.unite(root, into)
        return True

    def _torn(self, growth: Growth) -> bool:
        """Whether what is read no longer stands as it does in its map."""
        return (
            len({(self.root[owner], self.shift[owner]) for owner in growth.owners}) > 1
            or growth.output in self.taken
        )

    def _extent(self, members: Sequence[ValueNumber]) -> int:
        """Bytes from the first to the last that the values of a block need."""
        live, shift = self.live, self.shift
        spans = [(shift[m] + r[0], shift[m] + r[1]) for m in members for r in live[m]]
        if not spans:
            return 0
        return max([high for _, high in spans]) - min([low for low, _ in spans])
