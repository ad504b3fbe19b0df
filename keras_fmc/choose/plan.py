"""Which feature maps get a bottleneck, as plain data that can be stored as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from keras_fmc.errors import BadInputError
from keras_fmc.notebook import data_frame, shape_text, table_html

_VERSION = 2
_READABLE = (1, 2)
"""Version 1 knew projections of 8 bits and stride 1 only."""


class BottleneckKind(Enum):
    """How a map is compressed."""

    PROJECTION = "projection"
    """k of C channels, `ProjectionBottleneck`."""

    GF2 = "gf2"
    """k bits, learned from the bit planes of all C channels, `GF2Bottleneck`."""

    PLAIN = "plain"
    """All C channels in fewer bits, `CodeQuantizer`."""


class SkipReason(Enum):
    """Why a map got no bottleneck."""

    BELOW_CEILING = "no larger than the ceiling"
    MODEL_INPUT = "the model's input"
    MODEL_OUTPUT = "the model's output"
    NOT_ELIGIBLE = "left out by eligible="
    PADDED_COPY = "zero padding of another map"
    INSIDE_LAYER = "inside one Keras layer"
    NOT_FLOAT = "not a float tensor"
    NOT_A_MAP = "no map of height, width and channels"
    SIGNED = "it can be negative, and a signed code has at least 2 bits"
    POOLED = "its values are the codes of the map that is pooled"
    FITS = "the model fits without a code for it"
    JOINED = "only a concatenation reads it, which is compressed itself"


@dataclass(frozen=True, slots=True)
class BottleneckSpec:
    """A bottleneck for one map.

    Attributes:
        name: of the map (`FeatureMap.name`).
        shape: of the map without the batch axis, channels last.
        rank: k, channels of what is stored; of GF2, bits a stored position; of PLAIN, C.
        bits: of a code value; None for float codes, which count as 8 bits. Of GF2, B of the codes
            that are split into planes.
        kind: of the bottleneck.
        strides: 2 for one stored position for 2×2.
        kernel_size: of P and R, 1 with strides 1, 2 or 3 with strides 2.
        hidden: of GF2, channels of further binary layers.
        signed: of GF2 and PLAIN, whether the map can be negative.

    Raises:
        BadInputError: values that the kind cannot have.
    """

    name: str
    shape: tuple[int, ...]
    rank: int
    bits: int | None = 8
    kind: BottleneckKind = BottleneckKind.PROJECTION
    strides: int = 1
    kernel_size: int = 1
    hidden: tuple[int, ...] = ()
    signed: bool = False

    def __post_init__(self) -> None:
        check_code(self.kind, self.bits, subject=f"bottleneck of map {self.name!r}")
        if self.kind is BottleneckKind.PLAIN and self.rank != self.shape[-1]:
            raise BadInputError(
                f"plain code of map {self.name!r}", f"all {self.shape[-1]} channels", self.rank
            )
        if self.kind is BottleneckKind.PLAIN and self.signed and self.bits == 1:
            raise BadInputError(
                f"plain code of one bit for map {self.name!r}, which can be negative",
                remedy="Put a ReLU behind the map, or use bits=2 or kind='projection'",
            )

    @property
    def size_bytes(self) -> int:
        """Of the map in int8."""
        return math.prod(self.shape)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """(H', W', k): positions and channels of what is stored."""
        return (*(-(-size // self.strides) for size in self.shape[:-1]), self.rank)

    @property
    def position_bits(self) -> int:
        """Bits of a stored position that hold something."""
        return self.rank * (1 if self.kind is BottleneckKind.GF2 else self.bits or 8)

    @property
    def spare_bits(self) -> int:
        """Bits of the last byte of a stored position that hold nothing; they are counted."""
        return -self.position_bits % 8

    @property
    def code_bytes(self) -> int:
        """Of what is stored: H'·W' · ⌈bits of a position / 8⌉."""
        return math.prod(self.stored_shape[:-1]) * -(-self.position_bits // 8)

    def to_text(self) -> str:
        """Returns what becomes of the map, in one line."""
        channels = self.shape[-1]
        if self.kind is BottleneckKind.PROJECTION:
            what = f"{channels} -> {self.rank}"
            if self.bits not in (8, None):
                what += f" of {self.bits} bits"
        elif self.kind is BottleneckKind.PLAIN:
            what = f"{channels} of {self.bits} bits, {'signed' if self.signed else 'unsigned'}"
        else:
            what = f"{channels}x{self.bits} -> {self.rank} bits over GF(2)"
            what += ", signed" if self.signed else ""
        if self.strides > 1:
            what += f", {self.kernel_size}x{self.kernel_size} stride {self.strides}"
        spare = f" ({self.spare_bits} spare bits a position)" if self.spare_bits else ""
        return (
            f"{self.name}  {'x'.join(map(str, self.shape))}  {what}  "
            f"{self.size_bytes:,} -> {self.code_bytes:,} B{spare}"
        )


def check_code(kind: BottleneckKind, bits: int | None, *, subject: str) -> None:
    """Checks that codes of `bits` exist for bottlenecks of a kind.

    Raises:
        BadInputError: they do not; names those that do.
    """
    if isinstance(bits, bool) or bits not in _BITS[kind]:
        wanted = ", ".join("None for float" if b is None else str(b) for b in _BITS[kind])
        raise BadInputError(
            f"code width of a {kind.value} {subject}", f"bits of {wanted}", repr(bits)
        )


_BITS: dict[BottleneckKind, tuple[int | None, ...]] = {
    BottleneckKind.PROJECTION: (8, 6, 4, 2, 1, None),
    BottleneckKind.GF2: (8, 6, 4, 2),
    BottleneckKind.PLAIN: (6, 4, 2, 1),
}


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

    def to_dataframe(self) -> Any:
        """Returns the bottlenecks as a pandas.DataFrame, one row each."""
        return data_frame(self.to_dict()["bottlenecks"])

    def _repr_html_(self) -> str:
        rows = [
            (spec.name, shape_text(spec.shape), spec.kind.value, spec.rank, spec.bits or "float")
            for spec in self.bottlenecks
        ]
        says = (
            f"No code is larger than {self.ceiling_bytes:,} bytes; the largest live set is "
            f"{self.head_bytes:,} bytes instead of {self.uncompressed_head_bytes:,}. "
            f"{len(self.skipped)} maps stay as they are."
        )
        head = ("map", "shape", "kind", "rank", "bits")
        return table_html(f"Bottlenecks of {self.model}", head, rows, says=says)

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
                    "strides": spec.strides,
                    "kernel_size": spec.kernel_size,
                    "hidden": list(spec.hidden),
                    "signed": spec.signed,
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
        if not isinstance(data, Mapping) or data.get("version") not in _READABLE:
            raise BadInputError(
                "not a compression plan",
                f"version {' or '.join(map(str, _READABLE))} as written by to_dict()",
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
                        strides=int(item.get("strides", 1)),
                        kernel_size=int(item.get("kernel_size", 1)),
                        hidden=tuple(int(width) for width in item.get("hidden", ())),
                        signed=bool(item.get("signed", False)),
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
        lines += [f"  {spec.to_text()}" for spec in self.bottlenecks]
        lines.append(
            f"largest live set {self.uncompressed_head_bytes:,} -> {self.head_bytes:,} B, with "
            "uncompressed maps as strips"
        )
        return "\n".join(lines) + "\n"
