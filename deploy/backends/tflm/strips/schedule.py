"""From cuts to a program: which strip of which operator runs when, and what it reads.

Strips run on demand. A whole operator, or an output of the graph, asks for all rows of a map;
whoever computes the map runs strip after strip, and each strip first asks for the rows that its
own inputs lack. So a chain of cut operators advances together, band by band, and a finer cut
inside a coarser one needs no rule of its own.

Rows that stand in several tensors are put together by CONCATENATION, rows that are part of a
tensor are taken by SLICE; a memory plan makes both free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from deploy.backends.tflm.strips.cuts import Cuts, groups
from deploy.backends.tflm.strips.network import ABSENT, Network, Value, ValueNumber
from deploy.backends.tflm.strips.tiles import Tile, TileSolver, TileStep, tile_flags
from deploy.operators.rows import Rows

MAX_CONCATENATION_INPUTS = 10
"""TFLM's CONCATENATION takes no more."""


class Run(NamedTuple):
    """An operator of the graph on a strip (``tile``), or on whole maps (None).

    ``inputs`` has a value for each input of the operator, -1 for constants and absent ones.
    """

    operator: int
    inputs: tuple[ValueNumber, ...]
    outputs: tuple[ValueNumber, ...]
    tile: TileStep | None


class RowSlice(NamedTuple):
    """Rows of one value."""

    source: ValueNumber
    output: ValueNumber


class Concatenation(NamedTuple):
    """Values one after the other."""

    sources: tuple[ValueNumber, ...]
    output: ValueNumber


class Pad(NamedTuple):
    """The rows and columns that SAME padding of ``operator`` puts around its input."""

    source: ValueNumber
    output: ValueNumber
    operator: int


Step = Run | RowSlice | Concatenation | Pad


class Program(NamedTuple):
    """Steps in order; ``outputs`` are the values of the graph's outputs, ``macs`` the cost."""

    values: tuple[Value, ...]
    steps: tuple[Step, ...]
    inputs: tuple[ValueNumber, ...]
    outputs: tuple[ValueNumber, ...]
    macs: int


def schedule(network: Network, cuts: Cuts, solver: TileSolver | None = None) -> Program:
    """Returns the program of a graph cut in the given (normalised) way."""
    return _Scheduler(network, cuts, solver or TileSolver(network)).run()


class _Scheduler:
    def __init__(self, network: Network, cuts: Cuts, solver: TileSolver) -> None:
        self.network = network
        self.cuts = cuts
        self.solver = solver
        self.members = groups(network, cuts)
        self.values: list[Value] = []
        self.steps: list[Step] = []
        # Tensor -> (exact rows, value), in the order in which they came to be.
        self.parts: dict[int, list[tuple[Rows, ValueNumber]]] = {}
        # Tensor -> value, of those that come into being as a whole.
        self.whole: dict[int, ValueNumber] = {}
        self.produced: dict[int, Rows] = {}
        self.upwards: set[int] = set()
        self.running: set[int] = set()
        # Values that are part of another one, or were read as they are.
        self.seen: set[ValueNumber] = set()
        self.when_ready: dict[int, list[int]] = {}
        for operator in cuts.when_ready:
            for tensor, _ in self._reads(operator):
                self.when_ready.setdefault(tensor, []).append(operator)
        self.macs = 0
        self.flags: dict[int, tuple[int, ...]] = {}

    def run(self) -> Program:
        network = self.network
        inputs = tuple(self._whole(tensor) for tensor in network.graph.inputs)
        for operator in network.order:
            if operator not in self.cuts.ends:
                self._run_whole(operator)
        outputs = tuple(
            ABSENT if network.graph.tensors[t].is_constant else self._fetch(t, self._all_rows(t))
            for t in network.graph.outputs
        )
        # Rows that were put aside may be computed anew after all.
        steps = _needed(self.steps, outputs, network.pure)
        return Program(tuple(self.values), steps, inputs, outputs, self.macs)

    def _all_rows(self, tensor: int) -> Rows:
        return 0, self.network.rows[tensor]

    def _value(
        self, tensor: int, rows: Rows, padding: tuple[int, int] | None = None
    ) -> ValueNumber:
        values = self.values
        values.append(Value(tensor, rows, padding))
        return ValueNumber(len(values) - 1)

    def _whole(self, tensor: int) -> ValueNumber:
        # Values of whole maps are the same in all programs of a network.
        whole = self.network.whole_values[tensor]
        values = self.values
        value = self.whole[tensor] = ValueNumber(len(values))
        values.append(whole)
        self.parts[tensor] = [(whole.rows, value)]
        return value

    def _run_whole(self, operator: int) -> None:
        network, whole, inputs = self.network, self.whole, []
        for tensor in network.reads[operator]:
            if tensor < 0:
                inputs.append(ABSENT)
            elif tensor in whole:
                inputs.append(whole[tensor])
            else:
                inputs.append(self._fetch(tensor, self._all_rows(tensor)))
        outputs = tuple([self._whole(t) for t in network.writes[operator]])
        self.steps.append(Run(operator, tuple(inputs), outputs, None))
        self.macs += network.macs[operator]

    def _demand(self, tensor: int, rows: Rows) -> None:
        """Runs strips until the rows of the tensor exist."""
        operator = self.network.producer.get(tensor, -1)
        if operator not in self.cuts.ends:
            return
        size = self.network.rows[tensor]
        if operator in self.cuts.finished:
            rows = (0, size)
        done = self.produced.get(operator)
        if done is None:
            # Who asks for the last rows first is going upwards, and so do strips for it.
            upwards = rows[1] == size and (rows[0] > 0 or operator in self.cuts.upwards)
            done = self.produced[operator] = (size, size) if upwards else (0, 0)
            if upwards:
                self.upwards.add(operator)
        if operator in self.upwards:
            while self.produced[operator][0] > rows[0]:
                self._run_strip(operator, self._strip_upwards(operator, rows[0]))
        else:
            while self.produced[operator][1] < rows[1]:
                self._run_strip(operator, self._strip_downwards(operator, rows[1]))

    def _strip_downwards(self, operator: int, stop: int) -> Rows:
        start = self.produced[operator][1]
        for end in self.cuts.ends[operator]:
            if end > start:
                return start, end
        return start, stop

    def _strip_upwards(self, operator: int, start: int) -> Rows:
        stop = self.produced[operator][0]
        ends = self.cuts.ends[operator]
        if ends:
            start = max((end for end in ends if end < stop), default=0)
        return start, stop

    def _run_when_ready(self, operator: int) -> None:
        """Runs what now has its rows and does not wait to be asked."""
        for tensor in self.network.graph.operators[operator].outputs:
            for reader in self.when_ready.get(tensor, ()):
                while reader not in self.running:
                    strip = self._ready_strip(reader, operator in self.upwards)
                    if strip is None:
                        break
                    self._run_strip(reader, strip)

    def _ready_strip(self, operator: int, upwards: bool) -> Rows | None:
        """The next strip of an operator, if all that it reads is there."""
        size = self.network.row_operators[operator].rule.out_rows
        done = self.produced.get(operator)
        if done is None:
            done = self.produced[operator] = (size, size) if upwards else (0, 0)
            if upwards:
                self.upwards.add(operator)
        ends = self.cuts.ends[operator]
        if operator in self.upwards:
            if not done[0]:
                return None
            starts = [e for e in (0, *ends[:-1]) if e < done[0]][::-1] if ends else range(done[0])
            strips = [(start, done[0]) for start in starts]
        else:
            if done[1] == size:
                return None
            stops = [e for e in ends if e > done[1]] if ends else range(size, done[1], -1)
            strips = [(done[1], stop) for stop in stops]
        if ends:
            return strips[0] if self._is_ready(operator, strips[0]) else None
        # From the largest to the smallest: the first that can run.
        low, high = 0, len(strips)
        while low < high:
            middle = (low + high) // 2
            if self._is_ready(operator, strips[middle]):
                high = middle
            else:
                low = middle + 1
        return strips[low] if low < len(strips) else None

    def _is_ready(self, operator: int, strip: Rows) -> bool:
        whole = [(t, self._all_rows(t)) for t, by_rows in self._reads(operator) if not by_rows]
        reads = self._tile(operator, strip).reads
        for tensor, rows in (*whole, *reads):
            producer = self.network.producer.get(tensor, -1)
            if producer in self.cuts.ends:
                start, stop = self.produced.get(producer, (0, 0))
                if rows[0] < start or stop < rows[1]:
                    return False
            elif tensor not in self.parts:
                return False
        return True

    def _tile(self, sink: int, strip: Rows) -> Tile:
        members = self.members[sink]
        flags = self.flags.get(sink)
        if flags is None:
            flags = self.flags[sink] = tile_flags(members, self.cuts)
        return self.solver.solve(members, strip, self.cuts, flags)

    def _reads(self, sink: int) -> list[tuple[int, bool]]:
        """Tensors that a group reads, and whether it reads them row by row."""
        network, members = self.network, self.members[sink]
        return [
            (tensor, position in network.row_operators[member].row_inputs)
            for member in members
            for position, tensor in enumerate(network.graph.operators[member].inputs)
            if tensor >= 0
            and network.graph.tensors[tensor].in_head
            and network.producer.get(tensor, -1) not in members
        ]

    def _run_strip(self, sink: int, strip: Rows) -> None:
        network = self.network
        if sink in self.cuts.when_ready and not self.cuts.ends[sink]:
            for tensor, rows in self._tile(sink, strip).reads:
                self._demand(tensor, rows)
            start, stop = self.produced[sink]
            strip = (strip[0], start) if sink in self.upwards else (stop, strip[1])
            if strip[0] >= strip[1]:
                return
        self.running.add(sink)
        tile = self._tile(sink, strip)
        reads = tile.reads
        if sink in self.cuts.swapped:
            reads = reads[::-1]
        for tensor, rows in reads:
            if tensor not in self.whole:
                self._save(tensor, rows)
                self._demand(tensor, rows)
        local: dict[int, list[tuple[Rows, ValueNumber]]] = {}
        for step in tile.steps:
            operator, window, out, padding, _ = step
            info = network.row_operators[operator]
            inputs = []
            for position, tensor in enumerate(network.reads[operator]):
                if tensor < 0:
                    inputs.append(ABSENT)
                elif position not in info.row_inputs:
                    inputs.append(self._fetch(tensor, self._all_rows(tensor)))
                else:
                    if tensor in local:
                        value = self._take(tensor, window, local[tensor])
                    else:
                        value = self._fetch(tensor, window)
                    if (
                        padding is not None
                        and (info.pads_columns or any(padding))
                        and operator in network.convolutions
                    ):
                        value = self._pad(value, step)
                    inputs.append(value)
            self.seen.update(inputs)
            writes = network.writes[operator]
            outputs = tuple([self._value(t, out) for t in writes])
            for tensor, value in zip(writes, outputs, strict=True):
                if operator == sink:
                    self.parts.setdefault(tensor, []).append((strip, value))
                else:
                    local[tensor] = [(out, value)]
            self.steps.append(Run(operator, tuple(inputs), outputs, step))
        self.macs += tile.macs
        done = self.produced[sink]
        self.produced[sink] = min(strip[0], done[0]), max(strip[1], done[1])
        self.running.discard(sink)
        if self.when_ready:
            self._run_when_ready(sink)

    def _pad(self, value: ValueNumber, step: TileStep) -> ValueNumber:
        output = self._value(self.values[value].tensor, self.values[value].rows, step.padding)
        self.steps.append(Pad(value, output, step.operator))
        return output

    def _fetch(self, tensor: int, rows: Rows) -> ValueNumber:
        """A value that holds just these rows of a tensor."""
        if tensor not in self.whole:
            self._save(tensor, rows)
            self._demand(tensor, rows)
        return self._take(tensor, rows, self.parts[tensor])

    def _save(self, tensor: int, rows: Rows) -> None:
        """Slices the rows to be copied that are there, before new ones need their place."""
        operator = self.network.producer.get(tensor, -1)
        done = self.produced.get(operator)
        if done is None or operator not in self.cuts.copied:
            return
        old = max(rows[0], done[0]), min(rows[1], done[1])
        if old == rows or old[0] >= old[1]:
            return
        parts = self.parts[tensor]
        value = self._take(tensor, old, parts)
        if value in self.seen:
            output = self._value(tensor, old)
            self.steps.append(RowSlice(value, output))
            parts.append((old, output))

    def _take(self, tensor: int, rows: Rows, parts: list[tuple[Rows, ValueNumber]]) -> ValueNumber:
        around = None
        for exact, value in reversed(parts):
            if exact[0] <= rows[0] and rows[1] <= exact[1]:
                if self.values[value].rows == rows:
                    return value
                if around is None:
                    around = value
        if around is not None:
            output = self._value(tensor, rows)
            self.steps.append(RowSlice(around, output))
        else:
            pieces = _cover(rows, parts)
            # What has been there for longer is sliced first, so that a real copy of it comes
            # after the wrong rows that it overwrites.
            taken = {r: self._take(tensor, r, parts) for _, r in sorted(pieces)}
            if self.network.producer.get(tensor, -1) in self.cuts.copied:
                # A strip that was all of a window, or a part, needs a slice to be copied by; the
                # newest one stays where it is.
                newest = max(pieces)[1]
                for strip, value in taken.items():
                    if value in self.seen and strip != newest:
                        taken[strip] = self._value(tensor, strip)
                        self.steps.append(RowSlice(value, taken[strip]))
            output = self._join([taken[r] for _, r in pieces])
        parts.append((rows, output))
        return output

    def _join(self, sources: list[ValueNumber]) -> ValueNumber:
        while len(sources) > 1:
            joined = []
            for first in range(0, len(sources), MAX_CONCATENATION_INPUTS):
                group = tuple(sources[first : first + MAX_CONCATENATION_INPUTS])
                if len(group) == 1:
                    joined.append(group[0])
                    continue
                rows = self.values[group[0]].rows[0], self.values[group[-1]].rows[1]
                output = self._value(self.values[group[0]].tensor, rows)
                self.steps.append(Concatenation(group, output))
                self.seen.update(group)
                joined.append(output)
            sources = joined
        return sources[0]


def _needed(
    steps: Sequence[Step], outputs: Sequence[ValueNumber], pure: Sequence[bool]
) -> tuple[Step, ...]:
    """The steps that something is made of that leaves the graph, or that change its state."""
    wanted = set(outputs)
    kept: list[Step] = []
    for step in reversed(steps):
        if isinstance(step, Run):
            if not wanted.isdisjoint(step.outputs) or not pure[step.operator]:
                kept.append(step)
                wanted.update(step.inputs)
        elif step.output not in wanted:
            continue
        elif isinstance(step, Concatenation):
            kept.append(step)
            wanted.update(step.sources)
        else:
            kept.append(step)
            wanted.add(step.source)
    return tuple(reversed(kept))


def _cover(rows: Rows, parts: list[tuple[Rows, ValueNumber]]) -> list[tuple[int, Rows]]:
    """Splits rows among as few parts as possible, from the first on: (age of the part, rows)."""
    pieces = []
    position = rows[0]
    while position < rows[1]:
        reach, age = max(
            (stop, number)
            for number, ((start, stop), _) in enumerate(parts)
            if start <= position < stop
        )
        pieces.append((age, (position, min(reach, rows[1]))))
        position = reach
    return pieces
