"""Where every feature map lives, and for how long.

Two steps: elementwise operators join the operator that feeds them, so that the map between them is
gone; then each map gets memory of its own, or shares that of an input that dies or only changes
shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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
    storage, home, part_of = _homes(operators, inputs, sizes, stops, coded)
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
        live_sets=_live_sets(operators, home, part_of, sizes, stops),
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


def _homes(
    operators: Sequence[MapOperator],
    inputs: Sequence[str],
    sizes: Mapping[str, int],
    stops: Mapping[str, int],
    coded: frozenset[str],
) -> tuple[dict[str, Storage], dict[str, str], dict[str, str]]:
    """Returns the storage of every map, the map whose memory it occupies, and the maps that are
    part of a joined one.

    An elementwise operator overwrites its first input of equal size whose memory nobody needs
    afterwards, under any of its names. Maps with memory of their own that are joined are made in
    that of the joined one.
    """
    storage = dict.fromkeys(inputs, Storage.STORED)
    home = {name: name for name in inputs}
    part_of: dict[str, str] = {}
    needed_until = {name: stops.get(name, 0) for name in inputs}
    for index, operator in enumerate(operators):
        for name in operator.outputs:
            storage[name], home[name] = Storage.STORED, name
            if operator.effect is Effect.VIEW:
                storage[name], home[name] = Storage.VIEW, home[operator.inputs[0]]
            elif operator.effect is Effect.ELEMENTWISE and name not in coded:
                for source in operator.inputs:
                    owner = _root(part_of, home[source])
                    dies = needed_until[owner] <= index + 1 and owner not in coded
                    if dies and sizes[source] == sizes[owner] == sizes[name]:
                        storage[name], home[name] = Storage.IN_PLACE, owner
                        break
            elif operator.effect is Effect.JOIN and name not in coded:
                owners = [home[source] for source in operator.inputs]
                own = len(set(owners)) == len(owners) and not coded.intersection(owners)
                whole = [sizes[source] for source in operator.inputs]
                if own and whole == [sizes[owner] for owner in owners]:
                    free = [owner for owner in owners if owner not in part_of]
                    part_of |= dict.fromkeys(free, name)
                    needed_until[name] = max(needed_until[owner] for owner in owners)
            owner = _root(part_of, home[name])
            needed_until[owner] = max(needed_until.get(owner, 0), stops[name])
    return storage, home, part_of


def _root(part_of: Mapping[str, str], owner: str) -> str:
    while owner in part_of:
        owner = part_of[owner]
    return owner


def _is_inside(part_of: Mapping[str, str], owner: str, owners: set[str]) -> bool:
    while owner in part_of:
        owner = part_of[owner]
        if owner in owners:
            return True
    return False


def _live_sets(
    operators: Sequence[MapOperator],
    home: Mapping[str, str],
    part_of: Mapping[str, str],
    sizes: Mapping[str, int],
    stops: Mapping[str, int],
) -> tuple[LiveSet, ...]:
    """A map is live in [start, stop) of operator indices, from its producer to its last reader; a
    model input from the start. Memory with several live maps in it counts once, and that of a part
    with what it is part of."""
    start = dict.fromkeys(home, 0)
    for index, operator in enumerate(operators):
        start.update(dict.fromkeys(operator.outputs, index))
    live_sets = []
    for index, operator in enumerate(operators):
        live = sorted(name for name in home if start[name] <= index < stops.get(name, 0))
        owners = {home[name] for name in live}
        size = sum(sizes[owner] for owner in owners if not _is_inside(part_of, owner, owners))
        live_sets.append(LiveSet(operator.name, tuple(live), size))
    return tuple(live_sets)
