"""Fake quantisation: float tensors that only hold values which int8 can hold.

An int8 tensor of the device stands for real = scale · (code - zero_point). Training sees the same
grid: `FakeQuant` rounds activations to it, with one range for the tensor and zero on the grid;
`fake_quant_weights` rounds a kernel to the symmetric grid of its own largest magnitude, channel
by channel. Both let the gradient pass as if they did not round (the straight-through estimator,
Bengio et al., arXiv 1308.3432; scheme of Jacob et al., arXiv 1712.05877, §2 and §3).

On the TensorFlow backend both are TensorFlow's own operators, which its TFLite converter turns
into the scales of the device.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fmc.errors import BadInputError
from keras_fmc.model.registered import register

LEVELS = 255
"""Steps between the smallest and the largest int8 code."""

SMALLEST_RANGE = 1e-5
"""Ranges and weight magnitudes below this are widened to it: no scale is zero, and the TFLite
converter, which widens ranges below some 1e-6 to values of its own, leaves them alone."""


@register
class FakeQuant(keras.layers.Layer):
    r"""Rounds a tensor to the int8 grid of one range, per tensor and asymmetric.

    With a range [low, high] that contains zero,

        scale = (high - low) / 255,    zero_point = round(-128 - low / scale)
        y = scale · (clip(round(x / scale) + zero_point, -128, 127) - zero_point)

    so zero is represented exactly and [low, high] is shifted by less than one scale. Ties round
    up, as TensorFlow does.

    Gradient: dy/dx = 1 where x lies in the shifted range, 0 elsewhere; none flows to the range.

    The range comes from calibration (`set_range`), and with `momentum` it also follows the
    batches while training, low ← momentum · low + (1 - momentum) · min(x, 0), and high alike; the
    first batch sets it if nothing was set. Under a distribution strategy it is the mean of the
    replicas' ranges. A range given to the constructor is fixed.

    Args:
        fixed_range: (low, high) that neither calibration nor training changes, such as
            (0, 255/256) after a sigmoid, whose scale the device fixes at 1/256.
        momentum: None keeps the calibrated range while training; otherwise in [0, 1).

    Input and output: any shape, float.

    Raises:
        BadInputError: a range that is not finite, not ascending or does not contain zero; a
            momentum outside [0, 1).
    """

    def __init__(
        self,
        *,
        fixed_range: tuple[float, float] | None = None,
        momentum: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if momentum is not None and not 0 <= momentum < 1:
            raise BadInputError(
                f"momentum of FakeQuant {self.name!r}", expected="0 <= momentum < 1",
                received=momentum,
            )  # fmt: skip
        self.fixed_range = None if fixed_range is None else self._checked(*fixed_range)
        self.momentum = momentum
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        low, high = self.fixed_range or (0.0, 0.0)
        self.low = self._range_weight("low", low)
        self.high = self._range_weight("high", high)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training and self.momentum is not None and self.fixed_range is None:
            self._follow(ops.stop_gradient(inputs))
        return keras.quantizers.fake_quant_with_min_max_vars(inputs, self.low, self.high)

    def set_range(self, low: float, high: float) -> None:
        """Sets the range, widened to contain zero. The layer must be built.

        Raises:
            BadInputError: the range is fixed, not finite or descending.
        """
        if self.fixed_range is not None:
            raise BadInputError(f"range of FakeQuant {self.name!r} is fixed", received=(low, high))
        low, high = self._checked(min(low, 0.0), max(high, 0.0))
        self.low.assign(low)
        self.high.assign(high)

    @property
    def range(self) -> tuple[float, float]:
        """The range [low, high] as it stands; (0, 0) before any calibration."""
        low, high = (float(keras.ops.convert_to_numpy(value)) for value in (self.low, self.high))
        return low, high

    @property
    def calibrated(self) -> bool:
        """Whether a range was set, by calibration, training or the constructor."""
        low, high = self.range
        return low < high

    @property
    def scale(self) -> float:
        """Real value of one step of the int8 code."""
        low, high = self.range
        return (high - low) / LEVELS

    @property
    def zero_point(self) -> int:
        """int8 code of zero.

        Raises:
            BadInputError: the layer was never calibrated.
        """
        if not self.calibrated:
            raise BadInputError(
                f"FakeQuant {self.name!r} has no range yet",
                remedy="Calibrate it: keras_fmc.quantize(model, calibration=samples)",
            )
        low, _ = self.range
        return int(np.clip(np.floor(-low / self.scale + 0.5), 0, LEVELS)) - 128

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "fixed_range": self.fixed_range,
            "momentum": self.momentum,
        }

    def _follow(self, x: Any) -> None:
        fresh = ops.equal(self.low, self.high)
        for weight, batch in (
            (self.low, ops.minimum(ops.min(x), 0.0)),
            (self.high, ops.maximum(ops.max(x), 0.0)),
        ):
            batch = ops.cast(batch, weight.dtype)
            weight.assign(ops.where(fresh, batch, batch + self.momentum * (weight - batch)))

    def _range_weight(self, name: str, value: float) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(value),
            trainable=False,
            autocast=False,
            aggregation="mean",
        )

    def _checked(self, low: float, high: float) -> tuple[float, float]:
        low, high = float(low), float(high)
        if not (np.isfinite([low, high]).all() and low <= 0 <= high):
            raise BadInputError(
                f"range of FakeQuant {self.name!r}",
                expected="finite low <= 0 <= high",
                received=f"[{low}, {high}]",
            )
        if high - low < SMALLEST_RANGE:
            high = low + SMALLEST_RANGE
        return low, high


def largest_code(bits: int) -> int:
    """The largest code of symmetric weights: 127 of 8 bits, 7 of 4, 1 of 2."""
    return (1 << (bits - 1)) - 1


def fake_quant_weights(
    kernel: Any, *, axis: int | None, smallest: float = SMALLEST_RANGE, bits: int = 8
) -> Any:
    r"""Returns a kernel rounded to the symmetric grid that its largest magnitude fills.

        scale_c = max(max |w_c|, smallest) / K,    y = scale_c · round(w / scale_c)

    with codes -K … K, K = 2^(bits - 1) - 1 (the narrow range), and one scale for each index c of
    `axis`, or for the whole kernel where `axis` is None. No weight is ever clipped, so the gradient
    is dy/dw = 1 throughout and none flows through the scale.

    Args:
        kernel: float32 tensor.
        axis: the last axis (-1) or None, as the device's kernels have it.
        smallest: magnitude for channels that have less.
        bits: of the codes; in the int8 file they stay what they are.
    """
    if axis not in (None, -1):
        raise BadInputError("axis of fake_quant_weights", expected="-1 or None", received=axis)

    @ops.custom_gradient
    def rounded(weights: Any) -> Any:
        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            return arguments[0] if upstream is None else upstream

        return _round_weights(weights, axis is not None, smallest, bits), gradient

    return rounded(ops.copy(kernel))


def _round_weights(weights: Any, per_channel: bool, smallest: float, bits: int) -> Any:
    reduce = tuple(range(len(weights.shape) - 1)) if per_channel else None
    largest = ops.maximum(ops.max(ops.abs(weights), axis=reduce), smallest)
    if bits < 8:
        # The grid of int8 whose step is that of the fewer codes.
        largest = largest * (largest_code(8) / largest_code(bits))
    return keras.quantizers.fake_quant_with_min_max_vars(
        weights, -largest, largest, narrow_range=True, axis=-1 if per_channel else None
    )
