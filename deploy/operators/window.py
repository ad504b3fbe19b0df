"""Windows that slide over the rows and columns of a map, and their padding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from deploy.graph import Operator, Padding
from keras_fmc.padding import same_padding

Pair = tuple[int, int]
"""(along rows, along columns)."""


class MovesOver(Enum):
    """What a window moves over."""

    INPUT = "the input: an output pixel is computed from what lies in the window"
    OUTPUT = "the output: an input pixel is added to what lies in the window"
    RUN = "the input as rows of ``depth`` values, whatever its shape"


@dataclass(frozen=True, slots=True)
class Window:
    """A window of ``kernel`` elements, ``dilations`` apart, that moves by ``strides``.

    ``depth`` are the channels that it looks at; 1 for what treats each channel by itself.
    """

    kernel: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    same: bool = False
    depth: int = 1
    over: MovesOver = MovesOver.INPUT

    @property
    def extents(self) -> Pair:
        """Elements from the first to the last of a window: (kernel - 1) · dilation + 1."""
        (rows, columns), (a, b) = self.kernel, self.dilations
        return (rows - 1) * a + 1, (columns - 1) * b + 1

    def paddings(self, rows: int, columns: int) -> tuple[Pair, Pair]:
        """(before, after) of the rows and of the columns of the map that it moves over."""
        if not self.same:
            return (0, 0), (0, 0)
        (height, width), (down, right) = self.extents, self.strides
        return same_padding(rows, height, down), same_padding(columns, width, right)

    @property
    def swapped(self) -> Window:
        """The window over the map whose rows and columns have changed places."""
        kernel, strides, dilations = (p[::-1] for p in (self.kernel, self.strides, self.dilations))
        return replace(self, kernel=kernel, strides=strides, dilations=dilations)


def window_of(
    operator: Operator, kernel: Pair, *, depth: int = 1, over: MovesOver = MovesOver.INPUT
) -> Window:
    """Returns the window of a kernel, moved and padded as the options say."""
    strides = operator.integer("stride_h", 1) or 1, operator.integer("stride_w", 1) or 1
    dilations = (
        operator.integer("dilation_h_factor", 1) or 1,
        operator.integer("dilation_w_factor", 1) or 1,
    )
    same = operator.integer("padding") == Padding.SAME
    return Window(kernel, strides, dilations, same, depth, over)


def window_positions(size: int, extent: int, stride: int, *, same: bool) -> int:
    """Positions of a window along one dimension.

    SAME: ⌈size / stride⌉; VALID: ⌊(size - extent) / stride⌋ + 1.
    """
    return -(-size // stride) if same else (size - extent) // stride + 1
