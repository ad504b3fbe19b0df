"""Under which names TFLM's MicroMutableOpResolver knows operators.

From micro_mutable_op_resolver.h: ``AddMaxPool2D`` for MAX_POOL_2D. The signal library leaves its
prefix out: ``AddRfft`` for SignalRfft.
"""

from __future__ import annotations

from deploy.graph import CUSTOM
from deploy.operators.table import OPERATORS

NOT_IN_TFLM = frozenset({"REDUCE_ANY", "REDUCE_PROD", "RELU_0_TO_1", "RELU_N1_TO_1"})
"""Rows of operators that TFLM has no kernel for."""

INT8_ALONE = frozenset(
    (
        *("ADD", "AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D"),
        *("FULLY_CONNECTED", "MAX_POOL_2D", "SOFTMAX"),
    )
)
"""Kernels that take int8 alone; the others bring those of int4, int16 and floats along, 32 KB of
flash with CMSIS-NN for a model of convolutions. They are those whose headers the resolver includes
and whose Add... functions take one in every TFLM since February 2023."""

_SPELT = {
    "BATCH_MATMUL": "BatchMatMul",
    "CUMSUM": "CumSum",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
    f"{CUSTOM} TFLite_Detection_PostProcess": "DetectionPostprocess",
}
"""Names that do not follow from the operator's."""


def add_function(kind: str) -> str | None:
    """Returns the resolver's function for a kind of operator; None where TFLM has no kernel."""
    if kind not in OPERATORS or kind in NOT_IN_TFLM:
        return None
    name = kind.removeprefix(f"{CUSTOM} ")
    if name.startswith("Signal"):
        return f"Add{name.removeprefix('Signal')}"
    words = (word if word[0].isdigit() else word.capitalize() for word in name.split("_"))
    return f"Add{_SPELT.get(kind) or ''.join(words)}"


def int8_variant(kind: str) -> str | None:
    """Returns the registration of the kernel that takes int8 alone, where there is one."""
    return f"Register_{kind}_INT8" if kind in INT8_ALONE else None
