"""What a program needs of memory: which rows live when, and which tensors share their place.

This is the search's own view of what ``deploy.memory`` works out from the emitted graph: rows
instead of bytes, and one pass over the steps, so that thousands of programs can be estimated.
Windows are views of the strips they are made of, but for *copies*: slices that really move rows,
because the rows would have to stand in two places, or because wrong rows of a later strip
would overwrite them where they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from deploy.backends.tflm.strips.blocks import Blocks, Growth, LiveRows, load_of
from deploy.backends.tflm.strips.cuts import Cuts
from deploy.backends.tflm.strips.network import Network, ValueNumber
from deploy.backends.tflm.strips.operators import same_paddings
from deploy.backends.tflm.strips.schedule import Concatenation, Program, RowSlice, Run
from deploy.operators.rows import Rows


class Footprint(NamedTuple):
    """Blocks of rows that move together.

    ``blocks[b]`` are the live rows of block b, whose first byte has offset 0,
    ``owners[b]`` are the values that they are rows of, ``place`` tells for every value of the
    program its block and the offset of its first byte there, ``in_place_of`` for an output the
    values whose bytes it takes over, ``grown_into`` those into whose bytes it grows diagonally.
    ``copies`` are the steps at which a slice is a real copy. ``bound_without_growth`` is what
    ``bound`` would be if nothing grew.
    """

    blocks: tuple[tuple[LiveRows, ...], ...]
    owners: tuple[tuple[ValueNumber, ...], ...]
    place: dict[ValueNumber, tuple[int, int]]
    in_place_of: dict[ValueNumber, tuple[ValueNumber, ...]]
    grown_into: dict[ValueNumber, tuple[ValueNumber, ...]]
    copies: frozenset[int]
    bound_without_growth: int = 0

    def load(self, steps: int) -> list[int]:
        """Bytes that are live in each step."""
        return load_of((rows for block in self.blocks for rows in block), steps)

    def bound(self, steps: int) -> int:
        """No placement is smaller: the largest load, and the largest block."""
        largest = max((max(r.stop for r in block) for block in self.blocks), default=0)
        return max(largest, *self.load(steps)) if steps else largest


class _Owned(NamedTuple):
    """Rows [start, stop) of a view belong to the computed value ``value``."""

    value: ValueNumber
    start: int
    stop: int


Distance = Callable[[Program, Run], int | None]


def footprint(
    network: Network,
    cuts: Cuts,
    program: Program,
    in_place: Iterable[str],
    distance: Distance | None = None,
) -> Footprint | None:
    """Returns what a program needs, or None if two values would have to share a place.

    ``distance`` tells by how much an output has to start before its input if the two overlap
    diagonally (``diagonal.Diagonals.distance``); without it they never do.
    """
    analysis = Analysis(network, cuts, program, frozenset(in_place), distance).scan()
    footing = analysis.blocks()
    return None if footing is None else analysis.footprint(footing)


class Footing(NamedTuple):
    """Which values share their places; ``in_place`` and so on as a ``Footprint`` has them."""

    blocks: Blocks
    in_place: dict[ValueNumber, tuple[ValueNumber, ...]]
    grown_into: dict[ValueNumber, tuple[ValueNumber, ...]]
    bound_without_growth: int

    def pieces(self) -> list[tuple[LiveRows, ...]]:
        """The live rows of each block, whose first byte has offset 0."""
        blocks = self.blocks
        live, shift, found = blocks.live, blocks.shift, []
        for root in sorted(v for v, r in blocks.root.items() if v == r):
            members = blocks.members[root]
            if len(members) == 1:
                rows = live[root]
                if rows:
                    low = rows[0].start
                    found.append(tuple([r.moved(-low) for r in rows]) if low else tuple(rows))
                continue
            low = min((shift[m] + r.start for m in members for r in live[m]), default=0)
            moved = [r.moved(shift[m] - low) for m in members for r in live[m]]
            if moved:
                found.append(tuple(moved))
        return found


class Analysis:
    """Works out footprints of one program in stages, so that a search can stop early."""

    def __init__(
        self,
        network: Network,
        cuts: Cuts,
        program: Program,
        in_place: frozenset[str],
        distance: Distance | None,
    ) -> None:
        self.network = network
        self.program = program
        self.in_place = in_place
        self.distance = distance
        self.reshapes = network.reshapes
        self.copied_tensors = {t for o in cuts.copied for t in network.graph.operators[o].outputs}
        self.own_place = cuts.own_place
        # Values that the user reads after the last step, see ``deploy.lifetimes``.
        self.kept: set[ValueNumber] = set()
        # Value -> what it is made of; computed values are made of themselves.
        self.owned: dict[ValueNumber, tuple[_Owned, ...]] = {}
        self.opaque: set[ValueNumber] = set()
        # Outputs of RESHAPE with rows of their own.
        self.renamed: set[ValueNumber] = set()
        self.written: dict[ValueNumber, int] = {}
        # Value -> the last step that reads it: one for all its rows, or one for each of them.
        self.death: dict[ValueNumber, int | list[int]] = {}
        self.joins: list[tuple[ValueNumber, ...]] = []
        self.candidates: list[tuple[int, ValueNumber, tuple[ValueNumber, ...]]] = []
        self.copies: set[int] = set()
        self.pad_operator: dict[ValueNumber, int] = {}
        # Output -> the values whose place it takes.
        self.in_place_of: dict[ValueNumber, tuple[ValueNumber, ...]] = {}
        # (output, what it is computed from, distance) of operators that may overlap diagonally.
        self.growing: list[tuple[ValueNumber, ValueNumber, int]] = []

    def scan(self) -> Analysis:
        """Follows the steps: who reads what when. The rest needs this; returns itself."""
        program = self.program
        self.used_in: dict[ValueNumber, list[tuple[Concatenation, int]]] = {}
        # Values that are read row by row.
        self.sliced: set[ValueNumber] = set()
        for step in program.steps:
            if isinstance(step, Concatenation):
                for place, value in enumerate(step.sources):
                    self.used_in.setdefault(value, []).append((step, place))
            elif isinstance(step, RowSlice):
                self.sliced.add(step.source)
        # Values that operators, or windows before, have a part of.
        self.seen: set[ValueNumber] = set()
        for value in program.inputs:
            self._compute(value, 0)
        for index, step in enumerate(program.steps):
            if isinstance(step, Run):
                self._run(index, step)
            elif isinstance(step, RowSlice):
                self._slice(index, step)
            elif isinstance(step, Concatenation):
                self._concatenation(step)
            else:
                self.pad_operator[step.output] = step.operator
                self._read(step.source, index)
                self._compute(step.output, index)
        end = len(program.steps) - 1
        for value in program.outputs:
            if value >= 0:
                self._read(value, end)
                self.kept.update(part.value for part in self.owned[value])
        self.live = {value: self._live(value) for value in self.written}
        return self

    def least_load(self, scratch: Sequence[int]) -> int:
        """No placement is smaller, whatever takes whose place: known long before the blocks are.

        An output that takes the place of inputs, or grows into them, spares at most what dies
        with them, and at most its own bytes.

        Args:
            scratch: bytes of the kernels' buffers in each step.
        """
        count = len(self.program.steps)
        change, dying = [0] * (count + 1), [0] * (count + 1)
        for runs in self.live.values():
            for start, stop, first, until in runs:
                change[first] += stop - start
                change[until] -= stop - start
                dying[until - 1] += stop - start
        sharing = {step: output for step, output, _ in self.candidates}
        for output, _, _ in self.growing:
            sharing[self.written[output]] = output
        largest = here = 0
        for step in range(count):
            here += change[step]
            load = here + scratch[step]
            if load > largest:
                if step in sharing:
                    made = sum(r.stop - r.start for r in self.live[sharing[step]])
                    load -= min(made, dying[step])
                largest = max(largest, load)
        return largest

    def _compute(self, value: ValueNumber, step: int) -> None:
        rows = self.program.values[value].rows
        self.owned[value] = (_Owned(value, rows[0], rows[1]),)
        self.written[value] = self.death[value] = step

    def _read(self, value: ValueNumber, step: int) -> None:
        values, death, seen = self.program.values, self.death, self.seen
        for owner, start, stop in self.owned[value]:
            base, end = values[owner].rows
            seen.add(owner)
            if start == base and stop == end:
                death[owner] = step
                continue
            deaths = death[owner]
            if isinstance(deaths, int):
                deaths = death[owner] = [deaths] * (end - base)
            deaths[start - base : stop - base] = [step] * (stop - start)

    def _run(self, index: int, step: Run) -> None:
        operator, inputs, outputs, _ = step
        if operator in self.reshapes and inputs[0] >= 0:
            source, target = inputs[0], outputs[0]
            # Whether rows of the output are not rows of the input.
            opaque = source in self.opaque or operator not in self.network.row_operators
            if not (opaque and target in self.sliced):
                self.owned[target] = self.owned[source]
                if opaque:
                    self.opaque.add(target)
                return
            # Strips of the output begin here: it is a map of its own, where its input stood.
            self._read(source, index)
            self._compute(target, index)
            self.renamed.add(target)
            self.candidates.append((index, target, (source,)))
            return
        for value in inputs:
            if value >= 0:
                self._read(value, index)
        for value in outputs:
            self._compute(value, index)
        if operator in self.own_place or len(outputs) != 1:
            return
        if self.distance:
            distance = self.distance(self.program, step)
            if distance is not None:
                self.growing.append((outputs[0], inputs[0], distance))
        if self.network.graph.operators[operator].opcode in self.in_place:
            sources = tuple(dict.fromkeys(v for v in inputs if v >= 0))
            self.candidates.append((index, outputs[0], sources))

    def _slice(self, index: int, step: RowSlice) -> None:
        rows = self.program.values[step.output].rows
        parts = tuple(
            _Owned(owner, max(start, rows[0]), min(stop, rows[1]))
            for owner, start, stop in self.owned[step.source]
            if start < rows[1] and rows[0] < stop
        )
        if self._must_copy(step, parts):
            self.owned[step.output] = parts
            self._read(step.output, index)
            self._compute(step.output, index)
            self.copies.add(index)
        else:
            self.owned[step.output] = parts

    def _must_copy(self, step: RowSlice, parts: tuple[_Owned, ...]) -> bool:
        values = self.program.values
        for window, place in self.used_in.get(step.output, ()):
            owner = parts[0].value
            # What is kept goes to where the newest strip stands.
            if (
                values[window.output].tensor in self.copied_tensors
                and any(part.value in self.seen for part in parts)
                and any(
                    source not in self.owned
                    or any(self.written[p.value] > self.written[owner] for p in self.owned[source])
                    for source in window.sources
                    if source != step.output
                )
            ):
                return True
            above, below = values[owner].rows
            for number, other in enumerate(window.sources):
                if number == place:
                    continue
                for part in self.owned.get(other, ()):
                    # Wrong rows around the rows fall on rows that were there before.
                    if (
                        part.stop > above
                        and part.start < below
                        and self.written[part.value] < self.written[owner]
                    ):
                        return True
        return False

    def _concatenation(self, step: Concatenation) -> None:
        parts = tuple(part for value in step.sources for part in self.owned[value])
        self.owned[step.output] = parts
        self.seen.update(part.value for part in parts)
        self.joins.append(tuple(dict.fromkeys(part.value for part in parts)))

    def blocks(self, *, growing: bool = True) -> Footing | None:
        """Decides which values share their places; None if two of them cannot as they have to.

        Args:
            growing: whether outputs grow into inputs diagonally, where they may.
        """
        starts = {value: self._start(value) for value in self.written}
        blocks = Blocks(starts, dict(self.live))
        for values in self.joins:
            for value in values[1:]:
                blocks.unite(values[0], value)
        if any(len(members) > 1 and blocks.conflict(members) for members in blocks.each()):
            return None
        for _, output, sources in self.candidates:
            # The oldest input first: maps in place of maps keep strips free to move.
            by_age = sorted(
                sources, key=lambda v: min(self.written[p.value] for p in self.owned[v])
            )
            if output not in blocks.taken:
                any(self._share(blocks, output, source) for source in by_age)
        in_place = dict(blocks.taken)
        for output in in_place:
            blocks.end_early(output, step=self.written[output])
        steps = len(self.program.steps)
        growths = self._growths(blocks) if growing else []
        bound_without_growth = blocks.bound(steps) if growths else 0
        grown = blocks.grow(growths, self.written, steps)
        grown_into = {output: blocks.taken[output] for output in grown}
        return Footing(blocks, in_place, grown_into, bound_without_growth)

    def _growths(self, blocks: Blocks) -> list[Growth]:
        found = []
        for output, source, distance in self.growing:
            owners = tuple(dict.fromkeys(part.value for part in self.owned[source]))
            in_one_block = len({blocks.root[owner] for owner in owners}) == 1
            if self._is_kept(output, owners):
                continue
            if in_one_block and source not in self.opaque and output not in blocks.taken:
                found.append(Growth(output, owners, self._inside(source), distance))
        return found

    def footprint(self, footing: Footing) -> Footprint:
        """All there is to say of a footing."""
        blocks = footing.blocks
        pieces: list[tuple[LiveRows, ...]] = []
        owners: list[tuple[ValueNumber, ...]] = []
        block_of: dict[ValueNumber, tuple[int, int]] = {}
        for root in sorted(value for value in self.written if blocks.root[value] == value):
            rows = [
                (r.moved(blocks.shift[member]), member)
                for member in blocks.members[root]
                for r in blocks.live[member]
            ]
            if not rows:
                continue
            low = min(r.start for r, _ in rows)
            block_of[root] = len(pieces), low
            pieces.append(tuple(r.moved(-low) for r, _ in rows))
            owners.append(tuple(member for _, member in rows))
        place = {}
        for value, parts in self.owned.items():
            owner = parts[0].value
            block, low = block_of[blocks.root[owner]]
            place[value] = block, blocks.position(owner) - low + self._inside(value)
        return Footprint(
            tuple(pieces),
            tuple(owners),
            place,
            footing.in_place,
            footing.grown_into,
            frozenset(self.copies),
            footing.bound_without_growth,
        )

    def _inside(self, view: ValueNumber) -> int:
        """Bytes from the first that the first owner of a view has to the first of the view."""
        owner, start, _ = self.owned[view][0]
        tensor, rows, padding = self.program.values[owner]
        return 0 if padding else (start - rows[0]) * self.network.row_bytes[tensor]

    def _start(self, value: ValueNumber) -> int:
        tensor, rows, padding = self.program.values[value]
        return 0 if padding is not None else rows[0] * self.network.row_bytes[tensor]

    def _live(self, value: ValueNumber) -> list[LiveRows]:
        """Runs of rows that die together, in bytes from row 0 of the map."""
        tensor, rows, padding = self.program.values[value]
        first, death = self.written[value], self.death[value]
        if padding is not None:
            size = pad_size(self.network, self.pad_operator[value], tensor, rows, padding)
            return [LiveRows(0, size, first, self._last(value) + 1)]
        row_bytes = self.network.row_bytes[tensor]
        if isinstance(death, int):
            return [LiveRows(rows[0] * row_bytes, rows[1] * row_bytes, first, death + 1)]
        runs: list[LiveRows] = []
        begin = 0
        for i in range(1, len(death) + 1):
            if i == len(death) or death[i] != death[begin]:
                start = (rows[0] + begin) * row_bytes
                runs.append(LiveRows(start, (rows[0] + i) * row_bytes, first, death[begin] + 1))
                begin = i
        return runs

    def _last(self, value: ValueNumber) -> int:
        """The last step that reads the first row of a value."""
        death = self.death[value]
        return death if isinstance(death, int) else death[0]

    def _share(self, blocks: Blocks, output: ValueNumber, source: ValueNumber) -> bool:
        """Lets an operator put its output where its input stands, if nobody else needs that."""
        if not self._can_replace(output, source):
            return False
        owners = tuple({part.value for part in self.owned[source]})
        root = blocks.root
        if len({root[owner] for owner in owners}) != 1:
            return False
        blocks.taken[output] = owners
        if root[output] == root[owners[0]]:
            return True
        # The other strips of both maps come along, so they must be able to share as well.
        others = [
            (o, s)
            for _, o, sources in self.candidates
            for s in sources
            if o not in blocks.taken
            and root[o] == root[output]
            and {root[part.value] for part in self.owned[s]} == {root[owners[0]]}
            and self._can_replace(o, s)
        ]
        for other_output, other_source in others:
            blocks.taken[other_output] = tuple(part.value for part in self.owned[other_source])
        if blocks.conflict([*blocks.members[root[output]], *blocks.members[root[owners[0]]]]):
            for other_output, _ in [(output, source), *others]:
                del blocks.taken[other_output]
            return False
        blocks.unite(output, owners[0])
        return True

    def _is_kept(self, output: ValueNumber, owners: Sequence[ValueNumber]) -> bool:
        """Whether the last step makes the output and the user still reads one of the owners."""
        is_last = self.written[output] == len(self.program.steps) - 1
        return is_last and not self.kept.isdisjoint(owners)

    def _is_whole(self, value: ValueNumber) -> bool:
        tensor, rows, _ = self.program.values[value]
        return rows == (0, self.network.rows[tensor])

    def _can_replace(self, output: ValueNumber, source: ValueNumber) -> bool:
        values, network = self.program.values, self.network
        if values[source].padding or values[output].padding:
            return False
        if output in self.renamed:
            # All bytes of one map become all bytes of another.
            if not (self._is_whole(source) and self._is_whole(output)):
                return False
        elif source in self.opaque or (
            values[source].rows != values[output].rows
            or network.row_bytes[values[source].tensor] != network.row_bytes[values[output].tensor]
        ):
            return False
        step = self.written[output]
        if self._is_kept(output, [part.value for part in self.owned[source]]):
            return False
        for owner, start, stop in self.owned[source]:
            if self.written[owner] == step:
                return False
            deaths = self.death[owner]
            if isinstance(deaths, int):
                if deaths != step:
                    return False
                continue
            base = values[owner].rows[0]
            if any(death != step for death in deaths[start - base : stop - base]):
                return False
        return True


def pad_size(
    network: Network, operator: int, tensor: int, rows: Rows, padding: tuple[int, int]
) -> int:
    """Bytes of ``rows`` of a tensor with the rows and columns of SAME padding around them."""
    paddings = same_paddings(network.graph, operator)
    shape = network.graph.tensors[tensor].shape
    axis = network.axis[tensor]
    size = network.row_bytes[tensor]
    for dimension, (before, after) in enumerate(paddings):
        if dimension != axis and shape[dimension]:
            size = size // shape[dimension] * (shape[dimension] + before + after)
    return size * (rows[1] - rows[0] + sum(padding))
