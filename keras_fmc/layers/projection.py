"""The learned bottleneck: few channels are stored, all are restored."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.layers.fake_quant import FakeQuant

CODE_BITS = (8, None)
"""Widths of a stored code; None leaves it in float."""


def check_code_bits(bits: int | None) -> int | None:
    """Returns `bits`.

    Raises:
        BadInputError: a width that codes cannot have.
    """
    if bits not in CODE_BITS or isinstance(bits, bool):
        raise BadInputError(
            "code width of a bottleneck", "bits=8 for int8, or bits=None for float", repr(bits)
        )
    return bits


@keras.saving.register_keras_serializable(package="keras_fmc")
class ProjectionBottleneck(keras.layers.Layer):
    r"""Stores a map of C channels as a code of k channels.

    At every position of the map, for the channel vector x,

        code = q(x P),    y = code R

    where P is C×k, R is k×C, neither has a bias, and q rounds to the int8 grid of one range
    (`FakeQuant`). After folding, R is part of the layers that read the map, so what is stored
    between two operators is the code: k/C of the bytes.

    The absence of a bias makes the fold of R exact under zero padding: a padded code of zeros
    restores to zeros.

    While training, the range of the code follows the batches; until it is known the code stays in
    float. The gradient passes q where the code lies in its range (straight-through).

    The layer adds k·C·2 multiplications a position. It saves memory, not time.

    Args:
        rank: k, channels of the code, 1 ≤ k ≤ C.
        bits: 8, or None for float codes.
        projection_initializer: of P.
        restoration_initializer: of R. `keras_fmc.insert_bottlenecks` sets P and R from data, which
            is a far better start.
        momentum: of the range of the code while training, see `FakeQuant`.

    Input and output: (batch, …, C), channels last.

    Raises:
        BadInputError: a rank below 1 or above C, a width other than 8 or None, or an unknown C.
        UnsupportedModelError: Keras is set to channels first.

    Source: Price & Tanner, "Improved projection learning for lower dimensional feature maps",
    arXiv 2210.15170, §3.
    """

    def __init__(
        self,
        rank: int,
        *,
        bits: int | None = 8,
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
        self.momentum = momentum
        self.projection_initializer = keras.initializers.get(projection_initializer)
        self.restoration_initializer = keras.initializers.get(restoration_initializer)
        self.quantizer = None
        if self.bits is not None:
            self.quantizer = FakeQuant(momentum=momentum, dtype="float32", name="quantizer")
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[-1]
        if channels is None or len(input_shape) < 2 or self.rank > channels:
            raise BadInputError(
                f"bottleneck {self.name!r} of rank {self.rank}",
                f"an input of known channels, at least {self.rank}",
                f"shape {tuple(input_shape)}",
            )
        self.projection = self.add_weight(
            name="projection",
            shape=(channels, self.rank),
            initializer=self.projection_initializer,
        )
        self.restoration = self.add_weight(
            name="restoration",
            shape=(self.rank, channels),
            initializer=self.restoration_initializer,
        )
        if self.quantizer is not None:
            self.quantizer.build((*input_shape[:-1], self.rank))

    def call(self, inputs: Any, training: bool = False) -> Any:
        return _pointwise(self.encode(inputs, training=training), self.restoration)

    def encode(self, inputs: Any, training: bool = False) -> Any:
        """Returns the code of `inputs`, shape (batch, …, k), as it is stored."""
        code = _pointwise(inputs, self.projection)
        if self.quantizer is None:
            return code
        rounded = self.quantizer(code, training=training)
        calibrated = ops.less(self.quantizer.low, self.quantizer.high)
        return ops.where(calibrated, ops.cast(rounded, code.dtype), code)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rank": self.rank,
            "bits": self.bits,
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
