"""Which layers run on the device: read from the tables that decide it."""

from __future__ import annotations

from dataclasses import dataclass

from keras_fmc.canonical import attention, normalisation, one_dimension, raw, recurrent
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
    ]
    rows += [
        Supported("EinsumDense", "a dense layer", "over the last axes"),
        Supported("SpectralNormalization", "the layer inside, with the weights as they are"),
    ]
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
        for name in raw.TWINS
        if name not in elementwise.FUNCTIONS
    ]
    rows += [
        Supported(f"keras.ops: {name}", "a table of 256 codes: CAST, ADD, GATHER")
        for name in elementwise.FUNCTIONS
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
