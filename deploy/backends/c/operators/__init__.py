"""What C makes of each operator: opcode -> function that adds its steps to a lowering.

An operator that is not here has no C semantics and is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deploy.backends.c.lowering import Lowering
from deploy.backends.c.operators import (
    elementwise,
    indices,
    measured,
    moves,
    reductions,
    weighted,
    windows,
)

Lower = Callable[[Lowering, int], None]

OPERATORS: Mapping[str, Lower] = {
    "CONV_2D": weighted.conv,
    "DEPTHWISE_CONV_2D": weighted.depthwise,
    "TRANSPOSE_CONV": weighted.transpose_conv,
    "FULLY_CONNECTED": weighted.fully_connected,
    "AVERAGE_POOL_2D": windows.average_pool,
    "MAX_POOL_2D": windows.max_pool,
    "RESIZE_BILINEAR": windows.resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": windows.resize_nearest,
    "ADD": elementwise.add,
    "SUB": elementwise.sub,
    "MUL": elementwise.mul,
    "MAXIMUM": elementwise.maximum,
    "MINIMUM": elementwise.minimum,
    "PRELU": elementwise.prelu,
    "SOFTMAX": elementwise.softmax,
    "RELU": elementwise.table,
    "RELU6": elementwise.table,
    "LEAKY_RELU": elementwise.table,
    "LOGISTIC": elementwise.table,
    "TANH": elementwise.table,
    "HARD_SWISH": elementwise.table,
    "QUANTIZE": elementwise.table,
    "ABS": measured.measured,
    "ELU": measured.measured,
    "SQUARED_DIFFERENCE": elementwise.squared_difference,
    "MEAN": reductions.mean,
    "SUM": reductions.total,
    "REDUCE_MAX": reductions.greatest,
    "REDUCE_MIN": reductions.least,
    "ARG_MAX": indices.arg_max,
    "ARG_MIN": indices.arg_min,
    "RESHAPE": moves.view,
    "SQUEEZE": moves.view,
    "EXPAND_DIMS": moves.view,
    "PAD": moves.pad,
    "PADV2": moves.pad,
    "CONCATENATION": moves.concatenation,
    "PACK": moves.pack,
    "SLICE": moves.slice_,
    "STRIDED_SLICE": moves.strided_slice,
    "SPLIT": moves.split,
    "SPLIT_V": moves.split,
    "UNPACK": moves.unpack,
    "TRANSPOSE": moves.transpose,
    "SPACE_TO_DEPTH": moves.space_to_depth,
    "DEPTH_TO_SPACE": moves.depth_to_space,
    "REVERSE_V2": moves.reverse,
    "BROADCAST_TO": moves.broadcast_to,
    "MIRROR_PAD": moves.mirror_pad,
    "GATHER": moves.gather,
    "CAST": indices.cast,
}
