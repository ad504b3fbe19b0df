"""The GF(2) bottleneck: a map is stored as a few bits a position, learned from its bit planes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layers.bit_planes import (
    ONE,
    bit_planes,
    planes_to_weigh,
    threshold_sums,
    weigh_planes,
)
from keras_fmc.layers.bit_spread import spread
from keras_fmc.layers.code_quantizer import CodeForm, CodeQuantizer
from keras_fmc.layers.fake_quant import LEVELS
from keras_fmc.layers.projection import check_window
from keras_fmc.model.registered import register

_STARTS = ("identity", "random")


@register
class GF2Bottleneck(keras.layers.Layer):
    r"""Stores a map of C channels as k bits a position, or k bits for 2×2 positions.

        planes = b(q(x))                    B bits of each channel, C·B zeros and ones     eq. 3
        stored = [P ⋆ planes + p ≥ ½]       k zeros and ones: this is what is kept
        y      = q⁻¹(b⁻¹([R ⋆ stored + r ≥ ½]))                                            eq. 4

    q rounds to 2^B levels (`CodeQuantizer`). P is a 1×1 convolution, or one of 2×2 or 3×3 with
    stride 2; R is a transposed convolution of the same window. `hidden` puts more binary 1×1 layers
    before P and, mirrored, after R. Weights are int8 in every pass, so that training and device
    agree on each bit.

    Gradients: eq. 5 for b⁻¹, eq. 6 for b with the static factor `gradient_scale`; both thresholds
    pass it within |· - ½| ≤ 1; q where x lies in its range.

    Nothing but the k bits is stored: the sign of a signed code is one of its B planes, and there
    are no spare ones. The cost is time: C·B·k multiply-accumulates a position for P and as many for
    R (with stride 2: for each 2×2 positions times the window), C·C·B for eq. 4, and the planes.

    Args:
        stored_channels: k. Bytes are filled where k is a multiple of 8.
        bits: B, 8, 6, 4 or 2.
        kernel_size, strides: 1 and 1, 2 and 2, or 3 and 2; kernel_size None is 1 or 2.
        hidden: channels of further binary layers, such as (128,).
        signed: whether x may be negative; q is then of `CodeForm.FREE`. Otherwise a map that can be
            negative is refused.
        gradient_scale: of eq. 6; 2 / B by default, which makes E‖bits‖₀ · scale = 1 for even bits.
        start: of P and R. "identity" keeps the most significant planes (of the pixel at the
            window's centre), "random" draws balanced hyperplanes. `keras_fmc.start.gf2_start` has a
            start from data.
        momentum: of the range of q while training; None keeps it.
        seed: of the random start.
        quantizes_input: False where the layer before it rounds to the codes of q already, as in a
            quantised model; q then only tells the levels, and its range stays.

    Input and output: (batch, H, W, C), channels last, H and W known.

    Raises:
        BadInputError: an argument outside its list, an input without known sizes, or one that can
            be negative.
        UnsupportedModelError: Keras is set to channels first.

    Source: Gudovskiy, Hodgkinson & Rigazio, "DNN Feature Map Compression using Learned
    Representation over GF(2)", ECCV workshops 2018, §3.3.
    """

    def __init__(
        self,
        stored_channels: int,
        *,
        bits: int = 8,
        kernel_size: int | None = None,
        strides: int = 1,
        hidden: Sequence[int] = (),
        signed: bool = False,
        gradient_scale: float | None = None,
        start: str = "identity",
        momentum: float | None = 0.99,
        seed: int = 0,
        quantizes_input: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        widths = (*hidden, stored_channels)
        if any(isinstance(k, bool) or not isinstance(k, int) or k < 1 for k in widths):
            raise BadInputError(
                f"channels of bottleneck {self.name!r}", "integers of at least 1", repr(widths)
            )
        if isinstance(bits, bool) or bits not in (8, 6, 4, 2):
            raise BadInputError(
                f"bit planes of bottleneck {self.name!r}", "bits of 8, 6, 4 or 2", repr(bits)
            )
        if start not in _STARTS:
            raise BadInputError(
                f"start of bottleneck {self.name!r}", " or ".join(_STARTS), repr(start)
            )
        if keras.config.image_data_format() != "channels_last":
            raise UnsupportedModelError(
                f"bottleneck {self.name!r} with channels first",
                remedy="Call keras.config.set_image_data_format('channels_last')",
            )
        self.stored_channels = stored_channels
        self.bits = bits
        self.kernel_size = check_window(kernel_size, strides, subject=f"bottleneck {self.name!r}")
        self.strides = strides
        self.hidden = tuple(hidden)
        self.signed = bool(signed)
        self.gradient_scale = 2 / bits if gradient_scale is None else float(gradient_scale)
        self.start = start
        self.momentum = momentum
        self.seed = seed
        self.quantizes_input = bool(quantizes_input)
        self.quantizer = CodeQuantizer(
            bits,
            form=CodeForm.FREE if signed else CodeForm.UNSIGNED,
            momentum=momentum,
            dtype="float32",
            name="quantizer",
        )

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Not at the head: the module may be the one that imports Keras (model.registration).
        from keras_fmc.model.nonnegative import can_be_negative

        if not self.signed and can_be_negative(inputs):
            raise BadInputError(
                f"GF(2) bottleneck {self.name!r} on a map that can be negative",
                expected="a map behind a ReLU",
                received=inputs.name,
                remedy="Put a ReLU before it, or ask for a signed code with signed=True",
            )
        return super().__call__(inputs, *args, **kwargs)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 4 or None in input_shape[1:]:
            raise BadInputError(
                f"input of bottleneck {self.name!r}",
                "(batch, height, width, channels) of known sizes",
                f"shape {tuple(input_shape)}",
            )
        self.quantizer.build(input_shape)
        planes = int(input_shape[-1] or 0) * self.bits
        down = [planes, *self.hidden, self.stored_channels]
        windows = [1] * len(self.hidden) + [self.kernel_size]
        self.compression = self._binary_layers("compression", down, windows)
        self.restoration = self._binary_layers("restoration", down[::-1], windows[::-1])
        self.set_start(self.start)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self._decode(self._encode(inputs, training), inputs.shape[1:3])

    def encode(self, inputs: Any) -> Any:
        """Returns the stored bits of `inputs`, zeros and ones, shape (batch, H', W', k)."""
        return self._encode(inputs, False) / ONE

    def decode(self, stored: Any, size: tuple[int, int]) -> Any:
        """Returns the map of height and width `size` that zeros and ones stand for."""
        return self._decode(stored * ONE, size)

    def _encode(self, inputs: Any, training: bool) -> Any:
        codes = self.quantizer(inputs, training=training) if self.quantizes_input else inputs
        scale, below = self.quantizer.grid()
        x = bit_planes(codes, scale, below, self.bits, gradient_scale=self.gradient_scale)
        for index, (kernel, bias) in enumerate(self.compression):
            strides = self.strides if index == len(self.hidden) else 1

            def convolve(bits: Any, weights: Any, strides: int = strides) -> Any:
                return ops.conv(bits, weights, strides, padding="same", data_format="channels_last")

            one = 1.0 if index == 0 else ONE
            x = threshold_sums(x, ops.convert_to_tensor(kernel), bias, convolve, one=one)
        return x

    def _decode(self, stored: Any, size: tuple[int, int]) -> Any:
        x = stored
        for index, (kernel, bias) in enumerate(self.restoration):
            weights, constant = ops.convert_to_tensor(kernel), ops.convert_to_tensor(bias)
            if index == len(self.hidden):
                weights, constant = self._as_weighed(weights), self._as_weighed(constant)
            x = spread(x, weights, constant, self.strides if index == 0 else 1, size)
        return weigh_planes(x, *self.quantizer.grid(), self.bits)

    @property
    def restored_range(self) -> tuple[float, float]:
        """The range of the int8 grid that the output lies on: 256 steps from the lowest code on."""
        low = -self.quantizer.levels_below_zero * self.quantizer.scale
        return low, low + LEVELS * self.quantizer.scale

    @property
    def makes_nonnegative(self) -> bool:
        """Whether no output is negative."""
        return not self.signed

    def stored_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Returns (H', W', k) for a map of shape (H, W, C)."""
        rows, columns = (-(-size // self.strides) for size in shape[:2])
        return rows, columns, self.stored_channels

    def stored_bits(self, shape: tuple[int, int, int]) -> int:
        """Returns the bits that a map of shape (H, W, C) is stored in: H'·W'·k."""
        return math.prod(self.stored_shape(shape))

    def set_start(self, start: str) -> None:
        """Sets P and R to the "identity" or the "random" start. The layer must be built."""
        rng = np.random.default_rng(self.seed)
        last = len(self.hidden)
        for index, (kernel, bias) in enumerate(self.compression):
            order = significance(kernel.shape[2], self.bits if index == 0 else 1)
            weights, constant = (
                _selection(kernel.shape, order) if start == "identity" else _cuts(kernel.shape, rng)
            )
            kernel.assign(weights)
            bias.assign(constant)
        for index, (kernel, bias) in enumerate(self.restoration):
            order = significance(kernel.shape[3], self.bits if index == last else 1)
            weights, constant = (
                _replacement(kernel.shape, order)
                if start == "identity"
                else _cuts(kernel.shape, rng, overlap=self.strides if index == 0 else 1)
            )
            kernel.assign(weights)
            bias.assign(constant)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "stored_channels": self.stored_channels,
            "bits": self.bits,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "hidden": list(self.hidden),
            "signed": self.signed,
            "gradient_scale": self.gradient_scale,
            "start": self.start,
            "momentum": self.momentum,
            "seed": self.seed,
            "quantizes_input": self.quantizes_input,
        }

    def _binary_layers(
        self, name: str, widths: Sequence[int], windows: Sequence[int]
    ) -> list[tuple[Any, Any]]:
        layers = []
        for index, window in enumerate(windows):
            suffix = f"_{index}" if len(windows) > 1 else ""
            shape = (window, window, widths[index], widths[index + 1])
            kernel = self.add_weight(name=f"{name}{suffix}", shape=shape, initializer="zeros")
            bias = self.add_weight(
                name=f"{name}_bias{suffix}", shape=shape[-1:], initializer="zeros"
            )
            layers.append((kernel, bias))
        return layers

    def _as_weighed(self, weights: Any) -> Any:
        """Gives the last axis the planes that `weigh_planes` wants."""
        planes = planes_to_weigh(self.bits)
        if len(planes) == self.bits:
            return weights
        shape = (*weights.shape[:-1], -1, self.bits)
        return ops.reshape(
            ops.take(ops.reshape(weights, shape), planes, axis=-1), (*weights.shape[:-1], -1)
        )


def significance(channels: int, bits: int) -> np.ndarray:
    """Returns the planes of `channels` = C·bits, most significant first, then by channel."""
    planes = np.arange(channels).reshape(-1, bits)
    return planes[:, ::-1].T.ravel()


def _selection(shape: Sequence[int], order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P that keeps planes in `order` of the pixel at the centre; too few are kept twice."""
    window, _, _, outputs = shape
    kernel = np.zeros(shape, np.float32)
    centre = (window - 1) // 2
    kernel[centre, centre, order[np.arange(outputs) % len(order)], np.arange(outputs)] = 1
    return kernel, np.zeros(outputs, np.float32)


def _replacement(shape: Sequence[int], order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R that puts the planes of `_selection` back, into every pixel of a block; others are 0."""
    window, _, inputs, outputs = shape
    kernel = np.zeros(shape, np.float32)
    kept = min(inputs, len(order))
    block = slice(0, min(window, 2))
    kernel[block, block, np.arange(kept), order[:kept]] = 1
    return kernel, np.zeros(outputs, np.float32)


def _cuts(
    shape: Sequence[int], rng: np.random.Generator, overlap: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Random hyperplanes through the centre of the cube of inputs, of unit normals."""
    kernel = rng.normal(size=tuple(shape))
    kernel *= overlap / np.sqrt((kernel**2).sum(axis=(0, 1, 2)))
    bias = 0.5 - kernel.sum(axis=(0, 1, 2)) / (2 * overlap**2)
    return kernel.astype(np.float32), bias.astype(np.float32)
