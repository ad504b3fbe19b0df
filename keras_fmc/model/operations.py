"""What each Keras layer is on the device: the one table of them.

Models are brought into canonical form first (`keras_fmc.canonical`), so raw operations, 1-D layers
and custom layers have become the layers named here; what is not named here has no int8 form.

| column | says |
|---|---|
| role | what the layer does to the scale: where the device rounds |
| effect | what it does to memory |
| moves | what of a map of channels may be moved across it when weights are folded |
| fuses | whether a ReLU behind it becomes part of it |
| keeps_sign | whether its output is not negative if no input is |
| fixed | output range that the int8 kernel fixes |
| any_shape | whether it works on sequences as on maps |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fmc.layers.constant_map import ConstantMap
from keras_fmc.layers.elementwise import Elementwise
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.inverse_root import InverseRoot
from keras_fmc.layers.matrix_product import MatrixProduct
from keras_fmc.layers.other_scale import OtherScale
from keras_fmc.layers.slice import Slice
from keras_fmc.layers.transposed import DepthToSpace
from keras_fmc.layers.unit_length import UnitLength
from keras_fmc.model.custom_layers import Form, registered
from keras_fmc.model.effect import Effect


class Role(Enum):
    """What an operation does to the scale."""

    FREE = "chooses the scale of its output"
    SAME = "its output has the scale of its inputs"
    ROUNDS = "its output has the scale of its input, and is rounded to it again"
    ABSENT = "does nothing at inference"
    FIXED = "its output has a scale that the kernel fixes"
    CODED = "its output lies on the grid of its own codes"


class Moves(Enum):
    """What commutes with a layer: a map of the channels, a constant per channel."""

    NOTHING = "neither"
    MAPS = "a map of channels without constants"
    ALL = "both"
    SPREAD = "both; it may spread positions over features"


@dataclass(frozen=True, slots=True)
class Row:
    """One layer of the table; see the head of this file."""

    role: Role
    effect: Effect = Effect.COMPUTE
    moves: Moves = Moves.NOTHING
    fuses: bool = False
    keeps_sign: bool = False
    any_shape: bool = False
    fixed: tuple[float, float] | None = None


SIGMOID_RANGE = (0.0, 255 / 256)
TANH_RANGE = (-1.0, 127 / 128)
"""Also that of vectors of length one."""

_ABSENT = Row(Role.ABSENT, Effect.VIEW, Moves.ALL, keeps_sign=True, any_shape=True)
_WEIGHTED = Row(Role.FREE, fuses=True)
_LOOKED_UP = Row(Role.FREE, any_shape=True)
_SUM = Row(Role.FREE, Effect.ELEMENTWISE, fuses=True, keeps_sign=True, any_shape=True)
_EXTREME = Row(Role.SAME, Effect.ELEMENTWISE, keeps_sign=True, any_shape=True)

TABLE: dict[type[keras.Layer], Row] = {
    layers.Conv2D: _WEIGHTED,
    layers.DepthwiseConv2D: _WEIGHTED,
    layers.Conv2DTranspose: _WEIGHTED,
    layers.Dense: _WEIGHTED,
    layers.Add: _SUM,
    layers.Multiply: _SUM,
    layers.Subtract: Row(Role.FREE, Effect.ELEMENTWISE, fuses=True, any_shape=True),
    layers.Maximum: _EXTREME,
    layers.Minimum: _EXTREME,
    layers.Concatenate: Row(Role.SAME, keeps_sign=True),
    layers.PReLU: Row(Role.FREE, Effect.ELEMENTWISE),
    MatrixProduct: Row(Role.FREE),
    UnitLength: Row(Role.FIXED, keeps_sign=True, fixed=TANH_RANGE),
    InverseRoot: Row(Role.FREE),
    layers.AveragePooling2D: Row(Role.ROUNDS, moves=Moves.ALL, keeps_sign=True),
    layers.GlobalAveragePooling2D: Row(Role.FREE, moves=Moves.ALL, keeps_sign=True),
    layers.MaxPooling2D: Row(Role.SAME, keeps_sign=True),
    layers.GlobalMaxPooling2D: Row(Role.SAME, keeps_sign=True),
    layers.UpSampling2D: Row(Role.SAME, moves=Moves.ALL, keeps_sign=True),
    layers.Resizing: Row(Role.SAME, keeps_sign=True),
    layers.ZeroPadding2D: Row(Role.SAME, moves=Moves.MAPS, keeps_sign=True),
    layers.Cropping2D: Row(Role.SAME, moves=Moves.ALL, keeps_sign=True),
    layers.Permute: Row(Role.SAME, keeps_sign=True),
    layers.Reshape: Row(Role.SAME, Effect.VIEW, Moves.SPREAD, keeps_sign=True),
    layers.Flatten: Row(Role.SAME, Effect.VIEW, Moves.SPREAD, keeps_sign=True),
    Slice: Row(Role.SAME, keeps_sign=True),
    DepthToSpace: Row(Role.SAME, keeps_sign=True),
    ConstantMap: Row(Role.FREE),
    Elementwise: _LOOKED_UP,
    OtherScale: Row(Role.FREE, Effect.ELEMENTWISE, keeps_sign=True, any_shape=True),
    FakeQuant: Row(Role.ABSENT, Effect.VIEW, keeps_sign=True),
    layers.ActivityRegularization: _ABSENT,
    layers.AlphaDropout: _ABSENT,
    layers.Dropout: _ABSENT,
    layers.GaussianDropout: _ABSENT,
    layers.GaussianNoise: _ABSENT,
    layers.Identity: _ABSENT,
    layers.SpatialDropout2D: Row(Role.ABSENT, Effect.VIEW, Moves.ALL, keeps_sign=True),
}
"""Layer → row. Activations have a table of their own, `ACTIVATIONS`."""

FOLDED = (
    layers.BatchNormalization,
    layers.Normalization,
    layers.Rescaling,
    layers.SeparableConv2D,
)
"""Layers that folding merges with others or takes apart."""


@dataclass(frozen=True, slots=True)
class ActivationRow:
    """An activation.

    Attributes:
        fixed: output range that the int8 kernel fixes; None where it is chosen.
        fuses: whether it becomes part of the operator before it.
        in_place: whether it may overwrite its input.
        nonnegative: whether its values are.
    """

    fixed: tuple[float, float] | None = None
    fuses: bool = False
    in_place: bool = True
    nonnegative: bool = False


ACTIVATIONS: dict[str, ActivationRow] = {
    "relu": ActivationRow(fuses=True, nonnegative=True),
    "relu6": ActivationRow(fuses=True, nonnegative=True),
    "leaky_relu": ActivationRow(),
    "sigmoid": ActivationRow(fixed=SIGMOID_RANGE, nonnegative=True),
    "softmax": ActivationRow(fixed=SIGMOID_RANGE, nonnegative=True),
    "tanh": ActivationRow(fixed=TANH_RANGE),
    "hard_silu": ActivationRow(),
    "hard_swish": ActivationRow(),
    "elu": ActivationRow(in_place=False),
}
"""Activations that the device has. SiLU is taken apart first."""

COMPOSED = frozenset({"silu", "swish"})
"""Activations that `keras_fmc.qat.device_form` takes apart."""

_NONNEGATIVE = frozenset({"softplus", "exponential", "hard_sigmoid"})


def is_augmentation(operation: keras.Operation) -> bool:
    """Whether it is a layer of Keras that does something in training alone.

    A `RandomCrop` of another size cuts at inference, too.
    """
    cls = type(operation)
    if ".layers.preprocessing." not in cls.__module__:
        return False
    return cls.__name__.startswith("Rand") or cls.__name__ in ("AugMix", "CutMix", "MixUp")


def row_of(operation: keras.Operation) -> Row | None:
    """Returns the row of a layer, None for one that the device does not have."""
    entry = registered(operation)
    if entry is not None and entry.form is not Form.EXPANDS:
        return _ABSENT if entry.form is Form.ABSENT else _LOOKED_UP
    if is_augmentation(operation):
        return _ABSENT
    if is_activation(operation):
        return _activation_row(activation_name(operation))
    if isinstance(operation, (layers.UpSampling2D, layers.Resizing)):
        row = TABLE.get(type(operation))
        smooth = operation.interpolation == "bilinear"
        if row is None or operation.interpolation not in ("nearest", "bilinear"):
            return None
        return Row(Role.ROUNDS, row.effect, row.moves, keeps_sign=True) if smooth else row
    for cls in type(operation).__mro__:
        if cls in TABLE:
            return TABLE[cls]
    return None


def is_activation(operation: keras.Operation) -> bool:
    """Whether a layer is nothing but an activation."""
    return isinstance(operation, (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.Softmax))


def activation_name(operation: keras.Operation) -> str:
    """Returns the activation that a layer ends in, or is: "linear" if none."""
    if registered(operation) is not None:
        # What it calls its activation is its own matter.
        return "linear"
    if isinstance(operation, layers.ReLU):
        return _relu_name(operation)
    if isinstance(operation, layers.LeakyReLU):
        return "leaky_relu"
    if isinstance(operation, layers.Softmax):
        return "softmax"
    if not isinstance(operation, keras.Layer):
        # A raw operation, in a model that is not in canonical form yet.
        name = type(operation).__name__.lower()
        return name if name in ACTIVATIONS or name in _NONNEGATIVE else "linear"
    activation = getattr(operation, "activation", None)
    return "linear" if activation is None else getattr(activation, "__name__", "unknown")


def fixed_range(operation: keras.Operation) -> tuple[float, float] | None:
    """Returns the output range that the int8 kernel of a layer fixes, None where it is chosen."""
    row = row_of(operation)
    if row is not None and row.fixed is not None:
        return row.fixed
    known = ACTIVATIONS.get(activation_name(operation))
    return None if known is None else known.fixed


def own_sign(operation: Any) -> bool | None:
    """Whether an operation can make negative values; None if only from negative ones."""
    if isinstance(operation, layers.ReLU):
        return bool(operation.negative_slope)
    if type(operation) is layers.Rescaling:
        parts = (operation.scale, operation.offset)
        return None if all(np.all(np.asarray(part) >= 0) for part in parts) else True
    row = row_of(operation)
    if row is not None and row.keeps_sign:
        return None
    name = activation_name(operation)
    known = ACTIVATIONS.get(name)
    return not (known.nonnegative if known is not None else name in _NONNEGATIVE)


def _activation_row(name: str) -> Row | None:
    if name == "linear":
        return _ABSENT
    known = ACTIVATIONS.get(name)
    if known is None:
        return None
    role = Role.FIXED if known.fixed is not None else Role.FREE
    return Row(role, Effect.ELEMENTWISE if known.in_place else Effect.COMPUTE)


def _relu_name(layer: layers.ReLU) -> str:
    if layer.threshold:
        return f"relu with threshold {layer.threshold}"
    if layer.negative_slope:
        return "leaky_relu" if layer.max_value is None else "leaky_relu with a maximum"
    if layer.max_value is None:
        return "relu"
    return "relu6" if layer.max_value == 6 else f"relu with maximum {layer.max_value}"
