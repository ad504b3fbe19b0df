"""Operators by what they do to values, for passes that look through them.

Each set is a claim about kernels, and ``tests/operator_sets_test.py`` holds every member to it.
"""

from __future__ import annotations

from deploy.memory.plan import AliasReason
from deploy.operators import reductions, shapes
from deploy.operators.table import OPERATORS

CLIPS = frozenset(
    (
        *("ADD", "SUB", "MAXIMUM", "MINIMUM"),
        *("RELU", "RELU6", "RELU_N1_TO_1", "QUANTIZE"),
    )
)
"""They shift, clip or requantise values where they stand."""

BYTEWISE = CLIPS | {"MUL", "CAST"}
"""Each output value comes of the input values at its place, bit for bit the same in every runtime
and kernel library."""

MOVES = frozenset(("PAD", "SLICE", "STRIDED_SLICE", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "RESHAPE"))
"""They hand values on to other places, as what packs codes and unpacks them does."""

LOOKS_UP = frozenset({"GATHER"})
"""Rows of a table, input 0, by their numbers."""

KEEPS_CODES = MOVES | {
    *("MAX_POOL_2D", "RESIZE_NEAREST_NEIGHBOR", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS"),
}
"""Outputs have the scale of the map and codes that it has."""

ONE_SCALE = frozenset(
    ("CONCATENATION", "MAXIMUM", "MINIMUM", "AVERAGE_POOL_2D", "RESIZE_BILINEAR", "PACK")
)
"""They give their inputs one scale, or round again."""

CHANNELS_ALIKE = frozenset(
    (
        *("PAD", "AVERAGE_POOL_2D", "MEAN", "RESHAPE"),
        *("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"),
    )
)
"""A map of channels mixed one way goes through them as the map itself does: sums over positions,
alike for all channels, with zeros around."""

CHANGES_TYPE = frozenset({"QUANTIZE", "DEQUANTIZE"})
"""From one grid of codes to another, or to floats."""


WEIGHTED = frozenset(o for o, row in OPERATORS.items() if row.weights is not None)
"""Products with weights that may have a scale for each channel."""

SUMS_WINDOWS = frozenset(o for o in WEIGHTED if OPERATORS[o].data == 0)
"""Each output is a weighted sum of what a window holds; not so the transposed convolution."""

MIXES_CHANNELS = frozenset(o for o in WEIGHTED if (OPERATORS[o].weights or ())[1:] == (0,))
"""Each output depends on all channels of the map; one scale for each channel of the output."""

RESHAPES = frozenset(o for o, row in OPERATORS.items() if row.shapes is shapes.reshape)
"""The bytes of the input in a shape that is a parameter."""

JOINS = frozenset(o for o, row in OPERATORS.items() if row.view is AliasReason.CONCATENATION_VIEW)
"""All inputs, side by side."""

REDUCES = frozenset(o for o, row in OPERATORS.items() if row.shapes is reductions.reduce)
"""Without the dimensions that input 1 names."""
