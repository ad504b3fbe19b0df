"""Graphs of one custom operator of TensorFlow Lite Micro each, drawn at random."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flatbuffers import flexbuffers

from deploy.graph import CUSTOM, Graph, Operator, Quantization, Tensor
from deploy.operators import OPERATORS, Site
from tests.int8_graphs import Int8GraphMaker

_TYPES = {"float32": 0, "int16": 7, "int32": 2}
"""Numbers of types in the schema, by which the options name them."""


class Drawing:
    """One operator with its inputs."""

    def __init__(self, code: str, seed: int) -> None:
        self.code = code
        self.make = Int8GraphMaker(seed)
        self.rng = self.make.rng

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def input(self, shape: tuple[int, ...], dtype: str) -> int:
        scale = Quantization((0.5,), (0,)) if dtype == "int8" else None
        index = self.make.graph.tensor(Tensor(f"x{len(self.make.inputs)}", shape, dtype, scale))
        self.make.inputs.append(index)
        return index

    def constant(self, values: object, dtype: str) -> int:
        number = len(self.make.graph.tensors)
        return self.make.graph.constant(f"c{number}", np.array(values, dtype))

    def graph(self, inputs: list[int], outputs: list[tuple[tuple[int, ...], str]], **options):
        made = [
            self.make.graph.tensor(Tensor(f"y{number}", shape, dtype))
            for number, (shape, dtype) in enumerate(outputs)
        ]
        packed = bytes(flexbuffers.Dumps(options))
        operator = Operator(
            CUSTOM, tuple(inputs), tuple(made), custom_code=self.code, custom_options=packed
        )
        self.make.graph.operator(operator)
        return self.make.build(outputs=made)


def custom_graph(code: str, seed: int) -> Graph:
    """Returns a graph of the operator with that code."""
    graph = DRAWS[code](Drawing(code, seed))
    expected = OPERATORS[f"{CUSTOM} {code}"].shapes(Site(graph, 0))
    for index, shape in zip(graph.outputs, expected, strict=True):
        assert shape in (None, graph.tensors[index].shape), (code, seed, shape)
    return graph


def _delay(d: Drawing) -> Graph:
    shape = (d.integer(1, 3), d.integer(2, 40))
    x = d.input(shape, "int16")
    return d.graph([x], [(shape, "int16")], delay_length=d.integer(1, 50))


def _energy(d: Drawing) -> Graph:
    bins = d.integer(4, 30)
    end = d.integer(2, bins)
    x = d.input((2 * bins,), "int16")
    return d.graph([x], [((bins,), "uint32")], start_index=0, end_index=end)


def _scale(d: Drawing) -> Graph:
    shape = (d.integer(4, 40),)
    return d.graph([d.input(shape, "int16")], [(shape, "int16"), ((), "int32")])


def _filter_bank(d: Drawing) -> Graph:
    channels = d.integer(1, 8)
    inputs = [d.input((4 * channels + 8,), "uint32")]
    inputs += [d.constant([64] * (4 * channels + 8), "int16") for _ in range(2)]
    starts = [4 * c for c in range(channels + 1)]
    inputs += [d.constant(starts, "int16"), d.constant(starts, "int16")]
    inputs.append(d.constant([4] * (channels + 1), "int16"))
    return d.graph(inputs, [((channels,), "uint64")], num_channels=channels)


def _log(d: Drawing) -> Graph:
    shape = (d.integer(1, 40),)
    x = d.input(shape, "uint32")
    return d.graph([x], [(shape, "int16")], input_correction_bits=3, output_scale=1600)


def _subtraction(d: Drawing) -> Graph:
    shape = (d.integer(1, 40),)
    options = {
        "alternate_one_minus_smoothing": 0,
        "alternate_smoothing": 0,
        "clamping": False,
        "min_signal_remaining": 819,
        "num_channels": shape[0],
        "one_minus_smoothing": 15974,
        "smoothing": 410,
        "smoothing_bits": 10,
        "spectral_subtraction_bits": 14,
    }
    return d.graph([d.input(shape, "uint32")], [(shape, "uint32")] * 2, **options)


def _root(d: Drawing) -> Graph:
    shape = (d.integer(1, 40),)
    bits = d.constant(2, "int32")
    return d.graph([d.input(shape, "uint64"), bits], [(shape, "uint32")])


def _framer(d: Drawing) -> Graph:
    step, count = d.integer(1, 20), d.integer(1, 3)
    size = step + d.integer(0, 30)
    outer = (d.integer(1, 3),)
    x = d.input((*outer, step * count), "int16")
    outputs = [((*outer, count, size), "int16"), ((), "bool")]
    return d.graph([x], outputs, frame_size=size, frame_step=step, prefill=True)


def _length(d: Drawing) -> tuple[int, str]:
    return 2 ** d.integer(3, 9), ("int16", "int32", "float32")[d.integer(0, 2)]


def _rfft(d: Drawing) -> Graph:
    length, dtype = _length(d)
    x = d.input((length - d.integer(0, 3),), dtype)
    return d.graph([x], [((length + 2,), dtype)], T=_TYPES[dtype], fft_length=length)


def _irfft(d: Drawing) -> Graph:
    length, dtype = _length(d)
    x = d.input((length + 2,), dtype)
    return d.graph([x], [((length,), dtype)], T=_TYPES[dtype], fft_length=length)


def _overlap(d: Drawing) -> Graph:
    step, count, outer = d.integer(1, 20), d.integer(1, 3), d.integer(1, 2)
    dtype = ("int16", "float32")[d.integer(0, 1)]
    x = d.input((outer, count, step + d.integer(0, 20)), dtype)
    return d.graph([x], [((outer, count * step), dtype)], T=_TYPES[dtype], frame_step=step)


def _pcan(d: Drawing) -> Graph:
    shape = (d.integer(1, 40),)
    table = d.constant([100] * 200, "int16")
    inputs = [d.input(shape, "uint32"), d.input(shape, "uint32"), table]
    return d.graph(inputs, [(shape, "uint32")], snr_shift=6)


def _stacker(d: Drawing) -> Graph:
    channels, left, right = d.integer(1, 20), d.integer(0, 2), d.integer(0, 2)
    x = d.input((channels,), "int16")
    outputs = [((channels * (left + right + 1),), "int16"), ((), "bool")]
    return d.graph(
        [x],
        outputs,
        num_channels=channels,
        stacker_left_context=left,
        stacker_right_context=right,
        stacker_step=1,
    )


def _window(d: Drawing) -> Graph:
    size = d.integer(1, 40)
    shape = (d.integer(1, 3), size)
    weights = d.constant([1024] * size, "int16")
    return d.graph([d.input(shape, "int16"), weights], [(shape, "int16")], shift=12)


def _detections(d: Drawing) -> Graph:
    boxes, classes, most = d.integer(3, 30), d.integer(1, 5), d.integer(1, 6)
    most = min(most, boxes)
    inputs = [d.input((1, boxes, 4), "float32"), d.input((1, boxes, classes + 1), "float32")]
    inputs.append(d.constant(np.full((boxes, 4), 0.5), "float32"))
    outputs = [((1, most, 4), "float32"), ((1, most), "float32"), ((1, most), "float32")]
    return d.graph(
        inputs,
        [*outputs, ((1,), "float32")],
        max_detections=most,
        max_classes_per_detection=1,
        num_classes=classes,
        nms_score_threshold=0.0,
        nms_iou_threshold=0.5,
        use_regular_nms=bool(d.integer(0, 1)),
        y_scale=10.0,
        x_scale=10.0,
        h_scale=5.0,
        w_scale=5.0,
    )


DRAWS: dict[str, Callable[[Drawing], Graph]] = {
    "SignalDelay": _delay,
    "SignalEnergy": _energy,
    "SignalFftAutoScale": _scale,
    "SignalFilterBank": _filter_bank,
    "SignalFilterBankLog": _log,
    "SignalFilterBankSpectralSubtraction": _subtraction,
    "SignalFilterBankSquareRoot": _root,
    "SignalFramer": _framer,
    "SignalIrfft": _irfft,
    "SignalOverlapAdd": _overlap,
    "SignalPCAN": _pcan,
    "SignalRfft": _rfft,
    "SignalStacker": _stacker,
    "SignalWindow": _window,
    "TFLite_Detection_PostProcess": _detections,
}
