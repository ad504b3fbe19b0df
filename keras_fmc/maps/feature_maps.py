"""The feature maps of a model: their bytes, and which of them are live at every operator.

A map is *stored* when it occupies memory between two operators of the device. Batch
normalisation and activations run inside, or in place right behind, the operator that feeds them,
so a convolution with both makes one stored map; a reshape makes none.

The figures are those of a schedule in the order of the operators and a perfect allocator: a lower
bound of the planned part of the arena. They leave out scratch buffers and the persistent part.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from keras_fmc.model.effect import Effect
from keras_fmc.notebook import data_frame, shape_text, table_html

if TYPE_CHECKING:
    import keras

    from keras_fmc.model.layer_graph import LayerGraph


class Storage(Enum):
    """Where a map lives."""

    STORED = "stored"
    """In memory of its own."""
    IN_PLACE = "in place"
    """In the memory of an input of its operator, which dies there."""
    VIEW = "view"
    """The bytes of another map under another shape."""
    FUSED = "fused"
    """Nowhere: it never leaves its operator, or the next operator overwrites it at once."""


@dataclass(frozen=True, slots=True)
class MapOperator:
    """An operator of the device as it reads and writes maps.

    Attributes:
        name: unique.
        kind: what it does, e.g. `"Conv2D + BatchNormalization + ReLU"`.
        inputs, outputs: names of maps; constants are left out.
        effect: of the operator on memory.
        offset_bytes: where a view begins in what it is a part of.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    effect: Effect = Effect.COMPUTE
    offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """One activation tensor.

    Attributes:
        name: of the tensor; for Keras models the name of the layer call that makes it.
        shape: without the batch axis.
        size_bytes: in int8; integer tensors keep their own width.
        storage: where it lives.
        home: the map whose memory it occupies, itself if stored; for a fused map the one that
            takes its place.
        producer: name of the operator that makes it; None for a model input.
        consumers: names of the operators that read it, in their order.
    """

    name: str
    shape: tuple[int, ...]
    size_bytes: int
    storage: Storage
    home: str
    producer: str | None
    consumers: tuple[str, ...]

    @property
    def is_kept(self) -> bool:
        """Whether operators communicate through it: stored, or in place of a dead input."""
        return self.storage in (Storage.STORED, Storage.IN_PLACE)


@dataclass(frozen=True, slots=True)
class LiveSet:
    """The memory in use while one operator runs: its inputs, outputs and all that waits.

    Attributes:
        operator: its name.
        maps: names, sorted; maps that share memory (in place, views) are all named.
        size_bytes: sum of their sizes, shared memory counted once.
    """

    operator: str
    maps: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FeatureMaps:
    """Every map of a model and the live set at every operator.

    Attributes:
        model: its name.
        maps: inputs first, then in the order of production.
        operators: in the order of execution, elementwise ones joined to their producer.
        live_sets: one for each operator.
        inputs, outputs: names of maps.
        unmodelled: names of operators whose inner buffers are unknown and not counted.
    """

    model: str
    maps: tuple[FeatureMap, ...]
    operators: tuple[MapOperator, ...]
    live_sets: tuple[LiveSet, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    unmodelled: tuple[str, ...] = ()

    @classmethod
    def from_operators(
        cls,
        model: str,
        values: Iterable[tuple[str, tuple[int, ...], int]],
        operators: Sequence[MapOperator],
        *,
        inputs: Sequence[str],
        outputs: Sequence[str],
        unmodelled: Sequence[str] = (),
        vanished: Mapping[str, str] | None = None,
    ) -> FeatureMaps:
        """Works out storage and live sets from plain data.

        Args:
            model: a name.
            values: (name, shape without batch axis, bytes) of every map.
            operators: in the order of execution.
            inputs, outputs: names of maps; outputs live to the end.
            unmodelled: names of operators whose inner buffers are unknown.
            vanished: name that a map had on the way → the map that holds it.

        Raises:
            BadInputError: no operators, a map without a size, or one read before it is made.
        """
        from keras_fmc.maps.live_sets import analyse

        return analyse(model, list(values), operators, inputs, outputs, unmodelled, vanished or {})

    def operator(self, name: str) -> MapOperator:
        """Returns the operator of that name."""
        for operator in self.operators:
            if operator.name == name:
                return operator
        raise KeyError(name)

    def __getitem__(self, name: str) -> FeatureMap:
        for feature_map in self.maps:
            if feature_map.name == name:
                return feature_map
        raise KeyError(name)

    @property
    def kept(self) -> tuple[FeatureMap, ...]:
        """The maps through which operators communicate (`FeatureMap.is_kept`)."""
        return tuple(feature_map for feature_map in self.maps if feature_map.is_kept)

    @property
    def largest(self) -> FeatureMap:
        """The first of the largest kept maps."""
        return max(self.kept, key=lambda feature_map: feature_map.size_bytes)

    @property
    def peak_bytes(self) -> int:
        """The largest live set."""
        return max(live.size_bytes for live in self.live_sets)

    @property
    def peak_operators(self) -> tuple[str, ...]:
        """The operators whose live set is the largest."""
        peak = self.peak_bytes
        return tuple(live.operator for live in self.live_sets if live.size_bytes == peak)

    def with_sizes(self, sizes: Mapping[str, int]) -> FeatureMaps:
        """Returns the same maps with some of them held in another number of bytes.

        A map held as codes has memory of its own: it is not made in place of an input, and
        nothing is made in place of it.

        Args:
            sizes: map name → bytes.
        """
        from keras_fmc.maps.live_sets import resized

        return resized(self, sizes)

    def to_dataframe(self) -> Any:
        """Returns the maps as a pandas.DataFrame, one row each."""
        return data_frame(self.to_dict()["maps"])

    def _repr_html_(self) -> str:
        rows = [
            (m.name, shape_text(m.shape), m.size_bytes, m.storage.value, m.producer or "(input)")
            for m in self.maps
        ]
        head = ("map", "shape", "bytes", "storage", "made by")
        says = f"Peak {self.peak_bytes:,} bytes at {', '.join(self.peak_operators)}."
        return table_html(f"Feature maps of {self.model}", head, rows, says=says)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {
            "model": self.model,
            "peak_bytes": self.peak_bytes,
            "peak_operators": list(self.peak_operators),
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "unmodelled": list(self.unmodelled),
            "maps": [
                {
                    "name": item.name,
                    "shape": list(item.shape),
                    "bytes": item.size_bytes,
                    "storage": item.storage.value,
                    "home": item.home,
                    "producer": item.producer,
                    "consumers": list(item.consumers),
                }
                for item in self.maps
            ],
            "operators": [
                {
                    "name": operator.name,
                    "kind": operator.kind,
                    "inputs": list(operator.inputs),
                    "outputs": list(operator.outputs),
                    "live": list(live.maps),
                    "live_bytes": live.size_bytes,
                }
                for operator, live in zip(self.operators, self.live_sets, strict=True)
            ],
        }

    def to_text(self) -> str:
        """Returns two tables, the maps and the live sets, and the peak. Bytes are int8."""
        outputs = dict.fromkeys(self.outputs, ("(model output)",))
        maps = [("map", "shape", "bytes", "storage", "made by", "read by")]
        for item in self.maps:
            where = item.storage.value
            if item.home != item.name:
                where += f" ({item.home})"
            maps.append(
                (
                    item.name,
                    "x".join(map(str, item.shape)),
                    f"{item.size_bytes:,}",
                    where,
                    item.producer or "(model input)",
                    ", ".join(item.consumers + outputs.get(item.name, ())) or "-",
                )
            )
        operators = [("", "operator", "kind", "live bytes", "live maps")]
        for operator, live in zip(self.operators, self.live_sets, strict=True):
            operators.append(
                (
                    "*" if live.size_bytes == self.peak_bytes else "",
                    operator.name,
                    operator.kind,
                    f"{live.size_bytes:,}",
                    ", ".join(live.maps),
                )
            )
        lines = [
            f"{self.model}: {len(self.kept)} maps kept between operators, largest "
            f"{self.largest.name} {self.largest.size_bytes:,} B",
            "",
            *_table(maps, right={2}),
            "",
            *_table(operators, right={3}),
            "",
            f"peak (*): {self.peak_bytes:,} B at {', '.join(self.peak_operators)}",
        ]
        if self.unmodelled:
            lines.append(f"inner buffers not counted: {', '.join(self.unmodelled)}")
        return "\n".join(lines) + "\n"


def profile(model: keras.Model | str | os.PathLike[str]) -> FeatureMaps:
    """Returns every feature map of a Keras model with its live sets.

    Args:
        model: a Sequential, functional or nested Keras 3 model, or the path of a `.keras` or
            `.h5` file (`keras_fmc.model.loading.load_model`).

    Raises:
        BadInputError: not a model, not a readable file, or shapes that are not fixed.
        UnsupportedModelError: a subclassed model.
    """
    from keras_fmc.model.loading import load_model
    from keras_fmc.qat.checks import checked_graph

    if isinstance(model, (str, os.PathLike)):
        model = load_model(model)
    return profile_graph(checked_graph(model))


def profile_graph(graph: LayerGraph) -> FeatureMaps:
    """`profile` of a model in canonical form; maps keep the names of the graph's values."""
    from keras_fmc.maps.lowering import lower

    lowered = lower(graph)
    return FeatureMaps.from_operators(
        lowered.model,
        lowered.values,
        lowered.operators,
        inputs=lowered.inputs,
        outputs=lowered.outputs,
        vanished=lowered.vanished,
    )


def _table(rows: Sequence[tuple[str, ...]], *, right: set[int]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
