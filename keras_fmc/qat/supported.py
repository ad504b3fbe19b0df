"""Which layers run on the device: read from the tables that decide it."""

from __future__ import annotations

from dataclasses import dataclass

from keras import layers

from keras_fmc.canonical import (
    attention,
    composed,
    normalisation,
    one_dimension,
    raw,
    recurrent,
    stand_ins,
)
from keras_fmc.canonical.approximate import APPROXIMATED
from keras_fmc.layers import elementwise
from keras_fmc.model import operations
from keras_fmc.model.operations import ACTIVATIONS, COMPOSED, FOLDED, TABLE

_SMOOTH = "interpolation 'nearest' or 'bilinear'"
_CONDITIONS = {
    "UpSampling2D": _SMOOTH,
    "UpSampling1D": "",
    "Resizing": _SMOOTH,
    "BatchNormalization": "on the last axis, without training=True",
}
_OF_ONE_RANK = "two vectors, or two sequences without normalize="
_STAND_INS = {
    layers.CenterCrop: ("Cropping2D", "no larger than the map"),
    layers.EinsumDense: ("a dense layer", "over the last axes"),
    layers.RepeatVector: ("RESIZE_NEAREST_NEIGHBOR", ""),
    layers.SpectralNormalization: ("the layer inside, with the weights as they are", ""),
}


@dataclass(frozen=True, slots=True)
class Supported:
    """A row: a layer, operation or activation, what it is on the device, and on what condition."""

    layer: str
    device: str
    condition: str = ""


class SupportedTable(tuple[Supported, ...]):
    """The rows; as text they are a Markdown table."""

    __slots__ = ()

    def __str__(self) -> str:
        lines = ["| layer | on the device | condition |", "| --- | --- | --- |"]
        lines += [f"| `{row.layer}` | {row.device} | {row.condition} |" for row in self]
        return "\n".join(lines) + "\n"


def supported() -> SupportedTable:
    """Returns the rows of the tables of layers, operations and activations, sorted by kind.

    Not in these tables, though taken: layers that are nothing but an activation (`ReLU`, …), what
    passes of `keras_fmc.canonical` rewrite without a table (`Average`, …) and augmentation layers.
    Layers of the user's own and `Lambda` are taken where what they call stands in the table, or
    where `register_layer` says what they do.
    """
    tables = {*elementwise.FUNCTIONS, *elementwise.WITH_ARGUMENTS}
    rows = [
        Supported(cls.__name__, row.role.value, _CONDITIONS.get(cls.__name__, ""))
        for cls, row in TABLE.items()
        if cls.__module__.startswith("keras.")
    ]
    rows += [
        Supported(
            cls.__name__,
            "merged with other layers, or taken apart",
            _CONDITIONS.get(cls.__name__, ""),
        )
        for cls in FOLDED
    ]
    rows += [
        Supported(cls.__name__, "its 2-D twin on maps (length, 1, channels)")
        for cls in one_dimension.LAYERS
    ]
    rows += [
        Supported(name, "taken apart into operators that the device has", "over the last axis")
        for name in normalisation.LAYERS
    ]
    rows += [
        Supported(cls.__name__, "convolutions, matrix products and a softmax", "without masks")
        for cls in attention.LAYERS
        if cls is not layers.Dot
    ]
    rows += [Supported("Dot", "a product and a sum, or a matrix product", _OF_ONE_RANK)]
    rows += [Supported(cls.__name__, *_STAND_INS[cls]) for cls in stand_ins.STAND_INS]
    rows += [
        Supported(
            cls.__name__,
            "unrolled: the calls of each step, which share the weights",
            "a fixed length; stateless, without masks",
        )
        for cls in recurrent.LAYERS
    ]
    rows += [
        Supported(f"activation: {name}", "a table of 256 codes: CAST, ADD, GATHER")
        for name in elementwise.ACTIVATIONS
    ]
    rows += [
        Supported(f"activation: {name}", "operators that come close, as training sees")
        for name in APPROXIMATED
    ]
    rows += [
        Supported(f"keras.ops: {name}", "the layers that do the same", "arguments that they have")
        for name in sorted({*raw.TWINS, *composed.COMPOSED} - tables)
    ]
    rows += [
        Supported(f"keras.ops: {name}", "a table of 256 codes: CAST, ADD, GATHER")
        for name in sorted(tables)
    ]
    rows += [
        Supported(f"activation: {name}", _activation(name))
        for name in dict.fromkeys((*ACTIVATIONS, *sorted(COMPOSED)))
    ]
    return SupportedTable(sorted(rows, key=lambda row: (":" in row.layer, row.layer)))


def _activation(name: str) -> str:
    if name in COMPOSED:
        return "taken apart into operators that the device has"
    row = operations.ACTIVATIONS[name]
    if row.fixed is not None:
        return operations.Role.FIXED.value
    return "part of the operator before it" if row.fuses else operations.Role.FREE.value
