"""Options of TensorFlow Lite Micro's custom operators: a map in the flexbuffer encoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from flatbuffers import flexbuffers

from deploy.graph import CUSTOM, Graph, Operator

Options = Mapping[str, object]

TFLM_CUSTOMS = (
    "CIRCULAR_BUFFER",
    "SignalDelay",
    "SignalEnergy",
    "SignalFftAutoScale",
    "SignalFilterBank",
    "SignalFilterBankLog",
    "SignalFilterBankSpectralSubtraction",
    "SignalFilterBankSquareRoot",
    "SignalFramer",
    "SignalIrfft",
    "SignalOverlapAdd",
    "SignalPCAN",
    "SignalRfft",
    "SignalStacker",
    "SignalWindow",
    "TFLite_Detection_PostProcess",
)
"""Codes of the custom operators that TensorFlow Lite Micro registers and the table has rows for."""


def own_kernels(graph: Graph) -> tuple[str, ...]:
    """Returns the codes of custom operators that TensorFlow Lite Micro lacks, sorted."""
    codes = {
        operator.custom_code
        for part in graph.subgraphs
        for operator in part.operators
        if operator.opcode == CUSTOM and operator.custom_code not in TFLM_CUSTOMS
    }
    return tuple(sorted(codes))


def custom_map(operator: Operator) -> Options:
    """Returns the options of a custom operator by name; none where they are no map.

    The runtime reads them by their place in the order of their names.
    """
    if not operator.custom_options:
        return {}
    try:
        found = flexbuffers.Loads(operator.custom_options)
    except Exception:
        # Whatever the reader stumbles over: these bytes are of another encoding.
        return {}
    return found if isinstance(found, dict) else {}


def _named(name: str, default: int = 0) -> Callable[[Options], int]:
    def number(options: Options) -> int:
        value = options.get(name, default)
        return int(value) if isinstance(value, int | float) else default

    return number


def _stacked_frames(options: Options) -> int:
    before, after = _named("stacker_left_context"), _named("stacker_right_context")
    return before(options) + after(options) + 1


CUSTOM_NUMBERS: Mapping[str, Callable[[Options], int]] = MappingProxyType(
    {
        "fft_length": _named("fft_length"),
        "num_channels": _named("num_channels"),
        "delay_length": _named("delay_length"),
        "frame_size": _named("frame_size"),
        "frame_step": _named("frame_step", 1),
        "stacked_frames": _stacked_frames,
        "max_detections": _named("max_detections"),
        "num_classes": _named("num_classes"),
        "cycles_max": _named("cycles_max"),
    }
)
"""Number that a formula may name -> how it follows from the options."""


def custom_number(operator: Operator, name: str) -> int:
    """Returns one of ``CUSTOM_NUMBERS`` for an operator."""
    return CUSTOM_NUMBERS[name](custom_map(operator))
