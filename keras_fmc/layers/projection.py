"""The learned bottleneck: few channels are stored, all are restored."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layers.code_quantizer import CODE_BITS, CodeForm, CodeQuantizer
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.transposed import WINDOWS, transposed_convolution
from keras_fmc.model.registered import register


def check_code_bits(bits: int | None) -> int | None:
    """Returns `bits`.

    Raises:
        BadInputError: a width that codes cannot have.
    """
    if isinstance(bits, bool) or bits not in (*CODE_BITS, None):
        raise BadInputError(
            "code width of a bottleneck",
            "bits of " + ", ".join(map(str, CODE_BITS)) + ", or bits=None for float",
            repr(bits),
        )
    return bits


def check_window(kernel_size: int | None, strides: int, *, subject: str) -> int:
    """Returns the kernel size, which is 1 or 2 as strides where it is None.

    Raises:
        BadInputError: a pair outside `WINDOWS`.
    """
    window = strides if kernel_size is None else kernel_size
    if isinstance(strides, bool) or isinstance(window, bool) or (window, strides) not in WINDOWS:
        raise BadInputError(
            f"window of {subject}",
            "kernel_size 1 with strides 1, or 2 or 3 with strides 2",
            f"{kernel_size!r} with {strides!r}",
        )
    return window


@register
class ProjectionBottleneck(keras.layers.Layer):
    r"""Stores a map of C channels as a code of k channels.

    At every position of the map, for the channel vector x,

        code = q(x P),    y = code R

    where P is C×k, R is k×C, neither has a bias, and q rounds to the grid of the code. After
    folding, R is part of the layers that read the map, so what is stored between two operators is
    the code: k·bits / 8C of the bytes.

    With `strides` 2 there is one code for 2×2 positions: P is a SAME convolution of 2×2 or 3×3
    down, R the transposed convolution of the same window up, to exactly the height and width of the
    input, odd ones too.

    The absence of a bias makes the fold of R exact under zero padding: a padded code of zeros
    restores to zeros.

    q for 8 bits is `FakeQuant`, the int8 grid of one range; while training, that range follows the
    batches; until it is known the code stays in float. For fewer bits it is `CodeQuantizer` in UNIT
    form: 2^bits levels between -1 and 1, whose scale P and R learn; at one bit, ±1. The gradient
    passes q where the code lies in its range (straight-through).

    The layer adds k·C·2 multiplications a position, times the window and by a quarter with stride
    2. It saves memory, not time.

    Args:
        rank: k, channels of the code, 1 ≤ k ≤ strides²·C.
        bits: 8, 6, 4, 2, 1, or None for float codes.
        strides: 1, or 2 for one code of 2×2 positions.
        kernel_size: 1 with strides 1; 2 or 3 with strides 2; None is 1 or 2.
        projection_initializer: of P.
        restoration_initializer: of R. `keras_fmc.insert_bottlenecks` sets P and R from data, which
            is a far better start.
        momentum: of the range of an 8-bit code while training, see `FakeQuant`.

    Input and output: (batch, …, C), channels last; (batch, H, W, C) of known H and W with stride 2.

    Weights: P of shape (C, k) and R of shape (k, C); with stride 2 (w, w, C, k) and (w, w, k, C).

    Raises:
        BadInputError: a rank below 1 or above strides²·C, a width or a window outside the lists, or
            an unknown C, H or W.
        UnsupportedModelError: Keras is set to channels first.

    Source: Price & Tanner, "Improved projection learning for lower dimensional feature maps",
    arXiv 2210.15170, §3; the windows of stride 2 are those of Gudovskiy, Hodgkinson & Rigazio, ECCV
    workshops 2018, §3.3.
    """

    def __init__(
        self,
        rank: int,
        *,
        bits: int | None = 8,
        strides: int = 1,
        kernel_size: int | None = None,
        projection_initializer: Any = "glorot_uniform",
        restoration_initializer: Any = "glorot_uniform",
        momentum: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise BadInputError(
                f"rank of bottleneck {self.name!r}", "an integer of at least 1", repr(rank)
            )
        if keras.config.image_data_format() != "channels_last":
            raise UnsupportedModelError(
                f"bottleneck {self.name!r} with channels first",
                remedy="Call keras.config.set_image_data_format('channels_last')",
            )
        self.rank = rank
        self.bits = check_code_bits(bits)
        self.kernel_size = check_window(kernel_size, strides, subject=f"bottleneck {self.name!r}")
        self.strides = strides
        self.momentum = momentum
        self.projection_initializer = keras.initializers.get(projection_initializer)
        self.restoration_initializer = keras.initializers.get(restoration_initializer)
        self.quantizer: FakeQuant | None = None
        if self.bits == 8:
            self.quantizer = FakeQuant(momentum=momentum, dtype="float32", name="quantizer")
        elif self.bits is not None:
            self.quantizer = CodeQuantizer(
                self.bits, form=CodeForm.UNIT, dtype="float32", name="quantizer"
            )
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[-1]
        most = None if channels is None else channels * self.strides**2
        if most is None or len(input_shape) < 2 or self.rank > most:
            least = -(-self.rank // self.strides**2)
            raise BadInputError(
                f"bottleneck {self.name!r} of rank {self.rank}",
                f"an input of known channels, at least {least}",
                f"shape {tuple(input_shape)}",
            )
        window: tuple[int, ...] = ()
        if self.strides > 1:
            if len(input_shape) != 4 or None in input_shape[1:]:
                raise BadInputError(
                    f"input of bottleneck {self.name!r} with stride {self.strides}",
                    "(batch, height, width, channels) of known sizes",
                    f"shape {tuple(input_shape)}",
                )
            window = (self.kernel_size, self.kernel_size)
        self.projection = self.add_weight(
            name="projection",
            shape=(*window, channels, self.rank),
            initializer=self.projection_initializer,
        )
        self.restoration = self.add_weight(
            name="restoration",
            shape=(*window, self.rank, channels),
            initializer=self.restoration_initializer,
        )
        if self.quantizer is not None:
            self.quantizer.build((*input_shape[:-1], self.rank))

    def call(self, inputs: Any, training: bool = False) -> Any:
        code = self.encode(inputs, training=training)
        return self.decode(code, tuple(inputs.shape[1:3]))

    def encode(self, inputs: Any, training: bool = False) -> Any:
        """Returns the code of `inputs`, shape (batch, …, k), as it is stored."""
        if self.strides == 1:
            code = _pointwise(inputs, self.projection)
        else:
            kernel = ops.convert_to_tensor(self.projection)
            code = ops.conv(
                inputs, kernel, self.strides, padding="same", data_format="channels_last"
            )
        if self.quantizer is None:
            return code
        rounded = self.quantizer(code, training=training)
        if isinstance(self.quantizer, CodeQuantizer):
            return ops.cast(rounded, code.dtype)
        calibrated = ops.less(self.quantizer.low, self.quantizer.high)
        return ops.where(calibrated, ops.cast(rounded, code.dtype), code)

    def decode(self, code: Any, size: tuple[int, ...]) -> Any:
        """Returns the map that a code stands for.

        Args:
            size: (height, width) of the map; needed with stride 2.
        """
        if self.strides == 1:
            return _pointwise(code, self.restoration)
        kernel = ops.convert_to_tensor(self.restoration)
        return transposed_convolution(code, kernel, self.strides, (size[0], size[1]))

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of the code of a map of shape (…, C), both without the batch axis."""
        return (*(-(-size // self.strides) for size in shape[:-1]), self.rank)

    def stored_bits(self, shape: tuple[int, ...]) -> int:
        """Returns the bits that a map of shape (…, C) is stored in; a float code counts as 8."""
        return math.prod(self.stored_shape(shape)) * (self.bits or 8)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rank": self.rank,
            "bits": self.bits,
            "strides": self.strides,
            "kernel_size": self.kernel_size,
            "projection_initializer": keras.initializers.serialize(self.projection_initializer),
            "restoration_initializer": keras.initializers.serialize(self.restoration_initializer),
            "momentum": self.momentum,
        }


def _pointwise(x: Any, matrix: Any) -> Any:
    """x · matrix over the last axis, as a 1×1 convolution where the device knows one."""
    spatial = len(x.shape) - 2
    if spatial not in (1, 2):
        return ops.matmul(x, matrix)
    kernel = ops.reshape(matrix, (1,) * spatial + tuple(matrix.shape))
    return ops.conv(x, kernel, strides=1, padding="valid", data_format="channels_last")
