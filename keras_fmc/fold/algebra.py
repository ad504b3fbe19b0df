r"""What folding does to weights: NumPy in float64, no Keras.

A `Linear` is the affine part of a layer, z = W ⋆ x + b. Four things can be merged into one:

    after it, s · z + t             W' = s · W,  b' = s · b + t              always exact
    after it, a 1×1 map z P + p     W' = W P,    b' = b P + p                always exact
    before it, x = s · x' + t       W' = W · s,  b' = b + Σ W t              exact if no zero is
                                                                             padded, or t = 0
    before it, x = x' R             W' = R W                                 always exact

A padded zero stands for x = 0. A map without a constant sends 0 to 0, so padding does not see it;
a constant t is missing at the border, which is why it needs a layer that pads nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum

import numpy as np

from keras_fmc.padding import same_padding


class Kind(Enum):
    """Layers with weights that folding can change; the value is the Keras class."""

    CONV = "Conv2D"
    DEPTHWISE = "DepthwiseConv2D"
    DENSE = "Dense"
    TRANSPOSED = "Conv2DTranspose"


@dataclass(frozen=True, slots=True)
class Linear:
    """Weights of a layer in float64, in Keras' layout, and how its window moves.

    Attributes:
        kind: of the layer.
        kernel: CONV (kh, kw, C / groups, O); DEPTHWISE (kh, kw, C, m), output channel c·m + j;
            DENSE (C, O), over the last axis; TRANSPOSED (kh, kw, O, C).
        bias: (O,) or None.
        strides, dilation: (rows, columns).
        padding: "valid" or "same".
        groups: of a CONV.
    """

    kind: Kind
    kernel: np.ndarray
    bias: np.ndarray | None = None
    strides: tuple[int, int] = (1, 1)
    padding: str = "valid"
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def in_channels(self) -> int:
        if self.kind is Kind.TRANSPOSED:
            return self.kernel.shape[3]
        if self.kind is Kind.CONV:
            return self.kernel.shape[2] * self.groups
        return self.kernel.shape[-2]

    @property
    def out_channels(self) -> int:
        if self.kind is Kind.DEPTHWISE:
            return self.kernel.shape[2] * self.kernel.shape[3]
        return self.kernel.shape[2] if self.kind is Kind.TRANSPOSED else self.kernel.shape[-1]

    @property
    def window(self) -> tuple[int, int]:
        return (1, 1) if self.kind is Kind.DENSE else self.kernel.shape[:2]

    def pads(self, rows: int | None, columns: int | None) -> bool:
        """Whether any output of a map of that size reads a padded zero; None is any size."""
        if self.kind is Kind.DENSE:
            return False
        if self.kind is Kind.TRANSPOSED:
            return True
        if self.padding == "valid":
            return False
        return any(
            _padded(size, window, stride, dilation)
            for size, window, stride, dilation in zip(
                (rows, columns), self.window, self.strides, self.dilation, strict=True
            )
        )


def fold_affine_after(linear: Linear, scale: np.ndarray, shift: np.ndarray) -> Linear:
    """Returns `linear` followed by scale · z + shift, both (O,)."""
    if linear.kind is Kind.TRANSPOSED:
        kernel = linear.kernel * scale[:, None]
    elif linear.kind is Kind.DEPTHWISE:
        kernel = linear.kernel * scale.reshape(linear.kernel.shape[2:])
    else:
        kernel = linear.kernel * scale
    bias = shift if linear.bias is None else scale * linear.bias + shift
    return dataclasses.replace(linear, kernel=kernel, bias=bias)


def fold_affine_before(
    linear: Linear, scale: np.ndarray, shift: np.ndarray, *, positions: int = 1
) -> Linear:
    """Returns `linear` applied to scale · x + shift, both (C,).

    Right only where no zero is padded or shift is 0 throughout (`Linear.pads`).

    Args:
        positions: of a DENSE that reads a flattened map: its rows are (positions, C).
    """
    if linear.kind is Kind.DENSE:
        scale, shift = np.tile(scale, positions), np.tile(shift, positions)
        kernel = linear.kernel * scale[:, None]
        constant = shift @ linear.kernel
    elif linear.kind is Kind.TRANSPOSED:
        kernel = linear.kernel * scale
        constant = np.einsum("hwoc,c->o", linear.kernel, shift)
    elif linear.kind is Kind.DEPTHWISE:
        kernel = linear.kernel * scale[:, None]
        constant = (linear.kernel.sum(axis=(0, 1)) * shift[:, None]).reshape(-1)
    else:
        # (C,) → (C / groups, O): the channels that each output reads.
        outputs = np.arange(linear.out_channels) // (linear.out_channels // linear.groups)
        per_output = scale.reshape(linear.groups, -1)[outputs].T
        shift_per_output = shift.reshape(linear.groups, -1)[outputs].T
        kernel = linear.kernel * per_output
        constant = (linear.kernel * shift_per_output).sum(axis=(0, 1, 2))
    bias = linear.bias
    if np.any(constant):
        bias = constant if bias is None else bias + constant
    return dataclasses.replace(linear, kernel=kernel, bias=bias)


def fold_map_before(linear: Linear, restoration: np.ndarray, *, positions: int = 1) -> Linear:
    """Returns `linear` applied to x' R, with R (k, C). Grouped convolutions lose their groups.

    Args:
        positions: of a DENSE that reads a flattened map: its rows are (positions, C).

    Raises:
        ValueError: a depthwise convolution, which no dense R can be merged into.
    """
    if linear.kind is Kind.DEPTHWISE:
        raise ValueError("a depthwise convolution cannot take a dense map in front")
    if linear.kind is Kind.DENSE:
        rows = linear.kernel.reshape(positions, -1, linear.out_channels)
        kernel = np.einsum("kc,pco->pko", restoration, rows).reshape(-1, linear.out_channels)
        return dataclasses.replace(linear, kernel=kernel)
    if linear.kind is Kind.TRANSPOSED:
        return dataclasses.replace(
            linear, kernel=np.einsum("kc,hwoc->hwok", restoration, linear.kernel)
        )
    kernel = np.einsum("kc,hwco->hwko", restoration, ungrouped(linear).kernel)
    return dataclasses.replace(linear, kernel=kernel, groups=1)


def fold_map_after(linear: Linear, pointwise: Linear) -> Linear:
    """Returns `linear` followed by a 1×1 convolution or a dense layer, its bias included.

    Raises:
        ValueError: a depthwise or grouped `linear`, or a `pointwise` that is not 1×1.
    """
    if linear.kind is Kind.DEPTHWISE or linear.groups != 1:
        raise ValueError("a depthwise or grouped convolution cannot take a dense map behind")
    if pointwise.window != (1, 1) or pointwise.groups != 1:
        raise ValueError("only a 1×1 convolution or a dense layer is a map of channels")
    projection = pointwise.kernel.reshape(pointwise.kernel.shape[-2:])
    if linear.kind is Kind.TRANSPOSED:
        kernel = np.einsum("hwoc,ok->hwkc", linear.kernel, projection)
    else:
        kernel = linear.kernel @ projection
    bias = pointwise.bias
    if linear.bias is not None:
        bias = linear.bias @ projection + (0.0 if bias is None else bias)
    return dataclasses.replace(linear, kernel=kernel, bias=bias)


def ungrouped(linear: Linear) -> Linear:
    """Returns a grouped convolution as a plain one whose kernel is zero across groups."""
    if linear.groups == 1:
        return linear
    rows, columns, inside, outputs = linear.kernel.shape
    kernel = np.zeros((rows, columns, inside * linear.groups, outputs))
    each = outputs // linear.groups
    for group in range(linear.groups):
        ours = slice(group * each, (group + 1) * each)
        kernel[:, :, group * inside : (group + 1) * inside, ours] = linear.kernel[..., ours]
    return dataclasses.replace(linear, kernel=kernel, groups=1)


def _padded(size: int | None, window: int, stride: int, dilation: int) -> bool:
    reach = (window - 1) * dilation + 1
    if size is None:
        return reach > 1
    return same_padding(size, reach, stride) != (0, 0)
