"""How codes lie in bytes: as integer matrices that 1×1 convolutions apply, and as tables.

    4 bits   byte j = c[2j] + 16 c[2j+1]
    2 bits   byte j = c[4j] + 4 c[4j+1] + 16 c[4j+2] + 64 c[4j+3]
    1 bit    byte j = Σ 2^i c[8j+i]
    6 bits   four codes in three bytes: byte j = c[j] + 64 d[j] for j < 3, where d[0], d[1], d[2]
             are the pairs of bits of c[3], least significant first

A byte u is stored as the int8 u - 128; with 1 bit as the int8 of the same bits, as 2^7 is no int8
weight and -2^7 is one. Bytes that are filled in part have 0 in the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_fmc.errors import BadInputError

_PER_BYTE = {4: 2, 2: 4, 1: 8}


@dataclass(frozen=True, slots=True)
class Stage:
    """A 1×1 convolution on codes: out[o] = round(gain[o] · (Σ weights[o, i] c[i] + bias[o])).

    Gains are powers of two and every product is exact, so no rounding is ambiguous.
    """

    weights: np.ndarray
    bias: np.ndarray
    gain: np.ndarray

    def shifted(self, amount: int) -> Stage:
        """Returns the stage with `amount` added to every sum; of use where gains are 1."""
        return Stage(self.weights, self.bias + amount, self.gain)


@dataclass(frozen=True, slots=True)
class CodeLayout:
    """The layout of k codes of one position.

    Attributes:
        bits: 6, 4, 2 or 1.
        channels: k.
    """

    bits: int
    channels: int

    def __post_init__(self) -> None:
        if self.bits not in (*_PER_BYTE, 6) or self.channels < 1:
            raise BadInputError(
                "layout of codes",
                "bits of 6, 4, 2 or 1 and at least 1 channel",
                f"{self.bits} bits, {self.channels} channels",
            )

    @property
    def stored_channels(self) -> int:
        """Bytes a position, ⌈k · bits / 8⌉."""
        return -(-self.channels * self.bits // 8)

    @property
    def spare_bits(self) -> int:
        """Bits of the last byte that no code uses; they are stored all the same."""
        return 8 * self.stored_channels - self.channels * self.bits

    @property
    def next_full(self) -> int:
        """The smallest number of channels from k on that fills its bytes."""
        group = 4 if self.bits == 6 else _PER_BYTE[self.bits]
        return -(-self.channels // group) * group

    @property
    def stored_zero_point(self) -> int:
        """The int8 that a byte of zeros is stored as."""
        return 0 if self.bits == 1 else -128

    def packing(self) -> tuple[Stage, ...]:
        """Returns the convolutions from k codes to stored bytes, less `stored_zero_point`."""
        if self.bits == 6:
            return self._six_bit_packing()
        per_byte = _PER_BYTE[self.bits]
        weights = np.zeros((self.stored_channels, self.channels), np.int64)
        for channel in range(self.channels):
            place = channel % per_byte
            weight = 1 << self.bits * place
            weights[channel // per_byte, channel] = -128 if weight == 128 else weight
        return (_exact(weights),)

    def table(self) -> np.ndarray:
        """Returns, for each int8 + 128 that is stored, the codes of the byte: (256, codes).

        With 6 bits, the low six bits and the high two, of which `unpacking` makes codes.
        """
        stored = np.arange(256)
        byte = stored ^ 128 if self.bits == 1 else stored
        if self.bits == 6:
            return np.stack([byte & 63, byte >> 6], axis=1)
        places = self.bits * np.arange(_PER_BYTE[self.bits])
        return byte[:, None] >> places & (1 << self.bits) - 1

    def unpacking(self) -> Stage | None:
        """Returns the convolution from what the table gives to k codes, None where none is needed.

        Without it, the codes are the first k that the table gives.
        """
        if self.bits != 6:
            return None
        weights = np.zeros((self.channels, 2 * self.stored_channels), np.int64)
        for channel in range(self.channels):
            group, place = divmod(channel, 4)
            if place < 3:
                weights[channel, 2 * (3 * group + place)] = 1
            else:
                for digit in range(3):
                    weights[channel, 2 * (3 * group + digit) + 1] = 4**digit
        return _exact(weights)

    def _six_bit_packing(self) -> tuple[Stage, ...]:
        """Two stages: c[3] of each group is cut into c, ⌊c/4⌋ and ⌊c/16⌋, then bytes are summed.

            64 d[0] = 64 c - 256 ⌊c/4⌋,   64 d[1] = 64 ⌊c/4⌋ - 256 ⌊c/16⌋,   64 d[2] = 64 ⌊c/16⌋

        -256 is -128 twice, so the quotients come twice.
        """
        cuts: list[tuple[int, int]] = [(channel, 0) for channel in range(self.channels)]
        quotients: dict[tuple[int, int], int] = {}
        for fourth in range(3, self.channels, 4):
            for shift in (2, 4):
                quotients[fourth, shift] = len(cuts)
                cuts += [(fourth, shift)] * 2
        first = Stage(
            np.zeros((len(cuts), self.channels), np.int64),
            np.zeros(len(cuts), np.int64),
            np.ones(len(cuts)),
        )
        for row, (channel, shift) in enumerate(cuts):
            # ⌊c / 2^s⌋ = round((32 c - 16 (2^s - 1)) / (32 · 2^s)); all terms stay even.
            first.weights[row, channel] = 32 if shift else 1
            first.bias[row] = -16 * (2**shift - 1)
            first.gain[row] = 1 / (32 * 2**shift) if shift else 1
        weights = np.zeros((self.stored_channels, len(cuts)), np.int64)
        for channel in range(self.channels):
            group, place = divmod(channel, 4)
            if place < 3:
                weights[3 * group + place, channel] = 1
                continue
            by_four, by_sixteen = quotients[channel, 2], quotients[channel, 4]
            weights[3 * group, channel] = 64
            weights[3 * group, by_four : by_four + 2] = -128
            weights[3 * group + 1, by_four] = 64
            weights[3 * group + 1, by_sixteen : by_sixteen + 2] = -128
            weights[3 * group + 2, by_sixteen] = 64
        return first, _exact(weights)


def _exact(weights: np.ndarray) -> Stage:
    return Stage(weights, np.zeros(len(weights), np.int64), np.ones(len(weights)))
