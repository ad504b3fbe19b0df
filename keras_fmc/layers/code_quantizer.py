"""Codes of 8, 6, 4, 2 or 1 bits, in the form that survives conversion to int8.

The TFLite converter knows no activation below eight bits: a 6-bit fake quantisation silently
becomes one of 8 bits, one of 4 or 2 bits makes it fail. A code is therefore held on an 8-bit grid
that is coarser than needed, and a clip keeps its values to 2^bits consecutive int8 codes, which
`deploy.codes` packs into bytes after conversion. The clip has to be cheap too. One end of it comes
free, as int8 itself saturates there; for the other end the three forms of `CodeForm` use what a
convolution's fused activation offers.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fmc.errors import BadInputError
from keras_fmc.layers.fake_quant import LEVELS, SMALLEST_RANGE, FakeQuant
from keras_fmc.model.registered import register

_fake_quant = keras.quantizers.fake_quant_with_min_max_vars

CODE_BITS = (8, 6, 4, 2, 1)
"""Widths that a code can have."""

SIGN_THRESHOLD = -1 / 256
"""A 1-bit sign is +1 from about here on; below 0, so that an exact 0 is +1 however biases round."""


class CodeForm(Enum):
    """Which values a code has, and what clips it on the device. n = 2^bits - 1 throughout."""

    UNIT = "unit"
    """Levels (j - z) / max(z, n - z), j = 0 … n: the longer side ends at exactly ±1.

    For codes behind a linear map, whose weights learn the scale. All 2^bits levels are used, zero
    is one of them, and the split z between negative and positive levels is free. On the device: a
    fused RELU_N1_TO_1 clips the longer side, int8 the shorter one. One bit: {-1, +1}.
    """

    UNSIGNED = "unsigned"
    """Levels j · high / n. For maps behind a ReLU. On the device: a fused RELU clips at 0, int8 at
    high, which is free. One bit: {0, high}.
    """

    FREE = "free"
    """Levels (j - z) · (high - low) / n, any range around 0. For signed maps whose scale cannot
    move into weights. On the device: int8 clips below, a MINIMUM operator above. Not for one bit.
    """


def check_code_bits(bits: Any) -> int:
    """Returns `bits`.

    Raises:
        BadInputError: not one of `CODE_BITS`.
    """
    if isinstance(bits, bool) or bits not in CODE_BITS:
        raise BadInputError(
            "width of a code", "bits of " + ", ".join(map(str, CODE_BITS)), repr(bits)
        )
    return int(bits)


@register
class CodeQuantizer(FakeQuant):
    r"""Rounds a tensor to the 2^bits levels of a code.

        y = scale · (clip(round(x / scale), -z, n - z)),    n = 2^bits - 1

    with z levels below zero. Ties round up, as TensorFlow does. `form` says where scale and z come
    from, see `CodeForm`: from the range [low, high] of calibration, of which UNIT uses only the
    proportion of its sides.

    One bit in UNIT form is the binariser y = +1 where x ≥ `sign_thresholds` ≈ -1/256, else -1.

    Gradient: dy/dx = 1 where x lies within the levels, 0 elsewhere (straight-through, clipped;
    Bengio et al., arXiv 1308.3432); for the binariser where |x| ≤ 1.

    On the device the levels are the int8 codes `first_code` … `first_code + n`. The clip becomes
    the fused activation of the convolution before it, at no cost; FREE costs a MINIMUM. The
    binariser is the codes 126 and 127 followed by a SUB that centres them.

    Eight bits need no clip; this is then `FakeQuant` with the range of the form.

    Args:
        bits: 8, 6, 4, 2 or 1.
        form: a `CodeForm` or its value.
        fixed_range: (low, high) that neither calibration nor training changes.
        momentum: as in `FakeQuant`; UNIT has no scale that could follow and ignores it.

    Input and output: any shape, float.

    Raises:
        BadInputError: other bits or form, one bit in FREE form, or a range that does not fit the
            form.
    """

    def __init__(
        self,
        bits: int,
        *,
        form: CodeForm | str = CodeForm.UNIT,
        fixed_range: tuple[float, float] | None = None,
        momentum: float | None = None,
        **kwargs: Any,
    ) -> None:
        self.bits = check_code_bits(bits)
        self.form = _checked_form(form)
        if self.form is CodeForm.FREE and self.bits == 1:
            raise BadInputError(
                "a code of one bit in free form",
                "form unit ({-1, +1}) or unsigned ({0, high}), or more bits",
            )
        super().__init__(fixed_range=fixed_range, momentum=momentum, **kwargs)

    def build(self, input_shape: Any) -> None:
        default = (-1.0, 1.0) if self.form is CodeForm.UNIT else (0.0, 0.0)
        low, high = self.fixed_range or default
        self.low = self._range_weight("low", low)
        self.high = self._range_weight("high", high)

    def call(self, inputs: Any, training: bool = False, clip: bool = True) -> Any:
        """Rounds `inputs`; `clip` False is for what lies within the levels, such as their mean."""
        x = ops.relu(inputs) if clip and self.form is CodeForm.UNSIGNED else inputs
        follows = self.form is not CodeForm.UNIT and self.fixed_range is None
        if training and self.momentum is not None and follows:
            self._follow(ops.stop_gradient(x))
        if self.is_sign:
            return _sign(inputs) if clip else _fake_quant(inputs, -128.0, 127.0)
        scale, below = self.grid()
        n = self.steps
        clip = clip and n < LEVELS
        if self.form is CodeForm.UNSIGNED:
            low = scale * (n - LEVELS)
        elif self.form is CodeForm.UNIT:
            x = ops.minimum(ops.maximum(x, -1.0), 1.0) if clip else x
            low = scale * ops.where(2 * below > n, n - LEVELS - below, -below)
        else:
            x = ops.minimum(x, scale * (n - below)) if clip else x
            low = -scale * below
        return _fake_quant(x, low, low + LEVELS * scale)

    def grid(self) -> tuple[Any, Any]:
        """Returns scale and z as they stand, scalar tensors or numbers; not for the binariser."""
        low, high = ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high)
        return self._grid(ops, low, high)

    @property
    def steps(self) -> int:
        """n = 2^bits - 1."""
        return 2**self.bits - 1

    @property
    def is_sign(self) -> bool:
        """Whether the levels are {-1, +1}."""
        return self.bits == 1 and self.form is CodeForm.UNIT

    @property
    def scale(self) -> float:
        """Real value of one step of the int8 code."""
        return 1.0 if self.is_sign else float(self._grid(np, *self.range)[0])

    @property
    def levels_below_zero(self) -> int:
        """z, how many levels are negative; 1 for the binariser."""
        return 1 if self.is_sign else int(self._grid(np, *self.range)[1])

    @property
    def first_code(self) -> int:
        """int8 code of the lowest level on the device; -1 for the binariser."""
        if self.is_sign:
            return -1
        at_top = self.form is CodeForm.UNSIGNED or (
            self.form is CodeForm.UNIT and 2 * self.levels_below_zero > self.steps
        )
        return 127 - self.steps if at_top else -128

    @property
    def zero_point(self) -> int:
        """int8 code of zero.

        Raises:
            BadInputError: the layer was never calibrated.
        """
        if not self.calibrated:
            raise BadInputError(
                f"CodeQuantizer {self.name!r} has no range yet",
                remedy="Calibrate it: keras_fmc.quantize(model, calibration=samples)",
            )
        return 0 if self.is_sign else self.first_code + self.levels_below_zero

    @property
    def levels(self) -> np.ndarray:
        """The values that the output can have, ascending, float64 of shape (2^bits,)."""
        if self.is_sign:
            return np.array([-1.0, 1.0])
        return (np.arange(self.steps + 1) - self.levels_below_zero) * self.scale

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bits": self.bits, "form": self.form.value}

    def _grid(self, xp: Any, low: Any, high: Any) -> tuple[Any, Any]:
        """(scale, z) with the functions of NumPy or of keras.ops."""
        n = self.steps
        spread = xp.maximum(high - low, SMALLEST_RANGE)
        if self.form is CodeForm.UNSIGNED:
            return spread / n, 0
        below = xp.clip(xp.floor(-low / spread * n + 0.5), 0, n)
        if self.form is CodeForm.UNIT:
            return 1.0 / xp.maximum(below, n - below), below
        return spread / n, below

    def _checked(self, low: float, high: float) -> tuple[float, float]:
        low, high = super()._checked(low, high)
        if self.form is CodeForm.UNSIGNED and low < 0:
            raise BadInputError(
                f"unsigned code {self.name!r} of a map with negative values",
                expected="values of at least 0, as behind a ReLU",
                received=f"range [{low:.4g}, {high:.4g}]",
                remedy="Put a ReLU before it, or use form='free' or, behind a projection, 'unit'",
            )
        return low, high


def _checked_form(form: CodeForm | str) -> CodeForm:
    try:
        return CodeForm(form)
    except ValueError:
        raise BadInputError(
            "form of a code", " or ".join(f.value for f in CodeForm), repr(form)
        ) from None


def sign_thresholds(channels: int) -> np.ndarray:
    """Returns where the binariser of each channel turns from -1 to +1, float32.

    `SIGN_THRESHOLD`, spread by up to an eighth: the TFLite converter quantises a bias of equal
    values with the scale of the first channel alone, which is wrong for all others.
    """
    spread = np.arange(channels) / (8 * channels)
    return (SIGN_THRESHOLD * (1 + spread)).astype(np.float32)


def _sign(x: Any) -> Any:
    """+1 or -1: levels {0, 2} behind a ReLU, held at the top of int8, then centred."""
    shifted = x + ops.convert_to_tensor(1 - sign_thresholds(x.shape[-1]))
    bit = _fake_quant(ops.relu(shifted), 2.0 - 2.0 * LEVELS, 2.0)
    return _fake_quant(bit - 1.0, -128.0, 127.0)
