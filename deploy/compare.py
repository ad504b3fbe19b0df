"""Layer by layer: where the device and the Keras model differ, and by how much."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy import flatbuffer
from deploy.predict import arrays_of, codes_of, predict, run_codes
from deploy.report.report import ComparedMap, Report
from keras_fmc.errors import BadInputError

if TYPE_CHECKING:
    import keras

    from deploy.graph import Graph
    from deploy.pipeline import Result


class Comparison(tuple[ComparedMap, ...]):
    """The maps in the order in which they are made; as text they are a table."""

    __slots__ = ()

    def __str__(self) -> str:
        from deploy.report.text import comparison_table

        return comparison_table(self) + "\n"

    @property
    def worst(self) -> ComparedMap:
        """The first of the maps that differ by the most levels."""
        return max(self, key=lambda row: row.worst_levels)


def compare(
    model: keras.Model, result: Result, x: Any, *, out: str | Path | None = None
) -> Comparison:
    """Compares every map of a quantised Keras model with the device's.

    The model is converted once more, with all its maps as outputs, and run in TensorFlow Lite Micro
    (or LiteRT's reference kernels, where no wheel is installed) on the same samples. A model of
    `keras_fmc.device_rounding` should differ nowhere; one that rounds once differs by a level here
    and there, and the first map with more is the one to look at. Maps of codes of fewer than 8 bits
    are left out.

    Args:
        model: from `keras_fmc.quantize(..., backend="native")`, as it was converted.
        result: what `convert` returned for it.
        x: some samples, as `predict` takes them.
        out: folder of the plan, whose reports get the table; None leaves them as they are.

    Raises:
        BadInputError: a model that is not quantised natively, or not the one of the result; samples
            of another shape; a folder of another plan.
    """
    from deploy.convert import probe_tflite, to_int8_tflite
    from keras_fmc.qat.device_rounding import probes

    single, own, names = probes(model)
    content = to_int8_tflite(model)
    graph = flatbuffer.read(content)
    arrays = arrays_of(graph, x)
    _check_same(content, result, x)
    codes = [codes_of(a, graph.tensors[i]) for a, i in zip(arrays, graph.inputs, strict=True)]
    # What a code stands for is rounded to that code, wherever it is rounded.
    given = [_values(c, graph, i) for c, i in zip(codes, graph.inputs, strict=True)]
    device, places = probe_tflite(single)
    rows = run_codes(device, codes)
    wide = flatbuffer.read(device)
    order = [wide.outputs.index(index) for index in places]
    mine = own.predict(given if len(given) > 1 else given[0], verbose=0)
    mine = mine if isinstance(mine, list) else [mine]
    found = []
    for name, place, values in zip(names, order, mine, strict=True):
        tensor = wide.tensors[wide.outputs[place]]
        assert tensor.quantization is not None
        scale, zero = tensor.quantization.scales[0], tensor.quantization.zero_points[0]
        theirs = np.concatenate([np.reshape(row[place], tensor.shape) for row in rows])
        ours = np.clip(np.rint(values.astype(np.float64) / scale) + zero, -128, 127)
        gap = np.abs(ours - theirs)
        found.append(
            ComparedMap(
                name=name,
                shape=tuple(tensor.shape[1:]),
                scale=float(scale),
                differing=float((gap > 0).mean()),
                mean_levels=float(gap.mean()),
                worst_levels=int(gap.max()),
            )
        )
    comparison = Comparison(found)
    if out is not None:
        _write(replace(result.report, comparison=tuple(found)), out)
    return comparison


def _values(codes: np.ndarray, graph: Graph, index: int) -> np.ndarray:
    quantization = graph.tensors[index].quantization
    assert quantization is not None
    scale, zero = quantization.scales[0], quantization.zero_points[0]
    return (scale * (codes.astype(np.float64) - zero)).astype(np.float32)


def _check_same(content: bytes, result: Result, x: Any) -> None:
    ours, theirs = predict(content, x, progress=False), predict(result, x, progress=False)
    pairs = [
        (ours, theirs) if not isinstance(ours, dict) else (ours.get(name), values)
        for name, values in (theirs.items() if isinstance(theirs, dict) else [("", theirs)])
    ]
    if not all(
        isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and np.array_equal(one, other)
        for one, other in pairs
    ):
        raise BadInputError(
            "the result is not that of this model: their outputs differ",
            expected="result = deploy.convert(model, …), and the same model",
            remedy="Convert the model again",
        )


def _write(report: Report, out: str | Path) -> None:
    from deploy.emit.files import write_all
    from deploy.emit.folder import report_files
    from deploy.emit.written import REPORT_FILE
    from deploy.pipeline import read_report

    before = read_report(Path(out) / REPORT_FILE)
    if before.model_sha256 != report.model_sha256:
        raise BadInputError(
            f"{out} holds another plan",
            expected=f"the folder that convert wrote for {report.model}",
            received=f"a plan of {before.model}",
        )
    write_all(out, report_files(report))
