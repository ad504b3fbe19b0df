"""Which feature maps get a bottleneck, as plain data that can be stored as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from keras_fmc.errors import BadInputError

_VERSION = 1


class BottleneckKind(Enum):
    """How a map is compressed."""

    PROJECTION = "projection"
    """k of C channels, `ProjectionBottleneck`."""


class SkipReason(Enum):
    """Why a map got no bottleneck."""

    BELOW_CEILING = "no larger than the ceiling"
    MODEL_INPUT = "the model's input"
    MODEL_OUTPUT = "the model's output"
    NOT_ELIGIBLE = "left out by eligible="
    PADDED_COPY = "zero padding of another map"
    INSIDE_LAYER = "inside one Keras layer"
    CHANNELS_FIRST = "channels first"
    NOT_FLOAT = "not a float tensor"


@dataclass(frozen=True, slots=True)
class BottleneckSpec:
    """A bottleneck for one map.

    Attributes:
        name: of the map (`FeatureMap.name`).
        shape: of the map without the batch axis, channels last.
        rank: k, channels of the code.
        bits: of a code value; None for float codes, which count as 8 bits.
        kind: of the bottleneck.
    """

    name: str
    shape: tuple[int, ...]
    rank: int
    bits: int | None = 8
    kind: BottleneckKind = BottleneckKind.PROJECTION

    @property
    def size_bytes(self) -> int:
        """Of the map in int8."""
        return math.prod(self.shape)

    @property
    def code_bytes(self) -> int:
        """Of the stored code: positions · ⌈k · bits / 8⌉."""
        return math.prod(self.shape[:-1]) * -(-self.rank * (self.bits or 8) // 8)


@dataclass(frozen=True, slots=True)
class SkippedMap:
    """A map that stays as it is."""

    name: str
    shape: tuple[int, ...]
    size_bytes: int
    reason: SkipReason


@dataclass(frozen=True, slots=True)
class CompressionPlan:
    """The bottlenecks for a model.

    Attributes:
        model: its name.
        ceiling_bytes: T; no code is larger.
        bottlenecks: in the order in which the maps are made.
        skipped: every other map that is kept between operators.
        head_bytes: largest live set with the codes in place of their maps. It takes for granted
            that uncompressed maps exist as strips only.
        uncompressed_head_bytes: largest live set without bottlenecks.
    """

    model: str
    ceiling_bytes: int
    bottlenecks: tuple[BottleneckSpec, ...]
    skipped: tuple[SkippedMap, ...]
    head_bytes: int
    uncompressed_head_bytes: int

    def __getitem__(self, name: str) -> BottleneckSpec:
        for spec in self.bottlenecks:
            if spec.name == name:
                return spec
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON; `from_dict` restores an equal plan."""
        return {
            "version": _VERSION,
            "model": self.model,
            "ceiling_bytes": self.ceiling_bytes,
            "head_bytes": self.head_bytes,
            "uncompressed_head_bytes": self.uncompressed_head_bytes,
            "bottlenecks": [
                {
                    "name": spec.name,
                    "shape": list(spec.shape),
                    "rank": spec.rank,
                    "bits": spec.bits,
                    "kind": spec.kind.value,
                    "code_bytes": spec.code_bytes,
                }
                for spec in self.bottlenecks
            ],
            "skipped": [
                {
                    "name": skip.name,
                    "shape": list(skip.shape),
                    "bytes": skip.size_bytes,
                    "reason": skip.reason.name,
                }
                for skip in self.skipped
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CompressionPlan:
        """Restores a plan from `to_dict`.

        Raises:
            BadInputError: a key is missing, or a value is none of those that `to_dict` writes.
        """
        if not isinstance(data, Mapping) or data.get("version") != _VERSION:
            raise BadInputError(
                "not a compression plan", f"version {_VERSION} as written by to_dict()"
            )
        try:
            return cls(
                model=str(data["model"]),
                ceiling_bytes=int(data["ceiling_bytes"]),
                bottlenecks=tuple(
                    BottleneckSpec(
                        name=str(item["name"]),
                        shape=tuple(int(size) for size in item["shape"]),
                        rank=int(item["rank"]),
                        bits=None if item["bits"] is None else int(item["bits"]),
                        kind=BottleneckKind(item["kind"]),
                    )
                    for item in data["bottlenecks"]
                ),
                skipped=tuple(
                    SkippedMap(
                        name=str(item["name"]),
                        shape=tuple(int(size) for size in item["shape"]),
                        size_bytes=int(item["bytes"]),
                        reason=SkipReason[item["reason"]],
                    )
                    for item in data["skipped"]
                ),
                head_bytes=int(data["head_bytes"]),
                uncompressed_head_bytes=int(data["uncompressed_head_bytes"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(
                "damaged compression plan", received=f"{type(error).__name__}: {error}"
            ) from error

    def to_text(self) -> str:
        """Returns one line for each bottleneck and a line of totals."""
        lines = [
            f"{self.model}: ceiling {self.ceiling_bytes:,} B, {len(self.bottlenecks)} bottlenecks"
        ]
        lines += [
            f"  {spec.name}  {'x'.join(map(str, spec.shape))}  {spec.shape[-1]} -> {spec.rank}  "
            f"{spec.size_bytes:,} -> {spec.code_bytes:,} B"
            for spec in self.bottlenecks
        ]
        lines.append(
            f"largest live set {self.uncompressed_head_bytes:,} -> {self.head_bytes:,} B, with "
            "uncompressed maps as strips"
        )
        return "\n".join(lines) + "\n"
