"""Where every feature map lives, and for how long.

Two steps: elementwise operators join the operator that feeds them, so that the map between them is
gone; then each map gets memory of its own, or shares that of an input that dies or only changes
shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from keras_fmc.errors import BadInputError
from keras_fmc.maps.feature_maps import (
    Effect,
    FeatureMap,
    FeatureMaps,
    LiveSet,
    MapOperator,
    Storage,
)

Value = tuple[str, tuple[int, ...], int]


def analyse(
    model: str,
    values: Sequence[Value],
    operators: Sequence[MapOperator],
    inputs: Sequence[str],
    outputs: Sequence[str],
    unmodelled: Sequence[str],
    vanished: Mapping[str, str],
) -> FeatureMaps:
    """See `FeatureMaps.from_operators`."""
    sizes = {name: size for name, _, size in values}
    order: dict[str, float] = {name: place for place, name in enumerate(inputs)}
    for operator in operators:
        for name in operator.inputs:
            if name not in order:
                raise BadInputError(f"operator {operator.name!r} reads {name!r} before it is made")
        for name in operator.outputs:
            order.setdefault(name, len(order))
    missing = sorted(order.keys() - sizes.keys()) + sorted(set(outputs) - order.keys())
    if missing:
        raise BadInputError(
            f"model {model!r} has a map that nobody makes, or without a size",
            received=repr(missing[0]),
        )
    if not operators:
        raise BadInputError(f"model {model!r} has no operators")
    joined, fused = _join_elementwise(operators, set(outputs), sizes)
    fused |= {name: fused.get(home, home) for name, home in vanished.items()}
    shapes = {value[0]: value for value in values}
    order |= {name: order[home] - 0.5 for name, home in vanished.items()}
    known = [*(value for value in values if value[0] in order)]
    known += [(name, *shapes[home][1:]) for name, home in vanished.items()]
    return _assign(
        model,
        sorted(known, key=lambda value: order[value[0]]),
        joined,
        tuple(inputs),
        tuple(outputs),
        tuple(unmodelled),
        fused=fused,
        coded=frozenset(),
    )


def resized(maps: FeatureMaps, sizes: Mapping[str, int]) -> FeatureMaps:
    """See `FeatureMaps.with_sizes`."""
    return _assign(
        maps.model,
        [(item.name, item.shape, sizes.get(item.name, item.size_bytes)) for item in maps.maps],
        maps.operators,
        maps.inputs,
        maps.outputs,
        maps.unmodelled,
        fused={item.name: item.home for item in maps.maps if item.storage is Storage.FUSED},
        coded=frozenset(sizes),
    )


def _join_elementwise(
    operators: Sequence[MapOperator], outputs: set[str], sizes: Mapping[str, int]
) -> tuple[tuple[MapOperator, ...], dict[str, str]]:
    """Joins each elementwise operator to the producer of its only input, if it alone reads it.

    Returns the operators that remain, and fused map → the map that takes its place.
    """
    readers: dict[str, int] = {}
    for operator in operators:
        for name in set(operator.inputs):
            readers[name] = readers.get(name, 0) + 1
    joined: list[MapOperator] = []
    maker: dict[str, int] = {}
    replaced: dict[str, str] = {}
    for operator in operators:
        sources = set(operator.inputs)
        source = next(iter(sources)) if len(sources) == 1 else None
        if (
            operator.effect is Effect.ELEMENTWISE
            and source in maker
            and readers[source] == 1
            and source not in outputs
            and sizes[source] == sizes[operator.outputs[0]]
            and joined[maker[source]].effect is not Effect.VIEW
        ):
            place = maker[source]
            head = joined[place]
            joined[place] = MapOperator(
                head.name,
                f"{head.kind} + {operator.kind}",
                head.inputs,
                tuple(operator.outputs[0] if name == source else name for name in head.outputs),
                head.effect,
            )
            replaced[source] = operator.outputs[0]
            maker[operator.outputs[0]] = place
            continue
        joined.append(operator)
        maker.update({name: len(joined) - 1 for name in operator.outputs})
    return tuple(joined), {name: _last(replaced, name) for name in replaced}


def _last(replaced: dict[str, str], name: str) -> str:
    while name in replaced:
        name = replaced[name]
    return name


def _assign(
    model: str,
    values: Sequence[Value],
    operators: tuple[MapOperator, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    unmodelled: tuple[str, ...],
    *,
    fused: Mapping[str, str],
    coded: frozenset[str],
) -> FeatureMaps:
    """Puts the parts together once it is known which maps are `fused` and which are `coded`."""
    sizes = {name: size for name, _, size in values}
    stops = _stops(operators, outputs)
    memory = _Memory(operators, inputs, outputs, sizes, coded)
    storage, home, part_of = memory.storage, memory.home, memory.part_of
    producer = {name: operator.name for operator in operators for name in operator.outputs}
    consumers: dict[str, list[str]] = {name: [] for name in sizes}
    for operator in operators:
        for name in dict.fromkeys(operator.inputs):
            consumers[name].append(operator.name)
    maps = []
    for name, shape, size in values:
        if name in fused:
            heir = fused[name]
            maps.append(FeatureMap(name, shape, size, Storage.FUSED, heir, producer.get(heir), ()))
        else:
            readers = tuple(consumers[name])
            made_by = producer.get(name)
            owner = _root(part_of, home[name])
            where = Storage.VIEW if owner != home[name] == name else storage[name]
            maps.append(FeatureMap(name, shape, size, where, owner, made_by, readers))
    return FeatureMaps(
        model=model,
        maps=tuple(maps),
        operators=operators,
        live_sets=_live_sets(operators, memory, stops),
        inputs=inputs,
        outputs=outputs,
        unmodelled=unmodelled,
    )


def _stops(operators: Sequence[MapOperator], outputs: Iterable[str]) -> dict[str, int]:
    """Map → index after its last reader, or after its producer; for model outputs one after the
    end, so that not even the last operator overwrites them."""
    stops: dict[str, int] = {}
    for index, operator in enumerate(operators):
        stops.update(dict.fromkeys((*operator.inputs, *operator.outputs), index + 1))
    stops.update(dict.fromkeys(outputs, len(operators) + 1))
    return stops


class _Memory:
    """The storage of every map, the map whose memory it occupies, and the maps that are part of a
    joined one.

    An elementwise operator overwrites its first input of equal size whose bytes nobody reads
    afterwards, under any of their names. Maps with memory of their own that are joined are made in
    that of the joined one. A view reads nothing: its bytes are read by those who read the view.

    Attributes:
        born, read: map → index of the operator that makes its bytes, and after the last that
            reads them by this name.
        offset: where a map begins in its home.
    """

    def __init__(
        self,
        operators: Sequence[MapOperator],
        inputs: Sequence[str],
        outputs: Sequence[str],
        sizes: Mapping[str, int],
        coded: frozenset[str],
    ) -> None:
        self.sizes, self.coded, self.inputs = sizes, coded, frozenset(inputs)
        self._value: dict[str, tuple[str, int]] = {}
        operators = self._with_values(operators, inputs)
        self.storage = dict.fromkeys(inputs, Storage.STORED)
        self.home = {name: name for name in inputs}
        self.offset = dict.fromkeys(inputs, 0)
        self.part_of: dict[str, str] = {}
        self.place_in: dict[str, int] = {}
        self.born = dict.fromkeys(inputs, 0)
        self.read = dict.fromkeys(inputs, 0)
        views = {name for op in operators if op.effect is Effect.VIEW for name in op.outputs}
        for index, operator in enumerate(operators):
            made = 0 if views & set(operator.outputs) else index + 1
            self.read |= dict.fromkeys(operator.outputs, made)
            if operator.effect is not Effect.VIEW:
                self.read |= dict.fromkeys(operator.inputs, index + 1)
        self.read |= dict.fromkeys(outputs, len(operators) + 1)
        for index, operator in enumerate(operators):
            for name in operator.outputs:
                self._add(index, operator, name)

    def _with_values(
        self, operators: Sequence[MapOperator], inputs: Sequence[str]
    ) -> list[MapOperator]:
        """Finds out what each map is a view of, itself or another, and where it begins there.

        Returns the operators; those that join again what was taken apart are views.
        """
        self._value |= {name: (name, 0) for name in inputs}
        found = []
        for operator in operators:
            if operator.effect is Effect.JOIN and self._stands_joined(operator):
                operator = replace(operator, effect=Effect.VIEW)
            found.append(operator)
            for name in operator.outputs:
                self._value[name] = (name, 0)
                if operator.effect is Effect.VIEW:
                    base, offset = self._value[operator.inputs[0]]
                    self._value[name] = (base, offset + operator.offset_bytes)
        return found

    def _stands_joined(self, operator: MapOperator) -> bool:
        """Whether the maps that are joined stand one behind the other in one map already."""
        base, end = self._value[operator.inputs[0]]
        if len(operator.inputs) == 1 or base in self.coded:
            return False
        for name in operator.inputs:
            if self._value[name] != (base, end):
                return False
            end += self.sizes[name]
        return sum(self.sizes[name] for name in operator.inputs) == self.sizes[operator.outputs[0]]

    def _add(self, index: int, operator: MapOperator, name: str) -> None:
        self.storage[name], self.home[name], self.offset[name] = Storage.STORED, name, 0
        self.born[name] = index
        if operator.effect is Effect.VIEW:
            source = operator.inputs[0]
            self.storage[name], self.home[name] = Storage.VIEW, self.home[source]
            self.offset[name] = self.offset[source] + operator.offset_bytes
            self.born[name] = self.born[source]
        elif operator.effect is Effect.ELEMENTWISE and name not in self.coded:
            for source in operator.inputs:
                # What is fed lives while the first operator runs.
                fed = index == 0 and source in self.inputs
                if not fed and self.sizes[source] == self.sizes[name] and self._dies(source, index):
                    self.storage[name], self.home[name] = Storage.IN_PLACE, self._owner(source)
                    self.offset[name] = self.place(source)[1]
                    break
        elif operator.effect is Effect.JOIN and name not in self.coded:
            self._join(operator, name)

    def _owner(self, name: str) -> str:
        return _root(self.part_of, self.home[name])

    def place(self, name: str) -> tuple[str, int]:
        """The memory in which a map stands, and where it begins there."""
        owner, offset = self.home[name], self.offset[name]
        while owner in self.part_of:
            offset += self.place_in[owner]
            owner = self.part_of[owner]
        return owner, offset

    def _dies(self, source: str, index: int) -> bool:
        """Whether nobody reads the bytes of a map after an operator."""
        if self._owner(source) in self.coded or self.home[source] in self.coded:
            return False
        base, begin = self._value[source]
        end = begin + self.sizes[source]
        return all(
            self.read[other] <= index + 1
            for other, (of, start) in self._value.items()
            if of == base and start < end and begin < start + self.sizes[other]
        )

    def _join(self, operator: MapOperator, name: str) -> None:
        start = 0
        for source in operator.inputs:
            owner, size = self.home[source], self.sizes[source]
            whole = size == self.sizes[owner]
            if whole and owner not in self.part_of and owner not in self.coded:
                self.part_of[owner], self.place_in[owner] = name, start
            start += size


def _root(part_of: Mapping[str, str], owner: str) -> str:
    while owner in part_of:
        owner = part_of[owner]
    return owner


def _live_sets(
    operators: Sequence[MapOperator], memory: _Memory, stops: Mapping[str, int]
) -> tuple[LiveSet, ...]:
    """A map is live in [start, stop) of operator indices, from its producer to its last reader; a
    model input from the start. Bytes of several live maps count once, and those of a view from the
    producer of what it is a view of to the last reader of the view."""
    start = dict.fromkeys(memory.home, 0)
    for index, operator in enumerate(operators):
        start.update(dict.fromkeys(operator.outputs, index))
    live_sets = []
    for index, operator in enumerate(operators):
        live = sorted(name for name in memory.home if start[name] <= index < stops.get(name, 0))
        ranges: dict[str, list[tuple[int, int]]] = {}
        for name, born in memory.born.items():
            if not born <= index < memory.read[name]:
                continue
            owner, offset = memory.place(name)
            # Codes are packed: a view of them has no bytes of its own.
            coded = owner in memory.coded
            part = (0, memory.sizes[owner]) if coded else (offset, offset + memory.sizes[name])
            ranges.setdefault(owner, []).append(part)
        size = sum(_covered(parts) for parts in ranges.values())
        live_sets.append(LiveSet(operator.name, tuple(live), size))
    return tuple(live_sets)


def _covered(ranges: list[tuple[int, int]]) -> int:
    """Bytes in the union of half-open ranges."""
    covered, end = 0, 0
    for start, stop in sorted(ranges):
        covered += max(0, stop - max(start, end))
        end = max(end, stop)
    return covered
