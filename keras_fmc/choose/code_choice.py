"""What a bottleneck of one kind stores of a map under a ceiling.

With b = ⌊ T / (H'·W') ⌋ bytes for each stored position,

    projection    k = ⌊ 8 b / bits ⌋ channels, at most strides²·C
    GF(2)         k = 8 b bits, at most the strides²·C·B planes of a position
    plain         all C channels, which take ⌈ C·bits / 8 ⌉ bytes or do not fit
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec, check_code
from keras_fmc.errors import BadInputError
from keras_fmc.layers.projection import check_window
from keras_fmc.maps.feature_maps import FeatureMap


@dataclass(frozen=True, slots=True)
class CodeChoice:
    """The options of `choose_bottlenecks` that all its bottlenecks have.

    Attributes:
        kind, bits, strides, kernel_size, hidden: of each bottleneck.
    """

    kind: BottleneckKind
    bits: int | None
    strides: int
    kernel_size: int
    hidden: tuple[int, ...]

    @classmethod
    def checked(
        cls,
        kind: BottleneckKind | str,
        bits: int | None,
        strides: int,
        kernel_size: int | None,
        hidden: Sequence[int],
    ) -> CodeChoice:
        """Returns the choice.

        Raises:
            BadInputError: an unknown kind, or options that it does not have.
        """
        try:
            kind = BottleneckKind(kind)
        except ValueError:
            names = " or ".join(repr(kind.value) for kind in BottleneckKind)
            raise BadInputError("kind of the bottlenecks", names, repr(kind)) from None
        check_code(kind, bits, subject="bottleneck")
        window = check_window(kernel_size, strides, subject="the bottlenecks")
        if kind is BottleneckKind.PLAIN and strides != 1:
            raise BadInputError("plain codes keep every position", "strides=1", strides)
        if hidden and kind is not BottleneckKind.GF2:
            raise BadInputError("hidden binary layers", "kind='gf2'", repr(kind.value))
        return cls(kind, bits, strides, window, tuple(hidden))

    @property
    def needs_map(self) -> bool:
        """Whether only maps (H, W, C) can have it: the device packs no others."""
        return self.kind is not BottleneckKind.PROJECTION or (
            self.strides > 1 or self.bits not in (8, None)
        )

    def positions(self, item: FeatureMap) -> int:
        """Returns the stored positions of a map."""
        return math.prod(-(-size // self.strides) for size in item.shape[:-1])

    def least_bytes(self, item: FeatureMap) -> int:
        """Returns the bytes of the smallest code of a map."""
        return self.positions(item) * (self._most(item) if self._is_plain else 1)

    def spec(self, item: FeatureMap, ceiling_bytes: int, *, signed: bool) -> BottleneckSpec:
        """Returns the largest bottleneck whose code fits under the ceiling."""
        bits = 8 * (ceiling_bytes // self.positions(item))
        channels = item.shape[-1]
        window = self.strides**2
        if self._is_plain:
            rank = channels
        elif self.kind is BottleneckKind.GF2:
            rank = min(bits, window * channels * (self.bits or 8))
        else:
            rank = min(bits // (self.bits or 8), window * channels)
        return BottleneckSpec(
            item.name,
            item.shape,
            rank,
            self.bits,
            self.kind,
            self.strides,
            self.kernel_size,
            self.hidden,
            signed and self.kind is not BottleneckKind.PROJECTION,
        )

    def refusal(self, item: FeatureMap, ceiling_bytes: int, lowest: int) -> BadInputError:
        """Returns the error for a ceiling under which a map has no code."""
        shape = "x".join(map(str, item.shape))
        if self._is_plain:
            return BadInputError(
                f"a ceiling of {ceiling_bytes:,} B has no room for map {item.name!r} ({shape}) "
                f"in {self.bits} bits",
                f"at least {lowest:,} B, {self._most(item)} B a position",
                remedy="Raise the ceiling, take fewer bits, or leave such maps out with eligible=",
            )
        kept = "bit" if self.kind is BottleneckKind.GF2 else "channel"
        return BadInputError(
            f"a ceiling of {ceiling_bytes:,} B leaves no {kept} of map {item.name!r} ({shape})",
            f"at least {lowest:,} B, one {kept}" + ("" if kept == "channel" else " byte"),
            remedy="Raise the ceiling, or leave such maps out with eligible=",
        )

    @property
    def _is_plain(self) -> bool:
        return self.kind is BottleneckKind.PLAIN

    def _most(self, item: FeatureMap) -> int:
        """Bytes of a stored position beyond which nothing is gained."""
        return -(-(self.strides**2) * item.shape[-1] * (self.bits or 8) // 8)
